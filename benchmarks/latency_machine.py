"""This machine, calibrated now: predicted beside measured decode and prefill of a model.

    python benchmarks/latency_machine.py [--model MODEL] [--rounds N]

Memory is not equally fast from one minute to the next, so each precision is calibrated and measured in turn,
for some rounds; the median error of the rounds counts. Prints a table, and one line of JSON last.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import NamedTuple

from thermoscope.bench import measure
from thermoscope.catalogue.architecture import Architecture
from thermoscope.catalogue.precision import Precision
from thermoscope.engine.language_model import DEFAULT, LanguageModel, load
from thermoscope.instruments import _calibration as calibration
from thermoscope.models.kernels.bandwidth import read_bandwidth
from thermoscope.models.kernels.library import cores
from thermoscope.planning.latency import machine
from thermoscope.planning.latency.formats import FORMATS
from thermoscope.planning.latency.prediction import Request, predict

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int4")
PROMPT, TOKENS, REPEATS, BATCHES = 128, 32, 4, (1, 8)


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


def calibrated(precision: Precision) -> machine.Profile:
    """A profile of one precision."""
    measured = {precision: calibration.measure(precision)}
    return calibration.profiled(read_bandwidth(cores()).rate, measured, cores())


def compare(model: str, precision: Precision) -> Iterator[tuple[Case, Pair]]:
    """A step and a prompt for each sequence, at batch 1 and 8, predicted and measured.

    What is measured lies to both sides of the calibration in time, for the machine's own speed moves.
    """
    shape, before = timed(model, precision)
    # In a process of its own: pools of threads that it leaves would slow what is measured next.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        profile = pool.submit(calibrated, precision).result()
    _, after = timed(model, precision)
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
            real = median(before[case] + after[case])
            yield case, Pair(predicted, real, band.low <= real <= band.high)


def timed(model: str, precision: Precision) -> tuple[Architecture, dict[Case, list[float]]]:
    """The model's shape, and seconds of steps and of prompts, one for each sequence of a batch."""
    taken: dict[Case, list[float]] = defaultdict(list)
    with load(model, precision=precision, slots=8, context=1024) as lm:
        prompts = [measure.prompt(lm, PROMPT, client=client) for client in range(8)]
        for batch in BATCHES:
            for _ in range(REPEATS):
                taken[Case(precision, batch, "decode")] += _steps(lm, prompts[0], batch)
                since = time.perf_counter()
                for each in prompts[:batch]:
                    measure.prefill(lm, each)
                taken[Case(precision, batch, "prefill")].append(time.perf_counter() - since)
        return Architecture.of(lm.config, model), taken


def _steps(lm: LanguageModel, prompt: Sequence[int], batch: int) -> list[float]:
    """Seconds of the steps in which all answers to one prompt were being decoded, as their traces say."""
    reply = lm.generate(prompt, temperature=0, n=batch, max_tokens=TOKENS + batch - 1, ignore_eos=True)
    last = reply.traces[-1].steps  # its prompt was read last, and the others go on for as many steps more
    return [step.ms / 1e3 for step in last[1:TOKENS]]


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
