"""What a JSON Schema costs in tokens per second: a table, and one JSON line last.

    python benchmarks/grammar.py            the default model, 1 and 8 answers at once
    python benchmarks/grammar.py --quick    a few tokens, to see that it works

Rounds of free and held answers take turns, each of so many tokens, all beginning together behind the same
prompt; a figure is the median of the rounds, a ratio the median of the rounds' ratios. The schema is of a
list without end, whose items mix forced text, free text, numbers and a choice.
"""

import argparse
import datetime
import json
import time
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from thermoscope.cli.machine import look
from thermoscope.engine.engine import Engine
from thermoscope.engine.grammar import Grammar
from thermoscope.engine.request import Request, Sampling
from thermoscope.models.kernels.native import cores
from thermoscope.models.model import Model

MOST = 0.15  # of the tokens per second
SCHEMA = {
    "type": "array",
    "minItems": 1000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "role": {"enum": ["reader", "writer", "owner"]},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["name", "age", "role", "tags"],
        "additionalProperties": False,
    },
}
QUESTION = [{"role": "user", "content": "List the people of a village as JSON."}]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few tokens")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    tokens, rounds = (8, 1) if given.quick else (given.tokens, given.rounds)

    torch.set_num_threads(given.threads)
    model = Model.load("SmolLM2-135M-Instruct", slots=8, context=512)
    model.run_on(given.threads)
    prompt, grammar = model.tokenizer.chat(QUESTION), Grammar.json_schema(SCHEMA)
    table = Table("answers at once", "free, tok/s", "held, tok/s", "cost", f"at most {MOST:.0%}")
    lines = []
    for clients in (1, 8):
        engine = Engine(model, slots=clients, context=512)
        engine.guides.guide(grammar)
        speed(engine, prompt, None, 8)
        figures = [
            (speed(engine, prompt, None, tokens), speed(engine, prompt, grammar, tokens))
            for _ in range(rounds)
        ]
        free, held = (median(each[which] for each in figures) for which in (0, 1))
        cost = 1 - median(held / free for free, held in figures)
        lines.append({"clients": clients, "free": free, "held": held, "cost": cost, "met": cost <= MOST})
        verdict = "yes" if cost <= MOST else "NO"
        table.add_row(str(clients), f"{free:.1f}", f"{held:.1f}", f"{cost:.1%}", verdict)
    Console().print(table)
    machine, when = look(), datetime.date.today().isoformat()
    print(json.dumps({"cpu": machine.cpu, "date": when, "threads": given.threads, "lines": lines}))


def speed(engine: Engine, prompt: tuple[int, ...], grammar: Grammar | None, tokens: int) -> float:
    """Tokens per second of all slots together, from when the last of them began to speak."""
    slots = engine.cache.slots
    generations = [
        engine.prepare(
            Request(
                prompt=prompt,
                sampling=Sampling(seed=seed, max_tokens=tokens, ignore_eos=grammar is None),
                grammar=grammar,
            )
        )
        for seed in range(slots)
    ]
    for generation in generations:
        engine.submit(generation)
    spoken = 0
    while spoken < slots:  # the prompts, and a first token of each
        spoken = max(spoken, len(engine.step()))
    began, count = time.perf_counter(), 0
    while engine.busy:
        count += len(engine.step())
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
