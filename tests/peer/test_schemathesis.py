"""schemathesis, which asks whatever our own description of the addresses allows, and what it does not."""

import re
import subprocess

import pytest

from tests import tiny
from tests.server.conftest import serving
from thermoscope.engine.engine import Engine
from thermoscope.engine.language_model import LanguageModel

from .environment import interpreter

pytestmark = [pytest.mark.peer, pytest.mark.slow]

PACKAGE = "schemathesis==4.32.5"
LEAST = 2000  # cases
# A schema cannot say what two fields mean together, or that 17.0 is no integer.
LEFT_OUT = "positive_data_acceptance"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    model = tiny.ours(tiny.save(tiny.reference("llama"), tmp_path_factory.mktemp("tiny")))
    with (
        LanguageModel(lambda: Engine(model, slots=8, context=128)) as lm,
        serving(lm, ["gpt-4o"], max_tokens=4) as address,
    ):
        yield address


def test_it_finds_nothing(address, tmp_path):
    (tmp_path / "schemathesis.toml").write_text('[parameters]\n"body.model" = "gpt-4o"\n')
    program = interpreter(PACKAGE).with_name("schemathesis")
    command = [program, "--config-file", "schemathesis.toml", "run", f"{address}/openapi.json", "--no-color"]
    command += ["--phases", "examples,fuzzing", "-n", "120", "--seed", "20261127", "--continue-on-failure"]
    command += ["--generation-database", "none", "--request-timeout", "60", "--exclude-checks", LEFT_OUT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=3600, check=False)
    told = done.stdout[done.stdout.rindex("SUMMARY") :]
    print(told)
    assert done.returncode == 0, done.stdout[-6000:]
    (cases,) = re.findall(r"(\d+) generated", told)
    assert int(cases) >= LEAST
