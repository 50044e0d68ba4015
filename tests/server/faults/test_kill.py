"""A server that is killed while it answers: whatever a client has seen is in the file of traces."""

import http.client
import json
import threading

import pytest

from tests.server.faults.conftest import started
from tests.server.scripted import wait_until
from thermoscope.engine.trace import Trace
from thermoscope.server.traces.store import Traces

STREAMS = 8


class Reader(threading.Thread):
    """A client that reads a stream until it breaks. `seen`: the tokens of which it has heard."""

    def __init__(self, server, **fields):
        super().__init__(daemon=True)
        self.trace, self.seen, self.text = None, [], ""
        self._connection = server.ask(stream=True, **fields)

    def run(self):
        try:
            for line in self._connection.getresponse():
                if line.startswith(b"data: {"):
                    chunk = json.loads(line[6:])
                    self.trace = chunk["thermoscope"]["trace"]
                    (choice,) = chunk["choices"]
                    self.text += choice["delta"].get("content") or ""
                    self.seen += [step["token"] for step in choice.get("thermoscope", {"steps": []})["steps"]]
        except (OSError, ValueError, http.client.HTTPException):
            pass  # the server is dead
        finally:
            self._connection.close()


def killed(folder, path, tokens):
    """Kill a server once 8 streams have heard of so many tokens."""
    with started(folder, path.with_suffix(".first"), path) as server:
        extension = {"steps": True, "trace": True, "ignore_eos": True}
        readers = [
            Reader(server, max_tokens=240, temperature=1.3, seed=seed, thermoscope=extension)
            for seed in range(STREAMS)
        ]
        for reader in readers:
            reader.start()
        wait_until(lambda: sum(len(reader.seen) for reader in readers) >= tokens, 60)
        server.kill()
        for reader in readers:
            reader.join(10)
    return [reader for reader in readers if reader.seen]


def check(readers, get, tokens):
    """Every token that was seen is kept, and an answer that has not ended says that it was cut."""
    for reader in readers:
        status, (choice,) = get(reader.trace)
        kept = [step["token"] for step in choice["steps"]]
        assert kept[: len(reader.seen)] == reader.seen
        assert choice["text"].startswith(reader.text)
        assert status == ("complete" if len(kept) == 240 else "cut")
        assert Trace.from_dict(choice).to_dict() == choice
    assert sum(len(reader.seen) for reader in readers) >= tokens


def test_every_token_that_a_client_saw_is_kept(folder, tmp_path):
    path = tmp_path / "traces.db"
    readers = killed(folder, path, tokens=100)
    traces = Traces(path)
    check(readers, lambda trace: (traces.describe(trace)["status"], traces.get(trace)), tokens=100)
    traces.close()


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 50, 300, 700, 1100])
def test_the_next_server_shows_them(folder, tmp_path, tokens, capsys):
    path = tmp_path / "traces.db"
    readers = killed(folder, path, tokens)
    beyond = []

    with started(folder, tmp_path / "second", path) as server:

        def get(trace):
            whole = server.get(f"/v1/traces/{trace}")
            return whole["status"], whole["choices"]

        check(readers, get, tokens)
        beyond = [len(get(each.trace)[1][0]["steps"]) - len(each.seen) for each in readers]
        assert {line["id"] for line in server.get("/v1/traces")["data"]} >= {each.trace for each in readers}
    with capsys.disabled():
        print(f"\n{len(readers)} streams, tokens kept beyond those seen: {beyond}")
