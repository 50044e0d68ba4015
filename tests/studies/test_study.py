"""Both studies from their command line: a small run, one stopped and gone on with, and what is refused."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from thermoscope.bench.measure import TEXT

ROOT = Path(__file__).parents[2]
SIZES = ("--passages", "3", "--prefix", "8", "--tokens", "9")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(sentence + "." for sentence in TEXT.split(".")))
    return path


def command(study, text, results, *more):
    files = ("--text", str(text), "--results", str(results))
    return [sys.executable, "-W", "error", "-m", f"benchmarks.studies.{study}", *files, *SIZES, *more]


def run(*arguments):
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=300)


def rows(path):
    return {line for line in path.read_text().splitlines() if line}


def test_degeneration_gives_a_table_a_figure_and_json(smollm2, text, tmp_path):
    figure = tmp_path / "figure.html"
    done = run("degeneration", text, tmp_path / "results.jsonl", "--figure", str(figure))
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    settings = json.loads(last)["settings"]
    assert all(any(setting in line for line in table) for setting in settings)
    assert settings["greedy"]["perplexity"]["value"] < settings["pure sampling"]["perplexity"]["value"]
    for line in settings.values():
        assert line["perplexity"]["low"] <= line["perplexity"]["value"] <= line["perplexity"]["high"]
        assert 0 < line["self_bleu"]["value"] < 1
    assert "plotly" in figure.read_text(encoding="utf-8")


def test_a_stopped_transition_goes_on_to_the_same_numbers(smollm2, text, tmp_path):
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    points = ("--points", "4")
    done = run("transition", text, whole, *points)
    assert done.returncode == 0, done.stderr

    begun = subprocess.Popen(
        command("transition", text, parts, *points),
        **{"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
    )
    while not parts.exists() or len(rows(parts)) < 3:
        assert begun.poll() is None, begun.stderr.read()
        time.sleep(0.01)
    begun.send_signal(signal.SIGINT)
    out, said = begun.communicate(timeout=60)
    assert begun.returncode == 130, said
    assert "the same command goes on from" in said
    assert out == ""
    kept = rows(parts)
    assert kept < rows(whole)

    again = run("transition", text, parts, *points)
    assert again.returncode == 0, again.stderr
    assert rows(parts) == rows(whole)
    assert again.stdout == done.stdout
    result = json.loads(again.stdout.splitlines()[-1])
    assert result["temperatures"] == [0.5, 1.0, 1.5, 2.0]
    assert result["entropy"]["value"] == sorted(result["entropy"]["value"])
    assert min(result["heat_capacity"]["value"] + result["human"]["value"]) > 0
    assert result["replay_residual"] < 0.01


def test_what_is_wrong_is_one_line(smollm2, text, tmp_path):
    few = run("degeneration", text, tmp_path / "results.jsonl", "--passages", "1")
    assert few.returncode == 2
    assert "--passages: got 1, expected 2 or more" in few.stderr
    short = run("degeneration", text, tmp_path / "results.jsonl", "--passages", "1000")
    assert short.returncode == 1
    assert short.stderr.startswith("study: text: got ")
    assert "Traceback" not in short.stderr
