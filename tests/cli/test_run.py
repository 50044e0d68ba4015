import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Command
from tests.cli.fakes import FakeModel
from thermoscope.engine.steering import Steering
from thermoscope.engine.trace import Trace


def test_the_answer_streams_to_stdout_and_nothing_else(model: FakeModel, command: Command) -> None:
    done = command("run", "Hello")
    assert (done.code, done.out, done.err) == (0, " Hello.\n", "")
    assert model.prompts == ["user: Hello\n"]
    assert model.closed == 1


def test_every_setting_reaches_the_engine(model: FakeModel, command: Command) -> None:
    done = command(
        *("run", "Hi", "--temperature", "inf", "--top-p", "0.5", "--top-k", "9", "--min-p", "0.1"),
        *("--repetition-penalty", "1.2", "--presence-penalty", "-0.5", "--frequency-penalty", "0.25"),
        *("--logit-bias", "262=-5", "--logit-bias", "13=2.5", "--seed", "7", "--stop", "END", "--stop", "Q:"),
        *("--stop-id", "2", "--max-tokens", "99", "--ignore-eos"),
    )
    assert done.code == 0, done.err
    (sampling,) = model.settings
    assert sampling.temperature == math.inf
    assert (sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 9, 0.1)
    assert sampling.repetition_penalty == 1.2
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (-0.5, 0.25)
    assert sampling.logit_bias == {262: -5.0, 13: 2.5}
    assert (sampling.seed, sampling.stop, sampling.stop_ids) == (7, ("END", "Q:"), (2,))
    assert (sampling.max_tokens, sampling.ignore_eos, sampling.n) == (99, True, 1)


def test_every_filter_reaches_the_engine(model: FakeModel, command: Command) -> None:
    done = command(
        *("run", "Hi", "--profile", "openai", "--typical-p", "0.9", "--epsilon", "0.001", "--eta", "0.002"),
        *("--top-n-sigma", "2.5", "--xtc-probability", "0.5", "--xtc-threshold", "0.2"),
        *("--mirostat-tau", "5", "--mirostat-eta", "0.2", "--dynatemp-range", "0.5"),
        *("--dynatemp-exponent", "2", "--dry-multiplier", "0.8", "--dry-base", "1.5"),
        *("--dry-allowed-length", "3", "--dry-breaker", "5", "--dry-breaker", "6"),
    )
    assert done.code == 0, done.err
    (sampling,) = model.settings
    assert (sampling.profile, sampling.typical_p) == ("openai", 0.9)
    assert (sampling.epsilon, sampling.eta) == (0.001, 0.002)
    assert (sampling.top_n_sigma, sampling.xtc_probability, sampling.xtc_threshold) == (2.5, 0.5, 0.2)
    assert (sampling.mirostat_tau, sampling.mirostat_eta) == (5.0, 0.2)
    assert (sampling.dynatemp_range, sampling.dynatemp_exponent) == (0.5, 2.0)
    assert (sampling.dry_multiplier, sampling.dry_base, sampling.dry_allowed_length) == (0.8, 1.5, 3)
    assert sampling.dry_breakers == (5, 6)


def test_a_setting_that_a_profile_lacks_is_one_line(model: FakeModel, command: Command) -> None:
    done = command("run", "Hi", "--profile", "vllm", "--typical-p", "0.9")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "the profile vllm has no such stage" in done.err


def test_loading_options_reach_the_loader(model: FakeModel, command: Command) -> None:
    command("run", "Hi", "--model", "x.gguf", "--precision", "bf16", "--context", "64", "--threads", "3")
    assert model.loaded == {
        **{"name": "x.gguf", "precision": "bf16", "context": 64, "threads": 3},
        **{"slots": 1, "progress": False},
    }


def test_a_vector_reaches_the_engine(model: FakeModel, command: Command, tmp_path: Path) -> None:
    Steering("tiny", "llama", 3, {2: torch.ones(4)}).save(tmp_path / "v.gguf")
    assert command("run", "Hi", "--steer", str(tmp_path / "v.gguf")).code == 0
    (added,) = model.steered
    assert (added.layer, added.vector.tolist()) == (2, [1, 1, 1, 1])
    assert command("run", "Hi").code == 0
    assert model.steered == ()


def test_system_message_and_raw_prompt(model: FakeModel, command: Command) -> None:
    command("run", "Hi", "--system", "Be brief.")
    command("run", "Hi", "--raw")
    assert model.prompts == ["system: Be brief.\nuser: Hi\n", "Hi"]


@pytest.mark.parametrize("arguments", [["run"], ["run", "-"]])
def test_the_prompt_comes_from_a_pipe(model: FakeModel, command: Command, arguments: list[str]) -> None:
    assert command(*arguments, stdin="Grüße\n".encode()).out == " Grüße.\n"


def test_the_default_length_is_512_or_what_the_context_leaves(model: FakeModel, command: Command) -> None:
    assert len(command("run", "count").out.split()) == 512
    model.context = 100
    assert len(command("run", "count").out.split()) == 100 - len("user: count\n")
    assert "512" in command("run", "--help").out


def test_json_is_one_object_with_everything(model: FakeModel, command: Command, tmp_path: Path) -> None:
    target = tmp_path / "trace.json"
    done = command("run", "Hi", "--json", "--trace", str(target), "--seed", "5", "--steps")
    answer = json.loads(done.out)
    steps = answer.pop("steps")
    assert answer == {
        "text": " Hi.",
        "finish_reason": "stop",
        "trace": str(target),
        "model": "Fake-1B",
        "precision": "fp32",
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
        "timings": {"prefill_ms": 12.5, "tokens_per_second": 250.0},
        "seed": 5,
    }
    assert [step["text"] for step in steps] == [" Hi", ".", ""]
    assert Trace.load(target).text == " Hi."


def test_a_seed_that_was_drawn_is_told(model: FakeModel, command: Command) -> None:
    first, second = (json.loads(command("run", "Hi", "--json").out)["seed"] for _ in range(2))
    assert first != second
    assert [each.seed for each in model.settings] == [first, second]


def test_several_answers(model: FakeModel, command: Command, tmp_path: Path) -> None:
    done = command("run", "Hi", "-n", "2", "--trace", str(tmp_path / "t.json"))
    assert done.out == "[0]  Hi.\n[1]  Hi.\n"
    assert [Trace.load(tmp_path / f"t.{choice}.json").choice for choice in (0, 1)] == [0, 1]
    answer = json.loads(command("run", "Hi", "-n", "2", "--json").out)
    assert [choice["text"] for choice in answer["choices"]] == [" Hi.", " Hi."]
    assert answer["usage"]["completion_tokens"] == 6


def test_the_table_has_a_row_a_token(model: FakeModel, command: Command) -> None:
    done = command("run", "Hi", "--steps")
    rows = [line for line in done.out.splitlines() if "1.500" in line]
    assert len(rows) == 3
    for cell in (
        "' Hi'",
        "-0.250",
        "-0.125",
        "7",
        "0.062",
        "4.0",
        r"'\n' 0.135",
        "'[bold]' 0.050",
        "'é' 0.018",
    ):
        assert cell in rows[0]
    assert "' last'" not in done.out
    assert "<3>" in rows[2]


def test_ctrl_c_keeps_what_came(model: FakeModel, command: Command, tmp_path: Path) -> None:
    model.interrupt_after = 3
    done = command("run", "count", "--trace", str(tmp_path / "t.json"), "--seed", "1")
    assert (done.code, done.out) == (130, " 0 1 2\n")
    trace = Trace.load(tmp_path / "t.json")
    assert (trace.text, trace.finish_reason, len(trace.steps)) == (" 0 1 2", None, 3)
    assert trace.sampling["seed"] == 1
    assert trace.sampling["stop"] == []
    assert trace.prefill_ms > 0
    assert model.closed == 1
    answer = json.loads(command("run", "count", "--json").out)
    assert (answer["text"], answer["finish_reason"]) == (" 0 1 2", None)


def test_a_trace_is_saved_whole_or_not_at_all(
    model: FakeModel, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "t.json"
    target.write_text("what stood here before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "write_text", full)
    done = command("run", "Hi", "--trace", str(target))
    assert (done.code, done.out) == (2, " Hi.\n")
    assert done.err == f"thermoscope: {target}: No space left on device\n"
    assert target.read_text() == "what stood here before"
    plain = command("run", "Hi", "--trace", str(target), "--json")
    answer = json.loads(plain.out)
    assert (plain.code, plain.err, answer["text"]) == (2, done.err, " Hi.")
    assert "trace" not in answer


HOSTILE = "a\x1b]0;mine\x07\x9b2J\x7f\tb"
SHOWN = r"a\x1b]0;mine\x07\x9b2J\x7f" + "\tb"


@pytest.mark.parametrize("several", [[], ["-n", "2"]])
def test_a_terminal_obeys_no_answer(model: FakeModel, command: Command, several: list[str]) -> None:
    assert f" {SHOWN}." in command("run", HOSTILE, *several).out
    assert HOSTILE[1] not in command("run", HOSTILE, "--steps", *several).out
    model.interrupt_after = 1
    assert f" {SHOWN}\n" in command("run", HOSTILE, *several).out


def test_json_holds_the_answer_as_it_is_and_no_terminal_obeys_it(model: FakeModel, command: Command) -> None:
    done = command("run", HOSTILE, "--json")
    assert json.loads(done.out)["text"] == f" {HOSTILE}."
    assert not set("\x1b\x07\x9b\x7f") & set(done.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", ""], "prompt: got nothing"),
        (["run", "  \n"], "prompt: got nothing"),
        (["run"], "prompt: got nothing"),
        (["run", "Hi", "--temperature", "-1"], "temperature: got -1.0, expected a number, 0 or more."),
        (["run", "Hi", "--temperature", "nan"], "temperature: got nan"),
        (["run", "Hi", "--temperature", "warm"], "Invalid value for '--temperature'"),
        (["run", "Hi", "--top-p", "1.5"], "top_p: got 1.5"),
        (["run", "Hi", "--max-tokens", "0"], "max_tokens: got 0"),
        (["run", "Hi", "-n", "0"], "n: got 0"),
        (["run", "Hi", "--stop", ""], "stop: got ['']"),
        (["run", "Hi", "--logit-bias", "13"], "--logit-bias: got '13', expected a token id and nats"),
        (["run", "Hi", "--logit-bias", "13=nan"], "logit_bias: got nan"),
        (["run", "Hi", "--context", "0"], "--context"),
        (["run", "Hi", "--raw", "--system", "x"], "--system: a raw prompt has no system message"),
        (["run", "Hi", "--trace", "no/such/folder/t.json"], "the folder no/such/folder does not exist"),
        (["run", "Hi", "--trace", "."], "got no regular file"),
        (["run", "Hi", "--trace", "/dev/null"], "got no regular file"),
        (["run", "Hi", "--threads", "99999999999"], "--threads"),
        (["run", "bad \udcff byte"], "prompt: got bytes that are not UTF-8"),
        (["run", "Hi", "there"], "unexpected extra argument"),
        (["run", "Hi", "--steer", "none.gguf"], "none.gguf: cannot be read"),
        (["run", "Hi", "--nonsense"], "No such option: --nonsense"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_bad_input_is_one_line_and_2_before_anything_is_loaded(
    model: FakeModel, command: Command, arguments: list[str], message: str
) -> None:
    done = command(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("thermoscope: ")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert model.loaded == {}


def test_stdin_that_is_not_text_is_refused(model: FakeModel, command: Command) -> None:
    done = command("run", stdin=b"\xff\xfe")
    assert (done.code, done.err) == (2, "thermoscope: stdin: got bytes that are not UTF-8, expected text.\n")


def test_an_error_of_the_engine_is_one_line(model: FakeModel, command: Command) -> None:
    model.context = 10
    done = command("run", "far too long")
    assert done.code == 2
    assert done.err == "thermoscope: prompt: got 19 tokens, expected fewer than 10.\n"
    assert model.closed == 1


def test_the_default_model_names_paris(tmp_path: Path) -> None:
    target = tmp_path / "t.json"
    question = ["run", "What is the capital of France?", "--temperature", "0"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "thermoscope",
            *question,
            "--json",
            "--trace",
            str(target),
            "--max-tokens",
            "16",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert "Paris" in answer["text"]
    assert answer["trace"] == str(target)
    trace = Trace.load(target)
    assert (trace.text, len(trace.steps)) == (answer["text"], answer["usage"]["completion_tokens"])
    trace.save(tmp_path / "again.json")
    assert Trace.load(tmp_path / "again.json") == trace
