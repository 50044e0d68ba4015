"""Our own server with a small random model is the upstream, so that the truth is at hand."""

import pytest

import thermoscope as ts
from tests import tiny
from tests.server.conftest import serving
from thermoscope.instruments.shape.lab import Lab
from thermoscope.upstream.upstream import open_upstream


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    folder = tiny.save(tiny.reference("llama"), tmp_path_factory.mktemp("upstream"))
    with ts.load(str(folder), precision="fp32") as lm:
        yield lm


@pytest.fixture(scope="session")
def address(local):
    with serving(local) as address:
        yield address


@pytest.fixture(scope="session")
def upstream(address):
    upstream = open_upstream(address, vocabulary=tiny.VOCAB)
    yield upstream
    upstream.connection.close()


@pytest.fixture(scope="session")
def truth(local):
    """The whole distribution after what a user says, from a replay here."""
    lab = Lab(lambda: local)
    return lambda prompt: lab.last(lab.tokens(prompt, chat=True))
