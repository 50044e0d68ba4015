import numpy as np
import pytest

from thermoscope.engine.replay import replay
from thermoscope.errors import InvalidRequest
from thermoscope.instruments._passage import given, spoken

PROMPT = "The capital of France is"


def test_a_given_text_follows_the_prompt(lm, lab):
    passage = given(lab, PROMPT, " Paris, a city.", "text", chat=False)
    assert passage.trace is None
    assert passage.tokens == tuple(lm.tokenizer.prompt(PROMPT + " Paris, a city."))
    assert lm.tokenizer.decode(passage.text) == " Paris, a city."
    assert passage.contexts(lab)[:2] == [PROMPT, PROMPT + " Paris"]


def test_a_token_that_spans_the_seam_is_the_texts(lm, lab):
    before, whole = lm.tokenizer.prompt("The capital of Fr"), lm.tokenizer.prompt("The capital of France")
    assert before[-1] not in whole
    passage = given(lab, "The capital of Fr", "ance", "text", chat=False)
    assert passage.first == len(before) - 1
    assert lm.tokenizer.decode(passage.text) == " France"
    (note,) = passage.notes
    assert "before the prompt's last ' Fr', with the token ' France'." in note


def test_a_first_token_that_is_not_the_prompt_s_is_left_out_and_said(lm, lab):
    passage = given(lab, "An", "other one", "text", chat=False)
    assert lm.tokenizer.decode(passage.text) == " one"
    (note,) = passage.notes
    assert "before the prompt's last 'An', with the token 'Another'; nothing predicts that one" in note


def test_the_contexts_are_one_where_no_token_spans_the_seam(lab):
    assert given(lab, PROMPT, " Paris.", "text", chat=False).notes == ()
    assert given(lab, "The capital of Fr", "ance", "text", chat=True).notes == ()


def test_in_a_chat_the_text_is_the_answer(lm, lab):
    passage = given(lab, PROMPT, "Paris.", "text", chat=True)
    said = lm.tokenizer.chat([{"role": "user", "content": PROMPT}])
    assert passage.tokens == (*said, *lm.tokenizer.encode("Paris."))
    assert passage.first == len(said)


def test_rows_are_the_logits_before_each_token(lm, lab):
    passage = given(lab, PROMPT, " Paris, a city of light.", "text", chat=False)
    whole = lm.runner.call(lambda: replay(lm.model, passage.tokens, logits=True))
    rows = np.stack(list(passage.rows(lab)))
    assert rows.dtype == np.float64
    assert np.array_equal(rows, whole.logits[passage.first - 1 : -1].double().numpy())


def test_what_the_engine_says_has_its_trace(lab):
    prompt = lab.tokens(PROMPT)
    passage = spoken(lab, prompt, max_tokens=5, seed=3)
    assert passage.tokens == (*prompt, *passage.trace.tokens)
    assert passage.text == passage.trace.tokens
    assert passage.trace.sampling["seed"] == 3


@pytest.mark.parametrize("param", ["text", "file"])
def test_a_text_that_adds_nothing_is_refused(lab, param):
    with pytest.raises(InvalidRequest, match=f"{param}: got '', which adds no token") as caught:
        given(lab, PROMPT, "", param, chat=False)
    assert caught.value.param == param
