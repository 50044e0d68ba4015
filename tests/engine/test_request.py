import dataclasses
import math

import pytest

from thermoscope.engine.request import Request, Sampling
from thermoscope.errors import InvalidRequest
from thermoscope.laws.filters import Filters

TAKEN = {
    "profile": ("openai", "hf", "vllm", "sglang", "llama.cpp"),
    "dynatemp_range": (0, 0.5, math.inf),
    "dynatemp_exponent": (0, 1, 2.5),
    "top_n_sigma": (0, 1.5, math.inf),
    "typical_p": (0, 0.2, 1.0),
    "epsilon": (0, 1e-4, 1),
    "eta": (0, 2e-3, 1),
    "xtc_probability": (0, 0.5, 1),
    "xtc_threshold": (0, 0.1, 1),
    "mirostat_tau": (0, 5.0, math.inf),
    "mirostat_eta": (0, 0.1, 1),
    "dry_multiplier": (0, 0.8, 1e6),
    "dry_base": (1, 1.75, 1e6),
    "dry_allowed_length": (1, 2, 10**6),
    "dry_breakers": ((), (0, 7), [1]),
    "temperature": (0, 0.0, 1e-300, 1, 2.5, 1e300, math.inf),
    "top_p": (0, 0.0, 0.5, 1, 1.0),
    "top_k": (0, 1, 10**9),
    "min_p": (0, 0.5, 1),
    "repetition_penalty": (1e-6, 1, 1.3, 1e6),
    "presence_penalty": (-2, 0.5, 2.0),
    "frequency_penalty": (-2.0, 0, 2),
    "logit_bias": ({}, {0: -100}, {5: 100.0, 7: 0.5}),
    "seed": (None, 0, -(2**63), 2**64 - 1),
    "stop": ((), ("a",), ["ab", "\n"]),
    "stop_ids": ((), (0, 7), [1]),
    "max_tokens": (None, 1, 10**9),
    "n": (1, 128),
    "ignore_eos": (True, False),
}
REFUSED = {
    "profile": ("ollama", "", None, 1),
    "dynatemp_range": (-0.1, math.nan, "1", None),
    "dynatemp_exponent": (-1, math.nan, None),
    "top_n_sigma": (-1, math.nan, "1", None),
    "typical_p": (-0.1, 1.1, math.nan, "0.5", None, True),
    "epsilon": (-0.1, 1.1, math.nan, None),
    "eta": (-0.1, 1.1, math.nan, None),
    "xtc_probability": (-0.1, 1.1, math.nan, None),
    "xtc_threshold": (-0.1, 1.1, math.nan, None),
    "mirostat_tau": (-1, math.nan, "5", None),
    "mirostat_eta": (-0.1, math.nan, None),
    "dry_multiplier": (-1, math.inf, math.nan, None),
    "dry_base": (0.9, math.inf, math.nan, None),
    "dry_allowed_length": (0, 1.5, None),
    "dry_breakers": ((-1,), (1.0,), ("1",), None, 3),
    "temperature": (-1e-9, -math.inf, math.nan, "1", None, True, [1]),
    "top_p": (-0.1, 1.0000001, math.nan, math.inf, "0.5", None, True),
    "top_k": (-1, 1.0, math.inf, "3", None, False),
    "min_p": (-0.1, 1.1, math.nan, "0", None),
    "repetition_penalty": (0, -1, 1e7, math.inf, math.nan, "1", None),
    "presence_penalty": (-2.1, 2.1, math.nan, "0", None),
    "frequency_penalty": (-2.1, 2.1, math.nan, "0", None),
    "logit_bias": (
        *({3: 100.1}, {3: -101}, {3: math.nan}, {3: "1"}, {3: None}),
        *({-1: 1.0}, {"3": 1.0}, {1.0: 1.0}, {True: 1.0}, [(3, 1.0)], None, "3"),
    ),
    "seed": (-(2**63) - 1, 2**64, 1.0, "7", True),
    "stop": ("end", ("",), ("a", ""), (1,), (b"a",), (None,), None, 5),
    "stop_ids": ((-1,), (1.0,), ("1",), (True,), None, 3, "12"),
    "max_tokens": (0, -1, 1.0, "5", True, math.inf),
    "n": (0, 129, 1.0, "2", None, True),
    "ignore_eos": (1, 0, "yes", None),
}


def cases(table):
    return [pytest.param(name, value, id=f"{name}={value!r}") for name in table for value in table[name]]


def test_every_field_is_in_both_tables():
    fields = {field.name for field in dataclasses.fields(Sampling)}
    assert set(TAKEN) == set(REFUSED) == fields


@pytest.mark.parametrize(("field", "value"), cases(TAKEN))
def test_values_in_range_are_kept_as_they_are(field, value):
    assert getattr(Sampling(**{field: value}), field) == value


@pytest.mark.parametrize(("field", "value"), cases(REFUSED))
def test_values_of_a_wrong_type_or_range_are_refused_by_name(field, value):
    with pytest.raises(InvalidRequest) as caught:
        Sampling(**{field: value})
    message = str(caught.value)
    assert message.startswith(f"{field}: got ")
    assert "expected" in message
    assert "\n" not in message
    assert caught.value.param == field


def test_a_message_says_what_was_got_and_the_whole_range():
    with pytest.raises(InvalidRequest) as caught:
        Sampling(top_p=1.5)
    assert str(caught.value) == "top_p: got 1.5, expected a number, 0 to 1."
    with pytest.raises(InvalidRequest) as caught:
        Sampling(max_tokens=0)
    assert str(caught.value) == "max_tokens: got 0, expected a whole number, 1 or more."


def test_settings_do_not_change_under_a_running_request():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sampling().temperature = 0.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        Request(prompt=(1,)).prompt = (2,)


def test_a_request_records_and_draws_from_the_models_own_law_unless_told_otherwise():
    request = Request(prompt=(1, 2))
    assert request.record
    assert request.sampling == Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, n=1)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"profile": "hf", "presence_penalty": 1.0}, "presence_penalty"),
        ({"profile": "vllm", "dry_multiplier": 0.8}, "dry_multiplier"),
        ({"profile": "vllm", "typical_p": 0.9}, "typical_p"),
        ({"profile": "llama.cpp", "mirostat_tau": 5.0, "top_k": 40}, "top_k"),
        ({"profile": "llama.cpp", "mirostat_tau": 5.0, "repetition_penalty": 1.1}, "repetition_penalty"),
    ],
)
def test_a_setting_that_the_profile_s_engine_lacks_is_refused(fields, param):
    with pytest.raises(InvalidRequest, match=rf"{param}: got .*, expected .*, for .*; leave ") as caught:
        Sampling(**fields)
    assert caught.value.param == param


def test_filters_without_a_word_are_neutral():
    assert Sampling().filters == Filters()
    assert Sampling(top_p=0.5, epsilon=0.1).filters == Filters(top_p=0.5, epsilon=0.1)
