import html
import json
import math

import numpy as np
import plotly.graph_objects as go

from thermoscope.instruments.shape.figure import Figure, axes, bars, line, points, ticks


def test_a_figure_is_what_plotly_reads():
    layout = axes("T", "tokens", xaxis={"type": "log"}, barmode="group")
    traces = [line([1, 2], np.array([0.5, math.inf]), "a"), points([1], [2], "b"), bars(["x"], [1.0], "c")]
    plain = Figure("f", "A title", traces, layout).to_dict()
    assert json.dumps(plain, allow_nan=False)
    drawn = go.Figure(plain)
    assert drawn.layout.title.text == "A title"
    assert drawn.layout.xaxis.type == "log"
    assert drawn.layout.xaxis.title.text == "T"
    assert list(drawn.data[0].y) == [0.5, None]  # a gap where there is no number
    assert [each.type for each in drawn.data] == ["scatter", "scatter", "bar"]


def test_ticks_show_any_text_as_it_is_and_twice_if_it_is_there_twice():
    axis = ticks(["\ufffd", "\ufffd", "a<br>b", "&amp;", "$x$"])
    assert axis["tickvals"] == [0, 1, 2, 3, 4]
    assert axis["ticktext"][:2] == ["\ufffd", "\ufffd"]
    for shown, text in zip(axis["ticktext"], ["\ufffd", "\ufffd", "a<br>b", "&amp;", "$x$"], strict=True):
        assert html.unescape(shown) == text
        assert not set(shown) & set("<>$")
