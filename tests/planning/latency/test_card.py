"""The card's terms with its numbers, worked out by hand."""

import pytest

from thermoscope.catalogue import lookup
from thermoscope.planning.latency import card
from thermoscope.planning.latency.efficiency import fitted
from thermoscope.planning.latency.prediction import Ceilings, predict

from .test_prediction import request


@pytest.fixture
def terms():
    found = predict(request(), Ceilings(fitted()))
    return {term.name: term for term in card.terms(found.request.shape, 512, found.prefill.parts)}


def test_the_cards_numbers(terms):
    assert terms["positions"].card == 512 * 4096
    assert terms["attention"].card == 32 * 512 * 4096 * 32
    assert terms["feed-forward"].card == 32 * 512 * 4096 * 4 * 4096
    assert terms["norms"].card == 33 * 512 * 4096
    assert terms["projection"].card == 512 * 4096 * 32_000
    assert terms["projection"].model == 512 * 4096 * 128_256


def test_the_exact_counts_differ_where_it_says(terms):
    assert terms["attention"].flops > 5 * terms["attention"].card
    assert terms["feed-forward"].flops == 32 * 512 * 2 * 3 * 4096 * 14336
    assert "rotary" in terms["positions"].differs
    assert "128,256" in terms["projection"].differs
    assert "3 matrices of width 14,336" in terms["feed-forward"].differs


def test_every_component_but_tables_and_sampling_belongs_to_one_term(terms):
    found = predict(request(), Ceilings(fitted()))
    left = [part.seconds for part in found.prefill.parts if part.work.name in ("embedding", "sampling")]
    whole = sum(part.seconds for part in found.prefill.parts)
    assert sum(term.seconds for term in terms.values()) + sum(left) == pytest.approx(whole, rel=1e-12)


def test_experts_are_counted_as_feed_forward():
    found = predict(request("mixtral-8x7b", "H100-SXM5-80GB", "bf16"), Ceilings(fitted()))
    terms = {
        term.name: term for term in card.terms(lookup.architecture("mixtral-8x7b"), 512, found.prefill.parts)
    }
    assert "3 matrices of width 28,672" in terms["feed-forward"].differs
