"""How far rounded weights move a model: KL to the file's own, on a short text that ships with the program."""

from collections.abc import Sequence
from importlib.resources import files

import torch
from jaxtyping import Float
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.decoder import Decoder
from thermoscope.models.fused import Fused
from thermoscope.models.tokenizer import Tokenizer

TOKENS = 256
CHUNK = 32  # of them at a time: their distributions over a large vocabulary are large


@torch.inference_mode()
def divergence(exact: Decoder | Fused, rounded: Decoder | Fused, tokenizer: Tokenizer) -> float:
    r"""Mean KL(exact ‖ rounded) in nats a token, teacher-forced over the text's first tokens, at T = 1.

    $$\frac{1}{n} \sum_t \sum_x p_t(x) \left(\log p_t(x) - \log q_t(x)\right)$$
    """
    text = (files("thermoscope.models") / "yardstick.txt").read_text(encoding="utf-8")
    tokens = tokenizer.prompt(text)[: min(TOKENS, exact.config.context)]
    ours, theirs = (torch.split(_hidden(each, tokens, exact.config), CHUNK) for each in (exact, rounded))
    total = 0.0
    for one, other in zip(ours, theirs, strict=True):
        p, q = (d.logits(x).double().log_softmax(-1) for d, x in ((exact, one), (rounded, other)))
        total += float((p.exp() * (p - q)).sum())
    return total / len(tokens)


def _hidden(
    decoder: Decoder | Fused, tokens: Sequence[int], config: ModelConfig
) -> Float[Tensor, "tokens hidden"]:
    cache = KVCache(config, slots=1, context=len(tokens), dtype=decoder.cache_type)
    return decoder.forward(tokens, [Span(0, 0, len(tokens))], cache)
