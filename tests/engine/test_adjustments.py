"""The order of penalties and bias in each profile, on numbers worked out by hand."""

import numpy as np
import pytest

from thermoscope.engine.adjustments import Adjustments
from thermoscope.engine.request import Sampling


def adjusted(row, said, *, prompt=(), **fields):
    adjustments = Adjustments(Sampling(**fields), prompt)
    for token in said:
        adjustments.say(token)
    return adjustments.apply(np.array(row, dtype=np.float32))


def test_nothing_is_touched_without_a_penalty():
    logits = adjusted([1, 2, 3], [0, 1], prompt=(2,))
    assert not len(logits.touched)
    assert logits.all.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("openai", 3.0),  # 4 / 2 − (0.5 + 0.25 · 2) + 2
        ("vllm", 2.0),  # (4 + 2) / 2 − 1
        ("sglang", 3.5),  # (4 − 1) / 2 + 2
        ("llama.cpp", 2.0),  # (4 + 2) / 2 − 1
    ],
)
def test_each_profile_has_its_order(profile, expected):
    logits = adjusted(
        [1.0, 4.0],
        [1, 1],
        profile=profile,
        repetition_penalty=2.0,
        presence_penalty=0.5,
        frequency_penalty=0.25,
        logit_bias={1: 2.0},
    )
    assert logits.all.tolist() == [1.0, expected]


def test_hf_adds_the_bias_before_the_penalty():
    logits = adjusted([1.0, 4.0], [1], profile="hf", repetition_penalty=2.0, logit_bias={1: 2.0, 0: -3.0})
    assert logits.all.tolist() == [-2.0, 3.0]


def test_llama_cpp_looks_at_the_last_64_tokens_of_prompt_and_answer():
    fields = {"presence_penalty": 1.0, "frequency_penalty": 0.25}
    prompt, said = (0,) + (1,) * 40, [2] * 24
    assert adjusted([0, 0, 0], said, prompt=prompt, profile="llama.cpp", **fields).all.tolist() == [
        0,
        -11,
        -7,
    ]
    assert adjusted([0, 0, 0], said, prompt=prompt, **fields).all.tolist() == [0, 0, -7]


def test_dry_takes_from_what_would_go_on_repeating():
    logits = adjusted([0] * 5, [1, 2], prompt=(1, 2, 3, 4), dry_multiplier=0.8)
    assert logits.all.tolist() == [0, 0, 0, -0.8, 0]
    free = adjusted([0] * 5, [1, 2], prompt=(1, 2, 3, 4), dry_multiplier=0.8, dry_breakers=(2,))
    assert free.all.tolist() == [0] * 5
