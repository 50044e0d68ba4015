"""A real server on a real port: who goes away, who comes too late, and how it ends."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from urllib.parse import urlsplit

import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.server.serve import open_port, serve

from . import scripted
from .conftest import serving
from .scripted import wait_until

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


def connect(address, **fields):
    """A raw connection over which a chat request was sent."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    connection.request(
        "POST", "/v1/chat/completions", json.dumps(BODY | fields), {"Content-Type": "application/json"}
    )
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_gives_its_slot_back(address, model, stream):
    model.runner.script, model.runner.pause = ["x" * 10_000], 0.01
    connection = connect(address, stream=stream)
    if stream:
        assert connection.getresponse().readline().startswith(b"data: ")
    wait_until(lambda: model.runner.tickets)
    assert not model.runner.tickets[0].cancelled.is_set()
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    assert model.runner.tickets[0].cancelled.wait(5)


def test_a_stream_arrives_while_it_is_spoken(address, model):
    model.runner.script, model.runner.pause = ["x" * 10_000], 0.01
    connection = connect(address, stream=True)
    response = connection.getresponse()
    frames = [response.readline() for _ in range(8)]
    assert sum(b'"content":"x"' in frame for frame in frames) >= 3
    connection.sock.close()
    response.close()
    connection.close()


def test_a_client_still_sending_too_much_hears_why(address):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    body = b'{"model": "' + b"x" * (20 * 2**20) + b'"}'
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 413
    assert set(json.loads(response.read())["error"]) == {"message", "type", "param", "code"}
    connection.close()


def test_many_at_once_do_not_mix(address):
    answers = {}

    def ask(name):
        connection = connect(address, n=2, messages=[{"role": "user", "content": name}])
        answers[name] = json.loads(connection.getresponse().read())
        connection.close()

    threads = [threading.Thread(target=ask, args=("x" * size,)) for size in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {name: answer["usage"]["prompt_tokens"] for name, answer in answers.items()} == {
        "x" * size: size + 1 for size in range(1, 17)
    }
    assert len({answer["id"] for answer in answers.values()}) == 16


def test_stopping_tells_those_who_wait(model):
    model.runner.script, model.runner.pause = ["x" * 10_000], 0.01
    with serving(model, ["gpt-4o"]) as address:
        streamed, plain = connect(address, stream=True), connect(address)
        response = streamed.getresponse()
        wait_until(lambda: len(model.runner.tickets) == 2)
    assert b'"engine_stopped"' in response.read().split(b"\n\n")[-2]
    response = plain.getresponse()
    assert response.status == 503
    assert json.loads(response.read())["error"]["code"] == "engine_stopped"
    streamed.close()
    plain.close()


def test_a_page_of_another_name_that_resolves_here_reads_nothing(address):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    connection.request("GET", "/v1/models", headers={"Host": "evil.example"})
    response = connection.getresponse()
    assert response.status == 403
    assert "evil.example" in json.loads(response.read())["error"]["message"]
    connection.close()


def test_a_port_that_is_taken(model):
    with open_port("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            InvalidRequest, match=f"port: got {port} on 127.0.0.1, expected a free one"
        ) as caught:
            serve(model, port=port)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "port"), [("no.such.host.invalid", 0), ("192.0.2.1", 0), ("127.0.0.1", 70_000)]
)
def test_an_address_that_is_not_to_be_had(host, port):
    with pytest.raises(InvalidRequest, match="expected"):
        open_port(host, port)


def test_ctrl_c_ends_the_program_quietly():
    program = (
        "import runpy\n"
        "from thermoscope.server.serve import serve\n"
        f"scripted = runpy.run_path({scripted.__file__!r})\n"
        "serve(scripted['model'](), port=0)\n"
        "print('after')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = process.stderr.readline()
    address = line.split("answers at ")[1].split()[0]
    with urllib.request.urlopen(f"{address}/health", timeout=10) as response:
        assert json.load(response)["status"] == "ok"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "after\n", "")
