"""Tables of who reads whom, against loops over a replay's attention."""

import numpy as np
import pytest

from tests.instruments import chains
from tests.instruments.loops import rows
from thermoscope.instruments._reads import RECEIVERS, far, read_by, receivers, vertical

EDGES = chains.EDGES


@pytest.fixture(scope="module")
def weights(any_lab):
    kept = chains.kept(any_lab).kept
    return [kept["attention", layer].double().numpy() for layer in range(any_lab.model.config.layers)]


def step(at):
    return range(EDGES[at], EDGES[at + 1])


def test_from_step_to_step(run, weights):
    table = {(row["reader"], row["read"]): row for row in rows(read_by(run, None, None).table("reads"))}
    assert len(table) == 15
    for i, j in ((4, 0), (3, 2), (2, 2)):
        each = [w[head, a, b] for w in weights for head in range(len(w)) for a in step(i) for b in step(j)]
        assert table[i + 1, j + 1]["attention"] == pytest.approx(sum(each) / len(each), abs=1e-6)


def test_where_it_goes_adds_up(run, weights):
    for row in rows(read_by(run, None, None).table("where")):
        for kind in ("", "moved_"):
            assert sum(row[f"{kind}{to}"] for to in ("sinks", "prompt", "earlier", "own")) == pytest.approx(1)
        sinks = np.mean([w[:, step(row["step"] - 1), : chains.SINKS].sum(-1).mean() for w in weights])
        assert row["sinks"] == pytest.approx(float(sinks), abs=1e-6)


def test_vertical_scores_are_of_what_comes_from_afar(run, weights):
    assert [far(count) for count in (5, 6, 7, 8, 12)] == [1, 2, 3, 4, 4]
    scores = vertical(run)
    for layer, head, j in ((0, 0, 0), (2, 3, 2)):
        behind = [weights[layer][head][np.ix_(step(i), step(j))].mean() for i in range(j + 1, 5)]
        assert scores[layer, head, j] == pytest.approx(sum(behind) / len(behind), abs=1e-6)


def test_receivers_are_the_most_uneven():
    kurtosis = np.random.default_rng(1).normal(size=(6, 5))
    found = receivers(kurtosis)
    values = [kurtosis[place] for place in found]
    assert len(found) == RECEIVERS
    assert values == sorted(kurtosis.ravel(), reverse=True)[:RECEIVERS]


def test_one_layer_or_head_on_demand(run, weights):
    layer, head = chains.HEAD
    reading = read_by(run, layer, head)
    table = {(row["reader"], row["read"]): row["share"] for row in rows(reading.table("head"))}
    own = weights[layer][head]
    assert table[3, -1] == pytest.approx(own[step(2), : chains.SINKS].sum(-1).mean(), abs=1e-6)
    assert table[3, 0] == pytest.approx(own[step(2), chains.SINKS : 9].sum(-1).mean(), abs=1e-6)
    assert table[5, 2] == pytest.approx(own[np.ix_(step(4), step(1))].sum(-1).mean(), abs=1e-6)
    shown = {figure.name: figure for figure in reading.figures}
    assert 10 ** np.array(shown["head"].traces[0]["z"])[20, 10] == pytest.approx(
        max(own[20, 10], 1e-4), rel=1e-4
    )
    mean = {
        (row["reader"], row["read"]): row["share"] for row in rows(read_by(run, layer, None).table("head"))
    }
    assert mean[5, 2] == pytest.approx(
        np.mean([each[np.ix_(step(4), step(1))].sum(-1).mean() for each in weights[layer]]), abs=1e-6
    )
    assert reading.passed
