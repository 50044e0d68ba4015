"""Texts after a prompt, on a tiny model whose tokens are characters, against `transformers`."""

import math
import weakref

import numpy as np
import pytest
import torch

from tests import tiny
from thermoscope.engine.engine import Engine
from thermoscope.engine.language_model import LanguageModel
from thermoscope.errors import InvalidRequest
from thermoscope.instruments._continuation import _continuation, chain_rule, continuations, reread, seam
from thermoscope.instruments.shape.lab import Lab

PRINTABLE = [chr(code) for code in range(33, 127)]


@pytest.fixture(scope="module")
def network():
    return tiny.reference("llama")


@pytest.fixture(scope="module")
def small(network, tmp_path_factory):
    model = tiny.ours(tiny.save(network, tmp_path_factory.mktemp("tiny")))
    with LanguageModel(lambda: Engine(model, slots=1, context=128)) as made:
        yield Lab(lambda: made)


@pytest.fixture
def log_p(small, network):
    """log P of each token of a text after a prompt, from `transformers` alone."""

    @torch.inference_mode()
    def of(prompt, text):
        given, tokens = [[ord(char) - 31 for char in each] for each in (prompt, text)]
        scores = network(torch.tensor([[*given, *tokens]])).logits[0].double().log_softmax(-1)
        return [scores[len(given) + at - 1, token].item() for at, token in enumerate(tokens)]

    return of


def test_the_chain_rule_is_that_of_transformers(small, log_p):
    texts = ["b", "bc", "xyz-w", "bd"]
    found = continuations(small, "a_prompt", texts, "classes", chat=False)
    for text, each in zip(texts, found, strict=True):
        assert each.log_p == pytest.approx(log_p("a_prompt", text), abs=1e-4)
        assert each.logprob == pytest.approx(sum(log_p("a_prompt", text)), abs=3e-4)
    check = chain_rule(small, found, "classes")
    assert check.passed
    assert check.residual < 1e-5


def test_all_texts_of_one_length_are_all_that_can_be(small, network):
    """Enumerated: "c" and one more token, whichever; with the two that spell nothing it sums to "c" alone."""
    (first,) = continuations(small, "ab", ["c"], "classes", chat=False)
    pairs = continuations(small, "ab", ["c" + each for each in PRINTABLE], "classes", chat=False)
    with torch.inference_mode():
        last = network(torch.tensor([[*first.given, *first.tokens]])).logits[0, -1].double().softmax(-1)
    assert len(pairs) == len(last) - 2
    total = math.fsum(math.exp(each.logprob) for each in pairs)
    assert total == pytest.approx(math.exp(first.logprob) * (1 - last[:2].sum().item()), rel=1e-4)


def test_a_tempered_step_is_a_softmax_of_its_own(small):
    temperatures = (0.5, 2.0, math.inf)
    (each,) = continuations(small, "ab", ["cd"], "classes", chat=False, temperatures=temperatures)
    for at, token in enumerate(each.tokens):
        z = torch.tensor(small.last((*each.given, *each.tokens[:at])))
        for row, temperature in enumerate(temperatures):
            tempered = torch.log_softmax(z / temperature, dim=-1)[token].item()
            assert each.tempered[row, at] == pytest.approx(tempered, rel=1e-6)
            power = torch.logsumexp(torch.log_softmax(z, dim=-1) / temperature, dim=-1).item()
            assert each.log_z[row, at] == pytest.approx(power, rel=1e-6, abs=1e-9)


def test_a_token_may_span_the_seam(lab):
    """In SmolLM2's vocabulary " good" is a token, so a space at the prompt's end goes with the text."""
    pieces = lab.model.tokenizer.piece
    given, tails = seam(lab, "The mood is ", ["good", "bad"], "classes", chat=False)
    assert [pieces(token) for token in given] == ["The", " mood", " is"]
    assert [[pieces(token) for token in tail] for tail in tails] == [[" good"], [" bad"]]
    spanning = continuations(lab, "The mood is ", ["good", "bad"], "classes", chat=False)
    apart = continuations(lab, "The mood is", [" good", " bad"], "classes", chat=False)
    assert [each.logprob for each in spanning] == [each.logprob for each in apart]
    assert "before its last ' '" in reread(lab, "The mood is ", spanning, chat=False)[0]
    assert reread(lab, "The mood is", apart, chat=False) == []


def test_all_texts_are_counted_from_the_first_token_that_any_changes(lab):
    given, tails = seam(lab, "The mood is ", ["good", "\n"], "classes", chat=False)
    whole = [lab.model.tokenizer.encode("The mood is " + text) for text in ("good", "\n")]
    assert [[*given, *tail] for tail in tails] == whole
    assert len(given) == 3


def test_after_a_chat_s_template_a_text_has_its_own_tokens(lab):
    given, (tail,) = seam(lab, "Hi", ["good"], "classes", chat=True)
    assert given == lab.tokens("Hi", chat=True)
    assert list(tail) == lab.model.tokenizer.encode("good")


def test_a_text_that_changes_the_first_token_is_refused(lab):
    with pytest.raises(InvalidRequest, match=r"classes\[1\]: got 'reat', which changes the prompt's first"):
        seam(lab, "G", [" x", "reat"], "classes", chat=False)


def test_of_a_long_text_s_logits_one_row_is_held_at_a_time():
    made, most = [], []

    def rows():
        for _ in range(50):
            row = np.zeros(96, np.float32)
            made.append(weakref.ref(row))
            most.append(sum(each() is not None for each in made))
            yield row

    found = _continuation("x" * 50, (1,), (3,) * 50, rows(), (0.5, 2.0))
    assert found.tempered.shape == found.log_z.shape == (2, 50)
    assert found.logprob == pytest.approx(-50 * math.log(96))
    assert max(most) <= 2
