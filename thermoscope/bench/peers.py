"""`transformers` on the same file, and what runs a contender in a process of its own.

So two of them never share a pool of threads, each has its own peak of memory, and rounds can alternate, which
a noisy machine needs: each is loaded once, and asleep until it is its turn.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from thermoscope.errors import ThermoscopeError


class Speeds(NamedTuple):
    """Tokens a second: of the prompts up to the first tokens, of decoding after them, and of all in all."""

    prefill: float
    decode: float
    whole: float


class Transformers:
    """The same weights in `transformers`, bfloat16, through its own `generate`."""

    def __init__(self, path: str, threads: int) -> None:
        os.environ["TQDM_DISABLE"] = "1"
        import torch

        transformers: Any = importlib.import_module("transformers")  # most of it is untyped
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(threads)
        where = Path(path)
        place = {"gguf_file": where.name} if where.is_file() else {}
        self.network = transformers.AutoModelForCausalLM.from_pretrained(
            where.parent if where.is_file() else where, dtype=torch.bfloat16, **place
        ).eval()

    def decode(self, *, prompts: Sequence[Sequence[int]], tokens: int) -> Speeds:
        """Greedy answers to prompts of one length, all at once, past the model's own end."""
        import torch

        times: list[float] = []

        def ended(ids: Any, _: Any, **__: Any) -> Any:
            times.append(time.perf_counter())
            return torch.zeros(len(ids), dtype=torch.bool)

        batch, length = len(prompts), len(prompts[0])
        since = time.perf_counter()
        with torch.inference_mode():
            out = self.network.generate(
                torch.tensor(prompts),
                attention_mask=torch.ones(batch, length, dtype=torch.long),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
                stopping_criteria=[ended],
            )
        whole = time.perf_counter() - since
        assert out.shape == (batch, length + tokens)
        decoding = batch * (tokens - 1) / (times[-1] - times[0]) if tokens > 1 else 0.0
        return Speeds(batch * length / (times[0] - since), decoding, batch * tokens / whole)


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
        """Call a method there.

        **Errors:** `ThermoscopeError` with what it raised.
        """
        self._pipe.send((method, settings))
        return self._receive()

    def close(self) -> None:
        """End the process, at work or not."""
        self._pipe.close()
        self._process.join(timeout=5)
        self._process.terminate()
        self._process.join()

    def _receive(self) -> Any:
        try:
            ok, result = self._pipe.recv()
        except EOFError:
            raise ThermoscopeError("peer: its process ended; run again to see its error.") from None
        if not ok:
            raise ThermoscopeError(result)
        return result


def _serve(pipe: Connection, contender: type, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked
    try:
        made = contender(*arguments)
        pipe.send((True, None))
        with contextlib.suppress(EOFError):
            while True:
                method, settings = pipe.recv()
                pipe.send((True, getattr(made, method)(**settings)))
    except Exception as error:
        pipe.send((False, f"{contender.__name__}: {error}"))
