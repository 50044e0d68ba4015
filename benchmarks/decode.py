"""Speed and memory of decoding against what the project holds itself to: a table, and one JSON line last.

    python benchmarks/decode.py                             us, and transformers where it is installed
    THERMOSCOPE_LLAMA=FOLDER python benchmarks/decode.py    llama.cpp too (found by itself if on PATH)
    python benchmarks/decode.py --text FILE                 distance to fp32 and to llama.cpp's tokens too
    python benchmarks/decode.py --second-model FILE         another model against llama.cpp
    python benchmarks/decode.py --quick                     one short round, to see that it works

Every round measures all contenders one after the other; a figure is the median over the rounds, a ratio the
median of the rounds' ratios.
"""

import argparse
import datetime
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import harmonic_mean, mean, median
from typing import Any, NamedTuple

from agreement import Agreement
from contenders import Ours, Reader, cold_start, first_start, resident_memory
from quality import Quality, read_text
from rich.console import Console
from rich.progress import Progress
from targets import precision_table, report, table

from thermoscope.bench import llama
from thermoscope.bench.measure import room
from thermoscope.bench.peers import Transformers, Worker
from thermoscope.catalogue.precision import PRECISIONS
from thermoscope.cli.machine import look
from thermoscope.errors import ThermoscopeError
from thermoscope.models.kernels.native import cores
from thermoscope.models.store import locate

LENGTHS = ("rounds", "tokens", "prompt", "before", "depth", "text_tokens")
QUICK = {"rounds": 1, "tokens": 16, "prompt": 64, "before": 16, "depth": 64, "text_tokens": 64}


def main() -> None:
    arguments = parse()
    try:
        path = locate(arguments.model, progress=True)
        folder = None if arguments.no_llama else llama.find()
        measured = measure(arguments, path, folder)
        precisions = compare(arguments, path) if arguments.text and not arguments.no_precisions else []
        measured["agreement"] = None
        if folder is not None and not arguments.quick:
            measured["agreement"] = agreement(arguments, path, folder)
    except (ThermoscopeError, OSError) as error:
        raise SystemExit(f"benchmark: {error}") from None
    machine = look()
    lines = report(measured)
    console = Console(width=120)
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
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--before", type=int, default=128, help="tokens of the prompt before an answer")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt for prefill")
    parser.add_argument("--depth", type=int, default=4000, help="tokens of the long context")
    parser.add_argument("--serving-context", type=int, default=2048, help="context of the server weighed")
    parser.add_argument("--second-model", metavar="FILE", help="decoded against llama.cpp as well")
    parser.add_argument("--text", type=Path, metavar="FILE", help="real text, plain or JSON lines")
    parser.add_argument("--text-tokens", type=int, default=2000)
    parser.add_argument(
        "--no-precisions", action="store_true", help="of the text, the default precision only"
    )
    parser.add_argument("--no-llama", action="store_true")
    parser.add_argument("--no-transformers", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update(QUICK)
    for name in LENGTHS:
        if getattr(arguments, name) < (2 if name == "tokens" else 1):
            parser.error(
                f"--{name.replace('_', '-')}: got {getattr(arguments, name)}, which measures nothing"
            )
    return arguments


def measure(arguments: argparse.Namespace, path: Path, folder: Path | None) -> dict[str, Any]:
    """Every round's raw figures by contender and kind, and what is measured once."""
    before, tokens, depth, threads = (
        getattr(arguments, name) for name in ("before", "tokens", "depth", "threads")
    )
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("loading", total=arguments.rounds + 2)
        context = max(room(depth, tokens), room(before, tokens), arguments.prompt + 1)
        ours = Worker(Ours, str(path), arguments.precision, threads, context)
        reader = Worker(Reader)
        second, about_second = second_model(arguments, threads)
        theirs = None
        if find_spec("transformers") and not arguments.no_transformers:
            theirs = Worker(Transformers, str(path), threads)
        ask = Asked(ours, arguments)
        ask.warm(theirs)
        rounds = []
        for number in range(arguments.rounds):
            progress.update(task, advance=1, description=f"round {number + 1}")
            figures = ask.figures() | {"cold_start_s": cold_start(str(path))}
            figures["bandwidth"] = reader.ask("bandwidth", threads=threads)
            if second:
                figures["second"] = decoding(second, before, tokens)
            if theirs:
                figures["transformers"] = theirs.ask("decode", prompts=ask.prompts[:1], tokens=tokens).whole
            if folder is not None:
                figures |= llama_figures(arguments, folder, path, threads, second is not None)
            rounds.append(figures)
        progress.update(task, advance=1, description="once: a first start, a server, fp32")
        read = ours.ask("bytes", lengths=[before + tokens // 2])
        about = ours.ask("about") | {name: getattr(arguments, name) for name in LENGTHS[:-1]}
        about |= {"threads": threads, "serving_context": arguments.serving_context}
        peak = ours.ask("peak")
        for worker in filter(None, (ours, reader, theirs, second)):
            worker.close()
        serving = resident_memory(str(path), arguments.precision, arguments.serving_context)
        first = None if arguments.quick else first_start(arguments.model, path)
        distance = None
        if arguments.text:
            judge = Worker(Quality, str(path), threads, read_text(arguments.text), arguments.text_tokens)
            distance = judge.ask("distance", precision=arguments.precision)._asdict()
            judge.close()
    return {
        "about": about,
        "peak_bytes": peak,
        "bytes": {"weights": read["weights"], "cache": read["cache"][before + tokens // 2]},
        "serving": serving._asdict(),
        "first_start_s": first,
        "second": about_second,
        "distance": distance,
        "rounds": rounds,
    }


class Asked:
    """What is asked of our own worker, the same in every round."""

    def __init__(self, ours: Worker, arguments: argparse.Namespace) -> None:
        self.ours, self.arguments = ours, arguments
        self.prompts = [ours.ask("prompt", length=arguments.before, client=client) for client in range(8)]
        self.deep = ours.ask("prompt", length=arguments.depth)

    def warm(self, theirs: Worker | None) -> None:
        self.ours.ask("decode", prompts=self.prompts, tokens=2)
        if theirs:
            theirs.ask("decode", prompts=self.prompts[:1], tokens=2)

    def figures(self) -> dict[str, Any]:
        tokens = self.arguments.tokens
        one, eight = self.pair(1), self.pair(8)
        deep = self.ours.ask("decode", prompts=[self.deep], tokens=tokens)
        return {
            "one": tokens / one.seconds,
            "one_decoding": one.recorded,
            "one_unrecorded_decoding": one.bare,
            "one_step": one.step,
            "eight": 8 * tokens / eight.seconds,
            "eight_decoding": eight.recorded,
            "eight_unrecorded_decoding": eight.bare,
            "eight_step": eight.step,
            "same_tokens": one.same and eight.same,
            "deep_decoding": deep.rate,
            "deep_step": deep.step,
            "prefill": self.ours.ask("prefill", length=self.arguments.prompt),
        }

    def pair(self, clients: int) -> "Pair":
        """On, off, off, on: a machine that slows down meanwhile slows both."""
        prompts, tokens = self.prompts[:clients], self.arguments.tokens
        order = (True, False, False, True)
        runs = [self.ours.ask("decode", prompts=prompts, tokens=tokens, record=record) for record in order]
        recorded, bare = (runs[0], runs[3]), (runs[1], runs[2])
        speeds = [harmonic_mean([run.rate for run in both]) for both in (recorded, bare)]
        same = all(run.tokens == runs[0].tokens for run in runs)
        return Pair(*speeds, same, mean(run.seconds for run in recorded), runs[0].step)


class Pair(NamedTuple):
    """Decoding with records and without: tokens a second, and whether the tokens are the same."""

    recorded: float
    bare: float
    same: bool
    seconds: float  # of a recorded run, from the request to the last token
    step: dict[str, float]  # of a recorded run, by part


def llama_figures(
    arguments: argparse.Namespace, folder: Path, path: Path, threads: int, second: bool
) -> dict[str, float]:
    """llama.cpp's own benchmarks of the same lengths."""
    shape = {"tokens": arguments.tokens, "threads": threads}
    figures = {
        "llama_prefill": llama.prefill(folder, path, prompt=arguments.prompt, threads=threads),
        "llama_one": llama.decode(folder, path, depth=arguments.before, **shape),
        "llama_eight": llama.batched(folder, path, batch=8, depth=arguments.before, **shape),
        "llama_deep": llama.decode(folder, path, depth=arguments.depth, **shape),
    }
    if second:
        other = Path(arguments.second_model)
        figures["llama_second"] = llama.decode(folder, other, depth=arguments.before, **shape)
    return figures


def second_model(arguments: argparse.Namespace, threads: int) -> tuple[Worker | None, dict[str, Any] | None]:
    """The other model's worker, or why it cannot be had; nothing where none was asked for."""
    if arguments.second_model is None:
        return None, None
    try:
        worker = Worker(Ours, arguments.second_model, None, threads)
    except ThermoscopeError as error:
        return None, {"error": str(error)}
    return worker, worker.ask("about")


def decoding(worker: Worker, before: int, tokens: int) -> float:
    """Tokens a second of one recorded answer."""
    rate: float = worker.ask("decode", prompts=[worker.ask("prompt", length=before)], tokens=tokens).rate
    return rate


def agreement(arguments: argparse.Namespace, path: Path, folder: Path) -> dict[str, Any]:
    """Our tokens against llama.cpp's, teacher-forced on the text, and greedy."""
    text = read_text(arguments.text) if arguments.text else None
    worker = Worker(Agreement)
    found: dict[str, Any] = worker.ask(
        "agree",
        model=str(path),
        precision=arguments.precision,
        folder=folder,
        path=path,
        threads=arguments.threads,
        text=text,
        tokens=arguments.text_tokens,
    )
    worker.close()
    return found


def compare(arguments: argparse.Namespace, path: Path) -> list[dict[str, Any]]:
    """Each precision's speed, memory, and distance to fp32 on the text."""
    text = read_text(arguments.text)
    rows: dict[str, dict[str, Any]] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("precisions: loading", total=len(PRECISIONS) + arguments.rounds)
        workers = {precision: Worker(Ours, str(path), precision) for precision in PRECISIONS}
        runs: dict[str, list[tuple[float, float]]] = {precision: [] for precision in PRECISIONS}
        prompts = [workers["fp32"].ask("prompt", length=arguments.before)]
        for number in range(arguments.rounds):
            progress.update(task, advance=1, description=f"precisions: round {number + 1}")
            for precision, worker in workers.items():
                rate = worker.ask("decode", prompts=prompts, tokens=arguments.tokens).rate
                runs[precision].append((rate, worker.ask("prefill", length=arguments.prompt)))
        for precision, worker in workers.items():
            rate, prefill = (median(each) for each in zip(*runs[precision], strict=True))
            rows[precision] = {"decode": rate, "prefill": prefill, "peak_bytes": worker.ask("peak")}
            worker.close()
        judge = Worker(Quality, str(path), arguments.threads, text, arguments.text_tokens)
        for precision in PRECISIONS:
            progress.update(task, advance=1, description=f"precisions: {precision} against fp32")
            rows[precision] |= judge.ask("distance", precision=precision)._asdict()
        judge.close()
    return [{"precision": precision, **row} for precision, row in rows.items()]


if __name__ == "__main__":
    sys.exit(main())
