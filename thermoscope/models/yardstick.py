"""How far rounded weights move a model: KL to the file's own weights, on a short text that ships with the program."""

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


@torch.inference_mode()
def divergence(exact: Decoder | Fused, rounded: Decoder | Fused, tokenizer: Tokenizer) -> float:
    r"""Mean KL(exact ‖ rounded) in nats a token, teacher-forced over the text's first tokens, at T = 1.

    $$\frac{1}{n} \sum_t \sum_x p_t(x) \left(\log p_t(x) - \log q_t(x)\right)$$
    """
    text = (files("thermoscope.models") / "yardstick.txt").read_text(encoding="utf-8")
    tokens = torch.tensor(list(tokenizer.encode(text))[: min(TOKENS, exact.config.context)])
    p, q = (_logprobs(each, tokens, exact.config) for each in (exact, rounded))
    return float((p.exp() * (p - q)).sum() / len(tokens))


def _logprobs(decoder: Decoder | Fused, tokens: Tensor, config: ModelConfig) -> Float[Tensor, "tokens vocab"]:
    cache = KVCache(config, slots=1, context=len(tokens), dtype=decoder.cache_type)
    hidden = decoder.forward(tokens, [Span(0, 0, len(tokens))], cache)
    return decoder.logits(hidden).double().log_softmax(dim=-1)
