import contextlib
import threading

import pytest
import uvicorn
from starlette.testclient import TestClient

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
