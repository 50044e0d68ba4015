"""A measured row of memory, as the planner is asked about it: from columns, never from the model's name."""

import re
from collections.abc import Mapping

from accuracy import Case, Row

from thermoscope.catalogue.architecture import Architecture, Experts
from thermoscope.catalogue.hardware import hardware
from thermoscope.errors import InvalidRequest
from thermoscope.planning.memory import device, inference, training
from thermoscope.planning.memory.adapter import Adapter, targets
from thermoscope.planning.memory.parallel import SHARDED_WEIGHTS, Parallel

GIB = 2**30
FORMS = {
    "bnb.nf4": "nf4", "nf4": "nf4", "bnb.fp4": "nf4", "fp4": "nf4", "int4": "nf4",
    "bnb.nf4-dq": "nf4-dq", "bnb.fp4-dq": "nf4-dq", "nf4+double-quant": "nf4-dq",
    "bnb.int8": "int8", "int8": "int8", "gptq-4bit": "gptq-4bit", "gptq-int4": "gptq-4bit",
    "gptq-int8": "gptq-8bit", "awq-int4": "awq-4bit", "none": "",
}  # fmt: skip
# What each source ran, from its own requirements and scripts: the release of transformers decides on the
# loss.
TRANSFORMERS = {"a100_80gb_granite": "4.45", "a100_80gb_liger": "4.45", "a100_80gb.csv": "4.48"}
DOUBLE_QUANT = "fms-acceleration"  # it loads 4-bit weights with double quantisation
METHODS: Mapping[str, training.Method] = {
    "Full": "full", "LoRA": "lora", "QLoRA": "qlora", "GPTQ-LoRA": "gptq-lora",
}  # fmt: skip


def case(row: Row, *, blind: bool = False) -> Case | None:
    """The row with its prediction; None for what no planner of models is asked (a kernel on its own).

    `blind`: as if nothing were known of how the row's source ran, beyond what the columns say.
    """
    if not row["hidden"]:
        return None
    if blind:
        row = {**row, "source": ""}
    method = METHODS.get(row["method"])
    tuned = method is not None and row["micro_batch"] and row["seq_len"]
    if tuned:
        plan, kind = training.plan(job(row, method)), "training"
    else:
        plan, kind = inference.plan(generation(row)), "inference"
    peak, why = plan.peak, f"peak in {plan.peak_phase}"
    devices = "one GPU" if int(row["gpus"] or 1) == 1 else "several GPUs"
    groups = {
        "task": f"{row['task']}, {devices}",
        "method": f"{row['method'] if method else 'generate'}, {devices}",
        "source": _source(row),
    }
    if tuned:
        groups["phase"] = plan.peak_phase
    band = device.band(peak, kind)
    measured = float(row["measured_gib"]) if row["measured_gib"] else None
    right = None
    if measured is None:
        right = (device.needed(plan) > device.usable(hardware(row["gpu"]))) == (row["outcome"] == "OOM")
    return Case(row, groups, peak / GIB, measured, (band[0] / GIB, band[1] / GIB), why, right)


def shape(row: Row) -> Architecture:
    """The architecture of a row's columns. Experts have no column: what the matrices lack of `params_b` are
    they.
    """
    numbers = {
        key: int(row[key]) for key in ("hidden", "layers", "heads", "kv_heads", "head_dim", "ffn", "vocab")
    }
    gated, tied = row["gated_mlp"] == "1", row["tied_emb"] == "1"
    dense = Architecture(
        name=row["model"], **numbers, context=2**20, gated=gated, tied=tied,
        norm="rms" if gated else "layer", parallel_block=not gated,
    )  # fmt: skip
    mlp = sum(each.parameters for each in dense.mlp(0)) * dense.layers
    missing = float(row["params_b"] or 0) * 1e9 - dense.parameters
    if missing < mlp:
        return dense
    experts = Experts(count=1 + round(missing / mlp), active=2, ffn=dense.ffn)
    return Architecture(name=row["model"], **numbers, context=2**20, gated=gated, tied=tied, experts=experts)


def job(row: Row, method: training.Method) -> training.Training:
    """What was run."""
    framework = re.search(r"framework=([^;]*)", row["notes"])
    kernels = framework.group(1) if framework else "none"
    litgpt, sharded = "litgpt" in row["source"], _parallel(row).sharding in SHARDED_WEIGHTS
    autocast = "AMP" in row["precision"]
    adapter = None
    if method != "full":
        rank = re.search(r"\d+", row["lora_rank"])
        wanted = re.sub(r"\(.*\)|,?c_attn", "", row["lora_targets"])
        adapter = Adapter(
            rank=int(rank.group()) if rank else 8, targets=targets(_known(wanted)), width=2 if litgpt else 4
        )
    fused = "foak" in kernels or "fused" in row["ce_loss"]
    stack = "litgpt" if litgpt else "fused" if fused else "transformers"
    if not litgpt and not autocast:
        stack += "-pure"
    if "resource-tables" in row["source"]:
        stack = "litgpt-2023"
    return training.Training(
        shape=shape(row),
        method=method,
        batch=int(row["micro_batch"]),
        sequence=int(row["seq_len"]),
        precision="amp" if method == "full" and sharded and autocast else "bf16",
        weights=_form(row) or None,
        adapter=adapter,
        checkpointing="full" if row["grad_ckpt"] == "yes" else "none",
        attention=_attention(row["attention_impl"]),
        loss=_loss(row, kernels),
        stack=stack,
        wide_stream=method == "qlora" and not (litgpt or sharded or "accelerated" in kernels),
        untied=_untied(row),
        parallel=_parallel(row),
    )  # fmt: skip


def _parallel(row: Row) -> Parallel:
    gpus, text = int(row["gpus"] or 1), row["parallel"].lower()
    if zero := re.search(r"zero-?\s*([123])", text):
        return Parallel(data=gpus, sharding=f"zero{zero.group(1)}")
    for word, way in (("fsdp2", "fsdp2"), ("fsdp", "fsdp1"), ("ddp", "ddp")):
        if word in text:
            return Parallel(data=gpus, sharding=way)
    return Parallel(
        tensor=gpus if re.search(r"\btp|tensor", text) else 1,
        pipeline=gpus if re.search(r"\bpp\b|pipeline", text) else 1,
    )


def _untied(row: Row) -> bool:
    """Whether a tied head stands apart: then `params_b` counts it."""
    counted, tables = float(row["params_b"] or 0) * 1e9, int(row["vocab"]) * int(row["hidden"])
    if "litgpt" in row["source"]:  # it always keeps a head of its own
        return row["tied_emb"] == "1"
    return row["tied_emb"] == "1" and counted - shape(row).parameters > tables / 2


def _known(wanted: str) -> str:
    return re.sub(r"\s|\+", ",", wanted.strip()).replace(",,", ",").strip(",")


def _quant(row: Row) -> str:
    return row["base_quant"].split()[0] if row["base_quant"] else "none"


def _form(row: Row) -> str:
    name = FORMS.get(_quant(row))
    if name is None:
        raise InvalidRequest(f"base_quant: got {row['base_quant']!r}, expected one of {', '.join(FORMS)}.")
    if name == "int8" and "mid-2023" in row["attention_impl"]:
        return "int8-tiled"  # what bitsandbytes then kept while it trained
    return "nf4-dq" if name == "nf4" and DOUBLE_QUANT in row["source"] else name


def _attention(text: str) -> str:
    return (
        "flash" if "flash" in text else "sdpa" if "sdpa" in text else "eager" if "eager" in text else "flash"
    )


def _loss(row: Row, kernels: str) -> str:
    text = row["ce_loss"].lower()
    if "chunk" in text:
        return "chunked"
    if "liger" in kernels or "liger" in text:
        return "liger"
    noted = re.search(r"transformers (\d+\.\d+)", row["notes"])
    release = (
        noted.group(1)
        if noted
        else next((each for table, each in TRANSFORMERS.items() if table in row["source"]), "4.45")
    )
    old = tuple(map(int, release.split("."))) < (4, 46)
    if "fused" in text:
        return "fused" if old else "fused-4.46"
    if row["gated_mlp"] != "1":  # GPT-2, BigCode, NeoX, Falcon: their code never widens logits
        return "full-half"
    return "full-4.45" if old else "full-4.46"


def _source(row: Row) -> str:
    """The repository and the file that a row was read from."""
    found = re.match(r"github \S+/(\S+) .*?([\w-]+\.(?:csv|md))", row["source"])
    return " ".join(found.groups()) if found else row["source"]


def generation(row: Row) -> inference.Inference:
    """What was run, where nothing was trained."""
    numbers = [int(each) for each in re.findall(r"\d+", row["seq_len"])]
    return inference.Inference(
        shape=shape(row),
        weights=_form(row) or ("fp32" if "32" in row["precision"] else "bf16"),
        batch=int(row["micro_batch"] or 1),
        sequence=sum(numbers) if numbers else 1,
        attention=_attention(row["attention_impl"]),
        untied=_untied(row),
    )
