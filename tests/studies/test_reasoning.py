"""The figures of made-up solutions, by hand, and a run of a few real ones that is gone on with."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies.reasoning import by_end, draw, heads, mean, show, summarise

ROOT = Path(__file__).parents[2]
SOLUTIONS = [
    {
        "question": f"Tom has {n} apples, buys {n + 1}, eats 2, and buys 3. How many has he?",
        "answer": f"Tom has {n}.\nHe buys {n + 1}.\n"
        f"So {n} + {n + 1} = <<{n}+{n + 1}={2 * n + 1}>>{2 * n + 1}.\n"
        f"He eats 2, so {2 * n - 1} are left.\nHe buys 3, so {2 * n + 2}.\n#### {2 * n + 2}",
    }
    for n in range(2, 7)
]


def row(dice, follows):
    """Four of five steps have scores; heads 0 to 19 follow what hiding costs, the others do not."""
    scores = dice.random((30, 4))
    hidden = [-1.0, -3.0, -2.0, -4.0, -9.0]
    scores[:20] = np.array([0.1, 0.3, 0.2, 0.4]) if follows else scores[:20]
    kurtosis = np.where(np.arange(30) < 20, -0.7, -1.5) + dice.normal(size=30) / 100
    return {
        "asked": [-6.0, -5.0, -7.0, -3.0, -2.0, -1.0], "bias": -8.0, "states": [False] * 4 + [True],
        "hidden": hidden, "controls": [-1.0] * 5, "later": [-0.1] * 5, "kurtosis": kurtosis.tolist(),
        "scores": scores.tolist(), "heads": [6, 5], "sinks": 0.5, "moved_sinks": 0.2, "formula": 1e-6,
        "written": 1e-3,
    }  # fmt: skip


@pytest.fixture
def rows():
    dice = np.random.default_rng(0)
    return [row(dice, True) for _ in range(8)]


def test_steps_by_their_distance_to_the_end(rows):
    lines = by_end(rows)
    assert [lines[name]["steps"] for name in ("the last", "the one before", "two before", "earlier")] == [
        8,
        8,
        8,
        16,
    ]
    assert [lines[name]["gain"]["value"] for name in ("the last", "two before", "earlier")] == [1, 4, -0.5]
    assert lines["says the answer"] == lines["the last"]
    assert lines["the last"]["beyond"]["value"] == -8
    assert lines["the last"]["effect"] == "costs more"
    assert lines["does not"]["hidden"]["value"] == -2.5


def test_what_is_as_its_control_is_no_effect(rows):
    dice = np.random.default_rng(1)
    for each in rows:
        each["controls"] = [value + dice.normal() for value in each["hidden"]]
    assert {line["effect"] for line in by_end(rows).values()} == {"no effect found"}


def test_receiver_heads_are_tested_on_the_other_half(rows):
    found = heads(rows)
    assert found["shared"] == 20
    assert sorted(layer * 5 + head for layer, head in found["found"]) == list(range(20))
    assert found["halves"]["value"] > 0.99
    assert found["tested"]["hidden"]["receivers"] == pytest.approx({"value": 1, "low": 1, "high": 1})
    assert found["tested"]["hidden"]["beyond"]["low"] >= 0


def test_a_weighted_mean_and_its_interval():
    assert mean([1.0, 3.0, 99.0], [1.0, 3.0, 0.0])["value"] == 2.5
    line = mean([1.0, 2.0, 3.0, 4.0])
    assert line["low"] < 2.5 < line["high"]


def test_table_and_figure(rows, capsys):
    result = {"solutions": 8, "model": "made up", **summarise(rows)}
    show(result)
    assert "says the answer" in capsys.readouterr().out
    assert len(draw(result).data) == 6
    assert result["areas"]["plain"]["defined"] == 8
    assert result["areas"]["corrected"]["value"] > result["areas"]["plain"]["value"]


def test_a_run_is_gone_on_with(smollm2, tmp_path):
    data, results = tmp_path / "data.jsonl", tmp_path / "results.jsonl"
    data.write_text("\n".join(map(json.dumps, SOLUTIONS)))

    def run(count):
        command = [sys.executable, "-m", "benchmarks.studies.reasoning", "--data", data, "--results", results]
        return subprocess.run(
            [*map(str, command), "--solutions", str(count)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )

    done = run(4)
    assert done.returncode == 0, done.stderr
    first = results.read_text()
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["formula"] < 1e-5
    assert result["steps"] == 20
    assert run(4).stdout == done.stdout
    assert results.read_text() == first
    many = run(6)
    assert many.returncode == 1
    assert "got 5 solutions of 5 steps or more in data.jsonl, expected 6" in many.stderr
