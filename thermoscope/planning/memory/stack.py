"""Code paths: what a training stack keeps of a token beyond what the mathematics needs, each as a named
constant.

The same step on the same model takes 8 or 14 bytes a logit, and an RMSNorm keeps 2 or 4 bytes a number, by
which code runs. None of it follows from the formula of the layer, so it stands here and can be chosen.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from thermoscope.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class Stack:
    """How a stack runs a decoder layer.

    - `norm_copy`: an RMSNorm works on a float32 copy of its input and keeps it; a fused one keeps the input.
    - `fused_mlp`: act(gate)·up is one kernel, which works out act(gate) again in the backward pass.
    - `fused_qkv`: Q, K and V are one product, and V, a view of it, keeps all of it.
    - `keeps_product`: what goes into the down projection is kept although its weights are frozen.
    - `repeats_kv`: keys and values are copied for each head that shares them.
    - `shared_input`: an adapter's input is kept once for Q, K and V.
    - `adapter_copy`: an adapter in float32 keeps a float32 copy of its input; autocast keeps 2 bytes.
    - `quantised_input`: a product with quantised weights keeps a copy of its input.
    - `wide_quantised`: an MLP of quantised weights works in float32.
    """

    norm_copy: bool = True
    fused_mlp: bool = False
    fused_qkv: bool = False
    keeps_product: bool = False
    repeats_kv: bool = False
    shared_input: bool = False
    adapter_copy: bool = False
    quantised_input: bool = False
    wide_quantised: bool = False
    reason: str


STACKS: Mapping[str, Stack] = {
    "transformers": Stack(reason="transformers' own layers with peft under autocast (Trainer, bf16=True)"),
    "transformers-pure": Stack(
        adapter_copy=True, reason="the same without autocast: peft casts an adapter's input to its float32"
    ),
    "fused": Stack(norm_copy=False, reason="Triton norms and losses, as in Unsloth's and FOAK's kernels"),
    "fused-pure": Stack(norm_copy=False, adapter_copy=True, reason="the same without autocast"),
    "liger": Stack(norm_copy=False, fused_mlp=True, reason="Liger's RMSNorm and SwiGLU (arXiv 2410.10989)"),
    "litgpt": Stack(
        fused_qkv=True, keeps_product=True, repeats_kv=True, shared_input=True, wide_quantised=True,
        reason="LitGPT: one product for Q, K and V, dropout before it; 4-bit MLPs of float32's width",
    ),
    "litgpt-2023": Stack(
        fused_qkv=True, keeps_product=True, repeats_kv=True, shared_input=True, quantised_input=True,
        reason="the same with bitsandbytes before 0.42, whose 4-bit product saved its input",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Loss:
    r"""How the loss is worked out; T tokens, V words, h the stream's width.

    Held at its peak: $\text{logit}\;T V + \text{stream}\;T h$.

    - `logit`: bytes a logit. `stream`: bytes a number of the stream: the last layer's output, and the last
      norm's float32 copy where it makes one.
    - `chunked`: the head and the loss run on some rows at a time, so that $T V$ becomes about $T h$.
    """

    logit: float
    stream: float
    chunked: bool = False
    reason: str


LOSSES: Mapping[str, Loss] = {
    "full": Loss(
        logit=12, stream=6, reason="transformers from 4.49: float32 log-softmax and two gradients of its size"
    ),
    "full-4.46": Loss(
        logit=14, stream=6, reason="transformers 4.46 to 4.48: logits, in float32, shifted, log-softmax"
    ),
    "full-4.45": Loss(
        logit=12, stream=6, reason="transformers to 4.45: float32 logits, their shift, log-softmax"
    ),
    "full-half": Loss(
        logit=8, stream=6, reason="code that never widens logits: logits, shift, log-softmax, gradient"
    ),
    "fused": Loss(
        logit=8, stream=4, reason="a fused cross-entropy: float32 logits and their gradient"
    ),
    "fused-4.46": Loss(
        logit=10, stream=4, reason="the same beside the bf16 logits of transformers 4.46 to 4.48"
    ),
    "chunked": Loss(
        logit=4, stream=4, reason="logits and log-softmax in 16 bits, made in chunks but kept (LitGPT)"
    ),
    "liger": Loss(
        logit=6, stream=8, chunked=True,
        reason="fused linear cross-entropy: a chunk's logits and float32 copy, the stream's gradient",
    ),
}  # fmt: skip


def stack(name: str) -> Stack:
    """The stack of that name.

    **Errors:** `InvalidRequest`.
    """
    if name not in STACKS:
        raise InvalidRequest(f"stack: got {name!r}, expected one of {', '.join(STACKS)}.", param="stack")
    return STACKS[name]


def loss(name: str) -> Loss:
    """The loss of that name.

    **Errors:** `InvalidRequest`.
    """
    if name not in LOSSES:
        raise InvalidRequest(f"loss: got {name!r}, expected one of {', '.join(LOSSES)}.", param="loss")
    return LOSSES[name]


def loss_bytes(chosen: Loss, tokens: float, hidden: int, vocab: float) -> tuple[float, float]:
    r"""Bytes of the logits and all of their size, and of the stream beside them.

    A chunked loss takes $\lceil T / \lceil V/h \rceil \rceil$ rows at a time, rounded up to a power of two
    (Liger).
    """
    rows = tokens
    if chosen.chunked:
        pieces = -(-vocab // hidden)
        rows = min(tokens, 2 ** (int(-(-tokens // pieces)) - 1).bit_length())
    return chosen.logit * rows * vocab, chosen.stream * tokens * hidden
