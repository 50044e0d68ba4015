"""What tensors are called in the two formats, and which parts of a decoder each of them holds.

A part is named here as in `models.checkpoint`. A tensor may hold several, one below the other: Phi-3 writes
Q, K and V as one matrix, GGUF all experts of a layer.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from thermoscope.catalogue.config import ModelConfig

EXPERT = re.compile(r"\.experts\.(\d+)\.")


class Names(NamedTuple):
    """One format's names: of whole tensors, and of those that a layer's number stands before.

    In `layer`, a name maps to its parts, with spaces between. `{}` stands for an expert's number; where only
    the part has it, the tensor holds that part of every expert.
    """

    whole: Mapping[str, str]
    layer: Mapping[str, str]
    frame: re.Pattern[str]

    def parts(self, tensor: str, experts: int) -> tuple[str, ...]:
        """The parts that a tensor holds, from the top; none if its name is unknown."""
        if tensor in self.whole:
            return (self.whole[tensor],)
        if not (found := self.frame.fullmatch(tensor)):
            return ()
        layer, leaf = found.groups()
        one = EXPERT.search(leaf)
        numbers = [int(one[1])] if one else range(experts)
        return tuple(
            f"layers.{int(layer)}.{part.format(number)}"
            for part in self.layer.get(EXPERT.sub(".experts.{}.", leaf), "").split()
            for number in (numbers if "{}" in part else [0])
        )


def folder_names(config: ModelConfig) -> Names:
    """The names in a Hugging Face folder, without the `transformer.` that only some files of GPT-2 have."""
    layer = {
        "input_layernorm.weight": "attention_norm",
        "post_attention_layernorm.weight": "attention_post_norm" if config.post_norm else "mlp_norm",
        "pre_feedforward_layernorm.weight": "mlp_norm",
        "post_feedforward_layernorm.weight": "mlp_post_norm",
        **{f"self_attn.{name}_proj.weight": name for name in ("q", "k", "v", "o")},
        **{f"self_attn.{name}_proj.bias": f"{name}_bias" for name in ("q", "k", "v", "o")},
        **{f"self_attn.{name}_norm.weight": f"{name}_norm" for name in ("q", "k")},
        "self_attn.qkv_proj.weight": "q k v",
        **{f"mlp.{name}_proj.weight": name for name in ("gate", "up", "down")},
        **{f"mlp.{name}_proj.bias": f"{name}_bias" for name in ("gate", "up", "down")},
        "mlp.gate_up_proj.weight": "gate up",
        "mlp.gate.weight": "router",
        **{f"mlp.experts.{{}}.{name}_proj.weight": f"experts.{{}}.{name}" for name in ("gate", "up", "down")},
        "block_sparse_moe.gate.weight": "router",
        "block_sparse_moe.experts.{}.w1.weight": "experts.{}.gate",
        "block_sparse_moe.experts.{}.w2.weight": "experts.{}.down",
        "block_sparse_moe.experts.{}.w3.weight": "experts.{}.up",
        **{f"ln_{i}.weight": f"{name}_norm" for i, name in ((1, "attention"), (2, "mlp"))},
        **{f"ln_{i}.bias": f"{name}_norm_bias" for i, name in ((1, "attention"), (2, "mlp"))},
        "attn.c_attn.weight": "q k v",
        "attn.c_attn.bias": "q_bias k_bias v_bias",
        "attn.c_proj.weight": "o",
        "attn.c_proj.bias": "o_bias",
        "mlp.c_fc.weight": "up",
        "mlp.c_fc.bias": "up_bias",
        "mlp.c_proj.weight": "down",
        "mlp.c_proj.bias": "down_bias",
    }
    whole = {
        "model.embed_tokens.weight": "embedding",
        "model.norm.weight": "final_norm",
        "lm_head.weight": "head",
        "wte.weight": "embedding",
        "wpe.weight": "positions",
        "ln_f.weight": "final_norm",
        "ln_f.bias": "final_norm_bias",
    }
    return Names(whole, layer, re.compile(r"(?:model\.layers|h)\.(\d+)\.(.+)"))


def gguf_names(config: ModelConfig) -> Names:
    """The names in a GGUF file, which are llama.cpp's."""
    layer = {
        "attn_norm.weight": "attention_norm",
        "attn_norm.bias": "attention_norm_bias",
        "post_attention_norm.weight": "attention_post_norm",
        "ffn_norm.weight": "mlp_norm",
        "ffn_norm.bias": "mlp_norm_bias",
        "post_ffw_norm.weight": "mlp_post_norm",
        **{f"attn_{name}.weight": name for name in ("q", "k", "v")},
        **{f"attn_{name}.bias": f"{name}_bias" for name in ("q", "k", "v")},
        **{f"attn_{name}_norm.weight": f"{name}_norm" for name in ("q", "k")},
        "attn_qkv.weight": "q k v",
        "attn_qkv.bias": "q_bias k_bias v_bias",
        "attn_output.weight": "o",
        "attn_output.bias": "o_bias",
        **{f"ffn_{name}.weight": name for name in ("gate", "up", "down")},
        **{f"ffn_{name}.bias": f"{name}_bias" for name in ("gate", "up", "down")},
        **({"ffn_up.weight": "gate up"} if config.family == "phi3" else {}),
        "ffn_gate_inp.weight": "router",
        **{f"ffn_{name}_exps.weight": f"experts.{{}}.{name}" for name in ("gate", "up", "down")},
    }
    whole = {
        "token_embd.weight": "embedding",
        "position_embd.weight": "positions",
        "output_norm.weight": "final_norm",
        "output_norm.bias": "final_norm_bias",
        "output.weight": "head",
        "rope_freqs.weight": "rope_factors",
        "rope_factors_short.weight": "rope_factors",
    }
    return Names(whole, layer, re.compile(r"blk\.(\d+)\.(.+)"))
