"""A reading as a page that needs no network, as PNG pictures, and as what a notebook shows."""

import html
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from thermoscope.errors import InvalidRequest, ThermoscopeError
from thermoscope.instruments.shape.figure import Figure
from thermoscope.instruments.shape.formula import mathml
from thermoscope.instruments.shape.reading import Cell, Column, Reading, Table

KINDS = (".html", ".png")
WIDTH, HEIGHT, SCALE = 1100, 560, 2  # of a PNG, in points; and pixels a point
STYLE = """
.thermoscope { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; color: #1c2733 }
.thermoscope table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; font-size: 13px }
.thermoscope caption { text-align: left; font-weight: 600; padding: 0.3rem 0 }
.thermoscope th, .thermoscope td { padding: 0.15rem 0.7rem; text-align: right }
.thermoscope tr { border-bottom: 1px solid #dde3ea }
.thermoscope td.text { text-align: left; white-space: pre-wrap }
.thermoscope .law { font-size: 18px; background: #f4f6f8; padding: 0.4rem 0.7rem }
.thermoscope .failed { color: #b91c1c; font-weight: 600 }
"""


def check(path: Path) -> None:
    """Refuse, before anything is computed, a file that could not be written afterwards.

    **Errors:** `InvalidRequest`.
    """
    if path.suffix.lower() not in KINDS:
        raise InvalidRequest(f"--figure: got {path.name!r}, expected a name that ends in .html or .png.")
    if path.suffix.lower() == ".png" and find_spec("kaleido") is None:
        raise InvalidRequest(
            "--figure: PNG needs the package kaleido and a Chromium; run `pip install kaleido`, "
            "or take .html."
        )
    if not path.parent.is_dir():
        raise InvalidRequest(f"--figure: got {path}, expected a file in a folder that is there.")


def save(reading: Reading, path: Path) -> list[Path]:
    """Write the whole reading as one HTML page, or its figures as PNG: name.png, name.2.png …

    **Errors:** `ThermoscopeError` if there is no Chromium to draw a PNG.
    """
    if path.suffix.lower() == ".html":
        path.write_text(page(reading), encoding="utf-8")
        return [path]
    import plotly.graph_objects as go

    paths = [
        path if index == 1 else path.with_suffix(f".{index}{path.suffix}")
        for index in range(1, len(reading.figures) + 1)
    ]
    for figure, target in zip(reading.figures, paths, strict=True):
        write_image(go.Figure(figure.to_dict()), target, width=WIDTH, height=HEIGHT)
    return paths


def write_image(figure: Any, path: Path, *, width: int, height: int) -> None:
    """A Plotly figure as PNG.

    **Errors:** `ThermoscopeError` if there is no Chromium to draw it.
    """
    try:
        figure.write_image(path, width=width, height=height, scale=SCALE)
    except Exception as error:  # Kaleido raises its own, its browser's and the system's
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ThermoscopeError(f"--figure: no PNG ({reason}); install Chromium, or take .html.") from error


def page(reading: Reading) -> str:
    """A whole HTML document."""
    title = html.escape(f"{reading.card}: {reading.question}")
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
    return f"{head}<body>{fragment(reading)}</body></html>\n"


def fragment(reading: Reading) -> str:
    """The reading as a piece of HTML that stands alone, figures included."""
    subject = f"{reading.model['name']}, {reading.model['precision']}" if reading.model else ""
    parts = [
        f"<style>{STYLE}</style>",
        f"<h1>{html.escape(reading.question)}</h1>",
        f'<p class="law" title="{html.escape(reading.law)}">{mathml(reading.law)}</p>',
        f"<p>{html.escape(subject)}</p>",
        *(f"<p>{html.escape(finding)}</p>" for finding in reading.findings),
        _drawn(reading.figures),
        *(_table(table) for table in reading.tables),
        _checks(reading),
        *(f"<p><small>{html.escape(note)}</small></p>" for note in reading.notes),
    ]
    return f'<div class="thermoscope">{"".join(parts)}</div>'


def _drawn(figures: Any) -> str:
    """Plotly's own library once, then a division for each figure."""
    from plotly.offline import get_plotlyjs

    if not figures:
        return ""
    places = "".join(f'<div data-figure="{index}"></div>' for index in range(len(figures)))
    return f"<script>{get_plotlyjs()}</script><div>{places}{_calls(figures)}</div>"


def _calls(figures: "tuple[Figure, ...]") -> str:
    """`<` is escaped: `</script` would end the script, and `<!--<script` would hide its end."""
    specs = json.dumps([figure.to_dict() for figure in figures], allow_nan=False).replace("<", "\\u003c")
    return (
        "<script>(function (root) { "
        f"{specs}.forEach(function (spec, index) {{ "
        "Plotly.newPlot(root.querySelector('[data-figure=\"' + index + '\"]'), spec.data, spec.layout, "
        "{responsive: true, displaylogo: false}); }); })(document.currentScript.parentElement);</script>"
    )


def _table(table: Table) -> str:
    head = "".join(
        f'<th title="{html.escape(_meaning(each))}">{html.escape(_heading(each))}</th>'
        for each in table.columns
    )
    rows = "".join(
        f"<tr>{''.join(_cell(cell, column) for cell, column in zip(row, table.columns, strict=True))}</tr>"
        for row in table.rows
    )
    return f"<table><caption>{html.escape(table.title)}</caption><tr>{head}</tr>{rows}</table>"


def _heading(column: Column) -> str:
    return f"{column.key} [{column.unit}]" if column.unit else column.key


def _meaning(column: Column) -> str:
    return f"{column.meaning} [{column.unit}]" if column.unit else column.meaning


def _cell(cell: Cell, column: Column) -> str:
    kind = ' class="text"' if isinstance(cell, str) else ""
    return f"<td{kind}>{html.escape(shown(cell, column))}</td>"


def shown(cell: Cell, column: Column) -> str:
    """A cell for people."""
    match cell:
        case None:
            return "–"
        case bool():
            return "yes" if cell else "no"
        case str():
            return repr(cell) if column.form == "r" else cell
        case int():
            return str(cell)
    return format(cell, column.form)


def _checks(reading: Reading) -> str:
    rows = "".join(
        f'<tr{"" if check.passed else " class=failed"}><td class="text">{html.escape(check.name)}</td>'
        f"<td>{check.residual:.2g}</td><td>{check.tolerance:.2g}</td>"
        f"<td>{'passed' if check.passed else 'FAILED'}</td>"
        f'<td class="text">{html.escape(check.how)}</td></tr>'
        for check in reading.checks
    )
    head = "<tr><th>check</th><th>residual</th><th>allowed</th><th></th><th>how</th></tr>"
    return f"<table><caption>Checks that this reading made on itself</caption>{head}{rows}</table>"
