"""The figures of made-up answers, by hand."""

import math

import pytest

from benchmarks.studies.degeneration import HUMAN, SETTINGS, draw, summarise, table


def test_a_settings_figures_by_hand():
    loop, free = [1, 2] * 3, [1, 2, 3, 4, 5, 6]
    rows = [{"tokens": loop, "nats": 6 * math.log(2)}, {"tokens": free, "nats": 6 * math.log(8)}]
    line = summarise(rows)
    assert line["mean_tokens"] == 6
    assert line["repetition"]["value"] == 50
    assert line["perplexity"] == pytest.approx({"value": 4.0, "low": 2.0, "high": 8.0})
    # Of 6, 5, 4 and 3 n-grams of the one, 2, 1, none and none stand in the other; the same the other way.
    assert line["self_bleu"]["value"] == pytest.approx((2 / 6 * 1 / 5 * 0.1 / 4 * 0.1 / 3) ** 0.25)
    assert line["zipf"]["low"] < line["zipf"]["value"] < line["zipf"]["high"]


def test_table_and_figure_hold_every_setting():
    rows = [{"tokens": list(range(start, start + 9)), "nats": 9.0} for start in range(4)]
    lines = {setting: summarise(rows) for setting in (HUMAN, *SETTINGS)}
    assert table(lines).row_count >= len(lines)
    figure = draw({"model": "made up", "passages": 4, "tokens": 9, "settings": lines})
    assert list(figure.data[0].x) == list(SETTINGS)
