"""The study of tasks, on a tiny model: what it keeps, that it goes on, and what it draws."""

import argparse
import json

import pytest

from benchmarks.studies import prompting
from tests import tiny
from thermoscope.instruments._vectors import METHODS

WORDS = "cat dog sun hat pen cup map key box car bus toy jar fan".split()  # noqa: SIM905


@pytest.fixture
def arguments(tmp_path):
    folder = tiny.save(tiny.reference("llama"), tmp_path / "tiny")
    paths = []
    for name in ("one", "two"):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps([{"input": word, "output": word[::-1]} for word in WORDS]))
    return argparse.Namespace(
        tasks=paths, results=tmp_path / "r.jsonl", figure=None, model=str(folder), threads=1,
        train=8, test=200, shots=2, seed=0,
    )  # fmt: skip


def test_it_measures_what_is_missing_and_nothing_twice(arguments, monkeypatch):
    both, arguments.tasks = arguments.tasks, arguments.tasks[:1]
    first = prompting.measured(arguments)
    assert list(first) == ["one"]
    row = first["one"]
    assert (row["items"], row["fitted_on"], row["chosen_on"]) == (6, 4, 4)
    assert row["arms"].keys() >= {"bare", "prompted", *METHODS, f"{METHODS[0]}, random"}
    arguments.tasks = both
    asked = []
    measure = prompting.of_task
    monkeypatch.setattr(
        prompting, "of_task", lambda lab, path, a: asked.append(path) or measure(lab, path, a)
    )
    again = prompting.measured(arguments)
    assert asked == both[1:]
    assert again["one"] == json.loads(json.dumps(first["one"]))


def row(gain, low):
    ends = [low, gain + 0.1]
    arm = {"accuracy": 0.5, "gain": [gain, ends]}
    return {
        "items": 20,
        "choices": {method: {"layer": 3} for method in METHODS},
        "arms": dict.fromkeys(("bare", "prompted", *METHODS), arm),
        "against": {method: {"random": [gain, ends], "shuffled labels": [gain, ends]} for method in METHODS},
        "layers": {method: [[0.0, [0.0, 0.0]], [gain, ends], [None, None]] for method in METHODS},
    }


def test_a_star_stands_where_both_controls_are_below():
    rows = {"found": row(0.5, 0.2), "not": row(0.05, -0.1)}
    assert all(prompting.verdict(rows["found"], method) for method in METHODS)
    assert not any(prompting.verdict(rows["not"], method) for method in METHODS)
    cells = [list(column.cells) for column in prompting.table(rows).columns]
    assert cells[-1] == ["0.50 [0.20, 0.60] @3 *", "0.05 [-0.10, 0.15] @3"]


def test_the_figure_has_a_panel_for_each_task():
    figure = prompting.draw({"found": row(0.5, 0.2), "not": row(0.05, -0.1)})
    assert len(figure.data) == 2 * 2 * len(METHODS)
    assert list(figure.data[0].y) == [0.0, 0.5, None]
