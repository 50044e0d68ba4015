import contextlib
import threading

import openai
import pytest
import uvicorn
from starlette.testclient import TestClient

from tests import tiny
from thermoscope.engine.engine import Engine
from thermoscope.engine.language_model import LanguageModel
from thermoscope.server.app import create_app
from thermoscope.server.options import Options
from thermoscope.server.serve import Server, open_port

from . import scripted


@contextlib.contextmanager
def up(server):
    """A real uvicorn on a free port, in a thread; yields its address."""
    with open_port("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            scripted.wait_until(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
    assert not thread.is_alive()


def serving(model, aliases=(), **options):
    """The same of a server with these options."""
    return up(Server(model, Options(aliases=aliases, hosts=["127.0.0.1"], **options)))


def running(app):
    """The same of an app of which no engine is to be stopped."""
    return up(uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")))


def strict(address):
    """OpenAI's own client, which checks every byte of ours against its types."""
    return openai.OpenAI(
        base_url=f"{address}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    )


@pytest.fixture
def openai_client(address):
    with strict(address) as client:
        yield client


@pytest.fixture(scope="module")
def tiny_lm(tmp_path_factory):
    """A tiny model with an engine of its own, for what is told from the model's own numbers."""
    model = tiny.ours(tiny.save(tiny.reference("llama"), tmp_path_factory.mktemp("tiny")))
    with LanguageModel(lambda: Engine(model, slots=4, context=128)) as lm:
        yield lm


@pytest.fixture(scope="module")
def tiny_client(tiny_lm):
    with TestClient(create_app(tiny_lm, Options(aliases=["gpt-4o"]))) as client:
        yield client


@pytest.fixture
def model():
    return scripted.model()


@pytest.fixture
def client(model):
    with TestClient(create_app(model, Options(aliases=["gpt-4o"]))) as client:
        yield client


@pytest.fixture
def ask(client):
    """Post a chat request whose fields the caller adds to or replaces."""

    def post(**fields):
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]} | fields
        return client.post("/v1/chat/completions", json=body)

    return post


@pytest.fixture
def address(model):
    with serving(model, ["gpt-4o"]) as address:
        yield address
