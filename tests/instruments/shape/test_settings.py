import math
from typing import Literal

import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape import settings as shape
from thermoscope.instruments.shape.settings import Many, Temperature, Text, setting


class Settings(shape.Settings):
    """Every kind of field."""

    prompt: Text = setting(meaning="A text.", unit="text", argument=True, min_length=1, max_length=20)
    temperature: Temperature = setting(1.0, meaning="T.", unit="nats")
    aside: Text | None = setting(None, meaning="Another.", unit="text", min_length=2)
    temperatures: Many[Temperature] = setting((1.0,), meaning="Some T.", unit="nats", min_length=1)
    count: int = setting(3, meaning="A number.", unit="tokens", ge=1, le=10)
    share: float | None = setting(None, meaning="A share.", unit="share", ge=0, le=1)
    engine: Literal["ours", "theirs"] = setting("ours", meaning="Which.", unit="name")


def refusal(**given):
    with pytest.raises(InvalidRequest) as caught:
        Settings.parse({"prompt": "x"} | given)
    return str(caught.value), caught.value.param


def test_what_is_not_given_has_its_default():
    settings = Settings.parse({"prompt": "x"})
    assert settings.temperatures == (1.0,)
    assert settings.share is None


def test_json_s_lists_and_infinity_are_taken():
    settings = Settings.parse({"prompt": "x", "temperature": "inf", "temperatures": [0, 0.5, "inf"]})
    assert settings.temperature == math.inf
    assert settings.temperatures == (0, 0.5, math.inf)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": ""}, "prompt: got '', expected at least 1 character."),
        ({"prompt": 5}, "prompt: got 5, expected a valid string."),
        (
            {"prompt": "\ud800"},
            "prompt: got '\\ud800', expected a valid string, unable to parse raw data as a unicode string.",
        ),
        ({"temperature": -1}, "temperature: got -1, expected greater than or equal to 0."),
        ({"temperature": math.nan}, "temperature: got nan, expected greater than or equal to 0."),
        ({"temperature": "hot"}, "temperature: got 'hot', expected a valid number."),
        ({"aside": ""}, "aside: got '', expected at least 2 characters."),
        ({"temperatures": []}, "temperatures: got [], expected at least 1 item."),
        ({"temperatures": "1"}, "temperatures: got '1', expected a list."),
        ({"temperatures": [1, -1]}, "temperatures[1]: got -1, expected greater than or equal to 0."),
        ({"count": 1.5}, "count: got 1.5, expected a valid integer."),
        ({"count": True}, "count: got true, expected a valid integer."),
        ({"count": 11}, "count: got 11, expected less than or equal to 10."),
        ({"share": math.nan}, "share: got nan, expected less than or equal to 1."),
        ({"engine": "other"}, "engine: got 'other', expected 'ours' or 'theirs'."),
        ({"tempo": 1}, "tempo: no field of that name is known here; check its spelling or leave it out."),
    ],
)
def test_a_bad_value_is_refused_in_one_line_with_its_name(given, message):
    said, param = refusal(**given)
    assert said == message
    assert param == message.partition(":")[0]


def test_a_missing_field_is_named():
    with pytest.raises(InvalidRequest, match="prompt: missing, and it is required") as caught:
        Settings.parse({})
    assert caught.value.param == "prompt"


def test_the_schema_carries_meaning_unit_and_range():
    fields = Settings.model_json_schema()["properties"]
    assert fields["prompt"] | {"title": ""} == {
        "argument": True,
        "description": "A text.",
        "maxLength": 20,
        "minLength": 1,
        "title": "",
        "type": "string",
        "unit": "text",
    }
    assert fields["temperature"]["anyOf"] == [
        {"type": "number", "minimum": 0},
        {"type": "string", "const": "inf"},
    ]
    assert fields["count"]["minimum"] == 1
    assert fields["engine"]["enum"] == ["ours", "theirs"]
