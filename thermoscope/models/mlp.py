"""What follows attention in a layer: an MLP, or a mixture of several."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from thermoscope.catalogue.config import Activation, ModelConfig
from thermoscope.models.product import Product

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}


@dataclass(frozen=True, kw_only=True)
class Experts:
    """The MLPs of a mixture, and the router that weighs them: hidden -> experts."""

    router: Product
    gate_up: tuple[Product, ...]
    down: tuple[Product, ...]


def affine(product: Product, x: Tensor, bias: Tensor | None) -> Tensor:
    """The product, and the bias where there is one."""
    y = product(x)
    return y if bias is None else y + bias


def mlp(
    config: ModelConfig,
    gate_up: Product,
    down: Product,
    x: Float[Tensor, "rows hidden"],
    gate_up_bias: Tensor | None = None,
    down_bias: Tensor | None = None,
) -> Float[Tensor, "rows hidden"]:
    """down(act(gate x) · up x), or without a gate down(act(up x))."""
    inner, act = affine(gate_up, x, gate_up_bias), ACTIVATIONS[config.activation]
    if config.gated:
        gate, up = inner.chunk(2, dim=-1)
        inner = act(gate) * up
    else:
        inner = act(inner)
    return affine(down, inner, down_bias)


def mixture(
    config: ModelConfig, experts: Experts, x: Float[Tensor, "rows hidden"]
) -> Float[Tensor, "rows hidden"]:
    """Σ p_e · MLP_e(x) over the experts of largest p = softmax(router x), summed in the experts' order."""
    weights, chosen = torch.softmax(experts.router(x), dim=-1).topk(config.experts_per_token, dim=-1)
    if config.experts_normed:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    mixed = torch.zeros_like(x)
    for expert in sorted(set(chosen.flatten().tolist())):
        rows, rank = torch.where(chosen == expert)
        widened = mlp(config, experts.gate_up[expert], experts.down[expert], x[rows])
        mixed.index_add_(0, rows, weights[rows, rank, None] * widened)
    return mixed
