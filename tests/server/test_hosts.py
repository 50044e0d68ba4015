"""Which Host headers are answered, and that a foreign one is refused in OpenAI's form."""

import pytest
from starlette.testclient import TestClient

from thermoscope.server.app import create_app
from thermoscope.server.options import Options

from . import scripted


@pytest.fixture(scope="module")
def client():
    with TestClient(
        create_app(scripted.model(), Options(hosts=["127.0.0.1", "Box.example", "proxy.example:8443"]))
    ) as client:
        yield client


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LOCALHOST.", "page.localhost:1", "127.0.0.1:8000", "192.168.0.7"),
        *("[::1]:8000", "[::1]", "box.example", "BOX.example.:443", "proxy.example:8443", "proxy.example"),
    ],
)
def test_addresses_and_known_names_are_answered(client, host):
    assert client.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "",
    ],
)
@pytest.mark.parametrize("path", ["/health", "/v1/chat/completions", "/"])
def test_a_foreign_name_is_refused_in_openai_s_form(client, host, path):
    response = client.post(path, headers={"host": host}, json={})
    assert response.status_code == 403
    assert "x-request-id" in response.headers
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].startswith(f"Host: got {host!r}, expected")
    assert "--allowed-host" in error["message"]


def test_without_a_list_any_name_is_answered():
    with TestClient(create_app(scripted.model())) as client:
        assert client.get("/health", headers={"host": "evil.example"}).status_code == 200
