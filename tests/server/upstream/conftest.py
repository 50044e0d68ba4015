import httpx
import pytest
from starlette.testclient import TestClient

from tests.server.upstream.toy import ABILITIES, Toy
from thermoscope.server.upstream.app import create_app
from thermoscope.upstream.connection import Connection
from thermoscope.upstream.upstream import Upstream


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def client(toy):
    connection = Connection("http://toy", "sesame", async_transport=httpx.MockTransport(toy))
    with TestClient(create_app(Upstream(connection, ABILITIES))) as client:
        yield client
