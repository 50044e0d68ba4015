"""The memory as it grows, by hand."""

import math

import pytest

from tests.instruments import chains
from tests.instruments.loops import rows
from thermoscope.instruments._slots import grow


def test_bytes_and_slots_of_every_step(run, any_lab):
    reading = grow(run)
    config = run.config
    token = 2 * 4 * config.layers * config.kv_heads * config.head_dim  # keys and values in float32
    edges = (0, *chains.EDGES)
    kept = chains.kept(any_lab).kept
    for at, row in enumerate(rows(reading.table("memory"))):
        span = range(edges[at], edges[at + 1])
        assert (row["step"], row["tokens"], row["of"]) == (at, len(span), span.stop)
        assert (row["bytes"], row["held"]) == (token * len(span), token * span.stop)
        entropies = [
            -sum(w * math.log(w) for w in weights[token].tolist() if w > 0)
            for layer in range(config.layers)
            for weights in kept["attention", layer].double()
            for token in span
        ]
        assert row["entropy"] == pytest.approx(sum(entropies) / len(entropies), abs=1e-5)
        assert row["slots"] == pytest.approx(sum(map(math.exp, entropies)) / len(entropies), rel=1e-5)
    assert reading.passed


def test_a_formula_that_is_off_is_seen(run, monkeypatch):
    monkeypatch.setattr(run.look, "formula", run.look.formula + 1e-4)
    failed = [check.name for check in grow(run).checks if not check.passed]
    assert failed == ["c_t = softmax(q_t K_tᵀ/√d) V_t"]
