"""Many clients at one server, ours and others on the same weights: a table, and one JSON line last.

    python benchmarks/serving.py                              ours alone
    THERMOSCOPE_LLAMA=FOLDER python benchmarks/serving.py     llama.cpp's server too
    THERMOSCOPE_VLLM=PYTHON python benchmarks/serving.py --vllm-model FOLDER      vLLM too
    python benchmarks/serving.py --quick                      one short round, to see that it works

All servers are up all the time, and asleep until it is their turn. Every request has a prompt of its own, so
that nobody answers from what is in the cache, but where that is what is measured. A figure is the median over
the rounds, a ratio the median of the rounds' ratios.
"""

import argparse
import asyncio
import contextlib
import datetime
import itertools
import json
import os
import sys
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import servers
import uvloop
from clients import Heard, Server, closed_loop, gaps, until
from contenders import Ours
from rich.console import Console
from targets import Line, Rounds, table

from thermoscope.bench import llama
from thermoscope.bench.peers import Worker
from thermoscope.cli.machine import look
from thermoscope.errors import ThermoscopeError
from thermoscope.models.kernels.native import cores
from thermoscope.models.store import locate

SLOTS, CONTEXT = 8, 2048
TURNS = 3  # of the servers in a round: the machine's own speed moves within seconds
QUICK = {"rounds": 1, "tokens": 8, "prompt": 32, "requests": 1, "crowd": 2, "long": 300, "shared": 100}
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "pages": {"type": "integer"}, "used": {"type": "boolean"}},
    "required": ["title", "pages", "used"],
    "additionalProperties": False,
}


class Texts:
    """English of a given length in tokens. Each is new: it begins with a number that no other has.

    `silent`: forbids the tokens that have no text.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._numbers = itertools.count(1)
        self._known: dict[int, str] = {}
        self.silent = {str(token): -100 for token in worker.ask("silent")}

    def __call__(self, tokens: int) -> str:
        if tokens not in self._known:
            self._known[tokens] = self._worker.ask("text", length=tokens)
        return f"{next(self._numbers)}: {self._known[tokens]}"


def main() -> None:
    arguments = parse()
    try:
        path = locate(arguments.model, progress=True)
        measured = measure(arguments, path, None if arguments.no_llama else llama.find())
    except (ThermoscopeError, OSError) as error:
        raise SystemExit(f"benchmark: {error}") from None
    machine, lines = look(), report(measured, arguments)
    console = Console(width=120)
    console.print(f"{machine.cpu}, {machine.cores} cores, {' '.join(machine.instruction_sets)}")
    console.print(
        f"{path.name}, {arguments.tokens} tokens after {arguments.prompt}, {arguments.threads} threads"
    )
    console.print(table(lines))
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"cpu": machine.cpu, "cores": machine.cores, "isa": machine.instruction_sets},
        "about": {name: value for name, value in vars(arguments).items() if isinstance(value, int | str)},
        "rounds": measured,
        "lines": [line._asdict() for line in lines],
    }
    print(json.dumps(result))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--vllm-model", type=Path, metavar="FOLDER", help="the same model as vLLM reads it")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt, about")
    parser.add_argument("--requests", type=int, default=4, help="requests of each of the eight clients")
    parser.add_argument("--crowd", type=int, default=20, help="requests of each of the 32 clients")
    parser.add_argument("--long", type=int, default=1500, help="tokens of the long prompt")
    parser.add_argument("--shared", type=int, default=500, help="tokens of the shared system prompt")
    parser.add_argument("--no-llama", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update(QUICK)
    for name in QUICK:
        if getattr(arguments, name) < (2 if name == "tokens" else 1):
            parser.error(f"--{name}: got {getattr(arguments, name)}, which measures nothing")
    if servers.VLLM in os.environ and not arguments.vllm_model:
        parser.error(f"--vllm-model: missing; {servers.VLLM} is set, and vLLM needs the model's folder")
    return arguments


def measure(arguments: argparse.Namespace, path: Path, folder: Path | None) -> list[dict[str, Any]]:
    """Every round's figures by name."""
    how = {"threads": arguments.threads, "slots": SLOTS, "context": CONTEXT}
    with contextlib.ExitStack() as stack:
        bare = Worker(Ours, str(path), None, arguments.threads, CONTEXT)
        stack.callback(bare.close)
        up = {"ours": stack.enter_context(servers.ours(path, **how))}
        if folder:
            up["llama"] = stack.enter_context(servers.llama_server(folder, path, **how))
        if servers.VLLM in os.environ:
            up["vllm"] = stack.enter_context(servers.vllm(arguments.vllm_model, **how))
        texts = Texts(bare)
        rounds = []
        for number in range(arguments.rounds + 1):
            print(f"round {number} of {arguments.rounds}", file=sys.stderr, flush=True)
            figures = uvloop.run(one_round(arguments, up, texts, bare))
            rounds.append(figures)
        return rounds[1:]  # the first one warms up


async def one_round(
    arguments: argparse.Namespace, up: dict[str, Server], texts: Texts, bare: Worker
) -> dict[str, Any]:
    """All figures once."""
    tokens, prompt = arguments.tokens, arguments.prompt
    figures: dict[str, Any] = {}
    for key, clients in (("one", 1), ("eight", 8)):
        rates: dict[str, list[float]] = {name: [] for name in up}
        for name, server in list(up.items()) * TURNS:
            seconds, heard = await closed_loop(
                clients, arguments.requests, lambda _, server=server: server.ask(texts(prompt), tokens)
            )
            _check(name, heard, tokens)
            rates[name].append(sum(each.tokens for each in heard) / seconds)
        figures |= {f"{name}_{key}": median(each) for name, each in rates.items()}
    ours = up["ours"]
    figures |= await without_http(ours, texts, arguments, bare)
    seconds, heard = await closed_loop(32, arguments.crowd, lambda _: ours.ask(texts(prompt), tokens))
    failed = [each for each in heard if each.error]
    waits = [each.first for each in heard if not each.error]
    figures |= {
        "crowd": sum(each.tokens for each in heard if not each.error) / seconds,
        "crowd_errors": len(failed),
        "crowd_first_median_s": median(waits),
        "crowd_first_worst_s": max(waits),
    }
    figures |= await long_prompt(ours, texts, arguments)
    figures |= await shared_prefix(ours, texts, arguments)
    return figures | await constrained(ours, texts, arguments)


async def without_http(
    server: Server, texts: Texts, arguments: argparse.Namespace, bare: Worker
) -> dict[str, Any]:
    """Tokens a second of one client, and of the engine that is asked directly; they take turns by the answer,
    for the difference is smaller than what the machine's speed changes by in a second.
    """
    rates: dict[str, list[float]] = {"http": [], "bare": []}
    for _ in range(TURNS * arguments.requests):
        taken, heard = await closed_loop(
            1, 1, lambda _: server.ask(texts(arguments.prompt), arguments.tokens)
        )
        _check("ours", heard, arguments.tokens)
        alone = bare.ask("chat", texts=[texts(arguments.prompt)], tokens=arguments.tokens)
        rates["http"].append(arguments.tokens / taken)
        rates["bare"].append(arguments.tokens / alone)
    return {f"{name}_one": median(each) for name, each in rates.items()}


async def long_prompt(server: Server, texts: Texts, arguments: argparse.Namespace) -> dict[str, Any]:
    """Gaps between the tokens of seven answers, without and while a long prompt is read beside them."""
    heard = [Heard() for _ in range(7)]
    ask = partial(server.ask, logit_bias=texts.silent)  # a token that shows no text would look like a gap
    speaking = [asyncio.create_task(ask(texts(16), 1500, heard=each)) for each in heard]
    begin = await until(heard, 20)
    middle = await until(heard, 20 + arguments.tokens)
    long = await server.ask(texts(arguments.long), 2)
    for each in speaking:
        each.cancel()
    await asyncio.wait(speaking)
    _check("ours", [long])
    plain, beside = gaps(heard, begin, middle), gaps(heard, middle, long.times[0])
    return {
        "gap_median_s": median(plain),
        "gap_beside_p99_s": quantiles(beside, n=100)[98],
        "gap_beside_worst_s": max(beside),
        "long_first_s": long.first,
    }


async def shared_prefix(server: Server, texts: Texts, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time to the first token of two requests that share their system prompt and nothing else."""
    system = texts(arguments.shared)
    first, second = [await server.ask(texts(16), 4, system=system) for _ in range(2)]
    _check("ours", [first, second])
    return {"prefix_first_s": first.first, "prefix_second_s": second.first, "prefix_cached": second.cached}


async def constrained(server: Server, texts: Texts, arguments: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second of an answer that must follow a JSON schema, and of one that may say anything."""
    form = {"type": "json_schema", "json_schema": {"name": "book", "strict": True, "schema": SCHEMA}}
    free = await server.ask(texts(16), arguments.tokens)
    bound = await server.ask(texts(16), arguments.tokens, thermoscope={}, response_format=form)
    if bound.error:
        return {}
    rates = [(len(each.times) - 1) / (each.times[-1] - each.times[0]) for each in (free, bound)]
    return {"free": rates[0], "constrained": rates[1]}


def _check(name: str, heard: list[Heard], tokens: int | None = None) -> None:
    for each in heard:
        if each.error:
            raise ThermoscopeError(f"{name}: {each.error.strip()}")
        if tokens is not None and each.tokens != tokens:
            raise ThermoscopeError(f"{name}: got {each.tokens} tokens, expected {tokens}.")


def report(rounds: list[dict[str, Any]], arguments: argparse.Namespace) -> list[Line]:
    """What the server is held to."""
    all_ = Rounds(rounds)
    lines = []
    for key, name, least in (("one", "1 client", None), ("eight", "8 clients", 2.2)):
        for peer, label in (("llama", "llama.cpp"), ("vllm", "vLLM")):
            if all_.has(f"{peer}_{key}"):
                lines.append(all_.against(name, f"ours_{key}", f"{peer}_{key}", least, label))
        if not any(line.name == name for line in lines):
            lines.append(Line(name, f"{all_.middle(f'ours_{key}'):.0f} tok/s"))
    lines.append(all_.against("1 client, and without HTTP", "http_one", "bare_one", 0.95, "without"))
    lines.append(
        all_.against(f"32 clients × {arguments.crowd} requests", "crowd", "ours_eight", 0.9, "8 clients")
    )
    errors = sum(each["crowd_errors"] for each in rounds)
    lines.append(Line("of these, errors", f"{errors}", None, "0", errors == 0))
    lines.append(
        _times(all_, "worst wait for a first token", "crowd_first_worst_s", "crowd_first_median_s", 4)
    )
    what = f"{arguments.long} tokens beside 7: p99 of gaps"
    lines.append(_times(all_, what, "gap_beside_p99_s", "gap_median_s", 3))
    lines.append(Line("first token of that long prompt", f"{all_.middle('long_first_s'):.2f} s"))
    what = f"shared {arguments.shared}-token prompt, second"
    lines.append(_times(all_, what, "prefix_second_s", "prefix_first_s", 0.35))
    if all_.has("constrained"):
        lines.append(all_.against("JSON by a schema, 1 client", "constrained", "free", 0.85, "free"))
    return lines


def _times(rounds: Rounds, name: str, key: str, other: str, most: float) -> Line:
    ratio = rounds.middle(lambda each: each[key] / each[other])
    figure = f"{1e3 * rounds.middle(key):.0f} ms; {1e3 * rounds.middle(other):.0f}"
    return Line(name, figure, ratio, f"≤ {most:g}×", ratio <= most)


if __name__ == "__main__":
    sys.exit(main())
