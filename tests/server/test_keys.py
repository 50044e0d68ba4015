"""Who may ask; and whose pages may."""

import base64
import hmac

import pytest
from starlette.testclient import TestClient

from thermoscope.server import keys
from thermoscope.server.app import create_app
from thermoscope.server.options import Options

from . import scripted

KEYS = ["sk-one", "zweiter Schlüssel"]


@pytest.fixture(scope="module")
def client():
    options = Options(keys=KEYS, origins=["https://app.example"])
    with TestClient(create_app(scripted.model(), options)) as client:
        yield client


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "header",
    ["Bearer sk-one", "bearer  sk-one ", f"Bearer {KEYS[1]}", basic("me:sk-one"), basic(f":{KEYS[1]}")],
)
@pytest.mark.parametrize("path", ["/v1/models", "/", "/docs", "/metrics", "/v1/traces"])
def test_a_key_opens(client, header, path):
    assert client.get(path, headers={"authorization": header.encode()}).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "Bearer", "Bearer sk-two", "Bearer sk-on", "Bearer sk-one2", "Bearer SK-ONE", "sk-one"),
        *("Basic sk-one", "Basic !", basic("sk-one"), basic("sk-one:me"), "Digest sk-one", "Bearer \xff"),
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        *("/v1/models", "/v1/chat/completions", "/", "/web/app.js", "/docs", "/openapi.json", "/metrics"),
        *("/v1/traces", "/no/such", "/health/", "//health", "/healthy"),
    ],
)
def test_nothing_else_does(client, header, path):
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    for response in (client.get(path, headers=headers), client.post(path, headers=headers, content=b"{")):
        assert response.status_code == 401
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] == "invalid_api_key"
        assert "sk-" not in error["message"]
        assert "x-request-id" in response.headers


def test_a_browser_is_asked_for_it_and_a_client_is_not(client):
    assert client.get("/").headers["www-authenticate"].startswith("Basic ")
    assert client.get("/v1/models").headers["www-authenticate"] == "Bearer"


def test_health_is_open(client):
    assert client.get("/health").json()["status"] == "ok"


def test_every_key_is_compared_in_constant_time(client, monkeypatch):
    compared, truly = [], hmac.compare_digest

    def compare(given, known):
        compared.append((len(given), len(known)))
        return truly(given, known)

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    client.get("/v1/models", headers={"authorization": "Bearer sk-one"})
    assert compared == [(32, 32)] * len(KEYS)


@pytest.mark.parametrize(("origin", "let"), [("https://app.example", True), ("https://evil.example", False)])
def test_a_site_that_was_named_may_ask_and_no_other(client, origin, let):
    ask = {"origin": origin, "access-control-request-method": "POST"}
    ask |= {"access-control-request-headers": "authorization,content-type"}
    response = client.options("/v1/chat/completions", headers=ask)
    assert response.headers.get("access-control-allow-origin") == (origin if let else None)
    assert response.status_code == (200 if let else 400)
    refused = client.get("/v1/models", headers={"origin": origin})
    assert refused.status_code == 401
    assert refused.headers.get("access-control-allow-origin") == (origin if let else None)


def test_without_names_no_site_may():
    with TestClient(create_app(scripted.model())) as client:
        response = client.get("/v1/models", headers={"origin": "https://app.example"})
        assert "access-control-allow-origin" not in response.headers
        ask = {"origin": "https://app.example", "access-control-request-method": "POST"}
        assert client.options("/v1/chat/completions", headers=ask).status_code == 405
