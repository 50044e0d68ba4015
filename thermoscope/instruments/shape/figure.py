"""Figures as plain Plotly specifications: nothing of Plotly is needed to make one, only to draw it."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Values = Sequence[Any]

COLOURS = (
    "#2563a6", "#c2410c", "#15803d", "#7e22ce", "#b45309", "#0e7490", "#be185d", "#4d7c0f",
    "#475569", "#93c5fd", "#fdba74", "#86efac", "#d8b4fe",
)  # fmt: skip

GRID = "#e2e8f0"


@dataclass(frozen=True)
class Figure:
    """`traces` and `layout` in Plotly's JSON form. `title` says what one sees."""

    name: str
    title: str
    traces: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plotly's own JSON form, which plotly.js draws as it is."""
        return {
            "data": _finite(self.traces),
            "layout": {**_finite(self.layout), "title": {"text": self.title}},
        }


def axes(x: str, y: str, **more: Any) -> dict[str, Any]:
    """A layout whose axes say what they measure; `more` is merged into it."""
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": x}, "automargin": True, "gridcolor": GRID},
        "yaxis": {"title": {"text": y}, "automargin": True, "gridcolor": GRID},
        "colorway": list(COLOURS),
        "plot_bgcolor": "#ffffff",
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "legend": {"orientation": "h", "y": -0.2},
        "margin": {"t": 60},
        "hovermode": "closest",
    }
    for key, value in more.items():
        layout[key] = {**layout[key], **value} if isinstance(layout.get(key), dict) else value
    return layout


def line(x: Values, y: Values, name: str, **more: Any) -> dict[str, Any]:
    """A curve."""
    return {"type": "scatter", "mode": "lines", "x": list(x), "y": list(y), "name": name, **more}


def points(x: Values, y: Values, name: str, **more: Any) -> dict[str, Any]:
    """Marks."""
    return {"type": "scatter", "mode": "markers", "x": list(x), "y": list(y), "name": name, **more}


def bars(x: Values, y: Values, name: str, **more: Any) -> dict[str, Any]:
    """Columns; `orientation="h"` lays them down."""
    return {"type": "bar", "x": list(x), "y": list(y), "name": name, **more}


def ticks(texts: Sequence[str]) -> dict[str, Any]:
    """An axis with a text at each of 0, 1, 2 … from left to right; two of them may be the same."""
    return {"tickvals": list(range(len(texts))), "ticktext": [escaped(text) for text in texts]}


def escaped(text: str) -> str:
    """A text that Plotly shows as it is: it would read <b> and &amp; as markup, and $x$ as LaTeX."""
    return html.escape(text, quote=False).replace("$", "&#36;")


def _finite(value: Any) -> Any:
    """Plain values; Plotly draws a gap where JSON has null."""
    match value:
        case Mapping():
            return {key: _finite(each) for key, each in value.items()}
        case str() | bool() | None:
            return value
        case Sequence():
            return [_finite(each) for each in value]
    number = float(value)
    return (int(number) if number.is_integer() else number) if math.isfinite(number) else None
