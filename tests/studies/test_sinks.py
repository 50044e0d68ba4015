"""Which slots are seen under a budget, and the figures of made-up rows, by hand."""

import math
from types import SimpleNamespace

import pytest

from benchmarks.studies.sinks import FULL, SINKS, draw, summarise, table, windowed


@pytest.mark.parametrize("sinks", SINKS)
def test_every_token_sees_the_budget_and_no_more(sinks):
    budget, length = 16, 40
    hidden = {query: set(each.keys) for each in windowed(length, budget, sinks) for query in each.queries}
    for query in range(length):
        seen = [key for key in range(query + 1) if key not in hidden.get(query, ())]
        expected = (
            range(query + 1)
            if query < budget
            else [*range(sinks), *range(query - budget + sinks + 1, query + 1)]
        )
        assert seen == list(expected)
        assert len(seen) == min(budget, query + 1)


def study(nats):
    rows = {name: [{"nats": each} for each in values] for name, values in nats.items()}
    results = SimpleNamespace(of=lambda name, count: rows[name][:count])
    return SimpleNamespace(results=results, passages=[None] * 3, arguments=SimpleNamespace(tokens=11))


def test_perplexity_and_cost():
    made = study({FULL: [10.0, 20.0, 30.0], 0: [20.0, 30.0, 40.0]})
    line = summarise(made, 0)
    assert line["perplexity"]["value"] == pytest.approx(math.exp(3.0))
    assert line["cost"] == pytest.approx({"value": 1.0, "low": 1.0, "high": 1.0})
    assert line["perplexity"]["low"] < math.exp(3.0) < line["perplexity"]["high"]
    assert summarise(made, FULL)["cost"]["value"] == 0


def test_table_and_figure_hold_every_setting():
    line = {name: {"value": 2.0, "low": 1.0, "high": 3.0} for name in ("perplexity", "cost")}
    lines = {str(name): line for name in (FULL, *SINKS)}
    assert table(lines).row_count == len(lines)
    figure = draw({"model": "made up", "passages": 3, "prefix": 16, "settings": lines})
    assert list(figure.data[0].x) == [str(count) for count in SINKS]
