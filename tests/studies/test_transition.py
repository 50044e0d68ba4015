"""The curves of made-up answers, by hand: means, the slope along them, where they peak."""

import math

import pytest

from benchmarks.studies.transition import draw, summarise, table

TEMPERATURES = [0.5, 1.0, 2.0]
LOOP, FREE = [1, 2, 1, 2, 1, 2] * 2, list(range(12))


def answer(entropy, heat_capacity, tokens):
    kept = {"entropy": entropy, "heat_capacity": heat_capacity, "surprisal": 2.0}
    return {"tokens": tokens, **kept}


@pytest.fixture
def result():
    def at(temperature, capacity, tokens):
        middle = 3 * math.log(temperature) + 4
        return [
            answer([middle, middle - 1], [capacity] * 2, tokens),
            answer([middle + 1, middle], [capacity] * 2, FREE),
        ]

    rows = [at(0.5, 1.0, LOOP), at(1.0, 5.0, [*LOOP[:6], *FREE[:6]]), at(2.0, 2.0, FREE)]
    human = [{"heat_capacity": [1.0, 2.0, 3.0]}, {"heat_capacity": [3.0, 4.0, 5.0]}]
    about = {"model": "made up", "passages": 2, "tokens": 12, "temperatures": TEMPERATURES}
    return {**about, **summarise(rows, human, TEMPERATURES)}


def test_the_curves_are_means_over_answers(result):
    expected = [3 * math.log(temperature) + 4 for temperature in TEMPERATURES]
    assert result["entropy"]["value"] == pytest.approx(expected)
    assert result["late"]["value"] == pytest.approx([each - 0.5 for each in expected])
    assert result["repetition"]["value"] == [50.0, 0.0, 0.0]
    assert result["early"]["value"] == [50.0, 50.0, 0.0]
    assert result["surprisal"] == {"value": [2.0] * 3, "low": [2.0] * 3, "high": [2.0] * 3}
    assert result["human"]["value"] == [2.0, 3.0, 4.0]
    assert result["spread"]["value"] == pytest.approx([math.sqrt(0.5)] * 3)


def test_the_slope_is_that_of_entropy_on_the_logarithm_of_t(result):
    for key in ("value", "low", "high"):  # the same draws at all T, so a shift of all of them is none of it
        assert result["total"][key] == pytest.approx([3.0] * 3)


def test_a_peak_that_every_answer_has_is_sure(result):
    assert result["heat_capacity"]["peak"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_table_and_figure_hold_every_temperature(result):
    assert len(table(result).rows) == len(TEMPERATURES) + 1
    assert all(list(trace.x) == TEMPERATURES for trace in draw(result).data)
