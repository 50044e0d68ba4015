r"""How long a request takes: the first token, every further one, all of them, and between which bounds.

With a prompt of $s$ tokens and an answer of $o$: $T = T_{prefill}(s) + (o - 1)\, \bar T_{decode}$, where the
mean of a decode step is taken over the contexts $s + 1 \dots s + o - 1$.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from thermoscope.catalogue.architecture import Architecture
from thermoscope.catalogue.hardware import Hardware
from thermoscope.errors import InvalidRequest
from thermoscope.planning.latency.efficiency import Efficiency, Phase, case
from thermoscope.planning.latency.formats import Format, activation_bytes
from thermoscope.planning.latency.frameworks import Framework
from thermoscope.planning.latency.roofline import Timed, host_factors, launches, timed
from thermoscope.planning.latency.work import Pass, Work, components
from thermoscope.planning.memory.inference import CACHE


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is run, on what, in which program.

    - `precision`: of the stream; `format`: of the weights; `cache`: of keys and values, a name of
      `planning.memory.inference.CACHE`.
    - `batch` sequences, each of `prompt` tokens and `answer` more. `tensor`, `stages`: how devices share the
      work.
    """

    shape: Architecture
    device: Hardware
    framework: Framework
    precision: str
    format: Format
    cache: str
    batch: int = 1
    prompt: int = 512
    answer: int = 100
    tensor: int = 1
    stages: int = 1

    def __post_init__(self) -> None:
        for name in ("batch", "prompt", "answer"):
            if getattr(self, name) < 1:
                raise InvalidRequest(
                    f"{name}: got {getattr(self, name)}, expected a whole number, 1 or more.", param=name
                )
        if self.prompt + self.answer > self.shape.context:
            raise InvalidRequest(
                f"input: got {self.prompt} tokens and {self.answer} of an answer, expected at most "
                f"{self.shape.context} together, the context of {self.shape.name}.",
                param="input",
            )
        if self.shape.layers % self.stages:
            raise InvalidRequest(
                f"stages: got {self.stages}, expected a divisor of {self.shape.layers}, the layers.",
                param="stages",
            )

    @property
    def several(self) -> bool:
        """Whether devices share the work."""
        return self.tensor * self.stages > 1

    def run(self, new: int, past: int = 0, steps: int = 1) -> Pass:
        """A pass of this request."""
        return Pass(
            batch=self.batch, new=new, past=past, steps=steps, format=self.format, precision=self.precision,
            activations=activation_bytes(self.precision), cache=CACHE[self.cache], tensor=self.tensor,
            stages=self.stages,
        )  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One pass: its components, the processor's time to launch them, and what a pass costs on top, in
    seconds.
    """

    parts: Sequence[Timed]
    host: float
    fixed: float

    @property
    def device(self) -> float:
        """Seconds that the device is busy."""
        return sum(part.seconds for part in self.parts) + self.fixed

    @property
    def seconds(self) -> float:
        """What it takes: the processor launches while the device works, so the longer of the two."""
        return max(self.device, self.host)


@dataclass(frozen=True)
class Band:
    """Between `low` and `high` seconds, nine times out of ten, and why it is as wide as it is."""

    low: float
    high: float
    reason: str


@dataclass(frozen=True)
class Prediction:
    """The times of a request in seconds; `decode` is None where the answer is one token."""

    request: Request
    prefill: Step
    decode: Step | None

    @property
    def first(self) -> float:
        """To the first token."""
        return self.prefill.seconds

    @property
    def each(self) -> float:
        """From a token to the next."""
        return self.decode.seconds if self.decode else 0.0

    @property
    def total(self) -> float:
        """To the last token."""
        return self.first + (self.request.answer - 1) * self.each

    @property
    def throughput(self) -> float:
        """Tokens of all answers over the total, a second."""
        return self.request.batch * self.request.answer / self.total

    def cost(self, price: float) -> float:
        """What the request costs where all its devices cost `price` an hour each."""
        return self.total / 3600 * price * self.request.tensor * self.request.stages


class Source(Protocol):
    """Where seconds come from."""

    def prompt(self, request: Request) -> list[tuple[int, Pass]]:
        """The passes that read all prompts, each with how often."""
        ...

    def step(self, request: Request, run: Pass) -> Step:
        """The times of a pass.

        **Errors:** `InvalidRequest` for what cannot be shared out, or a rate that is not known.
        """
        ...

    def band(self, request: Request, seconds: float, phase: Phase) -> Band:
        """How far a time of that phase may be off."""
        ...


@dataclass(frozen=True)
class Ceilings:
    """Seconds from what a device can do, and what kernels reach of it."""

    efficiency: Efficiency

    def prompt(self, request: Request) -> list[tuple[int, Pass]]:
        """All prompts in one pass."""
        return [(1, request.run(request.prompt))]

    def step(self, request: Request, run: Pass) -> Step:
        """The times of a pass."""
        works = components(request.shape, run)
        return step(works, request.device, request.framework, self.efficiency)

    def band(self, request: Request, seconds: float, phase: Phase) -> Band:
        """From rows that nothing was fitted to."""
        return band(
            seconds, phase, request.device, request.framework, self.efficiency, several=request.several,
            unpacks=request.format.unpacked,
        )  # fmt: skip


def predict(request: Request, source: Source) -> Prediction:
    """The times of a request.

    **Errors:** `InvalidRequest` for what cannot be shared out, or a rate that is not known.
    """
    decode = None
    if request.answer > 1:
        decode = source.step(request, request.run(1, request.prompt, request.answer - 1))
    prefill = [(count, source.step(request, run)) for count, run in source.prompt(request)]
    return Prediction(request, joined(prefill), decode)


def joined(steps: Sequence[tuple[int, Step]]) -> Step:
    """Passes, each so often, one after another; components of one name become one, the mean of them."""
    parts: dict[str, list[tuple[int, Timed]]] = {}
    for often, step in steps:
        for part in step.parts:
            parts.setdefault(part.work.name, []).append((often, part))
    return Step(
        [_together(each) for each in parts.values()],
        math.fsum(often * step.host for often, step in steps),
        math.fsum(often * step.fixed for often, step in steps),
    )


def _together(parts: Sequence[tuple[int, Timed]]) -> Timed:
    count = sum(often * part.work.count for often, part in parts)
    flops, weights, traffic, unpacked = (
        math.fsum(often * part.work.count * getattr(part.work, name) for often, part in parts) / count
        for name in ("flops", "weights", "traffic", "unpacked")
    )
    work = replace(
        parts[0][1].work, count=count, flops=flops, weights=weights, traffic=traffic, unpacked=unpacked
    )
    longest = max(parts, key=lambda each: each[0] * each[1].seconds)[1]
    return Timed(work, math.fsum(often * part.seconds for often, part in parts), longest.limit)


def step(works: Sequence[Work], device: Hardware, framework: Framework, efficiency: Efficiency) -> Step:
    """The times of a pass, by the roofline."""
    program, generation = host_factors(device, framework)
    launch = efficiency.factors.get(program, 0.0) * efficiency.factors.get(generation, 1.0)
    return Step(
        [timed(work, device, framework, efficiency) for work in works],
        launches(works) * launch,
        efficiency.factors.get(f"{framework}.pass", 0.0),
    )


def band(
    seconds: float,
    phase: Phase,
    device: Hardware,
    framework: Framework,
    efficiency: Efficiency,
    *,
    several: bool = False,
    unpacks: bool = False,
) -> Band:
    """How far a time of that phase may be off, from rows that nothing was fitted to.

    `several`: on several devices. `unpacks`: through quantised weights.
    """
    generation = device.generation.split(" ")[0]
    known = efficiency.known.get(phase, ())
    strange = [each for each in (framework, generation) if each not in known]
    spreads = efficiency.unseen if strange else efficiency.seen
    spread = spreads.get(case(phase, several=several, unpacks=unpacks), spreads[phase])
    if strange:
        reason = f"no {phase} of {' or '.join(strange)} was measured: the spread of sources left out whole"
    else:
        reason = f"{framework} and {generation} were measured: the spread of rows kept aside"
    return Band(seconds * spread.low, seconds * spread.high, f"{reason} ({spread.rows} rows)")


def speculation(request: Request, source: Source, *, acceptance: float, cost: float, guesses: int) -> float:
    r"""How much faster tokens come with a draft model, as a factor.

    $$\frac{1 - \alpha^{\gamma+1}}{(1 - \alpha)\,(\gamma c + v)}$$

    - $\alpha$: probability that a guess is accepted, each alike. $\gamma$: guesses in a round.
    - $c$: time of a pass of the draft model over one of the target's.
    - $v$: time of a pass over $\gamma + 1$ rows over that of one, from the same roofline (about 1 where
      memory limits).

    **Source:** Leviathan, Kalman, Matias, arXiv 2211.17192, theorem 3.8, with $v$ in the place of 1.
    """
    tokens = guesses + 1.0 if acceptance == 1 else (1 - acceptance ** (guesses + 1)) / (1 - acceptance)
    one, many = (source.step(request, request.run(rows, request.prompt)).seconds for rows in (1, guesses + 1))
    return tokens / (guesses * cost + many / one)
