"""What each step of worked solutions carries of the answer, and whether receiver heads know which one does.

    python -m benchmarks.studies.reasoning --data FILE.jsonl --results FILE.jsonl --figure FILE.png

Solutions of GSM8K are teacher-forced. The answer is asked for after each step; each step is hidden, and as
its control a span as long that begins anywhere. Receiver heads are found on every second solution and tested
on the others. A table for people, and one JSON line last. docs/studies/reasoning.md says what was found.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from plotly.subplots import make_subplots
from rich.console import Console
from rich.progress import track
from rich.table import Table

import thermoscope
from benchmarks.studies.results import Results
from benchmarks.studies.study import drawing, save
from thermoscope.engine.language_model import DEFAULT, LanguageModel
from thermoscope.errors import InvalidRequest
from thermoscope.instruments._chain import CONTENT_FREE, Chain, chained
from thermoscope.instruments._reads import FEWEST, RECEIVERS, receivers, vertical
from thermoscope.instruments._rerun import Rerun
from thermoscope.instruments.shape.lab import Lab
from thermoscope.laws import attention, bootstrap, early_answering
from thermoscope.models.intervention import Suppress

CUE = "\nThe answer is"
CONTEXT = 1024
SINKS = 4
NOTES = re.compile(r"<<[^>]*>>")  # GSM8K's notes for a calculator
SETTING = "gsm8k"
RANDOM_HEADS = 200  # sets of as many heads as there are receiver heads
ENDS = ("the last", "the one before", "two before", "earlier")  # steps by their distance to the end

Heads = Float[np.ndarray, "solutions heads"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="GSM8K's JSON lines")
    parser.add_argument("--results", type=Path, required=True, metavar="FILE.jsonl", help="a line a solution")
    parser.add_argument("--figure", type=Path, metavar="FILE", help=".html, or .png where kaleido is")
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--solutions", type=int, default=200, help="default: 200")
    arguments = parser.parse_args()
    if arguments.solutions < 4:
        parser.error(f"--solutions: got {arguments.solutions}, expected 4 or more: two in each half")
    with drawing(arguments):
        with thermoscope.load(arguments.model, context=CONTEXT) as lm:
            data = hashlib.sha256(arguments.data.read_bytes()).hexdigest()[:16]
            about = {"study": "reasoning", "model": lm.name, "precision": lm.precision, "data": data}
            results = Results(arguments.results, about)
            fill(lm, arguments.data, arguments.solutions, results)
            rows = results.of(SETTING, arguments.solutions)
            results.close()
        result = {**about, "solutions": arguments.solutions, **summarise(rows)}
        show(result)
        if arguments.figure:
            save(draw(result), arguments.figure)
    print(json.dumps(result))


def fill(lm: LanguageModel, path: Path, count: int, results: Results) -> None:
    """A row for every solution that has none yet."""
    lab = Lab(lambda: lm)
    found = chains(lab, path, count)
    for number, chain in track(enumerate(found), total=count, console=Console(stderr=True)):
        if (SETTING, number) not in results.rows:
            results.add(SETTING, number, **measure(lab, chain, number))


def chains(lab: Lab, path: Path, count: int) -> Iterator[Chain]:
    """The first solutions of the file with as many steps as receiver heads take.

    **Errors:** `InvalidRequest` if there are fewer than asked for.
    """
    left, bare = count, lab.tokens(CONTENT_FREE, chat=True)
    for line in path.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        prompt = lab.tokens(item["question"], chat=True)
        reasoning = tuple(lab.model.tokenizer.encode(NOTES.sub("", item["answer"])))
        chain = chained(lab, prompt, reasoning, bare, CUE, None)
        if len(chain.steps) >= FEWEST:
            yield chain
            left -= 1
            if not left:
                return
    raise InvalidRequest(
        f"data: got {count - left} solutions of {FEWEST} steps or more in {path.name}, expected {count}.",
        param="solutions",
    )


def measure(lab: Lab, chain: Chain, number: int) -> dict[str, Any]:
    """One solution's numbers."""
    run = Rerun(lab, chain, sinks=SINKS, until=0, head=None, room=0)
    dice = np.random.default_rng(number)
    hidden, controls, later = [], [], []
    for step in chain.steps:
        effect = run.changed([Suppress(step.tokens)])
        hidden.append(effect.answer - run.answer)
        after = slice(step.end, chain.asked - 1)  # tokens of later steps, but the first
        change = (effect.logprobs - run.logprobs)[after]
        later.append(float(change.mean()) if len(change) else 0.0)
        first = int(dice.integers(len(chain.prompt), chain.asked - len(step.tokens) + 1))
        span = range(first, first + len(step.tokens))
        controls.append(run.changed([Suppress(span)], first=run.before_answer).answer - run.answer)
    scores = vertical(run)
    return {
        "tokens": len(chain.reasoning),
        "asked": [run.instead(end, chain.tail) for end in (len(chain.prompt), *(s.end for s in chain.steps))],
        "bias": run.without_question(),
        "states": [chain.states(step) for step in chain.steps],
        "hidden": hidden,
        "controls": controls,
        "later": later,
        "kurtosis": rounded(attention.kurtosis(scores)),
        "scores": rounded(scores),
        "heads": list(scores.shape[:2]),
        "sinks": float(run.look.given[:, :, 2:-1, 0].mean()),
        "moved_sinks": float(run.look.moved[:, :, 2:-1, 0].mean()),
        "formula": float(run.look.formula.max()),
        "written": float(run.look.written.max()),
    }


def rounded(values: np.ndarray) -> Any:
    """Six digits of each, which is what a file need hold."""
    flat = [float(f"{value:.6g}") for value in values.ravel()]
    return np.array(flat).reshape(-1, *values.shape[2:]).tolist()


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All figures with 95% intervals over solutions."""
    areas = [
        {
            "plain": early_answering.area_over(p),
            "corrected": early_answering.area_over(p, np.exp(row["bias"])),
        }
        for row in rows
        for p in [np.exp(row["asked"])]
    ]
    return {
        "steps": sum(len(row["hidden"]) for row in rows),
        "gain": mean([row["asked"][-1] - row["asked"][0] for row in rows]),
        "areas": {
            kind: mean([area[kind] for area in areas if area[kind] is not None])
            | {"defined": sum(area[kind] is not None for area in areas)}
            for kind in ("plain", "corrected")
        },
        "by_end": by_end(rows),
        "receivers": heads(rows),
        "sinks": {key: mean([row[key] for row in rows]) for key in ("sinks", "moved_sinks")},
        "formula": max(row["formula"] for row in rows),
        "written": max(row["written"] for row in rows),
    }


def mean(values: list[float], weights: list[float] | None = None) -> dict[str, float]:
    """The mean over solutions and its interval; `weights`: how much each of them counts."""
    parts = np.array([values, weights or [1.0] * len(values)]).T
    parts[:, 0] *= parts[:, 1]
    drawn = bootstrap.resampled(parts)
    kept = drawn[drawn[:, 1] > 0]
    low, high = bootstrap.interval(kept[:, 0] / kept[:, 1])
    return {"value": float(parts[:, 0].sum() / parts[:, 1].sum()), "low": low, "high": high}


def by_end(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What steps carry, by their distance to the end, and apart where they say the answer."""
    groups: dict[str, list[list[tuple[float, float, float]]]] = {}
    for name in (*ENDS, "says the answer", "does not"):
        groups[name] = []
        for row in rows:
            gains, count = early_answering.gains(np.array(row["asked"])), len(row["hidden"])
            own = []
            for at in range(count):
                place = ENDS[min(count - 1 - at, len(ENDS) - 1)]
                if name in (place, "says the answer" if row["states"][at] else "does not"):
                    own.append((float(gains[at]), row["hidden"][at], row["controls"][at]))
            groups[name].append(own)
    return {name: _steps(own) for name, own in groups.items()}


def _steps(groups: list[list[tuple[float, float, float]]]) -> dict[str, Any]:
    """Means over steps; steps of a solution are drawn together."""
    weights = [float(len(own)) for own in groups]
    sums = [np.array(own).mean(axis=0) if own else np.zeros(3) for own in groups]
    gain, hidden, control = np.array(sums).T
    found: dict[str, Any] = {"steps": int(sum(weights))}
    for name, values in (
        ("gain", gain),
        ("hidden", hidden),
        ("control", control),
        ("beyond", hidden - control),
    ):
        found[name] = mean(values.tolist(), weights)
    low, high = (found["beyond"][end] for end in ("low", "high"))
    found["effect"] = "costs more" if high < 0 else "costs less" if low > 0 else "no effect found"
    return found


def heads(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Receiver heads of one half, and how their attention goes with steps' effects in the other."""
    kurtosis = np.array([row["kurtosis"] for row in rows])
    shape = tuple(rows[0]["heads"])
    halves = (slice(0, None, 2), slice(1, None, 2))
    first, second = (kurtosis[half] for half in halves)
    drawn = [bootstrap.resampled(each, seed=seed) for seed, each in enumerate((first, second))]
    low, high = bootstrap.interval(np.array([_correlation(a, b) for a, b in zip(*drawn, strict=True)]))
    chosen = [_flat(receivers(half.mean(0).reshape(shape)), shape) for half in (first, second)]
    dice = np.random.default_rng(0)
    every = range(kurtosis.shape[1])
    random = [dice.permutation(len(every))[:RECEIVERS].tolist() for _ in range(RANDOM_HEADS)]
    tested: dict[str, Any] = {}
    for effect in ("hidden", "later"):
        # Each solution is tested with the heads that were found on the other half.
        own = [_follows(row, chosen[1 - number % 2], effect) for number, row in enumerate(rows)]
        others = [np.mean([_follows(row, some, effect) for some in random]) for row in rows]
        tested[effect] = {
            "receivers": mean(own),
            "random": mean([float(each) for each in others]),
            "all": mean([_follows(row, every, effect) for row in rows]),
            "beyond": mean([a - float(b) for a, b in zip(own, others, strict=True)]),
        }
    return {
        "halves": {"value": _correlation(first.mean(0), second.mean(0)), "low": low, "high": high},
        "shared": len(set(chosen[0]) & set(chosen[1])),
        "by_chance": RECEIVERS**2 / kurtosis.shape[1],
        "found": [[int(each) for each in divmod(head, shape[1])] for head in chosen[0]],
        "kurtosis": [half.mean(0).round(4).tolist() for half in (first, second)],
        "tested": tested,
    }


def _flat(found: list[tuple[int, int]], shape: tuple[int, ...]) -> list[int]:
    return [layer * shape[1] + head for layer, head in found]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def _follows(row: dict[str, Any], some: Any, effect: str) -> float:
    """Rank correlation of what heads give to steps with what hiding these costs."""
    scores = np.array(row["scores"])[list(some)].mean(0)
    costs = -np.array(row[effect])[: len(scores)]
    ranks = [np.argsort(np.argsort(each, kind="stable"), kind="stable") for each in (scores, costs)]
    return _correlation(*ranks)


def show(result: dict[str, Any]) -> None:
    """The figures for people."""
    console = Console(width=130)
    table = Table("steps", "n", "carries", "hidden", "control", "beyond it", "than its control")
    for name, line in result["by_end"].items():
        cells = [_interval(line[key]) for key in ("gain", "hidden", "control", "beyond")]
        table.add_row(name, str(line["steps"]), *cells, line["effect"])
    console.print(table)
    table = Table("heads' attention against the cost of hiding", "rank correlation")
    for effect, tests in result["receivers"]["tested"].items():
        for name, line in tests.items():
            table.add_row(f"{effect}: {name}", _interval(line))
    console.print(table)
    for name in ("plain", "corrected"):
        console.print(f"area over the curve, {name}: {_interval(result['areas'][name])}")
    console.print(f"kurtosis, half against half: r = {_interval(result['receivers']['halves'])}")


def _interval(line: dict[str, float]) -> str:
    return f"{line['value']:.3f} ({line['low']:.3f} to {line['high']:.3f})"


def draw(result: dict[str, Any]) -> Any:
    """What steps carry, hidden steps beside controls, heads of the halves, and their test."""
    titles = (
        "What a step carries of log P(answer), nats", "Change of log P(answer) where a step is hidden, nats",
        "Kurtosis of each head, half against half", "Rank correlation with the cost of hiding",
    )  # fmt: skip
    figure = make_subplots(rows=2, cols=2, vertical_spacing=0.18, subplot_titles=titles)
    lines = result["by_end"]
    _bars(figure, "carries", list(lines), [line["gain"] for line in lines.values()], row=1, col=1)
    for name, key in (("step hidden", "hidden"), ("span anywhere hidden", "control")):
        _bars(figure, name, list(lines), [line[key] for line in lines.values()], row=1, col=2)
    first, second = result["receivers"]["kurtosis"]
    figure.add_scatter(x=first, y=second, mode="markers", marker={"size": 4}, name="a head", row=2, col=1)
    figure.update_xaxes(title_text="in the first half", row=2, col=1)
    edge = 0.05 * (max(second) - min(second))  # kurtosis has no zero to begin at
    room = [min(second) - edge, max(second) + edge]
    figure.update_yaxes(title_text="in the second", range=room, row=2, col=1)
    for effect, tests in result["receivers"]["tested"].items():
        name = "with the answer's" if effect == "hidden" else "with later tokens'"
        _bars(figure, name, list(tests), list(tests.values()), row=2, col=2)
    title = (
        f"{result['solutions']} worked solutions of GSM8K, {result['model']}; 95% intervals over solutions"
    )
    figure.update_layout(title_text=title, legend={"orientation": "h", "y": -0.1})
    return figure


def _bars(figure: Any, name: str, x: list[str], lines: list[dict[str, float]], **place: int) -> None:
    up, down = ([abs(line[end] - line["value"]) for line in lines] for end in ("high", "low"))
    spread = {"type": "data", "symmetric": False, "array": up, "arrayminus": down}
    figure.add_bar(x=x, y=[line["value"] for line in lines], error_y=spread, name=name, **place)


if __name__ == "__main__":
    main()
