"""The default model, loaded once, and a toy on the shelf beside the real instruments."""

from pathlib import Path

import pytest

import thermoscope as ts
from tests import tiny
from tests.instruments import chains
from thermoscope import instruments
from thermoscope.instruments._rerun import Rerun
from thermoscope.instruments.shape.lab import Lab

TOYS = Path(__file__).parent / "toys"


@pytest.fixture(scope="session")
def lm():
    with ts.load(context=1024) as lm:
        yield lm


@pytest.fixture
def lab(lm):
    return Lab(lambda: lm)


@pytest.fixture(scope="session")
def tiny_lab(tmp_path_factory):
    """A small random model whose tokens are characters, other than the space."""
    folder = tiny.save(tiny.reference("llama"), tmp_path_factory.mktemp("tiny-llama"))
    with ts.load(str(folder), precision="fp32") as lm:
        yield Lab(lambda: lm)


@pytest.fixture
def toy(monkeypatch):
    """One more folder to look for instruments in: the file in it is all that the toy needs."""
    monkeypatch.setattr(instruments, "__path__", [*instruments.__path__, str(TOYS)])
    return "coin"


@pytest.fixture(scope="session", params=["llama", "mistral", "gemma3", "gpt2"])
def any_lab(request, tmp_path_factory):
    """A small random model of each kind: plain, windowed, with norms behind, with learned positions."""
    folder = tiny.save(tiny.reference(request.param), tmp_path_factory.mktemp(f"tiny-{request.param}"))
    with ts.load(str(folder), precision="fp32") as lm:
        yield Lab(lambda: lm)


@pytest.fixture(scope="session")
def run(any_lab):
    """A chain of thought that was looked at in it."""
    return Rerun(any_lab, chains.chain(), sinks=chains.SINKS, until=chains.UNTIL, head=chains.HEAD, room=20)
