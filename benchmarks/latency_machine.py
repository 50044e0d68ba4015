"""This machine, calibrated now: predicted beside measured decode and prefill of a model.

    python benchmarks/latency_machine.py [--model MODEL] [--keep]

Prints a table, and one line of JSON last. `--keep` takes the profile that is there instead of measuring.
"""

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

from thermoscope.bench import measure
from thermoscope.catalogue.architecture import Architecture
from thermoscope.engine.language_model import DEFAULT, load
from thermoscope.instruments._calibration import PRECISIONS, calibrated
from thermoscope.instruments.shape.lab import Lab
from thermoscope.planning.latency import machine
from thermoscope.planning.latency.formats import FORMATS
from thermoscope.planning.latency.prediction import Request, predict

PROMPT, TOKENS, REPEATS = 128, 32, 5  # the quickest counts: what else runs only ever adds


def compare(model: str, profile: machine.Profile) -> Iterator[dict[str, Any]]:
    """Every precision at batch 1 and 8: seconds of a step, and of a prompt for each sequence."""
    for precision, kept in PRECISIONS.items():
        with load(model, precision=precision, slots=8, context=1024) as lm:
            shape = Architecture.of(lm.runner.engine.model.config, model)
            prompts = [measure.prompt(lm, PROMPT, client=client) for client in range(8)]
            measure.decode(lm, prompts[:1], 8)
            for batch in (1, 8):
                request = Request(
                    shape=shape, device=profile.device, framework=machine.framework(kept), precision="bf16",
                    format=FORMATS[kept], cache="fp16" if lm.runner.engine.model.native else "fp32",
                    batch=batch, prompt=PROMPT, answer=TOKENS,
                )  # fmt: skip
                found = predict(request, profile.efficiency)
                steps, firsts = [], []
                for _ in range(REPEATS):
                    run = measure.decode(lm, prompts[:batch], TOKENS, even=True)
                    steps.append(batch / run.rate)
                    since = time.perf_counter()
                    for each in prompts[:batch]:
                        measure.prefill(lm, each)
                    firsts.append(time.perf_counter() - since)
                yield _row(precision, batch, "decode", found.each, min(steps))
                yield _row(precision, batch, "prefill", found.first, min(firsts))


def _row(precision: str, batch: int, phase: str, predicted: float, measured: float) -> dict[str, Any]:
    return {
        "precision": precision, "batch": batch, "phase": phase, "predicted_ms": 1e3 * predicted,
        "measured_ms": 1e3 * measured, "error": predicted / measured - 1,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--keep", action="store_true", help="do not measure again")
    given = parser.parse_args()
    if not given.keep:
        calibrated(Lab(lambda: load(given.model)))
    rows = []
    print(
        f"{'precision':<10} {'batch':>5} {'phase':<8} {'predicted ms':>13} {'measured ms':>12} {'error':>7}"
    )
    for row in compare(given.model, machine.load()):
        rows.append(row)
        print(
            f"{row['precision']:<10} {row['batch']:>5} {row['phase']:<8} {row['predicted_ms']:>13.2f} "
            f"{row['measured_ms']:>12.2f} {100 * row['error']:>+6.1f}%"
        )
    print(json.dumps({"rows": rows, "worst": max(abs(row["error"]) for row in rows)}))


if __name__ == "__main__":
    main()
