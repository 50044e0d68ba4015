"""Decoding on a machine that is not ours alone: beside processes that do nothing but count.

    python benchmarks/busy.py [--model MODEL] [--threads N …]

Tokens a second of one answer by the number of threads and of such processes, medians; one line of JSON last.
"""

import argparse
import json
import subprocess
import sys
from statistics import median

from thermoscope.bench import measure
from thermoscope.engine.language_model import DEFAULT, load
from thermoscope.models.kernels.native import cores

PROMPT, TOKENS, TIMES = 16, 48, 5


def beside(model: str, threads: int, others: int) -> float:
    """Tokens a second beside so many other processes."""
    with load(model, slots=1, context=256, threads=threads) as lm:
        prompt = measure.prompt(lm, PROMPT)
        measure.decode(lm, [prompt], TOKENS)
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
        try:
            return median(measure.decode(lm, [prompt], TOKENS).rate for _ in range(TIMES))
        finally:
            for each in busy:
                each.kill()
                each.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, cores(), 2 * cores()])
    given = parser.parse_args()
    rows = []
    print(f"{'threads':>7}" + "".join(f"{f'{others} beside':>12}" for others in range(cores() + 1)))
    for threads in given.threads:
        rates = [beside(given.model, threads, others) for others in range(cores() + 1)]
        rows.append({"threads": threads, "rates": rates})
        print(f"{threads:>7}" + "".join(f"{rate:>12.1f}" for rate in rates), flush=True)
    print(json.dumps({"cores": cores(), "rows": rows}))


if __name__ == "__main__":
    main()
