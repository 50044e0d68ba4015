import io
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.cli import fakes
from thermoscope.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> fakes.FakeModel:
    fake = fakes.FakeModel()
    monkeypatch.setitem(sys.modules, "thermoscope.engine.language_model", fakes.install(fake))
    return fake


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process, with `stdin` as what is piped into it."""

    def call(*arguments: str, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        code = main(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
