"""Whatever is sent: an answer, or a refusal that blames the request. Nothing is the server's own fault."""

import contextlib
import http.client
import json
import random
import string
from collections import Counter
from urllib.parse import urlsplit

import pytest

from tests.server.faults.conftest import body as chat
from tests.server.scripted import wait_until

CHAT = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Hello"}],
    **{"max_tokens": 4, "temperature": 1.0, "top_p": 0.9, "n": 1, "seed": 1, "stop": ["x"], "logprobs": True},
    **{"top_logprobs": 2, "logit_bias": {"5": 1.0}, "presence_penalty": 0.5, "stream": False, "user": "u"},
    "thermoscope": {"top_k": 5, "min_p": 0.1, "steps": True, "trace": True, "repetition_penalty": 1.1},
}
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
TOOLS = {
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "required",
}
SCHEMA = {"name": "s", "strict": True, "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}
FORM = {"response_format": {"type": "json_schema", "json_schema": SCHEMA}}
BODIES = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | TOOLS),
    ("/v1/chat/completions", CHAT | FORM),
    ("/v1/completions", {"model": "tiny", "prompt": "Hello", "max_tokens": 4, "logprobs": 2, "echo": False}),
    ("/v1/embeddings", {"model": "tiny", "input": ["Hello", "you"]}),
    ("/v1/responses", {"model": "tiny", "input": "Hello", "max_output_tokens": 4, "temperature": 0.5}),
    ("/v1/responses/input_tokens", {"model": "tiny", "input": "Hello"}),
    ("/v1/instruments/temperature", {"prompt": "Hello", "temperatures": [0.5], "samples": 0, "tokens": 2}),
    ("/v1/instruments/coin", {"prompt": "Hello"}),
]
WORDS = ["inf", "nan", "auto", "required", "user", "system", "tool", "json_object", "json_schema", "x" * 3000]
WORDS += ["text", "image_url", "function", "Hello", "", "\ud800", "<s>", "</s>"]
KEYS = ["type", "text", "role", "content", "name", "a", "", "5", "function", "schema", "tools"]
TAILS = ["/", "?limit=0", "?x=%00", "/%ff", "/../..", "//", "/%2e%2e/%2e%2e/etc", "?" + "x" * 900]
METHODS = ["GET", "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "POST"]
KINDS = ["text/plain", "multipart/form-data; boundary=x", "application/xml", "é"]
PATHS = [
    *(
        "/health",
        "/metrics",
        "/v1/models",
        "/v1/models/tiny",
        "/v1/traces",
        "/v1/traces/x",
        "/v1/responses/x",
    ),
    *("/v1/instruments", "/v1/instruments/jobs/x", "/openapi.json", "/", "/web/app.js", "/docs", "/no/such"),
]


def value(rng, depth=0):
    """Any JSON."""
    kind = rng.randrange(8 if depth < 3 else 6)
    match kind:
        case 0:
            return rng.choice([None, True, False])
        case 1:
            return rng.choice([0, 1, -1, 2, 128, 2**31, 2**63, 2**64, -(2**63), 10**30])
        case 2:
            return rng.choice([0.0, -0.0, 0.5, 1e-300, 1e300, -1e9, 2.0, rng.random()])
        case 3:
            return "".join(rng.choices(string.printable + "é🙂\u0000\u202e", k=rng.randrange(12)))
        case 4 | 5:
            return rng.choice(WORDS)
        case 6:
            return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
        case _:
            return {key(rng): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def key(rng):
    return rng.choice(
        ["type", "text", "role", "content", "name", "a", "", "5", "function", "schema", "tools"]
    )


def mutated(rng, plain):
    """The same JSON with something replaced, removed, added or doubled, anywhere."""
    if not isinstance(plain, dict | list) or not plain or rng.random() < 0.15:
        return value(rng)
    places = list(plain) if isinstance(plain, dict) else range(len(plain))
    at = rng.choice(list(places))
    changed = plain.copy()
    match rng.randrange(5):
        case 0:
            del changed[at]
        case 1 if isinstance(changed, dict):
            changed[key(rng)] = value(rng)
        case 1:
            changed += changed
        case _:
            changed[at] = mutated(rng, changed[at])
    return changed


def request(rng):
    """Method, path, body and headers of a request that nobody should send."""
    headers = {"Content-Type": "application/json"}
    if rng.random() < 0.1:
        path = rng.choice(PATHS)
        if rng.random() < 0.5:
            path += rng.choice(
                ["/", "?limit=0", "?x=%00", "/%ff", "/../..", "//", "/%2e%2e/%2e%2e/etc", "?" + "x" * 900]
            )
        return rng.choice(METHODS), path, None, {}
    path, plain = rng.choice(BODIES)
    for _ in range(rng.randrange(1, 4)):
        if isinstance(plain, dict):
            plain = mutated(rng, plain)
    body = json.dumps(plain).encode()
    chance = rng.random()
    if chance < 0.1:
        at = rng.randrange(len(body) + 1)
        body = body[:at] + rng.randbytes(rng.randrange(1, 8)) + body[at + rng.randrange(3) :]
    elif chance < 0.15:
        body = body[: rng.randrange(len(body) + 1)]
    elif chance < 0.2:
        headers["Content-Type"] = rng.choice(
            ["text/plain", "multipart/form-data; boundary=x", "application/xml", "é"]
        )
    elif chance < 0.25:
        headers |= {"X-Request-Id": "x" * rng.randrange(300), "Authorization": "Bearer \xff"}
    return "POST", path, body, headers


def fuzz(server, count, seed):
    rng, statuses = random.Random(seed), Counter()
    connection = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=120)
    for _ in range(count):
        method, path, body, headers = request(rng)
        headers = {name: text.encode("latin-1") for name, text in headers.items()}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        statuses[response.status] += 1
        assert response.status < 500, (method, path, body, headers, content)
        if response.status >= 400 and method != "HEAD":
            assert set(json.loads(content)["error"]) == {"message", "type", "param", "code"}, (path, body)
    connection.close()
    return statuses


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])]
)
def test_nothing_that_is_sent_is_the_server_s_fault(server, count, capsys):
    statuses = fuzz(server, count, seed=20261127)
    if count > 1000:
        with capsys.disabled():
            print(f"\n{dict(sorted(statuses.items()))}")
    assert statuses[200] > count / 50
    assert statuses[400] > count / 4
    wait_until(server.idle, 60)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    "sent",
    [
        *(
            b"\r\n\r\n",
            b"\x00\x01\x02\x03\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        ),
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x00\r\n\r\n",
        b"GET /\x80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 30_000 + b"\r\n",
        POST + b"Content-Length: -5\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:40]),
)
def test_what_is_no_http_is_refused_or_dropped(server, sent):
    sock = server.socket()
    sock.settimeout(5)
    try:
        sock.sendall(sent)
        head = sock.recv(65536)
    except (ConnectionError, TimeoutError):
        head = b""
    finally:
        sock.close()
    assert not head or head.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200"))
    assert server.get("/health")["status"] == "ok"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/instruments/temperature"])
def test_a_body_beyond_the_bound(server, path, chunked):
    connection = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=60)
    pieces = [b'{"model": "' + b"x" * 2**20] * 9
    headers = {"Content-Type": "application/json"} | (
        {} if chunked else {"Content-Length": str(9 * len(pieces[0]))}
    )
    connection.request("POST", path, iter(pieces), headers, encode_chunked=chunked)
    response = connection.getresponse()
    assert response.status == 413
    assert "8388608 bytes" in json.loads(response.read())["error"]["message"]
    connection.close()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"X: " + b"x" * 60_000 + b"\r\n\r\n", 200),
        (b"X: y\r\n" * 9_000 + b"\r\n", 200),
        (b"X: " + b"x" * 90_000, 400),
        (b"X-Request: 0123456789\r\n" * 4_000, 400),
        (b"X: \x00\r\n\r\n", 400),
    ],
    ids=["long line", "many lines", "a line without end", "too many lines", "no HTTP"],
)
def test_a_head_is_bounded_and_refused_in_the_form_of_all_errors(server, lines, status):
    with server.socket() as sock:
        sock.settimeout(10)
        with contextlib.suppress(ConnectionError):  # it may be refused before all of it is sent
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + lines)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    if status != 200:
        assert b"content-type: application/json" in head
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


def test_what_is_no_http_behind_a_question_spoils_no_answer(server):
    """It waits until the answer has been given, and is then refused."""
    body = json.dumps(chat(max_tokens=200, stream=True)).encode()
    head = POST + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with server.socket() as sock:
        sock.settimeout(20)
        sock.sendall(head + body)
        answer = sock.recv(65536)
        sock.sendall(b"\x00\x01 no request\r\n\r\n")
        answer += b"".join(iter(lambda: sock.recv(65536), b""))
    first, _, second = answer.partition(b"data: [DONE]")
    assert first.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 400" not in first
    assert b"HTTP/1.1 400" in second
    wait_until(server.idle, 20)
