"""Who is measured here: Thermoscope in a process of its own, and new processes of it."""

import contextlib
import gc
import os
import queue
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from json import dumps, loads
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from thermoscope.bench import measure
from thermoscope.models.store import cache_dir

QUESTION = "Explain in a few sentences how a refrigerator keeps food cold."
PATIENCE = 300  # seconds for a server to start, or to answer


class Ours:
    """Thermoscope, through the runner that the server uses."""

    def __init__(self, model: str, precision: str | None, threads: int | None = None, context: int = 1024):
        import thermoscope as ts

        self.lm = ts.load(model, precision=precision, slots=8, context=context, threads=threads)

    def about(self) -> dict[str, Any]:
        import torch

        return {
            "model": self.lm.name,
            "precision": self.lm.precision,
            "native": self.lm.model.native,
            "torch": torch.__version__,
        }

    def bytes(self, *, lengths: Sequence[int]) -> dict[str, Any]:
        """What a step of one row reads: weights, and the cache after so many tokens."""
        from thermoscope.bench.bandwidth import cache_bytes, weight_bytes

        decoder = self.lm.model.decoder
        kept = {length: cache_bytes(self.lm.config, decoder.cache_type, length) for length in lengths}
        return {"weights": weight_bytes(decoder), "cache": kept}

    def prompt(self, *, length: int, client: int = 0) -> list[int]:
        return list(measure.prompt(self.lm, length, client=client))

    def text(self, *, length: int) -> str:
        """English of so many tokens."""
        return str(self.lm.tokenizer.decode(measure.prompt(self.lm, length)))

    def silent(self) -> list[int]:
        """Tokens that have no text."""
        tokenizer = self.lm.tokenizer
        return [token for token in range(tokenizer.vocab_size) if tokenizer.is_control(token)]

    def chat(self, *, texts: Sequence[str], tokens: int) -> float:
        """Seconds for greedy answers of so many tokens, one by one, as the server gives them: no step
        is recorded, and what was there at the start is looked through for garbage no more.
        """
        from thermoscope.engine.request import Request, Sampling

        gc.collect()
        gc.freeze()
        sampling = Sampling(temperature=0.0, max_tokens=tokens, ignore_eos=True)
        since = time.perf_counter()
        for text in texts:
            arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
            prompt = self.lm.tokenizer.chat([{"role": "user", "content": text}])
            self.lm.runner.submit(Request(prompt=prompt, sampling=sampling, record=False), arrived.put)
            for _ in range(tokens):
                if isinstance(item := arrived.get(), Exception):
                    raise item
        return time.perf_counter() - since

    def decode(
        self, *, prompts: Sequence[Sequence[int]], tokens: int, record: bool = True
    ) -> measure.Decoding:
        return measure.decode(self.lm, prompts, tokens, record=record)

    def prefill(self, *, length: int) -> float:
        return measure.prefill(self.lm, measure.prompt(self.lm, length))

    def peak(self) -> int:
        """Bytes resident at most so far, mapped files included; kilobytes are Linux's unit."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Reader:
    """Memory's own speed, in a process whose peak nobody counts."""

    def bandwidth(self, *, threads: int) -> float:
        from thermoscope.models.kernels.bandwidth import read_bandwidth

        return read_bandwidth(threads).rate


class Resident(NamedTuple):
    """A process's memory in bytes. Of pages that others map too, `pss` counts a share and `uss` none."""

    rss: int
    pss: int | None
    uss: int


def cold_start(model: str, cache: Path | None = None) -> float:
    """Seconds from a new process to the first character of an answer on its output."""
    command = [sys.executable, "-m", "thermoscope", "run", QUESTION, "--model", model]
    environment = dict(os.environ) if cache is None else {**os.environ, "THERMOSCOPE_CACHE": str(cache)}
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, "--temperature", "0", "--max-tokens", "4"],
        **{"stdout": subprocess.PIPE, "bufsize": 0, "env": environment},
    ) as process:
        first = process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode or not first:
        raise SystemExit("benchmark: thermoscope run failed; see above.")
    return seconds


def first_start(model: str, path: Path) -> float:
    """The same with a cache that holds the model's file and nothing else: no kernel, nothing packed."""
    with tempfile.TemporaryDirectory(prefix="thermoscope-first-") as folder:
        cache = Path(folder)
        if path.is_relative_to(cache_dir()):
            place = cache / path.relative_to(cache_dir())
            place.parent.mkdir(parents=True)
            shutil.copy2(path, place)
        seconds = cold_start(model, cache)
        _wait_for_the_kernel()
    return seconds


def _wait_for_the_kernel() -> None:
    """Let the child that builds it end: it outlives the run, and needs the folder."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        lines = (each.info["cmdline"] or () for each in psutil.process_iter(["cmdline"]))
        if not any("thermoscope.models.prepare" in line for line in lines):
            return
        time.sleep(0.5)


def resident_memory(model: str, precision: str | None, context: int) -> Resident:
    """Of `thermoscope serve` after it has answered one request."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "thermoscope", "serve", "--model", model, "--context", str(context)]
    command += ["--port", str(port), "--json"] + (["--precision", precision] if precision else [])
    with running(command) as process:
        url = f"http://127.0.0.1:{port}"
        name = get(process, f"{url}/v1/models")["data"][0]["id"]
        asked = {"model": name, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 32}
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            answer.read()
        used = psutil.Process(process.pid).memory_full_info()
    return Resident(used.rss, getattr(used, "pss", None), used.uss)


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A server's process. It ends with the block; what it said is shown if it failed."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        try:
            yield process
        except SystemExit:
            said.seek(0)
            print(said.read(), file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait()


def get(process: subprocess.Popen, url: str) -> Any:
    """An answer of a server that may not have started yet."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
            return loads(answer.read())
        time.sleep(0.1)
    raise SystemExit(f"benchmark: {url} did not answer; see above.")
