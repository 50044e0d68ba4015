"""The cliff of Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks", Table 2.

    python -m benchmarks.studies.sinks --text FILE --results FILE.jsonl --figure FILE.png

Every token of a passage sees a window of recent tokens, some of the first ones and nothing else; the budget
is the same in each setting, so that a sink takes the place of a recent token. A table for people, and one
JSON line last. docs/studies/sinks.md says what was found.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from plotly.subplots import make_subplots
from rich.console import Console
from rich.table import Table

from benchmarks.studies.results import Key
from benchmarks.studies.study import Study, parse, run
from thermoscope.engine.replay import replay
from thermoscope.laws import bootstrap
from thermoscope.models.intervention import Suppress

FULL = "all tokens"
SINKS = (0, 1, 2, 4, 8)
# Perplexity on PG19, of Llama-2-7B with a cache of 4,096.
PUBLISHED = dict(zip(SINKS, (3359.95, 11.88, 10.51, 9.59, 9.54), strict=True))


def main() -> None:
    run("sinks", parse(__doc__, passages=40, prefix=64, tokens=192), measure, draw)


def measure(study: Study) -> dict[str, Any]:
    """Perplexity of what follows the first `prefix` tokens, whose number is the budget."""
    keys = [(setting, number) for setting in (FULL, *SINKS) for number in range(len(study.passages))]
    study.fill(keys, lambda missing: read(study, missing))
    lines = {str(setting): summarise(study, setting) for setting in (FULL, *SINKS)}
    Console(width=130).print(table(lines))
    return {"settings": lines}


def read(study: Study, keys: Sequence[Key]) -> Iterator[tuple[Key, dict[str, Any]]]:
    """−log p of a passage's tokens past the budget."""
    budget = study.arguments.prefix
    for setting, number in keys:
        passage = study.passages[number]
        tokens = (*passage.prompt, *passage.following)
        hidden = [] if setting == FULL else windowed(len(tokens), budget, setting)
        seen = study.lm.runner.call(
            partial(replay, study.lm.model, tokens, first=budget, interventions=hidden)
        )
        yield (setting, number), {"nats": -float(seen.logprobs.sum())}


def windowed(length: int, budget: int, sinks: int) -> list[Suppress]:
    """What tokens must not see, where `budget` slots are kept, the token's own among them."""
    recent = budget - sinks
    return [
        Suppress(range(sinks, query - recent + 1), [query]) for query in range(budget, length)
    ]  # fmt: skip


def summarise(study: Study, setting: Any) -> dict[str, Any]:
    """Perplexity with its interval over passages, and how many nats a token it costs beside seeing all."""
    count = len(study.passages)
    each = study.arguments.tokens - 1  # the first is given by a token within the budget
    nats, full = (
        np.array([row["nats"] for row in study.results.of(name, count)]) / each for name in (setting, FULL)
    )
    drawn = bootstrap.resampled(np.stack([nats, nats - full], axis=1)) / count
    line: dict[str, Any] = {}
    for name, values, found in (
        ("perplexity", np.exp(drawn[:, 0]), np.exp(nats.mean())),
        ("cost", drawn[:, 1], (nats - full).mean()),
    ):
        low, high = bootstrap.interval(values)
        line[name] = {"value": float(found), "low": low, "high": high}
    return line


def table(lines: dict[str, dict[str, Any]]) -> Table:
    """Ours with intervals, and what the paper has."""
    shown = Table("sinks", "perplexity", "nats a token more than seeing all", "Llama-2-7B, published")
    for name, line in lines.items():
        cells = [
            f"{each['value']:.3f} ({each['low']:.3f} to {each['high']:.3f})"
            for each in (line["perplexity"], line["cost"])
        ]
        shown.add_row(name, *cells, "" if name == FULL else f"{PUBLISHED[int(name)]:.2f}")
    return shown


def draw(result: dict[str, Any]) -> Any:
    """Perplexity against the number of sinks, ours and the paper's; and what it costs."""
    titles = ("Perplexity", "Nats a token more than seeing all")
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles)
    names = [str(count) for count in SINKS]
    for column, key in enumerate(("perplexity", "cost"), 1):
        lines = [result["settings"][name][key] for name in names]
        spread = {
            "type": "data",
            "symmetric": False,
            "array": [line["high"] - line["value"] for line in lines],
            "arrayminus": [line["value"] - line["low"] for line in lines],
        }
        figure.add_scatter(
            x=names, y=[line["value"] for line in lines], error_y=spread, mode="lines+markers",
            name=result["model"], marker_color="#1f77b4", showlegend=column == 1, row=1, col=column,
        )  # fmt: skip
    figure.add_scatter(
        x=names, y=list(PUBLISHED.values()), mode="markers", row=1, col=1,
        marker={"symbol": "x-thin-open", "size": 9, "color": "#888888"},
        name="Llama-2-7B, window 4,096 (Xiao et al.)",
    )  # fmt: skip
    full = result["settings"][FULL]["perplexity"]["value"]
    figure.add_hline(y=full, line_dash="dash", line_color="#2ca02c", row=1, col=1)
    ticks = [step * 10**decade for decade in range(4) for step in (1, 2, 5)]
    figure.update_yaxes(type="log", tickvals=ticks, row=1, col=1)
    figure.update_xaxes(title_text="sinks that are kept")
    title = f"{result['prefix']} slots kept; {result['passages']} passages; dashed: all tokens seen"
    figure.update_layout(title_text=title, legend={"orientation": "h", "y": -0.15})
    return figure


if __name__ == "__main__":
    main()
