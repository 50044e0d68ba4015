"""The tests that come with OpenAI's client, from its source, against our server.

They were made for a mock that answers anything. What is left out is in `LEFT_OUT`, each with its reason.
"""

import os
import re
import subprocess
from collections import Counter
from xml.etree import ElementTree

import pytest

import thermoscope as ts
from tests.server.conftest import serving

from .environment import interpreter, source

pytestmark = [pytest.mark.peer, pytest.mark.slow]

PACKAGE = "openai==3.54.0"
FILES = [
    f"tests/api_resources/{name}.py"
    for name in ("chat/test_completions", "test_completions", "test_models", "test_embeddings")
]
ALIASES = ["gpt-6-astra", "gpt-3.5-turbo-instruct", "text-embedding-3-small"]
LEFT_OUT = {
    r"with_all_params": "sends values that contradict each other, for a mock",
    r"chat/.*(method|response)_(retrieve|update|list|delete)\[": "completions stored by OpenAI",
    r"test_models.*(method|response)_delete\[": "deletes a model that OpenAI tuned",
    r"test_embeddings.*create\[(strict|aiohttp)": (
        "the client asks for base64 by itself, and being strict takes nothing but a list of numbers"
    ),
}


@pytest.fixture(scope="module")
def suite():
    """A function that runs pytest in the client's source, against our server."""
    python = interpreter(
        "openai[aiohttp]==3.54.0", "pytest", "pytest-asyncio", "pytest-xdist", "inline-snapshot"
    )
    folder = source(PACKAGE, "hatchling")
    with ts.load(threads=1) as lm, serving(lm, ALIASES, max_tokens=16) as address:

        def run(*arguments):
            command = [python, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", *arguments]
            environment = os.environ | {"TEST_API_BASE_URL": f"{address}/v1"}
            return subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )

        yield run


def test_it_passes(suite, tmp_path):
    listed = [line for line in suite("--collect-only", "-q", *FILES).stdout.splitlines() if "::" in line]
    assert len(listed) > 200
    reasons = {
        each: reason for pattern, reason in LEFT_OUT.items() for each in listed if re.search(pattern, each)
    }
    report = tmp_path / "report.xml"
    left_out = [argument for each in reasons for argument in ("--deselect", each)]
    done = suite("-q", "--tb=short", f"--junit-xml={report}", *left_out, *FILES)
    (told,) = ElementTree.parse(report).getroot().iter("testsuite")
    tests, failed = int(told.attrib["tests"]), int(told.attrib["failures"]) + int(told.attrib["errors"])
    print(f"\n{PACKAGE}: {tests - failed} passed, {failed} failed, {len(reasons)} deselected")
    for reason, count in Counter(reasons.values()).items():
        print(f"  {count:3} {reason}")
    assert not failed, done.stdout[-4000:]
    assert tests + len(reasons) == len(listed)
