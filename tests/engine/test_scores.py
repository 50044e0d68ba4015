"""A text's scores against transformers' log-softmax of the same weights."""

import pytest
import torch

from tests import tiny
from thermoscope.engine.replay import replay
from thermoscope.engine.scores import scores
from thermoscope.errors import ContextExceeded
from thermoscope.models.intervention import Add

TOKENS = torch.randint(2, tiny.VOCAB, (150,), generator=torch.Generator().manual_seed(4)).tolist()


@pytest.fixture(scope="module")
def network():
    return tiny.reference("llama")


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    return tiny.ours(tiny.save(network, tmp_path_factory.mktemp("tiny")))


def every(model, tokens, **how):
    return [score for part in scores(model, tokens, **how) for score in part]


def test_scores_are_the_reference_models(network, model):
    with torch.no_grad():
        law = network(torch.tensor([TOKENS])).logits[0].double().log_softmax(dim=-1)
    found = every(model, TOKENS, best=5)
    assert [score.token for score in found] == TOKENS
    assert (found[0].logprob, found[0].best) == (None, ())
    for at, score in enumerate(found[1:]):
        assert score.logprob == pytest.approx(float(law[at, TOKENS[at + 1]]), abs=1e-4)
        values, ids = law[at].topk(5)
        assert [token for token, _ in score.best] == ids.tolist()
        assert [logprob for _, logprob in score.best] == pytest.approx(values.tolist(), abs=1e-4)


def test_as_many_as_there_are(model):
    *_, last = every(model, TOKENS[:5], best=1000)
    assert sorted(token for token, _ in last.best) == list(range(tiny.VOCAB))
    assert sum(2.718281828459045**logprob for _, logprob in last.best) == pytest.approx(1, abs=1e-9)


def test_none_are_named_unless_asked_for(model):
    assert all(score.best == () for score in every(model, TOKENS[:5]))


def test_one_token_follows_nothing(model):
    (score,) = every(model, TOKENS[:1], best=3)
    assert score.logprob is None


def test_what_steers_an_answer_steers_its_scores(model):
    steer = [Add(1, torch.full((64,), 0.5))]
    found = every(model, TOKENS[:20], interventions=steer)
    expected = replay(model, TOKENS[:20], interventions=steer).logprobs.tolist()
    assert [score.logprob for score in found[1:]] == expected
    assert expected != replay(model, TOKENS[:20]).logprobs.tolist()


def test_errors_come_before_the_first_piece(model):
    with pytest.raises(ContextExceeded):
        scores(model, TOKENS * 2)
