import numpy as np
import pytest

from thermoscope.errors import UpstreamFailed
from thermoscope.upstream.logprobs import choices

LIST = {
    "content": [
        {
            "token": "a", "logprob": -0.5, "bytes": [97],
            "top_logprobs": [
                {"token": "a", "logprob": -0.5, "bytes": [97]},
                {"token": "b", "logprob": -1.5, "bytes": None},
            ],
        }
    ]
}  # fmt: skip
COLUMNS = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5, "b": -1.5}]}


@pytest.mark.parametrize("form", [LIST, COLUMNS])
def test_both_forms_say_the_same(form):
    (token,) = choices(form)
    assert token.chosen.text == "a"
    assert [each.text for each in token.best] == ["a", "b"]
    assert np.allclose(token.partial(10).log_p, [-0.5, -1.5])


def test_a_chosen_token_that_stands_in_for_a_better_one_is_no_rank():
    """vLLM's list of a chat begins with the chosen token, whatever its rank, and ends one earlier for it."""
    shown = [{"token": text, "logprob": logprob} for text, logprob in (("z", -8.0), ("a", -0.5), ("b", -1.5))]
    (token,) = choices({"content": [{"token": "z", "logprob": -8.0, "top_logprobs": shown}]})
    assert np.allclose(token.partial().log_p, [-0.5, -1.5])


def test_two_tokens_of_one_text_leave_a_gap():
    columns = COLUMNS | {"top_logprobs": [{"a": -0.5, "\ufffd": -1.5}]}
    assert choices(columns)[0].partial() is None


def test_a_list_that_is_shorter_than_it_was_asked_for_has_a_gap():
    assert choices(COLUMNS, 2)[0].partial() is not None
    assert choices(COLUMNS, 3)[0].partial() is None
    last = {"tokens": ["b"], "token_logprobs": [-1.5], "top_logprobs": COLUMNS["top_logprobs"]}
    assert choices(last, 1)[0].partial() is not None
    assert choices(last, 2)[0].partial() is None  # b stands beside the others, of which one is missing


@pytest.mark.parametrize("form", [None, {}, {"content": None}, {"content": []}])
def test_no_tokens(form):
    assert choices(form) == []


def test_a_token_without_alternatives_says_nothing_of_others():
    assert choices({"content": [{"token": "a", "logprob": -0.5}]})[0].partial() is None
    assert choices({"tokens": ["a"], "token_logprobs": [None]})[0].chosen.logprob == -9999


@pytest.mark.parametrize(
    "form", [{"content": [{"token": "a"}]}, {"tokens": ["a"]}, {"content": [3]}, {"tokens": [], "content": 3}]
)
def test_another_form_is_refused(form):
    with pytest.raises(UpstreamFailed, match="expected OpenAI's form"):
        choices(form)
