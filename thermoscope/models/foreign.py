"""Models whose family is none of ours: looked at without weights, loaded by `transformers`, and tried.

Only a folder of safetensors is loaded, and no code out of it.
"""

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.catalogue.files import read_json
from thermoscope.catalogue.hf_config import FAMILIES
from thermoscope.errors import BadModelFile, UnsupportedModel
from thermoscope.models.adapter import Adapter, calling, interface
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.folder import refuse_quantised, weight_files
from thermoscope.models.folder_tokenizer import folder_tokenizer
from thermoscope.models.tokenizer import Tokenizer

NAME = "thermoscope"  # of our attention in transformers' register
TRIAL = 24  # tokens
BOUND = 1e-3  # how far a trial's logits may be off, as a share of the largest
KINDS = {"full_attention", "sliding_attention"}
logger = logging.getLogger(__name__)


def is_foreign(path: Path) -> bool:
    """Whether a model is a folder of a family that is not ours, and transformers is there to run it."""
    if not (path / "config.json").is_file() or find_spec("transformers") is None:
        return False
    return read_json(path / "config.json").get("model_type") not in FAMILIES


class Call(NamedTuple):
    """What attention was called with: [heads, dim] of each, and how far back it may look."""

    queries: tuple[int, ...]
    keys: tuple[int, ...]
    values: tuple[int, ...]
    window: int | None


@dataclass(frozen=True)
class Foreign:
    """A folder whose structure was found fit: its shape, its tokenizer, and what its weights will take."""

    path: Path
    config: ModelConfig
    tokenizer: Tokenizer
    weight_bytes: int

    @classmethod
    def open(cls, path: Path) -> "Foreign":
        """Look at a folder's network without its weights.

        **Errors:** `UnsupportedModel` for one that transformers does not know or our attention cannot serve;
        `BadModelFile`.
        """
        import transformers

        fields = read_json(path / "config.json")
        refuse_quantised(path, fields)
        weight_files(path)
        try:
            described = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
        except Exception as error:  # transformers raises all kinds
            raise UnsupportedModel(
                f"architecture: got {fields.get('model_type')!r}, which transformers does not know either "
                f"({_line(error)}); take a model of another family."
            ) from error
        if described.get_text_config() is not described:
            raise UnsupportedModel(
                f"{described.model_type}: got a model of more than text, expected a decoder of text alone."
            )
        network, calls = _sketch(described)
        config = _shape(described, network, calls)
        tokenizer = folder_tokenizer(path, fields, rows=config.vocab)
        return cls(path, config, tokenizer, 4 * network.num_parameters())

    def load(self) -> Adapter:
        """Load the weights in float32, and try the network.

        **Errors:** `UnsupportedModel` where our attention changes what the network says; `BadModelFile`.
        """
        import transformers

        try:
            network, report = transformers.AutoModelForCausalLM.from_pretrained(
                self.path,
                dtype=torch.float32,
                attn_implementation="eager",
                experts_implementation="eager",
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:
            raise BadModelFile(f"{self.path.name}: transformers cannot load it ({_line(error)}).") from error
        if wrong := sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"]))):
            raise BadModelFile(
                f"{self.path.name}: got no fitting tensor for {len(wrong)} weights, the first being "
                f"{wrong[0]}; the file is incomplete, fetch it again."
            )
        adapter = _tried(self.config, network.eval())
        logger.warning(
            "%s: a %s runs through transformers, in fp32 and slower than the families of our own.",
            self.path.name,
            self.config.family,
        )
        return adapter


def _sketch(described: Any) -> tuple[Any, list[Call]]:
    """A network without weights, and what its attention is called with when two tokens go through it."""
    import transformers

    transformers.AttentionInterface.register(NAME, interface)
    calls: list[Call] = []

    def function(
        q: Tensor, k: Tensor, v: Tensor, _scale: float, window: int | None, _softcap: float | None
    ) -> Tensor:
        calls.append(Call(q.shape[1:], k.shape[1:], v.shape[1:], window))
        return q.new_empty(len(q), q.shape[1] * v.shape[-1])

    rows = torch.zeros(1, 2, dtype=torch.long, device="meta")
    described.dtype = torch.float32
    try:
        with torch.device("meta"), torch.inference_mode(), calling(function):
            network = transformers.AutoModelForCausalLM.from_config(
                described, attn_implementation=NAME, experts_implementation="batched_mm"
            ).eval()
            network.base_model(input_ids=rows, position_ids=rows, use_cache=False)
    except Exception as error:
        raise UnsupportedModel(
            f"{described.model_type}: got a network that our attention does not fit into ({_line(error)}); "
            "take a model of another family."
        ) from error
    return network, calls


def _shape(described: Any, network: Any, calls: list[Call]) -> ModelConfig:
    """The shape of a decoder whose attention is called so."""
    family = described.model_type
    kinds = getattr(described, "layer_types", None) or []
    if other := sorted(set(kinds) - KINDS):
        raise UnsupportedModel(
            f"{family}: got layers of kind {', '.join(other)}, expected {' or '.join(sorted(KINDS))} in all."
        )
    layers = getattr(described, "num_hidden_layers", 0)
    windows = tuple(call.window for call in calls)
    if len(calls) != layers or not calls:
        raise UnsupportedModel(
            f"{family}: got attention in {len(calls)} of {layers} layers, expected it in all, "
            "called through transformers' attention interface."
        )
    if len({call[:3] for call in calls}) > 1 or len(set(windows) - {None}) > 1:
        raise UnsupportedModel(f"{family}: got layers of several shapes, expected the same in all.")
    ((heads, dim), (kv_heads, key_dim), (_, value_dim), _) = calls[0]
    if not dim == key_dim == value_dim:
        raise UnsupportedModel(
            f"{family}: got keys of {key_dim} and values of {value_dim}, expected the same."
        )
    if kinds and any(
        (kind == "sliding_attention") != bool(w) for kind, w in zip(kinds, windows, strict=True)
    ):
        raise UnsupportedModel(f"{family}: got windowed layers whose window our attention is not told.")
    context = getattr(described, "max_position_embeddings", None)
    if context is None:
        raise UnsupportedModel(f"{family}: got no max_position_embeddings, expected the longest context.")
    return ModelConfig(
        family=family,
        vocab=network.get_input_embeddings().weight.shape[0],
        hidden=described.hidden_size,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=dim,
        ffn=getattr(described, "intermediate_size", None) or 4 * described.hidden_size,
        context=context,
        norm_eps=0.0,  # transformers' affair, as all that is left out
        window=next((window for window in windows if window), None),
        windowed=tuple(map(bool, windows)) if any(windows) else (),
    )


@torch.inference_mode()
def _tried(config: ModelConfig, network: Any) -> Adapter:
    """The network behind our interface, once it gave the logits that it gives by itself.

    A sequence goes through in two calls, with another one beside it: a network that sees other tokens in any
    way but by our attention says something else then.
    """
    count = min(TRIAL, config.context)
    tokens = [place * 7919 % config.vocab for place in range(1, count + 1)]
    expected = network(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    network.set_attn_implementation(NAME)
    adapter, cache, cut = Adapter(config, network), KVCache(config, slots=2, context=count), count // 3
    both = tokens[:cut] + tokens[-cut:]
    first = adapter.forward(both, [Span(0, 0, cut), Span(1, 0, cut)], cache)[:cut]
    rest = adapter.forward(tokens[cut:], [Span(0, cut, count - cut)], cache)
    off = (adapter.logits(torch.cat((first, rest))) - expected).abs().max()
    if not off <= BOUND * expected.abs().max():
        raise UnsupportedModel(
            f"{config.family}: got logits {off:.2g} away from the network's own with our attention in it, "
            "expected the same; something in it beside attention looks at other tokens."
        )
    return adapter


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
