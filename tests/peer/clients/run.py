"""What every client's program does: run its checks against the address that it is given, and tell as JSON."""

import json
import sys
import traceback
from importlib.metadata import version

ADDRESS = sys.argv[1]
MODEL = "gpt-4o"
QUESTION = "What is the capital of France?"
WEATHER_SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 40},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now.",
        "parameters": WEATHER_SCHEMA,
    },
}
ASKED = [{"role": "user", "content": "What is the weather in Paris, in celsius?"}]


def main(checks, *packages):
    """Run functions named after what they check; print which held, and why others did not."""
    failed = {}
    for check in checks:
        try:
            check()
        except Exception:
            failed[check.__name__] = traceback.format_exc()
    told = {
        "versions": {package: version(package) for package in packages},
        "passed": [check.__name__ for check in checks if check.__name__ not in failed],
        "failed": failed,
    }
    print(json.dumps(told))


def raised(kind, call):
    """The error of this class that a call raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")
