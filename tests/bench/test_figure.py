"""The figure: a bar for every part, a mark for every limit, and refusals before anything is measured."""

import pytest

from tests.cli.test_bench import report
from thermoscope.bench import figure
from thermoscope.errors import ThermoscopeError


def test_bars_are_the_parts_and_marks_the_limits():
    drawn = figure.draw(report().to_dict())
    bars = {trace.name: trace.y for trace in drawn.data if trace.type == "bar"}
    assert {name: list(heights) for name, heights in bars.items()} == {"layers": [6.0], "head": [4.0]}
    marks = {trace.name: list(trace.y) for trace in drawn.data if trace.type == "scatter"}
    assert marks["limit: weights"] == [5.0]
    assert marks["limit: weights and cache"] == [pytest.approx(5.1)]
    assert marks["thermoscope, depth 10"] == [200.0]
    assert marks["llama.cpp, depth 10"] == [80.0]
    assert drawn.layout.barmode == "stack"


def test_png_without_chromium_is_a_line(tmp_path, monkeypatch):
    class Broken:
        def write_image(self, *_, **__):
            raise RuntimeError("Kaleido requires\nGoogle Chrome")

    monkeypatch.setattr(figure, "draw", lambda _: Broken())
    with pytest.raises(ThermoscopeError, match=r"no PNG \(Kaleido requires Google Chrome\)"):
        figure.save({}, tmp_path / "step.png")
