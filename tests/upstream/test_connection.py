import httpx
import pytest

from thermoscope.errors import InvalidRequest, UpstreamFailed
from thermoscope.upstream.connection import Connection


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("http://127.0.0.1:8001", "http://127.0.0.1:8001/v1"),
        ("http://127.0.0.1:8001/v1/", "http://127.0.0.1:8001/v1"),
        ("https://example.org/llm/v1", "https://example.org/llm/v1"),
    ],
)
def test_an_address_with_or_without_its_version(given, root):
    assert Connection(given).url == root


@pytest.mark.parametrize(
    "given", ["", "example.org", "ftp://example.org", "http://", "http://a?b=c", "http://[::1"]
)
def test_what_is_no_address_is_refused(given):
    with pytest.raises(InvalidRequest, match="upstream: got"):
        Connection(given)


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(InvalidRequest) as refused:
        Connection("http://me:secret@example.org")
    assert "secret" not in str(refused.value)


def test_the_key_goes_there_and_nowhere_else():
    seen = {}

    def handle(request):
        seen.update(request.headers)
        return httpx.Response(200, json={})

    connection = Connection("http://toy", "sesame", transport=httpx.MockTransport(handle))
    connection.get("/models")
    assert seen["authorization"] == "Bearer sesame"
    assert "sesame" not in repr(connection)


@pytest.mark.parametrize(
    ("status", "body", "told", "message"),
    [
        (400, b'{"error": {"message": "bad", "type": "x", "param": "n", "code": 400}}', 400, "upstream: bad"),
        (404, b'{"object": "error", "message": "gone", "code": "model_not_found"}', 404, "upstream: gone"),
        (401, b'{"error": "who?"}', 401, "upstream: who?"),
        (409, b"{}", 400, "upstream: {}"),
        (422, b'{"detail": [{"loc": ["n"]}]}', 400, "upstream: [{'loc': ['n']}]"),
        (429, b'{"error": {"message": "later"}}', 429, "upstream: later"),
        (500, b"<html>", 502, "upstream: <html>"),
        (503, b"", 503, "upstream: got HTTP 503 and no message"),
        (301, b"", 502, "upstream: got HTTP 301 and no message"),
        (200, b"[]", 502, "upstream: got [] from http://toy/v1, expected an answer in OpenAI's form."),
        (200, b'{"a": NaN}', 502, "expected an answer in OpenAI's form."),
    ],
)
def test_every_failure_has_a_status_and_a_message(status, body, told, message):
    def handle(request):
        return httpx.Response(status, content=body, headers={"retry-after": "7"})

    with pytest.raises(UpstreamFailed) as failed:
        Connection("http://toy", transport=httpx.MockTransport(handle)).post("/completions", {})
    assert failed.value.status == told
    assert message in str(failed.value)
    assert failed.value.code is None or isinstance(failed.value.code, str)
    if status != 200:
        assert failed.value.retry_after == "7"


@pytest.mark.parametrize(
    ("error", "status"), [(httpx.ConnectError("refused"), 502), (httpx.ReadTimeout("slow"), 504)]
)
def test_nobody_there_and_nobody_answering(error, status):
    def handle(request):
        raise error

    with pytest.raises(UpstreamFailed) as failed:
        Connection("http://toy", transport=httpx.MockTransport(handle)).get("/models")
    assert failed.value.status == status


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(InvalidRequest, match="body: got what JSON does not hold"):
        Connection("http://toy").post("/completions", {"temperature": float("nan")})
