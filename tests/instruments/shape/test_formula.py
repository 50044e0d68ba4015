"""The law of every card, and what laws are made of."""

import re
from xml.etree import ElementTree

import pytest

from thermoscope import instruments
from thermoscope.instruments.shape.formula import mathml, unicode


@pytest.mark.parametrize(
    ("law", "line"),
    [
        (r"P(x_i) = \frac{\exp(z_i / T)}{\sum_j \exp(z_j / T)}", "P(xᵢ) = exp(zᵢ/T) / (Σⱼ exp(zⱼ/T))"),
        (
            r"\text{smallest } V^{(p)} \text{ with } \sum_{x \in V^{(p)}} P(x \mid x_{1:i-1}) \ge p",
            "smallest V⁽ᵖ⁾ with Σ_(x∈V⁽ᵖ⁾) P(x | x_(1:i−1)) ≥ p",
        ),
        (
            r"\operatorname{softmax}\left(\frac{f(h_L + \beta \nabla_{\text{task}})}{\tau}\right)",
            "softmax(f(h_L + β∇_task) / τ)",
        ),
        (r"\frac{h W_Q (h_{\text{tool}} W_K)^\top}{\sqrt{d_k}}", "hW_Q(h_tool W_K)ᵀ / √dₖ"),
        (r"\lVert\Delta W\rVert_F = \sqrt{\sum_i \sigma_i^2}", "‖ΔW‖_F = √(Σᵢ σᵢ²)"),
        (r"\|\Delta W\|_*", "‖ΔW‖_*"),
        (r"\hat p = -\log p", "p̂ = −log p"),
        (r"\frac{1-\alpha^{\gamma+1}}{1-\alpha}", "(1 − α^(γ+1)) / (1 − α)"),
        (r"\int P(a \mid i)\, P(i \mid s)\, dI", "∫ P(a | i) P(i | s) dI"),
        (
            r"\max_{\text{phase}}\left(W + c\,T\right), \quad x \in \{a, b\}",
            "max_phase (W + c T), x ∈ {a, b}",
        ),
        (r"x_{t-1}^2 + y_{ij}^{10}", "xₜ₋₁² + y_ij¹⁰"),
        (r"\frac12", "1 / 2"),
        (r"\unheard{of}", "unheard of"),
        (r"50\%~off", "50% off"),
        ("a } b", "ab"),
        ("", ""),
    ],
)
def test_a_law_is_one_line_of_unicode(law, line):
    assert unicode(law) == line


@pytest.mark.parametrize("card", instruments.names())
def test_no_latex_is_left_of_any_card_s_law(card):
    line = unicode(instruments.instrument(card).law)
    assert not re.search(r"\\|[_^]\{|  |\n", line), line
    for opening, closing in ("()", "{}", "[]"):
        assert line.count(opening) == line.count(closing)


@pytest.mark.parametrize("card", instruments.names())
def test_a_card_s_law_is_mathml_with_the_same_symbols(card):
    """The two come from different programs; a command that one does not know stands there as its name."""
    law = instruments.instrument(card).law
    element = ElementTree.fromstring(mathml(law))
    assert element.tag.endswith("math")
    letters = set("".join(element.itertext()))
    assert "\\" not in letters
    assert {each for each in letters if "α" <= each <= "ω"} == {
        each for each in unicode(law) if "α" <= each <= "ω"
    }


def test_a_sign_that_is_markup_is_none_in_a_law():
    assert mathml(" ") == ""
    assert "".join(ElementTree.fromstring(mathml("y_{<t} < z")).itertext()) == "y<t<z"
