"""Who is measured: each in a process of its own, loaded once, asleep until it is its turn.

So that two of them never share a pool of threads, each has its own peak of memory, and rounds can
alternate, which a noisy machine needs.
"""

import contextlib
import json
import multiprocessing
import os
import queue
import resource
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

QUESTION = "Explain in a few sentences how a refrigerator keeps food cold."
SUBJECTS = (
    "a refrigerator",
    "a bicycle",
    "a piano",
    "a sailing boat",
    "a telescope",
    "a compass",
    "a kite",
    "yeast",
)


class Run(NamedTuple):
    """One measurement of decoding."""

    seconds: float  # from the request to the last token
    decoding: float  # tokens a second while every answer was in the batch
    tokens: list[list[int]]


class Ours:
    """Thermoscope, through the runner that the server uses."""

    def __init__(self, model: str, precision: str | None) -> None:
        import thermoscope as ts

        self.lm = ts.load(model, precision=precision, slots=8, context=1024)

    def about(self) -> dict[str, Any]:
        import torch

        return {
            "model": self.lm.name,
            "precision": self.lm.precision,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }

    def prompt(self) -> list[int]:
        return list(self.lm.tokenizer.chat([{"role": "user", "content": QUESTION}]))

    def decode(self, *, tokens: int, clients: int = 1, record: bool = True) -> Run:
        from thermoscope.engine.request import Request, Sampling

        questions = [QUESTION.replace(SUBJECTS[0], subject) for subject in SUBJECTS[:clients]]
        sampling = Sampling(temperature=0.0, max_tokens=tokens, ignore_eos=True)
        requests = [
            Request(
                prompt=self.lm.tokenizer.chat([{"role": "user", "content": question}]),
                sampling=sampling,
                record=record,
            )
            for question in questions
        ]
        arrived: queue.SimpleQueue[tuple[float, int, Any]] = queue.SimpleQueue()
        start = time.perf_counter()
        for client, request in enumerate(requests):
            self.lm.runner.submit(
                request, lambda delta, client=client: arrived.put((time.perf_counter(), client, delta))
            )
        times: list[list[float]] = [[] for _ in requests]
        said: list[list[int]] = [[] for _ in requests]
        for _ in range(clients * tokens):
            now, client, delta = arrived.get()
            if isinstance(delta, Exception):
                raise delta
            times[client].append(now)
            said[client].append(delta.step.token)
        first, last = max(each[0] for each in times), min(each[-1] for each in times)
        within = sum(first < now <= last for each in times for now in each)
        return Run(max(each[-1] for each in times) - start, within / (last - first), said)

    def prefill(self, *, tokens: int) -> float:
        """Tokens of a prompt a second, the first token of the answer drawn."""
        prompt = (self.prompt() * (tokens // 8))[:tokens]
        start = time.perf_counter()
        self.lm.generate(prompt, temperature=0, max_tokens=1, ignore_eos=True)
        return tokens / (time.perf_counter() - start)

    def peak(self) -> int:
        """Bytes resident at most so far, mapped files included; kilobytes are Linux's unit."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Transformers:
    """The same weights in `transformers`, bfloat16, through its own `generate`."""

    def __init__(self, path: str, threads: int) -> None:
        os.environ["TQDM_DISABLE"] = "1"
        import torch
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(threads)
        where = Path(path)
        place = {"gguf_file": where.name} if where.is_file() else {}
        self.network = transformers.AutoModelForCausalLM.from_pretrained(
            where.parent if where.is_file() else where, dtype=torch.bfloat16, **place
        ).eval()

    def decode(self, *, prompt: list[int], tokens: int) -> float:
        """Tokens a second, from the request to the last token."""
        import torch

        start = time.perf_counter()
        with torch.inference_mode():
            out = self.network.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
            )
        assert out.shape[1] == len(prompt) + tokens
        return tokens / (time.perf_counter() - start)


class Worker:
    """A contender behind a pipe: `ask("decode", tokens=128)` calls its method there."""

    def __init__(self, contender: type, *arguments: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, contender, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._receive()

    def ask(self, method: str, **settings: Any) -> Any:
        self._pipe.send((method, settings))
        return self._receive()

    def close(self) -> None:
        self._pipe.close()
        self._process.join()

    def _receive(self) -> Any:
        try:
            ok, result = self._pipe.recv()
        except EOFError:
            raise SystemExit("benchmark: a contender's process ended; run again to see its error.") from None
        if not ok:
            raise SystemExit(f"benchmark: {result}")
        return result


def _serve(pipe: Connection, contender: type, arguments: tuple[Any, ...]) -> None:
    try:
        made = contender(*arguments)
        pipe.send((True, None))
        with contextlib.suppress(EOFError):
            while True:
                method, settings = pipe.recv()
                pipe.send((True, getattr(made, method)(**settings)))
    except Exception as error:
        pipe.send((False, f"{contender.__name__}: {error}"))


def llama_bench(binary: str, path: str, *, prompt: int, tokens: int, threads: int) -> tuple[float, float]:
    """llama.cpp's own benchmark, one repetition: (prefill, decode) tokens a second."""
    where = str(Path(binary).resolve().parent)
    done = subprocess.run(
        [binary, *f"-m {path} -p {prompt} -n {tokens} -t {threads} -r 1 -o json".split()],
        env=os.environ | {"LD_LIBRARY_PATH": where},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"benchmark: {binary}: {done.stderr.strip().splitlines()[-1:]}")
    prefill, decode = (row["avg_ts"] for row in json.loads(done.stdout))
    return prefill, decode


def cold_start(model: str) -> float:
    """Seconds from a new process to the first character of an answer on its output."""
    command = [sys.executable, "-m", "thermoscope", "run", QUESTION, "--model", model]
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, "--temperature", "0", "--max-tokens", "4"], stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode or not first:
        raise SystemExit("benchmark: thermoscope run failed; see above.")
    return seconds
