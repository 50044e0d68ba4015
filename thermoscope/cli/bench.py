"""`thermoscope bench`: how fast this machine decodes, why, and what others reach."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from thermoscope.cli import options
from thermoscope.cli.terminal import console, note, print_json
from thermoscope.errors import InvalidRequest

if TYPE_CHECKING:
    from thermoscope.bench.report import Report


def bench(
    prompt: Annotated[
        str, typer.Option("--prompt", metavar="N,N", help="Tokens of the prompts whose prefill is timed.")
    ] = "512",
    tokens: Annotated[int, typer.Option("--tokens", min=2, help="Tokens of each answer.")] = 128,
    batch: Annotated[str, typer.Option("--batch", metavar="N,N", help="Answers decoded at once.")] = "1,8",
    depth: Annotated[
        str, typer.Option("--depth", metavar="N,N", help="Tokens of context before an answer.")
    ] = "0",
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Times that all is measured; figures are medians.")
    ] = 5,
    peers: Annotated[
        bool, typer.Option("--peers", help="Run llama.cpp and transformers on the same file beside.")
    ] = False,
    figure: options.Figure = None,
    json: options.Json = False,
    model: options.Model = options.DEFAULT_MODEL,
    precision: options.Precision = None,
    threads: options.Threads = None,
) -> None:
    """Time prefill and decoding, take a step apart, and hold it against the speed of memory.

    Answers are greedy and go on past the model's own end. Ctrl-C keeps what was measured.
    """
    prompts = numbers("--prompt", prompt, least=1)
    cases = [
        (answers, before, tokens)
        for before in numbers("--depth", depth, least=0)
        for answers in numbers("--batch", batch, least=1)
    ]
    from thermoscope.bench import figure as drawing
    from thermoscope.instruments.shape import page

    if figure is not None:
        page.check(figure)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("loading", total=None)
        report, missing = _measure(
            model,
            precision=precision,
            threads=threads,
            prompts=prompts,
            cases=cases,
            rounds=rounds,
            peers=peers,
            said=lambda text: progress.update(task, description=text),
        )
    result = report.to_dict()
    for line in missing:
        note(line)
    if json:
        print_json(result)
    else:
        _show(result)
    if figure is not None and result["decode"]:
        drawing.save(result, figure)
        note(f"figure: {figure}")
    if report.interrupted:
        raise typer.Exit(130)


def numbers(option: str, text: str, *, least: int) -> list[int]:
    """`"1,8"` as numbers, each once."""
    try:
        found = [int(each) for each in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < least:
        raise InvalidRequest(
            f"{option}: got {text!r}, expected whole numbers, {least} or more, as in {max(least, 1)},8."
        )
    return list(dict.fromkeys(found))


def _measure(
    model: str,
    *,
    precision: str | None,
    threads: int | None,
    prompts: list[int],
    cases: list[tuple[int, int, int]],
    rounds: int,
    peers: bool,
    said: Callable[[str], None],
) -> tuple["Report", list[str]]:
    from contextlib import suppress

    from thermoscope.bench import rounds as measuring
    from thermoscope.bench.measure import room
    from thermoscope.errors import KernelUnavailable
    from thermoscope.models.kernels import build
    from thermoscope.models.kernels.native import cores
    from thermoscope.models.store import locate

    with suppress(KernelUnavailable):  # now, and not beside what is measured
        build.build()
    path, team = locate(model), threads or cores()
    context = max(*(prompt + 1 for prompt in prompts), *(room(each[1], each[2]) for each in cases))
    beside: measuring.Peers | None = None
    with options.load_model(
        str(path),
        precision=precision,
        context=context,
        threads=threads,
        slots=max(each[0] for each in cases),
        progress=False,
    ) as lm:
        said("reading memory")
        report = measuring.begin(lm, prompts=prompts, cases=cases, threads=team)
        try:
            beside = measuring.Peers(path, team, said) if peers else None
            measuring.run(lm, report, rounds, beside, said)
        finally:
            if beside is not None:
                beside.close()
    return report, beside.missing if beside is not None else []


def _show(result: dict[str, Any]) -> None:
    rate, weights = result["bandwidth"]["bytes_per_second"], result["weight_bytes"]
    print(
        f"{result['model']}, {result['precision']}, {result['threads']} threads; a step reads "
        f"{weights / 1e6:.1f} MB of weights, memory gives {rate / 1e9:.1f} GB/s "
        f"({result['bandwidth']['how']}): at least {weights / rate * 1e3:.2f} ms"
    )
    names = list(dict.fromkeys(peer for row in _rows(result) for peer in row["peers"]))
    for title, keys in (("prefill", ("prompt",)), ("decode", ("batch", "depth"))):
        table = Table(title=title)
        for heading in (*keys, "tok/s", *(f"{name} tok/s" for name in names)):
            table.add_column(heading, justify="right")
        for heading in ("share of limit", "cache MB", "with cache") if title == "decode" else ():
            table.add_column(heading, justify="right")
        for row in result[title]:
            cells = [*(str(row[key]) for key in keys), f"{row['tokens_per_second']:.1f}"]
            cells += [f"{row['peers'][name]:.1f}" if name in row["peers"] else "" for name in names]
            if title == "decode":
                cells += [f"{row['share']:.1%}", f"{row['cache_bytes'] / 1e6:.1f}"]
                cells.append(f"{row['share_with_cache']:.1%}")
            table.add_row(*cells)
        console().print(table)
    console().print(_profile(result["decode"]))


def _rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [*result["prefill"], *result["decode"]]


def _profile(rows: list[dict[str, Any]]) -> Table:
    """One step by part, in milliseconds and as a share of it."""
    table = Table(title="one step, ms")
    table.add_column("part")
    for row in rows:
        table.add_column(f"{row['batch']} at {row['depth']}", justify="right")
    for part in dict.fromkeys(part for row in rows for part in row["parts_ms"]):
        took = [(row["parts_ms"].get(part, 0.0), row["step_ms"]) for row in rows]
        table.add_row(part, *(f"{ms:.3f} ({ms / step:.0%})" for ms, step in took))
    table.add_row("step", *(f"{row['step_ms']:.3f}" for row in rows))
    table.add_row("limit", *(f"{row['limit_ms']:.3f}" for row in rows))
    return table
