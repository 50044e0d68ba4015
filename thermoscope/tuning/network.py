"""transformers' network of a shape, with peft's adapters, on tensors that have sizes and no memory."""

from dataclasses import replace
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from thermoscope.catalogue.architecture import Architecture
from thermoscope.errors import UnsupportedModel
from thermoscope.planning.memory.adapter import Adapter
from thermoscope.planning.memory.training import Training
from thermoscope.tuning.bounds import ACTIVATIONS, TARGETS

FUSED = "thermoscope-fused"  # our attention's name in transformers' register
DROPOUT = 0.05  # any share keeps the same bytes
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def network(job: Training, layers: int, mode: FakeTensorMode) -> nn.Module:
    """The network of `job`, so many layers deep, ready for a step under `mode`.

    It is built on PyTorch's device `meta`, for peft moves its modules about, which fake tensors resist.

    **Errors:** `UnsupportedModel` where transformers' network has other parameters than the shape.
    """
    shape = replace(job.shape, layers=layers)
    transformers.AttentionInterface.register(FUSED, _fused_attention)
    attention = "eager" if job.attention == "eager" else FUSED
    with torch.device("meta"):
        model: Any = transformers.AutoModelForCausalLM.from_config(
            config(shape), dtype=TYPES[job.precision], attn_implementation=attention
        )
    if (found := sum(each.numel() for each in model.parameters())) != shape.parameters:
        raise UnsupportedModel(
            f"trace: got {shape.parameters:,} parameters in {layers} layers of {shape.name}, expected the "
            f"{found:,} of transformers' {type(model).__name__} of that shape; leave --trace out."
        )
    model.train()
    if job.checkpointing == "full":
        model.activation_checkpointing_enable()
    if job.adapter is not None:
        model = adapted(model, job.adapter, meta=True)
    with mode:
        return _faked(model)


def config(shape: Architecture) -> Any:
    """transformers' configuration of a shape that `bounds` lets through."""
    common = {
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": ACTIVATIONS[shape.activation],
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": shape.tied,
        "use_cache": False,
    }
    if shape.norm_float32:
        return transformers.GemmaConfig(**common, attention_bias=shape.qkv_bias)
    if shape.qk_norm:
        return transformers.Qwen3Config(**common, attention_bias=shape.qkv_bias)
    if shape.qkv_bias and not shape.output_bias:
        return transformers.Qwen2Config(**common)
    return transformers.LlamaConfig(**common, attention_bias=shape.qkv_bias, mlp_bias=shape.mlp_bias)


def adapted(model: nn.Module, adapter: Adapter, *, meta: bool) -> Any:
    """The model with peft's adapters, which have no numbers yet on the device `meta`."""
    import peft

    lora = peft.LoraConfig(
        r=adapter.rank,
        target_modules=[TARGETS[each] for each in adapter.targets],
        lora_dropout=DROPOUT * adapter.dropout,
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, lora, low_cpu_mem_usage=meta)


def _fused_attention(
    _module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _mask: None, *, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """The kernel that PyTorch takes on a GPU.

    On a CPU it takes another, and with fake tensors transformers also makes a mask and copies of keys and
    values, as for a compiler; a training step on a GPU has neither.
    """
    kernel = torch.ops.aten._scaled_dot_product_flash_attention
    return kernel(query, key, value, 0.0, is_causal=True, scale=scaling)[0].transpose(1, 2), None


class _FusedDropout(nn.Module):
    """The kernel that PyTorch takes on a GPU, which keeps a byte of mask; a CPU's keeps a float."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.native_dropout(hidden, self.share, True)[0]


def _faked(model: nn.Module) -> nn.Module:
    """The model with fake tensors of the CPU in the place of those of `meta`; tied ones stay tied.

    Frozen weights become buffers, for PyTorch's MemTracker wants to hook every parameter's gradient.
    """
    made: dict[int, Tensor] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            new = torch.empty(tensor.shape, dtype=tensor.dtype)
            made[id(tensor)] = nn.Parameter(new) if tensor.requires_grad else new
        return made[id(tensor)]

    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                module.add_module(name, _FusedDropout(child.p))
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, fake(buffer))
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            if parameter.requires_grad:
                module.register_parameter(name, cast("nn.Parameter", fake(parameter)))
            else:
                module.register_buffer(name, fake(parameter))
    return model
