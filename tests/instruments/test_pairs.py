"""A task's file, its split, and its prompts as tokens."""

import json

import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.instruments._pairs import Pair, items, pairs, split, tokens
from thermoscope.instruments.shape.source import File

PAIRS = [Pair(f"in{number}", f"out{number}") for number in range(30)]


def file(content):
    return File(name="task.json", data=content.encode())


def test_a_list_and_lines_are_the_same_and_an_input_counts_once():
    plain = [pair._asdict() for pair in PAIRS] + [{"input": "in3", "output": "another"}]
    listed = pairs(file(json.dumps(plain)))
    assert listed == pairs(file("\n".join(map(json.dumps, plain)))) == PAIRS


@pytest.mark.parametrize(
    "content", ["", "no", "{}", "[]", "[1]", '[{"input": "a"}]', '[{"input": "a", "output": 3}]',
                '[{"input": "a", "output": " "}]', "[" * 100_000],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(content):
    with pytest.raises(
        InvalidRequest, match=r"^task: got task.json(, expected a JSON list| without a pair)"
    ) as caught:
        pairs(file(content))
    assert caught.value.param == "task"


def test_what_is_judged_by_was_not_fitted_on():
    train, test = split(PAIRS, 12, None, seed=4)
    assert len(train) == 12
    assert sorted(train + test) == sorted(PAIRS)
    assert split(PAIRS, 12, None, seed=4) == (train, test)
    assert split(PAIRS, 12, 5, seed=4)[1] == test[:5]
    assert split(PAIRS, 12, None, seed=5)[0] != train
    assert len(split([Pair(str(n), "x") for n in range(400)], 12, None, seed=0)[1]) == 200


def test_too_few_items_are_refused():
    with pytest.raises(InvalidRequest, match="got 30 items to fit on, but the task has 30 different inputs"):
        split(PAIRS, 30, None, seed=0)
    with pytest.raises(
        InvalidRequest, match="got 20 items to fit on and 11 to judge by, but the task has 30"
    ):
        split(PAIRS, 20, 11, seed=0)


def test_prompts_hold_demonstrations_from_the_training_items_only(lab):
    known = PAIRS[:8]
    decode = lab.model.tokenizer.decode
    for pair, item in zip(PAIRS[5:12], items(lab, PAIRS[5:12], known, 3, seed=1), strict=True):
        assert decode(item.bare) == f"\n{pair.input} ->"
        *shown, asked = decode(item.prompted).strip().split("\n")
        assert asked == f"{pair.input} ->"
        drawn = [Pair(*line.split(" -> ")) for line in shown]
        assert len(set(drawn)) == 3
        assert set(drawn) <= set(known) - {pair}
        *turned, _ = decode(item.shuffled).strip().split("\n")
        exchanged = [Pair(*line.split(" -> ")) for line in turned]
        assert [each.input for each in exchanged] == [each.input for each in drawn]
        assert sorted(each.output for each in exchanged) == sorted(each.output for each in drawn)
        assert not set(exchanged) & set(drawn)
        whole = lab.model.tokenizer.prompt(f"\n{pair.input} -> {pair.output}")
        assert whole == (*item.bare, item.target, *whole[len(item.bare) + 1 :])
        assert item.length == len(whole) - len(item.bare)


def test_a_prompt_beyond_the_context_is_refused(lab):
    with pytest.raises(InvalidRequest, match="expected at most 1024, the context; ask for fewer shots"):
        tokens(lab, PAIRS[0], PAIRS * 10)
