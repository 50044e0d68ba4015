"""Random models that the engine runs for a moment, and what each part of a step takes.

They go the way of every request: one engine on one runner's thread, its own decoders, sampler and records.
Only what a sequence remembers is made up, so that a long context costs nothing to come by.
"""

import math
import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple, Self

import tokenizers
import torch

from thermoscope.catalogue.config import ModelConfig
from thermoscope.catalogue.precision import NATIVE, Precision
from thermoscope.engine.engine import Engine
from thermoscope.engine.request import Request, Sampling
from thermoscope.engine.runner import Runner
from thermoscope.engine.scheduler import PREFILL_CHUNK
from thermoscope.engine.sequence import Delta
from thermoscope.models import pack
from thermoscope.models.kernels import build as kernel
from thermoscope.models.kernels.native import cores
from thermoscope.models.model import Model
from thermoscope.models.parts import parts_of, shape_of
from thermoscope.models.tokenizer import Tokenizer

_COMMON: dict[str, Any] = {"family": "llama", "context": 704, "norm_eps": 1e-5, "tied": True}
SHAPES = (  # deep and narrow, shallow and wide, wide heads, many layers of few heads
    ModelConfig(vocab=16384, hidden=512, layers=24, heads=8, kv_heads=4, head_dim=64, ffn=1536, **_COMMON),
    ModelConfig(vocab=8192, hidden=1536, layers=4, heads=24, kv_heads=8, head_dim=64, ffn=4096, **_COMMON),
    ModelConfig(vocab=32768, hidden=768, layers=12, heads=6, kv_heads=2, head_dim=128, ffn=3072, **_COMMON),
    ModelConfig(vocab=40960, hidden=640, layers=20, heads=16, kv_heads=8, head_dim=64, ffn=1280, **_COMMON),
)
BATCHES, PIECES = (1, 2, 4, 8), (16, PREFILL_CHUNK)  # answers of a step; tokens of a prompt in one
CONTEXTS = {"decode": (16, 640), "prefill": (0, 384)}  # positions that came before
SWEEPS = 3  # through all shapes and runs: what slows a machine for a second then slows a part of each run
ENOUGH = 11.0  # seconds after which no third one begins
STEPS, PROMPTS = 3, 2  # of a run in a sweep, after one that warms up
PATIENCE = 0.06  # seconds of a run in a sweep after which fewer will do, or else the first
PARTS = ("layers", "head", "sampler", "python")
HANDED, REQUESTS = 6, 3  # tokens of an answer that goes through the runner; requests for one token
_SOME = 2**18 + 1  # random numbers that weights are made of again and again: no product is faster for that
Event = tuple[float, str]  # when a part ended, and which


class Run(NamedTuple):
    """`batch` sequences with `new` tokens each after `past` others."""

    batch: int
    new: int
    past: int

    @property
    def rows(self) -> int:
        """Rows of the pass."""
        return self.batch * self.new


RUNS = tuple(
    [Run(batch, 1, past) for batch in BATCHES for past in CONTEXTS["decode"]]
    + [Run(1, new, past) for new in PIECES for past in CONTEXTS["prefill"]]
)


class Timing(NamedTuple):
    """One run of one shape: the seconds of each of `PARTS`, step by step."""

    shape: int
    run: Run
    parts: dict[str, list[float]]

    def median(self, part: str) -> float:
        """The usual seconds of a part."""
        return median(self.parts[part])

    def whole(self) -> list[float]:
        """Seconds of every step but for Python's."""
        return [sum(step) for step in zip(*(self.parts[part] for part in PARTS[:-1]), strict=True)]


class Handed(NamedTuple):
    """What Python takes where requests come from another thread: seconds a step by answers at once, and once
    a request.
    """

    steps: dict[int, float]
    request: float


class Random:
    """A checkpoint of random weights with one layer, so that nothing is fetched and little is packed."""

    name = identity = "random"
    tokenizer: Any = None

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self._parts = set(parts_of(config))
        self._numbers = torch.randn(_SOME, generator=torch.Generator().manual_seed(0))

    def has(self, part: str) -> bool:
        """Whether a decoder of this shape has the part."""
        return part in self._parts

    def read(self, part: str) -> torch.Tensor:
        """The part, small enough that nothing overflows."""
        shape = shape_of(part, self.config)
        return 0.02 * self._numbers.repeat(1 + math.prod(shape) // _SOME)[: math.prod(shape)].view(shape)

    def blocks(self, part: str) -> None:
        """Nothing is stored in blocks."""


def model(config: ModelConfig, precision: Precision) -> Model:
    """A model of random weights, every layer of it a copy of one; and words for its record."""
    native = kernel.available() and precision in NATIVE
    one = replace(config, layers=1)
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in pack.pack(Random(one), precision, native=native):
        place, rest = name.split(".", 2)[0], name.split(".", 2)[-1]
        if place != "layers":
            tensors[name] = tensor
            continue
        for layer in range(config.layers):
            tensors[f"layers.{layer}.{rest}"] = tensor.clone()
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({f"w{at}": at for at in range(config.vocab)}, unk_token="w0")
    )
    words.decoder = tokenizers.decoders.ByteLevel()
    return Model("random", precision, config, Tokenizer(words), pack.build(config, tensors))


class Trial:
    """A runner whose engine takes one random model after the other, as a context manager."""

    def __init__(self, precision: Precision, shapes: Sequence[ModelConfig] = SHAPES) -> None:
        self._precision, self._shapes, self._threads = precision, shapes, cores()
        # What runs on PyTorch leaves the kernel one thread, and another model of this process may need them.
        self._team = kernel.loaded().threads if kernel.available() else None
        self._models: dict[int, Model] = {}
        self._runner = Runner(lambda: Engine(self._made(0), slots=max(BATCHES), context=_COMMON["context"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.stop()
        if self._team is not None:
            kernel.loaded().threads = self._team

    def timings(self, runs: Sequence[Run] = RUNS, sweeps: int = SWEEPS) -> Iterator[Timing]:
        """Every run of every shape."""
        parts = {(index, run): _nothing() for index in range(len(self._shapes)) for run in runs}
        since = time.perf_counter()
        for sweep in range(sweeps):
            if sweep > 1 and time.perf_counter() - since > ENOUGH:
                break
            for index in range(len(self._shapes)):
                self._runner.call(partial(self._take, index))
                for run in runs:
                    for part, seconds in self._runner.call(partial(self._timed, run)).items():
                        parts[index, run][part] += seconds
        for (index, run), each in parts.items():
            yield Timing(index, run, each)

    def handed(self) -> Handed:
        """What Python takes with requests from outside, by the model that is in."""
        steps = {batch: median(self._answered(batch, HANDED)[1]["python"]) for batch in BATCHES}
        alone = []
        for _ in range(REQUESTS):
            wall, parts = self._answered(1, 1)
            alone.append(wall - sum(sum(parts[part]) for part in PARTS if part != "python"))
        return Handed(steps, median(alone))

    def _made(self, index: int) -> Model:
        """The model of a shape, made where it is first asked for."""
        if index not in self._models:
            self._models[index] = model(self._shapes[index], self._precision)
        self._models[index].run_on(self._threads)
        return self._models[index]

    def _take(self, index: int) -> None:
        engine = self._runner.engine
        engine.adopt(self._made(index), threads=self._threads)
        for numbers in (engine.cache.keys, engine.cache.values):
            numbers.fill_(0.01)  # pages that were never written to are all one page

    def _timed(self, run: Run) -> dict[str, list[float]]:
        engine, events = self._runner.engine, self._listen()
        answers = run.new == 1
        since = time.perf_counter()
        for index in range(1 if answers else 1 + PROMPTS):
            if index and time.perf_counter() - since > PATIENCE:
                break
            generation = engine.prepare(_request(run.past + run.new, run.batch, 2 + STEPS if answers else 1))
            for sequence in generation.sequences:
                sequence.filled = run.past
            engine.submit(generation)
            while engine.busy:
                engine.step()
                if answers and time.perf_counter() - since > PATIENCE:
                    engine.cancel(generation)
        return {part: seconds[1:] or seconds for part, seconds in _parts(events).items()}

    def _answered(self, batch: int, tokens: int) -> tuple[float, dict[str, list[float]]]:
        """One prompt, answered so many times at once: seconds in all, and of each part, step by step."""
        arrived: queue.SimpleQueue[Delta | Exception] = queue.SimpleQueue()
        events = self._listen()
        since = time.perf_counter()
        self._runner.submit(_request(2, batch, tokens), arrived.put)
        for _ in range(batch * tokens):
            item = arrived.get()
            if isinstance(item, Exception):
                raise item
        return time.perf_counter() - since, _parts(events)

    def _listen(self) -> list[Event]:
        events: list[Event] = []
        self._runner.engine.watch = lambda part: events.append((time.perf_counter(), part))
        return events


def _request(prompt: int, answers: int, tokens: int) -> Request:
    sampling = Sampling(temperature=0.0, n=answers, max_tokens=tokens, ignore_eos=True)
    return Request(prompt=tuple(range(prompt)), sampling=sampling, fresh=True)


def _nothing() -> dict[str, list[float]]:
    return {part: [] for part in PARTS}


def _parts(events: Sequence[Event]) -> dict[str, list[float]]:
    """Seconds of each part, step by step; a step begins with its layers."""
    steps: list[dict[str, float]] = []
    for (before, _), (now, part) in pairwise(events):
        if part == "layers":
            steps.append(dict.fromkeys(PARTS, 0.0))
        if steps:
            steps[-1][part] += now - before
    return {part: [step[part] for step in steps] for part in PARTS}
