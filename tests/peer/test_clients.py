"""Clients that people use, each in an environment of its own, against a server of the default model."""

import json
import subprocess
from pathlib import Path

import pytest

import thermoscope as ts
from tests.server.conftest import serving

from .environment import interpreter

pytestmark = [pytest.mark.peer, pytest.mark.slow]

PROGRAMS = Path(__file__).parent / "clients"
CLIENTS = {
    "openai 0.28": ("openai_028.py", ["openai==0.28.1"]),
    "openai 1": ("openai_today.py", ["openai>=1.109,<2"]),
    "openai 2": ("openai_today.py", ["openai>=2,<3"]),
    "openai 3": ("openai_today.py", ["openai>=3.54,<4"]),
    "langchain": ("langchain_chat.py", ["langchain-openai"]),
    "langchain, responses": ("langchain_responses.py", ["langchain-openai"]),
    "agents": ("agents_loop.py", ["openai-agents"]),
    "litellm": ("litellm_chat.py", ["litellm"]),
    "instructor": ("instructor_models.py", ["instructor"]),
}


@pytest.fixture(scope="module")
def address():
    with ts.load() as lm, serving(lm, ["gpt-4o"]) as address:
        yield address


@pytest.mark.timeout(1800)  # the first run makes the environments
@pytest.mark.parametrize(("program", "packages"), CLIENTS.values(), ids=CLIENTS)
def test_a_client(address, program, packages):
    done = subprocess.run(
        [interpreter(*packages), PROGRAMS / program, address],
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    print(f"{versions}: {len(told['passed'])} held, {len(told['failed'])} did not")
    assert not told["failed"], "\n".join(told["failed"].values())
