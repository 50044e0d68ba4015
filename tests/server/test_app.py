"""The other addresses, the headers, and the page."""

import pytest
from starlette.testclient import TestClient

from thermoscope.server import app as app_module


def test_models_are_the_name_and_its_aliases(client):
    listing = client.get("/v1/models").json()
    assert listing["object"] == "list"
    assert [card["id"] for card in listing["data"]] == ["Scripted-1B", "gpt-4o"]
    assert all(card["object"] == "model" and card["owned_by"] == "thermoscope" for card in listing["data"])
    assert client.get("/v1/models/gpt-4o").json() == listing["data"][1]


def test_a_model_that_is_not_there(client):
    response = client.get("/v1/models/some/other")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


def test_health(client, model):
    model.runner.running, model.runner.waiting = 2, 1
    assert client.get("/health").json() == {
        "status": "ok",
        "model": "Scripted-1B",
        "precision": "fp32",
        "context": 512,
        "slots": 8,
        "running": 2,
        "waiting": 1,
    }


def test_every_response_has_an_id_and_a_time(client, ask):
    responses = [client.get("/health"), client.get("/nothing"), ask(), ask(n=0), ask(stream=True)]
    assert len({response.headers["x-request-id"] for response in responses}) == len(responses)
    assert all(int(response.headers["openai-processing-ms"]) >= 0 for response in responses)


@pytest.fixture
def page(model, tmp_path, monkeypatch):
    """The server of a page that has something to hide beside it."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "index.html").write_text("<title>page</title>")
    (folder / "page.js").write_text("let secret = false")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.setattr(app_module, "WEB", folder)
    return TestClient(app_module.create_app(model))


@pytest.mark.parametrize(("path", "kind"), [("/", "text/html"), ("/web/page.js", "text/javascript")])
def test_page_and_files_are_under_a_strict_policy(page, path, kind):
    response = page.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(kind)
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "..%5csecret.txt",
        "%2fetc%2fpasswd",
        "link.txt",
        "",
        "no.js",
    ],
)
def test_nothing_outside_the_folder(page, path):
    response = page.get(f"/web/{path}")
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_the_packaged_page_is_there(client):
    assert "<title>Thermoscope" in client.get("/").text


def test_the_docs_ask_no_other_machine(client):
    page = client.get("/docs").text
    assert 'src="/static-offline-docs/' in page
    assert "https://" not in page
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_the_schema_promises_no_422(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/chat/completions", "/v1/models", "/v1/models/{name}", "/health"} <= set(paths)
    answers = paths["/v1/chat/completions"]["post"]["responses"]
    assert set(answers) == {"200", "4XX", "5XX"}


def test_the_examples_of_the_docs_are_answered(tiny_client):
    document = tiny_client.get("/openapi.json").json()
    answered = set()
    for path, methods in document["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        name = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        for body in document["components"]["schemas"].get(name, {}).get("examples", ()):
            limit = {"/v1/chat/completions": {"max_tokens": 3}, "/v1/responses": {"max_output_tokens": 3}}
            answer = tiny_client.post(path, json=body | {"model": "gpt-4o"} | limit.get(path, {}))
            assert answer.status_code == 200, answer.text
            answered.add(path)
    assert answered == {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"}
