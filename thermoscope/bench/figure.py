"""The figure of a measurement: a step's parts beside memory's limit, and speed over batch sizes."""

from pathlib import Path
from typing import Any

from thermoscope.bench.profile import PARTS
from thermoscope.instruments.shape import page

WIDTH, HEIGHT = 1200, 500  # of a PNG, in points


def save(result: dict[str, Any], path: Path) -> None:
    """Write the figure of a `Report.to_dict`: HTML that needs no network, or PNG.

    **Errors:** `ThermoscopeError` if there is no Chromium to draw a PNG.
    """
    figure = draw(result)
    if path.suffix.lower() == ".html":
        figure.write_html(path, include_plotlyjs=True)
    else:
        page.write_image(figure, path, width=WIDTH, height=HEIGHT)


def draw(result: dict[str, Any]) -> Any:
    """Left, bars of milliseconds by part with the limits as marks; right, tokens a second by batch size."""
    from plotly.subplots import make_subplots

    rows = result["decode"]
    figure = make_subplots(cols=2, subplot_titles=("one step, ms", "decoding, tokens a second"))
    names = [f"{row['batch']} at {row['depth']}" for row in rows]
    for part in PARTS:
        if any(part in row["parts_ms"] for row in rows):
            heights = [row["parts_ms"].get(part, 0) for row in rows]
            figure.add_bar(x=names, y=heights, name=part, row=1, col=1)
    for label, key in (("limit: weights", "limit_ms"), ("limit: weights and cache", "limit_with_cache_ms")):
        marks = [row[key] for row in rows]
        marker = {"symbol": "line-ew-open", "size": 40, "line": {"width": 3}}
        figure.add_scatter(x=names, y=marks, name=label, mode="markers", marker=marker, row=1, col=1)
    for depth in dict.fromkeys(row["depth"] for row in rows):
        here = [row for row in rows if row["depth"] == depth]
        speeds = {"thermoscope": [row["tokens_per_second"] for row in here]}
        for row in here:
            for peer, speed in row["peers"].items():
                speeds.setdefault(peer, []).append(speed)
        for who, values in speeds.items():
            batches = [row["batch"] for row in here][: len(values)]
            figure.add_scatter(x=batches, y=values, name=f"{who}, depth {depth}", row=1, col=2)
    figure.update_xaxes(title_text="answers at once, at a depth", row=1, col=1)
    figure.update_xaxes(title_text="answers at once", row=1, col=2)
    figure.update_yaxes(rangemode="tozero")
    title = f"{result['model']}, {result['precision']}, {result['threads']} threads"
    figure.update_layout(barmode="stack", template="plotly_white", title_text=title)
    return figure
