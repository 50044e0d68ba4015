"""The card memory: what it says, and that its settings reach the planner."""

import json
import subprocess
import sys

import pytest

import thermoscope as ts
from thermoscope.errors import InvalidRequest, ModelNotFound
from thermoscope.instruments import memory

GIB = 2**30


def read(model="llama-2-7b", **settings):
    return ts.read("memory", model=model, **settings)


def rows(reading, name):
    return reading.to_dict()["tables"][name]["rows"]


@pytest.mark.parametrize("model", ["llama-2-7b", "llama-3.1-8b"])
@pytest.mark.parametrize(
    ("method", "fitting"), [("full", (False, False, True)), ("lora", (True,) * 3), ("qlora", (True,) * 3)]
)
def test_what_fits_24_40_and_80_gb(model, method, fitting):
    said = [
        read(model, method=method, seq=1024, gpu=gpu).findings[0] for gpu in ("A10", "A100-40GB", "A100-80GB")
    ]
    assert tuple(each.startswith("Fits one") for each in said) == fitting


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("precision", ["bf16", "amp"])
def test_it_agrees_with_itself(method, precision):
    assert read("smollm2-135m", method=method, precision=precision).passed


def test_where_it_does_not_fit_it_says_what_would():
    found = read(method="full", gpu="A10").findings
    assert found[0].startswith("Does not fit one A10: ")
    assert any(each.startswith("The cheapest change that makes it fit: method lora") for each in found)
    assert any("4 × A10 are enough, with FSDP2." in each for each in found)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "full"},
        {"method": "full", "precision": "mixed"},
        {"method": "lora", "batch": 4},
        {"method": "lora", "precision": "amp"},
        {"method": "inference", "batch": 4},
    ],
)
def test_a_change_made_needs_what_was_foretold(settings):
    found = rows(read("smollm2-135m", **settings), "changes")
    assert found
    for row in found:
        change = {
            name: int(value) if value.isdigit() else value
            for name, value in (each.split(" ") for each in row["change"].split(", "))
        }
        asked = rows(read("smollm2-135m", **settings | change), "needed")
        (needed,) = (each["size"] for each in asked if each["what"] == "needed")
        assert row["needed"] == pytest.approx(needed)


def test_a_device_too_small_for_the_batch_says_which_would_fit():
    reading = read("smollm2-135m", batch=64, gpu="T4")
    (device,) = (row for row in rows(reading, "devices") if row["gpu"] == "T4")
    (batch,) = (row["largest"] for row in rows(reading, "largest") if row["what"] == "batch")
    assert not device["fits"]
    assert 0 < device["batch"] == batch < 64


def test_the_phases_are_those_of_a_step_and_items_add_up():
    for row in rows(read(method="full"), "phases"):
        parts = [value for key, value in row.items() if key not in ("phase", "total")]
        assert row["total"] == pytest.approx(sum(parts))
    phases = [row["phase"] for row in rows(read(), "phases")]
    assert phases == ["forward", "loss", "backward", "step"]


def test_running_has_phases_of_its_own():
    reading = read("qwen3-0.6b", method="inference", seq=1024)
    (decode,) = (row for row in rows(reading, "phases") if row["phase"] == "decode")
    assert decode["cache"] * GIB == 112 * 1024 * 1024
    assert "rank" not in {row["what"] for row in rows(reading, "largest")}


def test_alpha_rslora_and_packing_take_nothing():
    plain = rows(read(), "phases")
    assert rows(read(alpha=1.0, rslora=True, packing=True), "phases") == plain


def test_every_assumption_is_listed():
    notes = "\n".join(read(method="qlora", data=2, optimizer="paged-adamw", seq=512).notes)
    for said in (
        "nf4-dq",
        "Paged states",
        "float32 (peft's",
        "12 bytes a logit",
        "Sharding fsdp2",
        "512 tokens",
    ):
        assert said in notes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gpu": "A10O"}, "gpu: got 'A10O', expected a device that is known here; "),
        ({"rank": 5000}, "rank: got 5000, expected at most 4096, "),
        ({"batch": 0}, "batch: got 0, expected greater than or equal to 1."),
        ({"seq": 0}, "seq: got 0, expected greater than or equal to 1."),
        ({"seq": 5000}, "seq: got 5000 tokens, expected at most 4096, the context of "),
        ({"tensor": 3}, "tensor: got 3, expected a divisor of 32, the heads."),
        ({"loss": "nothing"}, "loss: got 'nothing', expected one of full, "),
        ({"optimizer": "adam"}, "optimizer: got 'adam', expected one of adamw, "),
        ({"weights": "int3", "method": "qlora"}, "weights: got 'int3', expected one of fp32, "),
        ({"weights": "nf4", "method": "full"}, "weights: got 'nf4' with method full, which trains them; "),
        ({"targets": ["w1"]}, "targets: got 'w1', expected some of q, "),
    ],
)
def test_bad_input_is_one_line(settings, message):
    with pytest.raises(InvalidRequest) as caught:
        read(**settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_unknown_model_gets_suggestions():
    with pytest.raises(ModelNotFound, match="did you mean 'llama-2-7b'"):
        read("llama-2-7c")


def test_a_string_is_never_a_path(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelNotFound, match="expected a name of the catalogue"):
        read(str(tmp_path))


def test_it_answers_without_torch():
    """In a process of its own, whose modules say what it took."""
    program = (
        "import sys, thermoscope as ts\n"
        "ts.read('memory', model='llama-2-7b')\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("method", "given"),
    [
        *(("full", {"rank": 8}), ("inference", {"targets": ["q"]}), ("prefix", {"dora": True})),
        *(("lora", {"tokens": 5}), ("full", {"kv": "fp8"}), ("inference", {"kbit": True})),
        *(("inference", {"optimizer": "sgd"}), ("inference", {"offload": "all"})),
    ],
)
def test_a_setting_that_a_method_lacks_is_refused(method, given):
    (name,) = given
    settings = memory.Settings.parse({"model": "llama-2-7b", "method": method, **given})
    with pytest.raises(InvalidRequest, match=rf"^{name}: got .* with the method {method}") as caught:
        memory.job(settings)
    assert caught.value.param == name


def test_a_setting_that_a_method_lacks_may_stand_at_what_it_is():
    memory.job(memory.Settings.parse({"model": "llama-2-7b", "method": "full", "rank": 16, "kv": "bf16"}))
