"""Time of one draw with its record, by what is asked of it: a table, and one JSON line last.

    python benchmarks/sampler.py            the default model's logits, and a vocabulary of 262,144
    python benchmarks/sampler.py --quick    a few draws, to see that it works

The larger rows are the model's own, with more tokens like those of its lower half. A figure is the median of
draws at other positions of other rows; the row's summary (log Z, entropy, the best) is in it.
"""

import argparse
import datetime
import json
import time
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from thermoscope.cli.machine import look
from thermoscope.engine.replay import replay
from thermoscope.engine.request import Sampling
from thermoscope.engine.sampler import Sampler
from thermoscope.models.kernels.native import cores
from thermoscope.models.model import Model

LIMITS = {49_152: 0.4, 262_144: 2.0}  # ms
TEXT = (
    "The steam engine was not invented by one man. Once upon a time, 17 * 23 = 391, said the cat; "
    "il fait beau aujourd'hui. def main():\n    return 0\n"
)
ASKED: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "T = 1": {},
    "T = 0.7": {"temperature": 0.7},
    "top_p 0.9": {"top_p": 0.9},
    "top_p 0.9, T = 1.5": {"top_p": 0.9, "temperature": 1.5},
    "top_k 40, top_p 0.95": {"top_k": 40, "top_p": 0.95},
    "min_p 0.05": {"min_p": 0.05},
    "penalties": {"repetition_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 0.2},
    "penalties, top_p 0.9": {"repetition_penalty": 1.1, "presence_penalty": 0.5, "top_p": 0.9},
    "dry": {"dry_multiplier": 0.8},
    "typical 0.9": {"typical_p": 0.9},
    "epsilon 3e-4": {"epsilon": 3e-4},
    "eta 2e-3": {"eta": 2e-3},
    "top_n_sigma 2": {"top_n_sigma": 2.0},
    "xtc 0.5": {"xtc_probability": 0.5},
    "mirostat 5 bits": {"mirostat_tau": 5.0},
    "dynamic T": {"dynatemp_range": 0.5},
    "hf, top_k 40, top_p 0.95": {"profile": "hf", "top_k": 40, "top_p": 0.95},
    "vllm, min_p 0.05, top_p 0.95": {"profile": "vllm", "min_p": 0.05, "top_p": 0.95},
    "sglang, top_k 40, top_p 0.95": {"profile": "sglang", "top_k": 40, "top_p": 0.95},
    "llama.cpp, its defaults": {
        "profile": "llama.cpp",
        **{"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    },
}


class Words:
    """As much of a tokenizer as a record needs."""

    def piece(self, token: int) -> str:
        return str(token)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    draws = 3 if arguments.quick else arguments.draws
    model = Model.load(arguments.model)
    model.run_on(arguments.threads)
    tokens = model.tokenizer.prompt(TEXT)
    own = replay(model, tokens, logits=True).logits
    assert own is not None
    measured: dict[str, dict[int, float]] = {}
    for vocab, rows in {own.shape[1]: own.numpy(), 262_144: larger(own.numpy(), 262_144)}.items():
        for name, settings in ASKED.items():
            measured.setdefault(name, {})[vocab] = one(rows, settings, tokens, draws)
    machine = look()
    console = Console(width=100)
    console.print(f"{machine.cpu}, {arguments.threads} threads, {draws} draws each")
    console.print(table(measured))
    print(
        json.dumps(
            {
                "date": datetime.date.today().isoformat(),
                "machine": {"cpu": machine.cpu, "cores": machine.cores, "isa": machine.instruction_sets},
                "threads": arguments.threads,
                "draws": draws,
                "ms": measured,
                "limits_ms": LIMITS,
            }
        )
    )


def larger(rows: np.ndarray, vocab: int) -> np.ndarray:
    """The rows with more tokens like those of their lower half."""
    generator = np.random.default_rng(1)
    lower = np.sort(rows, axis=1)[:, : rows.shape[1] // 2]
    more = lower[:, generator.integers(0, lower.shape[1], vocab - rows.shape[1])]
    return np.concatenate((rows, more), axis=1)


def one(rows: np.ndarray, settings: dict[str, Any], prompt: tuple[int, ...], draws: int) -> float:
    """Milliseconds of a draw with its record, the median."""
    sampler = Sampler(Sampling(**settings), seed=1, choice=0, prompt=tuple(prompt))
    times = []
    for position in range(draws + draws // 4):
        row = rows[position % len(rows)]
        began = time.perf_counter()
        sampler.draw(row, position, Words())  # type: ignore[arg-type]
        times.append(time.perf_counter() - began)
    return 1e3 * median(times[draws // 4 :])


def table(measured: dict[str, dict[int, float]]) -> Table:
    vocabularies = list(next(iter(measured.values())))
    shown = Table(title="one draw with its record, ms")
    shown.add_column("asked")
    for vocab in vocabularies:
        shown.add_column(f"{vocab:,} logits", justify="right")
        shown.add_column(f"at most {LIMITS.get(vocab, '-')}", justify="right")
    for name, figures in measured.items():
        cells = []
        for vocab in vocabularies:
            cells.append(f"{figures[vocab]:.3f}")
            cells.append("" if vocab not in LIMITS else "yes" if figures[vocab] <= LIMITS[vocab] else "no")
        shown.add_row(name, *cells)
    return shown


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
