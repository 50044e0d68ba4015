"""The card on its own example, and what it refuses."""

import json
import subprocess
import sys

import pytest

from thermoscope import instruments
from thermoscope.errors import InvalidRequest, ModelNotFound
from thermoscope.planning.latency import machine
from thermoscope.planning.latency.costs import Costs
from thermoscope.planning.latency.efficiency import Spread
from thermoscope.planning.latency.machine import Profile

EXAMPLE = {"model": "llama-3.1-8b", "dtype": "fp32", "gpu": "T4", "input": 512, "output": 100}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.platformdirs, "user_config_dir", lambda _: str(tmp_path))
    return tmp_path


def read(**given):
    return instruments.read("latency", **given)


def rows(reading, name):
    plain = reading.to_dict()
    return plain["tables"][name]["rows"]


def test_the_example_says_first_that_it_does_not_fit():
    reading = read(**EXAMPLE)
    first, second, third, *others = reading.findings
    assert first.startswith("It does not fit: llama-3.1-8b in fp32 needs 3")
    assert "T4 has 14.56 GiB usable" in first
    assert second.startswith("By bytes it takes 3 × T4")
    assert "int8 or int4-g128" in third
    assert "fp16" not in third  # 14.96 GiB of weights alone
    assert any("rotary" in each for each in others)
    whole = rows(reading, "times")[-1]
    assert 12 < whole["seconds"] < 15
    assert whole["low"] < 13.3 < whole["high"]  # what two independent calibrations say


def test_components_of_a_phase_are_its_time():
    reading = read(**EXAMPLE)
    times = {row["what"]: row["seconds"] for row in rows(reading, "times")}
    parts = rows(reading, "components")
    prompt = sum(row["milliseconds"] for row in parts if row["phase"] == "prompt")
    assert prompt / 1e3 == pytest.approx(times["first token"], rel=1e-9)
    names = {row["component"] for row in parts}
    assert {
        "embedding",
        "rotary",
        "qkv",
        "attention",
        "o",
        "gate and up",
        "down",
        "head",
        "sampling",
    } <= names


@pytest.mark.parametrize(
    ("model", "gpu", "fits"),
    [
        ("llama-2-7b", "RTX 4090", True),
        ("llama-2-7b", "T4", True),  # 12.6 GiB of weights in 14.56
        ("llama-3.1-8b", "RTX 4090", True),
        ("llama-3.1-8b", "A100-PCIe-40GB", True),
        ("llama-3.1-8b", "T4", False),
    ],
)
def test_sixteen_bits_of_seven_and_eight_billion(model, gpu, fits):
    reading = read(model=model, gpu=gpu)
    assert reading.findings[0].startswith("It fits" if fits else "It does not fit")
    assert reading.passed


@pytest.mark.parametrize(
    "model", ["mixtral-8x7b", "deepseek-v3", "gemma-2-9b", "gpt2", "falcon-7b", "qwen3-30b-a3b"]
)
def test_every_kind_of_model_is_counted(model):
    reading = read(model=model, gpu="H200-SXM", input=256, output=16, tensor=1)
    assert reading.passed, reading.checks


def test_every_default_is_told():
    notes = read(model="llama-2-7b", gpu="L4").notes
    for start in ("weights: bf16", "kv: bf16", "framework: serving"):
        assert any(note.startswith(start) for note in notes)


def test_a_device_without_bfloat16_is_told():
    notes = read(model="llama-2-7b", gpu="T4").notes
    assert any("no bfloat16" in note and "--dtype fp16" in note for note in notes)


def test_price_and_speculation_are_told():
    reading = read(model="llama-2-7b", gpu="A100-SXM4-80GB", price=2.0, acceptance=0.8)
    whole = rows(reading, "times")[-1]["seconds"]
    assert any(f"costs {2 * whole / 3600:.3g}" in each for each in reading.findings)
    assert any("times as fast" in each for each in reading.findings)


def test_one_token_of_an_answer_has_no_further_step():
    reading = read(model="llama-2-7b", gpu="L4", output=1)
    assert [row["what"] for row in rows(reading, "times")] == ["first token", "all"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gpu": "T5"}, "gpu: got 'T5', expected a device that is known here; did you mean 'T4'?"),
        ({"dtype": "fp12"}, "dtype: got 'fp12', expected one of fp32"),
        ({"weights": "int3"}, "weights: got 'int3', expected one of"),
        ({"kv": "int2"}, "kv: got 'int2', expected one of"),
        ({"framework": "abacus"}, "framework: got 'abacus', expected one of"),
        ({"input": 0}, "input: got 0"),
        ({"batch": 0}, "batch: got 0"),
        ({"input": 131072}, "the context of llama-3.1-8b"),
        ({"tensor": 3}, "tensor: got 3, expected a divisor of 32"),
        ({"stages": 3}, "stages: got 3, expected a divisor of 32, the layers."),
        ({"gpu": "this"}, "this machine was not measured yet"),
        ({"gpu": None}, "gpu: missing"),
    ],
)
def test_what_cannot_be_is_one_line(folder, given, message):
    with pytest.raises(InvalidRequest) as caught:
        read(**EXAMPLE | given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_none_is_refused():
    with pytest.raises(ModelNotFound, match="llama-3\\.1-8c"):
        read(model="llama-3.1-8c", gpu="T4")
    with pytest.raises(InvalidRequest, match="model: missing"):
        read(gpu="T4")


def test_a_measured_machine_is_a_device(folder):
    from thermoscope.catalogue.hardware import Hardware

    device = Hardware(
        name="this machine", vendor="CPU", generation="here", memory_bytes=2**34, bandwidth=3e10, rates={},
        measured_rates={"bf16": 1e11, "fp16": 1e11, "fp32": 1e11},
    )  # fmt: skip
    nothing = [(1, 0.0)]
    weight = {"product": [(1, 2 / 3e10)]} | dict.fromkeys(("attention", "moved", "kernel"), nothing)
    costs = Costs(weight, weight, weight["product"], nothing, nothing, nothing, 0.0)
    spread = {"decode": Spread(0.9, 1.1, 7), "prefill": Spread(0.8, 1.2, 7)}
    machine.save(Profile(device, {"bf16": costs}, {"bf16": spread}, 128, "now"))
    reading = read(model="smollm2-135m", output=8)
    assert reading.passed
    each = next(row for row in rows(reading, "times") if row["what"] == "each further token")
    norms = (2 * 30 + 1) * 576  # the only parameters that are no weights of products
    assert each["seconds"] == pytest.approx(2 * (134_515_008 - norms) / 3e10)
    assert each["high"] == pytest.approx(1.1 * each["seconds"])


def test_a_cold_process_answers_within_a_second_without_torch():
    words = [f"--{key}={value}" for key, value in EXAMPLE.items() if key != "model"]
    code = (
        "import sys, time; from thermoscope.cli import main; "
        f"main(['latency', 'llama-3.1-8b', '--json', *{words!r}]); assert 'torch' not in sys.modules; "
        "print(time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert json.loads(done.stdout)["passed"]
    assert float(done.stderr) < 1.0  # of the processor, so that company on the machine does not count
