"""A row of measured times as the planner sees it: which passes it stands for, and where.

Only the configuration is read: the model's columns, never its name. The one exception is in the columns
themselves, which have no room for experts: `8x` in a name says how many there are, and two of them are taken
to work on a token.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import accuracy

from thermoscope.catalogue.architecture import Architecture, Experts
from thermoscope.catalogue.hardware import Hardware, hardware
from thermoscope.errors import InvalidRequest, ThermoscopeError
from thermoscope.planning.latency.efficiency import Phase
from thermoscope.planning.latency.formats import ACTIVATIONS, FORMATS, Format
from thermoscope.planning.latency.frameworks import Framework, framework_of
from thermoscope.planning.latency.work import Pass, Work, components

COMPONENTS = {
    "emb": "embedding", "embedding": "embedding", "input_layernorm": "norms", "layernorm": "norms",
    "post_attention_layernorm": "norms", "final_layernorm": "norms",
    "attn_pre_proj": "qkv", "qkv_proj": "qkv",
    "attn_rope": "rotary", "rotary_emb": "rotary", "attn_post_proj": "o", "o_proj": "o",
    "mlp_up_proj": "gate and up", "gate_up_proj": "gate and up", "mlp_act": "activation",
    "act_fn": "activation",
    "mlp_down_proj": "down", "down_proj": "down", "add": "residual", "lm_head": "head", "sampler": "sampling",
    "attention_decode": "attention", "attention_prefill": "attention",
}  # fmt: skip
SHORT = 5  # tokens of a prompt that a row calls short


@dataclass(frozen=True)
class Row:
    """One measured time: `seconds`, and the passes that it stands for, each so many times."""

    plain: accuracy.Row
    phase: Phase
    framework: Framework
    device: Hardware
    seconds: float
    passes: tuple[tuple[int, tuple[Work, ...]], ...]

    @property
    def several(self) -> bool:
        """Whether devices share the work; a kernel measured alone is on one."""
        return self.whole and int(float(self.plain["gpus"] or 1)) > 1

    @property
    def unpacks(self) -> bool:
        """Whether weights are quantised."""
        return self.plain["weight_quant"] not in ("none", "")

    @property
    def whole(self) -> bool:
        """Whether it is of whole passes, which a processor launches, and not of one kernel."""
        return self.phase != "component"


def read(path: Path) -> tuple[list[Row], dict[str, str]]:
    """The rows that can be predicted, and why each other cannot, by id."""
    rows, left = [], {}
    for plain in accuracy.read(path):
        try:
            rows.append(_row(plain))
        except (ThermoscopeError, ValueError, KeyError) as error:
            left[plain.get("id", "?")] = str(error)
    return rows, left


def _row(plain: accuracy.Row) -> Row:
    if not (plain["ms_per_step"] or plain["total_ms"]):
        raise InvalidRequest(f"phase: got {plain['phase']!r}, which has no time of a step or an answer.")
    framework = framework_of(plain["framework"])
    if framework is None:
        raise InvalidRequest(f"framework: got {plain['framework']!r}, which belongs to no class here.")
    phases: dict[str, Phase] = {
        "component": "component", "prefill": "prefill", "decode": "decode", "e2e": "e2e",
        "e2e-throughput": "e2e",
    }  # fmt: skip
    if plain["phase"] not in phases:
        raise InvalidRequest(f"phase: got {plain['phase']!r}, which is no latency.")
    phase = phases[plain["phase"]]
    return Row(
        plain=plain,
        phase=phase,
        framework=framework,
        device=_device(plain["gpu"]),
        seconds=float(plain["ms_per_step"] or plain["total_ms"]) / 1e3,
        passes=tuple(_passes(plain, phase)),
    )


def _passes(plain: accuracy.Row, phase: Phase) -> Iterator[tuple[int, tuple[Work, ...]]]:
    shape, run = _shape(plain), _pass(plain)
    count, out = _number(plain["input_len"], SHORT), _number(plain["output_len"], 1)
    encoder = "bert" in plain["model"].lower()
    if phase == "component":
        yield 1, _component(shape, run, plain["component"], count)
    if phase in ("prefill", "e2e"):
        works = components(shape, replace(run, new=max(1, count), causal=not encoder))
        yield 1, tuple(work for work in works if not (encoder and work.name in ("head", "sampling")))
    if phase == "decode":
        yield 1, components(shape, replace(run, past=count, steps=max(1, out)))
    if phase == "e2e" and out > 1:
        yield out - 1, components(shape, replace(run, past=count, steps=out - 1))


def _component(shape: Architecture, run: Pass, component: str, count: int) -> tuple[Work, ...]:
    key = re.split(r"[ (]", component)[0]
    if rows := re.search(r"\bM=(\d+)", component):
        run = replace(run, batch=int(rows[1]))
    elif key == "attention_decode":
        run = replace(run, past=count - 1)
    elif key == "attention_prefill":
        run = replace(run, new=count)
    elif key not in ("lm_head", "sampler"):  # tokens of a call, whosever they are
        run = replace(run, batch=count)
    found = [work for work in components(shape, run) if work.name == COMPONENTS[key]]
    return (replace(found[0], count=1),)


def _shape(plain: accuracy.Row) -> Architecture:
    sizes = {
        key: int(float(plain[key])) for key in ("hidden", "layers", "heads", "kv_heads", "head_dim", "ffn")
    }
    gated = plain["gated_mlp"].startswith("1")
    dense = Architecture(
        name=plain["model"], vocab=max(1, _number(plain["vocab"], 1)), context=1, gated=gated,
        tied=plain["tied_emb"].startswith("1"), positions="rotary" if gated else "none", norm="rms", **sizes,
    )  # fmt: skip
    many = re.search(r"(\d+)x", plain["model"])
    if many and float(plain["params_b"]) * 1e9 > 1.5 * dense.parameters:
        return replace(dense, experts=Experts(count=int(many[1]), active=2, ffn=dense.ffn))
    return dense


def _pass(plain: accuracy.Row) -> Pass:
    precision = {"fp8": "bf16", "fp4": "bf16"}.get(plain["precision"], plain["precision"])
    narrow = any(each in plain["kv_dtype"] for each in ("8", "q4", "int4"))
    return Pass(
        batch=_number(plain["batch"], 1),
        new=1,
        format=_format(plain["weight_quant"].lower(), precision),
        precision=precision,
        activations=ACTIVATIONS[precision],
        cache=1 if narrow else ACTIVATIONS[precision],
        tensor=_number(plain["tp"], 1),
        stages=_number(plain["pp"], 1),
    )


def _format(quant: str, precision: str) -> Format:
    if quant in ("none", "", "fp16", "bf16", "fp32"):
        return FORMATS[precision]
    for sign, name in (("w8a8", "w8a8"), ("awq", "int4-g128"), ("gptq", "int4-g128"), ("g128", "int4-g128")):
        if sign in quant:
            return FORMATS[name]
    for name in sorted(FORMATS, key=len, reverse=True):
        if quant.startswith(name):
            return FORMATS[name]
    raise InvalidRequest(f"weight_quant: got {quant!r}, which is no format here.")


def _device(name: str) -> Hardware:
    """A device by its name, or without what stands behind it in brackets."""
    try:
        return hardware(name)
    except InvalidRequest:
        return hardware(re.sub(r"\s*\(.*\)|\?", "", name))


def _number(text: str, default: int) -> int:
    try:
        return int(float(text))
    except ValueError:
        return default
