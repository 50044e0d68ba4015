"""Speed and memory of decoding: a table for people, and one JSON line last.

    python benchmarks/decode.py                             us, and transformers where it is installed
    python benchmarks/decode.py --llama-bench PATH          llama.cpp too
    python benchmarks/decode.py --text FILE                 each precision's speed and distance to fp32 too
    python benchmarks/decode.py --quick                     one short round, to see that it works

Every round measures all contenders one after the other; a figure is the median over the rounds, a ratio the
median of the rounds' ratios.
"""

import argparse
import datetime
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import harmonic_mean, mean, median
from typing import Any, NamedTuple

import psutil
from contenders import Ours, Transformers, Worker, cold_start, llama_bench
from quality import Quality, read_text
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from thermoscope.catalogue.precision import PRECISIONS
from thermoscope.cli.machine import look
from thermoscope.errors import ThermoscopeError
from thermoscope.models.store import locate


class Line(NamedTuple):
    """One row of the table. `target` is what the figure is held to: a ratio, seconds, or bytes."""

    name: str
    figure: str
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


def main() -> None:
    arguments = parse()
    threads = psutil.cpu_count(logical=False) or 1
    try:
        path = locate(arguments.model, progress=True)
        measured = measure(arguments, str(path), threads)
        precisions = compare(arguments, str(path), threads) if arguments.text else []
    except (ThermoscopeError, OSError) as error:
        raise SystemExit(f"benchmark: {error}") from None
    machine = look()
    lines = report(measured)
    console = Console(width=110)
    console.print(f"{machine.cpu}, {machine.cores} cores, {' '.join(machine.instruction_sets)}")
    console.print(", ".join(f"{key} {value}" for key, value in measured["about"].items()))
    console.print(table(lines))
    if precisions:
        console.print(precision_table(precisions))
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"cpu": machine.cpu, "cores": machine.cores, "isa": machine.instruction_sets},
        **measured,
        "lines": [line._asdict() for line in lines],
        "precisions": precisions,
    }
    print(json.dumps(result))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--precision", choices=PRECISIONS, help="default: what Thermoscope takes by itself")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt for prefill")
    parser.add_argument("--llama-bench", default=shutil.which("llama-bench"), metavar="PATH")
    parser.add_argument("--no-transformers", action="store_true")
    parser.add_argument("--text", type=Path, metavar="FILE", help="real text, plain or JSON lines")
    parser.add_argument("--text-tokens", type=int, default=2000)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.tokens, arguments.prompt, arguments.text_tokens = 1, 16, 64, 64
    for name in ("rounds", "tokens", "prompt", "text_tokens"):
        if getattr(arguments, name) < (2 if name == "tokens" else 1):
            parser.error(
                f"--{name.replace('_', '-')}: got {getattr(arguments, name)}, which measures nothing"
            )
    return arguments


def measure(arguments: argparse.Namespace, path: str, threads: int) -> dict[str, Any]:
    """Every round's raw figures, by contender and kind."""
    tokens, rounds = arguments.tokens, []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("loading", total=arguments.rounds + 1)
        ours = Worker(Ours, path, arguments.precision)
        theirs = None
        if find_spec("transformers") and not arguments.no_transformers:
            theirs = Worker(Transformers, path, threads)
        prompt = ours.ask("prompt")
        ours.ask("decode", tokens=2, clients=8)
        if theirs:
            theirs.ask("decode", prompt=prompt, tokens=2)
        for number in range(arguments.rounds):
            progress.update(task, advance=1, description=f"round {number + 1}")
            one, eight = pair(ours, tokens, 1), pair(ours, tokens, 8)
            figures = {
                "one": tokens / one.seconds,
                "one_decoding": one.recorded,
                "one_unrecorded_decoding": one.bare,
                "eight": 8 * tokens / eight.seconds,
                "eight_decoding": eight.recorded,
                "eight_unrecorded_decoding": eight.bare,
                "same_tokens": one.same and eight.same,
                "prefill": ours.ask("prefill", tokens=arguments.prompt),
                "cold_start_s": cold_start(path),
            }
            if theirs:
                figures["transformers"] = theirs.ask("decode", prompt=prompt, tokens=tokens)
            if arguments.llama_bench:
                figures["llama_prefill"], figures["llama_decode"] = llama_bench(
                    arguments.llama_bench, path, prompt=arguments.prompt, tokens=tokens, threads=threads
                )
            rounds.append(figures)
        about = ours.ask("about") | {
            "tokens": tokens,
            "prompt": arguments.prompt,
            "rounds": arguments.rounds,
        }
        peak = ours.ask("peak")
        for worker in filter(None, (ours, theirs)):
            worker.close()
    return {"about": about, "peak_bytes": peak, "rounds": rounds}


class Pair(NamedTuple):
    """Decoding with records and without: tokens a second, and whether the tokens are the same."""

    recorded: float
    bare: float
    same: bool
    seconds: float  # of a recorded run, from the request to the last token


def pair(ours: Worker, tokens: int, clients: int) -> Pair:
    """On, off, off, on: a machine that slows down meanwhile slows both."""
    order = (True, False, False, True)
    runs = [ours.ask("decode", tokens=tokens, clients=clients, record=record) for record in order]
    recorded, bare = (runs[0], runs[3]), (runs[1], runs[2])
    speeds = [harmonic_mean([run.decoding for run in both]) for both in (recorded, bare)]
    same = all(run.tokens == runs[0].tokens for run in runs)
    return Pair(*speeds, same, mean(run.seconds for run in recorded))


def report(measured: dict[str, Any]) -> list[Line]:
    """The lines that the project holds itself to, and those that explain them."""
    rounds = measured["rounds"]

    def middle(key: str) -> float:
        return median(each[key] for each in rounds)

    def against(name: str, key: str, other: str, least: float | None, label: str) -> Line:
        ratio = median(each[key] / each[other] for each in rounds)
        figure = f"{middle(key):.0f} tok/s, {label} {middle(other):.0f}"
        met = None if least is None else ratio >= least
        return Line(name, figure, ratio, f"≥ {least:g}×" if least else "", met)

    prompt, tokens = measured["about"]["prompt"], measured["about"]["tokens"]
    lines = []
    if "transformers" in rounds[0]:
        lines.append(against(f"1 client, {tokens} tokens", "one", "transformers", 2.0, "transformers bf16"))
    if "llama_prefill" in rounds[0]:
        lines.append(against(f"prefill {prompt}", "prefill", "llama_prefill", 2.0, "llama.cpp"))
        lines.append(against("1 client, decoding", "one_decoding", "llama_decode", None, "llama.cpp"))
    else:
        lines.append(Line(f"prefill {prompt}", f"{middle('prefill'):.0f} tok/s"))
    lines.append(against("8 in one batch, decoding", "eight_decoding", "one_decoding", 3.0, "one"))
    lines.append(against("8 requests, prompts included", "eight", "one", None, "one"))
    for name, key in (("1", "one"), ("8", "eight")):
        slower = median(each[f"{key}_unrecorded_decoding"] / each[f"{key}_decoding"] for each in rounds)
        same = all(each["same_tokens"] for each in rounds)
        figure = f"{middle(f'{key}_decoding'):.0f} tok/s, off {middle(f'{key}_unrecorded_decoding'):.0f}"
        words = "tokens the same" if same else "TOKENS DIFFER"
        lines.append(
            Line(
                f"records on, batch of {name}",
                f"{figure}; {words}",
                slower,
                "≤ 1.05×",
                slower <= 1.05 and same,
            )
        )
    start, peak = middle("cold_start_s"), measured["peak_bytes"]
    lines.append(Line("cold process to first token", f"{start:.2f} s", None, "≤ 4 s", start <= 4))
    lines.append(Line("peak resident memory", f"{peak / 1e6:.0f} MB", None, "≤ 1200 MB", peak <= 1.2e9))
    return lines


def compare(arguments: argparse.Namespace, path: str, threads: int) -> list[dict[str, Any]]:
    """Each precision's speed, memory, and distance to fp32 on the text."""
    text = read_text(arguments.text)
    rows: dict[str, dict[str, Any]] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("precisions: loading", total=len(PRECISIONS) + arguments.rounds)
        workers = {precision: Worker(Ours, path, precision) for precision in PRECISIONS}
        runs: dict[str, list[tuple[float, float]]] = {precision: [] for precision in PRECISIONS}
        for number in range(arguments.rounds):
            progress.update(task, advance=1, description=f"precisions: round {number + 1}")
            for precision, worker in workers.items():
                decoding = worker.ask("decode", tokens=arguments.tokens).decoding
                runs[precision].append((decoding, worker.ask("prefill", tokens=arguments.prompt)))
        for precision, worker in workers.items():
            decoding, prefill = (median(each) for each in zip(*runs[precision], strict=True))
            rows[precision] = {"decode": decoding, "prefill": prefill, "peak_bytes": worker.ask("peak")}
            worker.close()
        judge = Worker(Quality, path, threads, text, arguments.text_tokens)
        for precision in PRECISIONS:
            progress.update(task, advance=1, description=f"precisions: {precision} against fp32")
            rows[precision] |= judge.ask("distance", precision=precision)._asdict()
        judge.close()
    return [{"precision": precision, **row} for precision, row in rows.items()]


def table(lines: list[Line]) -> Table:
    out = Table("what", "measured", "ratio", "target", "met", box=box.SIMPLE)
    for line in lines:
        verdict = {True: "yes", False: "NO", None: ""}[line.met]
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}×"
        out.add_row(line.name, line.figure, ratio, line.target, verdict)
    return out


def precision_table(rows: list[dict[str, Any]]) -> Table:
    out = Table(box=box.SIMPLE, title=f"distance to fp32 over {rows[0]['tokens']} tokens")
    for name in ("precision", "decode tok/s", "prefill tok/s", "peak MB", "mean KL, nats", "same top-1"):
        out.add_column(name, justify="left" if name == "precision" else "right")
    for row in rows:
        speeds = (f"{row['decode']:.0f}", f"{row['prefill']:.0f}", f"{row['peak_bytes'] / 1e6:.0f}")
        out.add_row(row["precision"], *speeds, f"{row['kl']:.2g}", f"{row['agreement']:.1%}")
    return out


if __name__ == "__main__":
    sys.exit(main())
