"""The figure of a measurement: a step's parts beside memory's limit, and speed over batch sizes."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from thermoscope.bench.profile import PARTS
from thermoscope.errors import InvalidRequest, ThermoscopeError

KINDS = (".html", ".png")


def check(path: Path) -> None:
    """Refuse, before anything is measured, a file that could not be written afterwards.

    **Errors:** `InvalidRequest`.
    """
    if path.suffix.lower() not in KINDS:
        raise InvalidRequest(f"--figure: got {path.name!r}, expected a name that ends in .html or .png.")
    if path.suffix.lower() == ".png" and find_spec("kaleido") is None:
        raise InvalidRequest(
            "--figure: PNG needs the package kaleido and a Chromium; run `pip install 'thermoscope[png]'`, "
            "or take .html."
        )
    if not path.parent.is_dir():
        raise InvalidRequest(f"--figure: got {path}, expected a file in a folder that is there.")


def save(result: dict[str, Any], path: Path) -> None:
    """Write the figure of a `Report.to_dict`: HTML that needs no network, or PNG.

    **Errors:** `ThermoscopeError` if there is no Chromium to draw a PNG.
    """
    figure = draw(result)
    if path.suffix.lower() == ".html":
        figure.write_html(path, include_plotlyjs=True)
        return
    try:
        figure.write_image(path, width=1200, height=500, scale=2)
    except Exception as error:  # Kaleido raises its own, its browser's and the system's
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ThermoscopeError(f"--figure: no PNG ({reason}); install Chromium, or take .html.") from error


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
