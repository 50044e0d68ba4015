"""Question, steps, cue and answer: where each begins, and what is refused."""

import dataclasses

import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.instruments._chain import chained, opened
from thermoscope.instruments.shape.source import File

CUE = "\nThe answer is"
SOLUTION = "He has 3 + 4 = 7 apples.\nHe eats 2, so 1,005 are left.\n#### 1,005"


def of(lab, text, answer=None, cue=CUE, question="How many?"):
    prompt = lab.tokens(question)
    return chained(lab, prompt, tuple(lab.model.tokenizer.encode(text)), lab.tokens("N/A"), cue, answer)


def test_a_worked_solution_is_cut_before_its_mark(lab):
    chain = of(lab, SOLUTION)
    decode = lab.model.tokenizer.decode
    assert decode(chain.reasoning) == "He has 3 + 4 = 7 apples.\nHe eats 2, so 1,005 are left."
    assert [step.text for step in chain.steps] == [
        "He has 3 + 4 = 7 apples.",
        "He eats 2, so 1,005 are left.",
    ]
    assert [chain.states(step) for step in chain.steps] == [False, True]
    assert (decode(chain.cue), decode(chain.answer), chain.said) == (CUE, " 1,005", "1,005")
    assert decode(chain.tokens) == f"How many?{decode(chain.reasoning)}{CUE} 1,005"
    assert [at for step in chain.steps for at in step.tokens] == list(range(len(chain.prompt), chain.asked))


@pytest.mark.parametrize(
    ("text", "answer", "said"),
    [
        ("First 3. Then 4.5 in all.", None, "4.5"),
        ("So -12, I think", None, "-12"),
        ("It is 1,000,", None, "1,000"),
        ("It is 5.", "five", "five"),
        ("2 and 2.\n#### 4", "5", "5"),
    ],
)
def test_the_answer_is_told_or_found(lab, text, answer, said):
    assert of(lab, text, answer).said == said


@pytest.mark.parametrize(
    ("text", "states"),
    [("7 left", True), ("17 left", False), ("7.5", False), ("is 7.", True), ("7,000", False)],
)
def test_a_step_says_the_answer_where_it_stands_by_itself(lab, text, states):
    chain = of(lab, text, "7")
    assert chain.states(chain.steps[0]) == states


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("No number here.", {}, "answer: got none, and no number stands in the reasoning; give the answer"),
        ("#### 5", {}, "reasoning: got '#### 5', expected at least one step before the answer"),
        ("It is 5. " * 400, {}, "expected at most 1024, the context"),
    ],
)
def test_what_makes_no_chain_is_refused_in_one_line(lab, text, more, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        of(lab, text, **more)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def trace(lm):
    return lm.chat("What is 2 + 3?", temperature=0, max_tokens=12).trace


def saved(trace, tmp_path):
    trace.save(tmp_path / "trace.json")
    return File.read(tmp_path / "trace.json")


def test_a_saved_trace_is_opened(lab, trace, tmp_path):
    assert opened(lab, saved(trace, tmp_path)) == trace


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model", "other", "trace: got one of model other, expected SmolLM2-135M-Instruct, which runs"),
        ("precision", "fp32", "trace: got one of precision fp32, expected int4"),
        ("prompt", (999_999,), "trace: got token id 999999, expected 0 to 49151"),
    ],
)
def test_a_trace_of_another_model_is_refused(lab, trace, tmp_path, field, value, message):
    with pytest.raises(InvalidRequest, match=message):
        opened(lab, saved(dataclasses.replace(trace, **{field: value}), tmp_path))


@pytest.mark.parametrize("text", ["", "5", "[]", "{}", '{"format": 1}', '{"format": 7}'])
def test_a_file_that_is_no_trace_is_refused(lab, text):
    with pytest.raises(InvalidRequest, match=r"^trace: got "):
        opened(lab, File(name="x.json", data=text.encode()))
