"""A server of a tiny model in a process of its own, which may be killed."""

import contextlib
import http.client
import json
import socket
import struct
import subprocess
import sys
import urllib.request
from urllib.parse import urlsplit

import psutil
import pytest

from tests import tiny
from tests.server.scripted import wait_until

PROGRAM = """
import sys
from pathlib import Path
import thermoscope as ts
from thermoscope.server.options import Options
from thermoscope.server.serve import serve
with ts.load(sys.argv[1], precision="fp32", threads=1, slots=8) as model:
    kept = Path(sys.argv[2]) if sys.argv[2] else None
    serve(model, port=0, options=Options(aliases=["tiny"], keep_traces=kept, queue=64))
"""


class Process:
    """A real server. `log` is what it wrote."""

    def __init__(self, folder, log, kept=""):
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(folder), str(kept)], stdout=file, stderr=file
            )
        wait_until(lambda: "answers at " in log.read_text() or self.process.poll() is not None, 120)
        self.address = log.read_text().split("answers at ")[1].split()[0]

    def get(self, path):
        with urllib.request.urlopen(self.address + path, timeout=30) as response:
            return json.load(response)

    def ask(self, path="/v1/chat/completions", **fields):
        """A connection over which a request was sent; JSON unless `fields` are bytes."""
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=60)
        connection.request("POST", path, json.dumps(body(**fields)), {"Content-Type": "application/json"})
        return connection

    def socket(self):
        parts = urlsplit(self.address)
        return socket.create_connection((parts.hostname, parts.port), timeout=30)

    def idle(self):
        health = self.get("/health")
        return (health["running"], health["waiting"]) == (0, 0)

    def megabytes(self):
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def kill(self):
        self.process.kill()
        self.process.wait()


def body(**fields):
    base = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    return base | {"thermoscope": {"ignore_eos": True}} | fields


def reset(sock):
    """Close so that the other side is told nothing but that it is over."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.contextmanager
def started(folder, log, kept=""):
    server = Process(folder, log, kept)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tiny.save(tiny.reference("llama"), tmp_path_factory.mktemp("tiny") / "tiny")


@pytest.fixture(scope="session")
def server(folder, tmp_path_factory):
    with started(folder, tmp_path_factory.mktemp("faults") / "log") as server:
        yield server
