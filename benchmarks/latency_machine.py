"""This machine, calibrated now: predicted beside measured decode and prefill of a model.

    python benchmarks/latency_machine.py [--model MODEL] [--rounds N]

A machine's speed moves by more than what is asked here, for seconds to minutes. So a sweep of the calibration
and a look at the model take turns, each in a process of its own, and both sides see the same machine. Prints
a table with the error of each round and their median, and one line of JSON last.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

from thermoscope.bench import measure
from thermoscope.bench.peers import Worker
from thermoscope.catalogue.architecture import Architecture
from thermoscope.catalogue.precision import Precision
from thermoscope.engine.language_model import DEFAULT, load
from thermoscope.instruments import _calibration as calibration
from thermoscope.instruments._trial import Handed, Run, Timing, Trial
from thermoscope.models.kernels.bandwidth import read_bandwidth
from thermoscope.models.kernels.native import cores
from thermoscope.planning.latency import machine
from thermoscope.planning.latency.formats import FORMATS
from thermoscope.planning.latency.prediction import Request, predict

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int4")
PROMPT, TOKENS, BATCHES = 128, 32, (1, 8)
TURNS = 5  # of a sweep and a look in a round


class Case(NamedTuple):
    """What was timed."""

    precision: str
    batch: int
    phase: str


class Pair(NamedTuple):
    """Seconds."""

    predicted: float
    measured: float
    inside: bool


class Calibration:
    """The trial of random models, a sweep at a time."""

    def __init__(self, precision: Precision) -> None:
        self.trial = Trial(precision)

    def sweep(self) -> list[Timing]:
        """Every run of every shape, once."""
        return list(self.trial.timings(sweeps=1))

    def handed(self) -> Handed:
        """What Python takes."""
        return self.trial.handed()


class Measured:
    """The model itself, asked as users ask it."""

    def __init__(self, model: str, precision: Precision) -> None:
        self.lm = load(model, precision=precision, slots=8, context=1024)
        self.shape = Architecture.of(self.lm.config, model)
        self.prompts = [measure.prompt(self.lm, PROMPT, client=client) for client in range(max(BATCHES))]

    def look(self, batch: int) -> dict[str, list[float]]:
        """Seconds of the steps in which all answers were being decoded, and of one prompt for each."""
        # The last prompt is read while the others speak already, and they go on for as many steps more.
        reply = self.lm.generate(
            self.prompts[0], temperature=0, n=batch, max_tokens=TOKENS + batch - 1, ignore_eos=True
        )
        since = time.perf_counter()
        for each in self.prompts[:batch]:
            measure.prefill(self.lm, each)
        return {
            "prefill": [time.perf_counter() - since],
            "decode": [step.ms / 1e3 for step in reply.traces[-1].steps[1:TOKENS]],
        }

    def architecture(self) -> Architecture:
        """Its shape."""
        return self.shape


def compare(model: str, precision: Precision) -> Iterator[tuple[Case, Pair]]:
    """A step and a prompt for each sequence, at batch 1 and 8, predicted and measured."""
    with ExitStack() as stack:
        theirs = Worker(Calibration, precision)
        stack.callback(theirs.close)
        ours = Worker(Measured, model, precision)
        stack.callback(ours.close)
        taken: dict[Case, list[float]] = defaultdict(list)
        sweeps: list[Timing] = []
        handed: list[Handed] = []
        for _ in range(TURNS):
            for batch in BATCHES:
                for phase, seconds in ours.ask("look", batch=batch).items():
                    taken[Case(precision, batch, phase)] += seconds
            sweeps += theirs.ask("sweep")
            handed.append(theirs.ask("handed"))
        shape = ours.ask("architecture")
    profile = calibration.profiled(
        read_bandwidth(cores()).rate, {precision: (merged(sweeps), usual(handed))}, cores()
    )
    kept = calibration.FORMAT_OF[precision]
    for batch in BATCHES:
        request = Request(
            shape=shape, device=profile.device, framework=machine.framework(kept), precision="bf16",
            format=FORMATS[kept], cache="fp16", batch=batch, prompt=PROMPT, answer=TOKENS,
        )  # fmt: skip
        found = predict(request, profile)
        for phase, predicted in (("decode", found.each), ("prefill", found.first)):
            case = Case(precision, batch, phase)
            band = profile.band(request, predicted, phase)  # type: ignore[arg-type]
            real = median(taken[case])
            yield case, Pair(predicted, real, band.low <= real <= band.high)


def merged(sweeps: Sequence[Timing]) -> list[Timing]:
    """One timing of every run of every shape, with the steps of all sweeps."""
    found: dict[tuple[int, Run], dict[str, list[float]]] = {}
    for each in sweeps:
        parts = found.setdefault((each.shape, each.run), defaultdict(list))
        for part, seconds in each.parts.items():
            parts[part] += seconds
    return [Timing(shape, run, parts) for (shape, run), parts in found.items()]


def usual(handed: Sequence[Handed]) -> Handed:
    """The medians of all turns."""
    steps = {batch: median(each.steps[batch] for each in handed) for batch in handed[0].steps}
    return Handed(steps, median(each.request for each in handed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=list(calibration.FORMAT_OF))
    given = parser.parse_args()
    pairs: dict[Case, list[Pair]] = defaultdict(list)
    for _ in range(given.rounds):
        for precision in given.precisions:
            for case, pair in compare(given.model, precision):
                pairs[case].append(pair)
    rows = []
    print(
        f"{'precision':<10} {'batch':>5} {'phase':<8} {'predicted ms':>13} {'measured ms':>12} {'error':>7}"
    )
    for case, each in sorted(pairs.items()):
        errors = [pair.predicted / pair.measured - 1 for pair in each]
        predicted = 1e3 * median(pair.predicted for pair in each)
        measured = 1e3 * median(pair.measured for pair in each)
        rows.append(
            {
                **case._asdict(), "predicted_ms": predicted, "measured_ms": measured,
                "error": median(errors), "errors": errors, "inside": sum(pair.inside for pair in each),
            }
        )  # fmt: skip
        print(
            f"{case.precision:<10} {case.batch:>5} {case.phase:<8} {predicted:>13.2f} {measured:>12.2f} "
            f"{100 * median(errors):>+6.1f}%  {' '.join(f'{100 * error:+.1f}' for error in errors)}"
        )
    print(json.dumps({"rows": rows, "worst": max(abs(row["error"]) for row in rows)}))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
