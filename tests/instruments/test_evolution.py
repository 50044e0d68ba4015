"""The stream at each step's end, against numpy on a replay."""

import numpy as np
import pytest

from tests.instruments import chains
from tests.instruments.loops import rows
from thermoscope.instruments._evolution import evolve

ENDS = [edge - 1 for edge in chains.EDGES]


@pytest.fixture(scope="module")
def kept(any_lab):
    return {place: each.double().numpy() for place, each in chains.kept(any_lab).kept.items()}


@pytest.fixture(scope="module")
def reading(run, any_lab):
    return evolve(any_lab, run)


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_shift_cosine_and_writers(run, reading, kept):
    top = run.config.layers
    for at, row in enumerate(rows(reading.table("states"))):
        a, m = (
            sum(np.linalg.norm(kept[kind, layer][ENDS[at]]) for layer in range(top))
            for kind in ("attention_out", "mlp_out")
        )
        assert row["attention"] == pytest.approx(a / (a + m), rel=1e-5)
        if at == 0:
            assert (row["shift"], row["cosine"], row["cosine_middle"]) == (None, None, None)
            continue
        here, before = (kept["residual", top][ENDS[each]] for each in (at, at - 1))
        assert row["shift"] == pytest.approx(np.linalg.norm(here - before) / np.linalg.norm(here), rel=1e-5)
        assert row["cosine"] == pytest.approx(cosine(here, before), abs=1e-5)
        middle = kept["residual", top // 2]
        assert row["cosine_middle"] == pytest.approx(cosine(middle[ENDS[at]], middle[ENDS[at - 1]]), abs=1e-5)


def test_the_lens_ends_with_the_model_s_own_choice(run, reading, any_lab):
    logits = chains.kept(any_lab).logits[ENDS].double().numpy()
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    layers = rows(reading.table("layers"))
    for at, row in enumerate(rows(reading.table("states"))):
        assert row["p"] == pytest.approx(float(p[at].max()), abs=1e-5)
        assert row["next"] == run.decode([int(p[at].argmax())])
        own = [each["lens"] for each in layers if each["step"] == at]
        assert len(own) == run.config.layers + 1
        since = row["from_layer"]
        assert set(own[since:]) == {row["next"]}
        assert since == 0 or own[since - 1] != row["next"]
    assert reading.passed
