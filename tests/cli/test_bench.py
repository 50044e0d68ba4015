"""`thermoscope bench` in short: what it prints hangs together, and what measures nothing is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from thermoscope.bench import rounds
from thermoscope.bench.report import Decode, Prefill, Report, Run
from thermoscope.cli import bench as command_file
from thermoscope.engine.language_model import LanguageModel
from thermoscope.models.kernels.bandwidth import Bandwidth

ROOT = Path(__file__).parents[2]
QUICK = ["--batch", "1,3", "--depth", "0,200", "--prompt", "40", "--tokens", "12", "--rounds", "1"]


@pytest.fixture(scope="module")
def figure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench") / "step.html"


@pytest.fixture(scope="module")
def result(figure: Path, smollm2: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "thermoscope", "bench", *QUICK, "--json", "--figure", str(figure)],
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_case_is_measured(result: Any) -> None:
    assert (result["model"], result["interrupted"]) == ("SmolLM2-135M-Instruct", False)
    assert [row["prompt"] for row in result["prefill"]] == [40]
    cases = [(row["batch"], row["depth"], row["tokens"], row["rounds"]) for row in result["decode"]]
    assert cases == [(1, 0, 12, 1), (3, 0, 12, 1), (1, 200, 12, 1), (3, 200, 12, 1)]


def test_parts_sum_to_the_step_and_the_step_makes_the_speed(result: Any) -> None:
    for row in result["decode"]:
        assert sum(row["parts_ms"].values()) == pytest.approx(row["step_ms"])
        assert all(took > 0 for took in row["parts_ms"].values())
        assert row["step_ms"] == pytest.approx(1e3 * row["batch"] / row["tokens_per_second"], rel=0.1)
        native = {"products", "attention", "norms", "head", "sampler", "python"}
        assert set(row["parts_ms"]) == (
            native if result["native"] else {"layers", "head", "sampler", "python"}
        )


def test_shares_are_what_bytes_and_bandwidth_make_them(result: Any) -> None:
    bandwidth = result["bandwidth"]["bytes_per_second"]
    assert 1e9 < bandwidth < 1e13
    for row in result["decode"]:
        assert 0 < row["share"] < row["share_with_cache"] < 1.2  # caches may hold a part of the weights
        seconds = row["batch"] / row["tokens_per_second"]
        assert row["share"] == pytest.approx(result["weight_bytes"] / bandwidth / seconds)
        assert row["limit_ms"] == pytest.approx(1e3 * result["weight_bytes"] / bandwidth)
    here, three = (row["cache_bytes"] for row in result["decode"][2:])
    assert three == 3 * here


def test_the_figure_needs_no_network(result: Any, figure: Path) -> None:
    page = figure.read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page
    assert 'src="http' not in page


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--batch", "0"), "--batch: got '0'"),
        (("--batch", "1,,2"), "--batch: got '1,,2'"),
        (("--depth", "-1"), "--depth: got '-1'"),
        (("--prompt", "many"), "--prompt: got 'many'"),
        (("--tokens", "1"), "--tokens"),
        (("--rounds", "0"), "--rounds"),
        (("--figure", "step.jpg"), "--figure: got 'step.jpg'"),
        (("--figure", "no/such/folder/step.html"), "--figure: got no/such/folder/step.html"),
        (("--model", "nothing.gguf"), "model: got 'nothing.gguf'"),
    ],
)
def test_what_measures_nothing_is_refused_in_a_line(
    arguments: tuple[str, ...], named: str, command: Command
) -> None:
    done = command("bench", *arguments)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert named in line


def report(runs: int = 1) -> Report:
    decode = Decode(2, 10, 8, 1_000_000, [Run(200.0, {"layers": 0.006, "head": 0.004})] * runs)
    decode.peers = {"llama.cpp": [50.0, 100.0, 80.0]}
    about = {"model": "M", "precision": "fp32", "threads": 2, "native": False}
    return Report(about, [Bandwidth(1e10, "torch")], 50_000_000, [Prefill(7, [100.0] * runs)], [decode])


def test_the_table_says_it_for_people(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_file, "_measure", lambda *_, **__: (report(), ["transformers: not here."]))
    done = command("bench")
    assert done.code == 0
    assert "50.0 MB of weights, memory gives 10.0 GB/s (torch): at least 5.00 ms" in done.out
    for text in ("200.0", "80.0", "50.0%", "51.0%", "6.000 (60%)", "10.000"):
        assert text in done.out
    assert done.err == "transformers: not here.\n"


def test_ctrl_c_shows_what_was_measured(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = report()
    cut.interrupted = True
    cut.decodes.append(Decode(4, 10, 8, 1))  # never came to it
    monkeypatch.setattr(command_file, "_measure", lambda *_, **__: (cut, []))
    done = command("bench", "--json")
    assert done.code == 130
    assert [row["batch"] for row in json.loads(done.out)["decode"]] == [2]


def test_ctrl_c_ends_the_rounds_and_keeps_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    done = iter([None, Run(1.0, {}), KeyboardInterrupt()])

    def decode(*_: object, **__: object) -> object:
        given = next(done)
        if isinstance(given, KeyboardInterrupt):
            raise given
        return given

    monkeypatch.setattr(rounds.measure, "prompt", lambda *_, **__: (1, 2))
    monkeypatch.setattr(rounds.measure, "prefill", lambda *_: 5.0)
    monkeypatch.setattr(
        rounds.measure, "decode", lambda *_, **__: (lambda run: run and _Decoding(run))(decode())
    )
    monkeypatch.setattr(rounds, "_read", lambda *_: Bandwidth(1.0, "torch"))
    empty = report(0)
    rounds.run(_NO_MODEL, empty, 5, None, lambda _: None)
    assert empty.interrupted
    assert (len(empty.decodes[0].runs), empty.prefills[0].runs) == (1, [5.0, 5.0])


class _Decoding:
    def __init__(self, run: Any) -> None:
        self.rate, self.step = run.rate, run.step


_NO_MODEL: LanguageModel = None  # type: ignore[assignment]
