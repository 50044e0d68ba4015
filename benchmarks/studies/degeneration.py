"""Table 1 of Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", on a model of ours.

    python -m benchmarks.studies.degeneration --text FILE --results FILE.jsonl --figure FILE.png

The model continues beginnings of human text under five ways to draw, and each way's answers are held against
how the text's author went on: perplexity under the model itself, Self-BLEU, Zipf's exponent, repetition. A
table for people, and one JSON line last. docs/studies/degeneration.md says what was found.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from plotly.subplots import make_subplots
from rich.console import Console
from rich.table import Table

from benchmarks.studies.bleu import self_bleu
from benchmarks.studies.intervals import interval, jackknife, resampled
from benchmarks.studies.metrics import perplexity, repeated_phrase, zipf
from benchmarks.studies.results import Key
from benchmarks.studies.speaker import seed
from benchmarks.studies.study import Study, parse, run
from thermoscope.engine.replay import replay
from thermoscope.engine.request import Request, Sampling
from thermoscope.engine.trace import Trace

HUMAN = "human"
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "T = 0.7": {"temperature": 0.7},
    "top-k 40": {"top_k": 40},
    "nucleus 0.95": {"top_p": 0.95},
    "pure sampling": {},
}


class Figures(NamedTuple):
    """One line of the table. `repetition` is the percentage of passages that end in a repeated phrase."""

    perplexity: float
    self_bleu: float
    zipf: float
    repetition: float


TITLES = ("perplexity", "Self-BLEU-4", "Zipf exponent", "repetition, %")
# GPT-2 Large on WebText, 5,000 passages; T = 0.7 without truncation is not in the paper's table.
PUBLISHED = {
    HUMAN: Figures(12.38, 0.31, 0.93, 0.28),
    "greedy": Figures(1.50, 0.50, 1.00, 73.66),
    "top-k 40": Figures(6.88, 0.39, 0.96, 0.78),
    "nucleus 0.95": Figures(13.13, 0.32, 0.95, 0.36),
    "pure sampling": Figures(22.73, 0.28, 0.93, 0.22),
}


def main() -> None:
    run("degeneration", parse(__doc__, passages=200, prefix=40, tokens=200), measure, draw)


def measure(study: Study) -> dict[str, Any]:
    """Every setting's figures with their intervals."""
    study.fill([(HUMAN, number) for number in range(len(study.passages))], lambda keys: listen(study, keys))
    asked = {
        (setting, number): Request(
            prompt=passage.prompt,
            sampling=Sampling(**fields, seed=seed(setting, number), max_tokens=study.arguments.tokens),
        )
        for setting, fields in SETTINGS.items()
        for number, passage in enumerate(study.passages)
    }
    study.ask(asked, read)
    lines = {
        setting: summarise(study.results.of(setting, len(study.passages))) for setting in (HUMAN, *SETTINGS)
    }
    Console(width=130).print(table(lines))
    return {"settings": lines}


def listen(study: Study, keys: Iterable[Key]) -> Iterator[tuple[Key, dict[str, Any]]]:
    """What an answer's row holds, of human passages: as if the model had said them."""
    for key in keys:
        prompt, following = study.passages[key[1]]
        tokens = prompt + following
        seen = study.lm.runner.call(partial(replay, study.lm.model, tokens))
        yield key, {"tokens": following, "nats": -float(seen.logprobs[len(prompt) - 1 :].sum())}


def read(trace: Trace) -> dict[str, Any]:
    """Of one answer: its tokens, and −log p of all of them in the model's own distribution, nothing cut."""
    records = [step.record for step in trace.steps]
    return {"tokens": trace.tokens, "nats": -sum(record.logprob for record in records if record is not None)}


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A setting's figures, each with its 95% interval over passages; and the answers' mean length."""
    nats = np.array([row["nats"] for row in rows])
    lengths = np.array([len(row["tokens"]) for row in rows])
    ids, places = np.unique(np.concatenate([row["tokens"] for row in rows]), return_inverse=True)
    counts = np.zeros((len(rows), len(ids)), dtype=np.int64)
    np.add.at(counts, (np.repeat(np.arange(len(rows)), lengths), places), 1)
    # Each passage keeps its own score: one drawn twice would be its own reference, and a perfect one.
    scores = self_bleu([row["tokens"] for row in rows])
    repeated = np.array([repeated_phrase(row["tokens"]) is not None for row in rows])

    def figures(drawn: Any) -> Figures:
        return Figures(
            perplexity(nats[drawn], lengths[drawn]),
            float(scores[drawn].mean()),
            zipf(counts[drawn].sum(axis=0)),
            100 * float(repeated[drawn].mean()),
        )

    low, high = interval(resampled(figures, len(rows)))
    line: dict[str, Any] = {
        name: {"value": float(value), "low": float(lowest), "high": float(highest)}
        for name, value, lowest, highest in zip(
            Figures._fields, figures(np.arange(len(rows))), low, high, strict=True
        )
    }
    line["zipf"]["low"], line["zipf"]["high"] = jackknife(lambda drawn: figures(drawn).zipf, len(rows))
    return line | {"mean_tokens": float(lengths.mean())}


def table(lines: dict[str, dict[str, Any]]) -> Table:
    """The figures with their intervals, and what the paper has in a line below."""
    shown = Table("setting", *TITLES, "tokens")
    for setting, line in lines.items():
        cells = []
        for name, digits in zip(Figures._fields, (2, 3, 3, 1), strict=True):
            value, low, high = (line[name][key] for key in ("value", "low", "high"))
            cells.append(f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})")
        shown.add_row(setting, *cells, f"{line['mean_tokens']:.1f}")
        if setting in PUBLISHED:
            published = (f"{value:.2f}" for value in PUBLISHED[setting])
            shown.add_row("  published", *published, style="dim", end_section=True)
    return shown


def draw(result: dict[str, Any]) -> Any:
    """One panel for each figure: ours with intervals, the paper's beside it, human text as a line."""
    figure = make_subplots(rows=2, cols=2, vertical_spacing=0.18, subplot_titles=TITLES)
    for number, name in enumerate(Figures._fields):
        place = {"row": number // 2 + 1, "col": number % 2 + 1}
        points = [result["settings"][setting][name] for setting in SETTINGS]
        values = [point["value"] for point in points]
        ours = {
            "type": "data",
            "symmetric": False,
            "array": [point["high"] - point["value"] for point in points],
            "arrayminus": [point["value"] - point["low"] for point in points],
        }
        known = [setting for setting in SETTINGS if setting in PUBLISHED]
        figure.add_scatter(
            **{"x": list(SETTINGS), "y": values, "error_y": ours, "mode": "markers", "marker": {"size": 9}},
            **{"name": result["model"], "marker_color": "#1f77b4", "showlegend": number == 0, **place},
        )
        figure.add_scatter(
            **{"x": known, "y": [getattr(PUBLISHED[setting], name) for setting in known], "mode": "markers"},
            **{"name": "GPT-2 Large, Holtzman et al.", "showlegend": number == 0, **place},
            marker={"symbol": "x-thin-open", "size": 9, "color": "#888888"},
        )
        human = result["settings"][HUMAN][name]["value"]
        figure.add_hline(y=human, line_dash="dash", line_color="#2ca02c", **place)
        if name == "perplexity":
            figure.update_yaxes(type="log", tickvals=[1, 2, 5, 10, 20, 50, 100], **place)
    figure.update_xaxes(tickangle=0, tickfont_size=11)
    title = f"{result['passages']} continuations of {result['tokens']} tokens; dashed: human text"
    figure.update_layout(title_text=title, legend={"orientation": "h", "y": -0.1})
    return figure


if __name__ == "__main__":
    main()
