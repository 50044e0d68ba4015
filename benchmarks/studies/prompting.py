"""How much of a prompt one vector recovers, layer by layer, for tasks given as pairs of words.

    python -m benchmarks.studies.prompting --tasks FILE.json … --results FILE.jsonl --figure FILE.png

For every task: vectors from half of the training items, layer and strength chosen on the other half, judged
on items that are held out (`thermoscope prompting --task` does the same for one). What is in the results is
not measured again. A table for people, and one JSON line last. docs/studies/prompting.md says what was found.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from plotly.subplots import make_subplots
from rich.console import Console
from rich.table import Table

import thermoscope
from benchmarks.studies.results import Results
from benchmarks.studies.study import drawing, save
from thermoscope.engine.language_model import DEFAULT
from thermoscope.instruments import _pairs, _task
from thermoscope.instruments._task import CONTROLS, Measured
from thermoscope.instruments._vectors import METHODS
from thermoscope.instruments.shape.figure import COLOURS
from thermoscope.instruments.shape.lab import Lab
from thermoscope.instruments.shape.source import File

SIZES = {"train": 64, "test": 200, "shots": 5, "seed": 0}


def main() -> None:
    arguments = parse()
    with drawing(arguments):
        rows = measured(arguments)
        if arguments.figure:
            save(draw(rows), arguments.figure)
    Console(width=150).print(table(rows))
    print(json.dumps({"study": "prompting", "model": arguments.model, **sizes(arguments), "tasks": rows}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=Path, nargs="+", required=True, metavar="FILE", help="JSON pairs")
    kept = "a line for each task; what it holds already is not done again"
    parser.add_argument("--results", type=Path, required=True, metavar="FILE.jsonl", help=kept)
    parser.add_argument("--figure", type=Path, metavar="FILE", help=".html, or .png where kaleido is")
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--threads", type=int, help="one is best on a machine that is busy")
    for name, default in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    return parser.parse_args()


def sizes(arguments: argparse.Namespace) -> dict[str, int]:
    return {name: getattr(arguments, name) for name in SIZES}


def measured(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """A row for every task, the missing ones measured now."""
    about = {"study": "prompting", "model": arguments.model, **sizes(arguments)}
    results = Results(arguments.results, about)
    try:
        missing = [path for path in arguments.tasks if (path.stem, 0) not in results.rows]
        if missing:
            with thermoscope.load(arguments.model, threads=arguments.threads) as lm:
                for path in missing:
                    began = time.monotonic()
                    row = of_task(Lab(lambda: lm), path, arguments)
                    results.add(path.stem, 0, **row, seconds=round(time.monotonic() - began))
                    Console(stderr=True).print(f"{path.stem}: {time.monotonic() - began:.0f} s")
        return {path.stem: results.rows[path.stem, 0] for path in arguments.tasks}
    finally:
        results.close()


def of_task(lab: Lab, path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One task measured; as many held-out items as there are, up to `test`."""
    every = _pairs.pairs(File.read(path))
    test = min(arguments.test, len(every) - arguments.train)
    train, held = _pairs.split(every, arguments.train, test, arguments.seed)
    return summary(_task.measure(lab, train, held, shots=arguments.shots, seed=arguments.seed))


def summary(found: Measured) -> dict[str, Any]:
    """What the study keeps of a task: every number with its 95% interval."""
    bare = found.arms["bare"]
    return {
        "items": len(found.items),
        "fitted_on": found.fitted_on,
        "chosen_on": found.chosen_on,
        "several_tokens": sum(item.length > 1 for item in found.items),
        "choices": {method: choice._asdict() for method, choice in found.choices.items()},
        "arms": {
            name: {
                "accuracy": float(arm.right.mean()),
                "logprob": float(arm.logprob.mean()),
                "gain": _task.gain(found, arm),
                "recovered": _task.recovered(found, arm),
                "wrong_way": float((arm.logprob < bare.logprob).mean()),
            }
            for name, arm in found.arms.items()
        },
        "against": {
            method: {
                control: _task.gain(found, found.arms[method], found.arms[f"{method}, {control}"])
                for control in CONTROLS
            }
            for method in METHODS
        },
        "layers": {
            method: [_task.gain(found, arm) for _, arm in sorted(found.by_layer[method].items())]
            for method in METHODS
        },
        "strength": {
            str(strength): float(arm.logprob.mean()) for strength, arm in sorted(found.by_strength.items())
        },
    }


def verdict(row: dict[str, Any], method: str) -> bool:
    """Whether the method's gain lies above both controls', intervals and all."""
    return all(ends is not None and ends[0] > 0 for _, ends in row["against"][method].values())


def table(rows: dict[str, dict[str, Any]]) -> Table:
    """A line for each task; a star stands where the gain is above both controls of equal norm."""
    grid = Table(title="accuracy on held-out items, and the part of the prompt's gain that one vector has")
    for heading in ("task", "n", "bare", "prompted", *METHODS):
        grid.add_column(heading, justify="left" if heading == "task" else "right")
    for name, row in rows.items():
        cells = []
        for method in METHODS:
            share, ends = row["arms"][method]["gain"]
            layer = row["choices"][method]["layer"]
            if ends is None:
                cells.append("–")
                continue
            cells.append(
                f"{share:.2f} [{ends[0]:.2f}, {ends[1]:.2f}] @{layer}{' *' if verdict(row, method) else ''}"
            )
        accuracy = (f"{row['arms'][arm]['accuracy']:.3f}" for arm in ("bare", "prompted"))
        grid.add_row(name, str(row["items"]), *accuracy, *cells)
    return grid


def draw(rows: dict[str, dict[str, Any]]) -> Any:
    """A panel for each task: the part of the gain that steering each layer has."""
    columns = 2 if len(rows) > 1 else 1
    names = [
        name if any(_ends(row)) else f"{name}: no effect of the prompt found" for name, row in rows.items()
    ]
    figure = make_subplots(-(-len(rows) // columns), columns, subplot_titles=names, shared_xaxes=True)
    for number, row in enumerate(rows.values()):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        for method, colour in zip(METHODS, COLOURS, strict=False):
            shares = [share if ends else None for share, ends in row["layers"][method]]
            figure.add_scatter(
                y=shares, name=method, line={"color": colour}, legendgroup=method, showlegend=number == 0,
                **place,
            )  # fmt: skip
            _band(figure, [ends for _, ends in row["layers"][method]], colour, place)
    figure.update_xaxes(title_text="layer that is steered", row=(len(rows) + 1) // 2)
    figure.update_layout(title="Part of the prompt's gain in accuracy that one vector has, by layer")
    return figure


def _ends(row: dict[str, Any]) -> list[Any]:
    """The intervals of every method at every layer; None where the prompt's own gain may be 0."""
    return [ends for method in METHODS for _, ends in row["layers"][method]]


def _band(figure: Any, ends: list[Any], colour: str, place: dict[str, int]) -> None:
    layers = [layer for layer, each in enumerate(ends) if each is not None]
    low, high = ([ends[layer][side] for layer in layers] for side in (0, 1))
    figure.add_scatter(
        x=layers + layers[::-1], y=high + low[::-1], fill="toself", fillcolor=colour, opacity=0.15,
        line={"width": 0}, showlegend=False, hoverinfo="skip", mode="lines", **place,
    )  # fmt: skip


if __name__ == "__main__":
    main()
