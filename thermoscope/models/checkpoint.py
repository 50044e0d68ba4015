"""What the decoder asks of a model's files, whatever their format."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from thermoscope.catalogue.config import ModelConfig
from thermoscope.errors import BadModelFile, ModelNotFound, ThermoscopeError, UnsupportedModel
from thermoscope.models.tokenizer import Tokenizer

# A part's name here -> its name in the two formats, with the format's own frame around it.
HF_WHOLE = {
    "embedding": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "head": "lm_head.weight",
}
HF_LAYER = {
    "attention_norm": "input_layernorm.weight",
    "mlp_norm": "post_attention_layernorm.weight",
    **{name: f"self_attn.{name}_proj.weight" for name in ("q", "k", "v", "o")},
    **{f"{name}_norm": f"self_attn.{name}_norm.weight" for name in ("q", "k")},
    **{f"{name}_bias": f"self_attn.{name}_proj.bias" for name in ("q", "k", "v", "o")},
    **{name: f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")},
    **{f"{name}_bias": f"mlp.{name}_proj.bias" for name in ("gate", "up", "down")},
}
GGUF_WHOLE = {
    "embedding": "token_embd.weight",
    "final_norm": "output_norm.weight",
    "head": "output.weight",
    "rope_factors": "rope_freqs.weight",
}
GGUF_LAYER = {
    "attention_norm": "attn_norm.weight",
    "mlp_norm": "ffn_norm.weight",
    **{name: f"attn_{name}.weight" for name in ("q", "k", "v")},
    "o": "attn_output.weight",
    **{f"{name}_norm": f"attn_{name}_norm.weight" for name in ("q", "k")},
    **{f"{name}_bias": f"attn_{name}.bias" for name in ("q", "k", "v")},
    "o_bias": "attn_output.bias",
    **{name: f"ffn_{name}.weight" for name in ("gate", "up", "down")},
    **{f"{name}_bias": f"ffn_{name}.bias" for name in ("gate", "up", "down")},
}


class Blocks(NamedTuple):
    """A matrix in blocks of 32 columns: `weight = scale · code + minimum`.

    - `codes`: uint8 [rows, cols]; 0 to 15 (Q4_0, Q4_1, Q4_K), to 31 (Q5_0, Q5_1, Q5_K) or to 255 (Q8_0).
    - `scale`, `minimum`: float32 [rows, cols / 32].
    """

    codes: torch.Tensor
    scale: torch.Tensor
    minimum: torch.Tensor


class Checkpoint(Protocol):
    """A model's files: its shape, its tokenizer, and its weights by part.

    Parts are `embedding`, `final_norm`, `head`, `rope_factors`, and `layers.{i}.{x}` with x a key of
    `HF_LAYER`. Weights come in Hugging Face's orientation [out, in] and rotary layout.
    """

    name: str
    identity: str
    config: ModelConfig
    tokenizer: Tokenizer

    def has(self, part: str) -> bool:
        """Whether the files hold this part."""

    def read(self, part: str) -> torch.Tensor:
        """The part as a dense tensor, in float32 where it was quantised."""

    def blocks(self, part: str) -> Blocks | None:
        """The part in blocks of 32, where it is stored so."""


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a folder of safetensors or a GGUF file, and check everything but the weights' values.

    **Errors:** `ModelNotFound` where nothing is; `BadModelFile`; `UnsupportedModel`.
    """
    if path.is_dir():
        from thermoscope.models.folder import FolderCheckpoint

        return FolderCheckpoint(path)
    if not path.exists():
        raise ModelNotFound(f"{path}: no such file or folder; check the path.")
    if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt"):
        raise UnsupportedModel(
            f"{path.name}: got a pickle, which may run code and is never loaded; expected a GGUF file."
        )
    from thermoscope.models.gguf_file import GGUFCheckpoint

    return GGUFCheckpoint(path)


def identity(path: Path) -> str:
    """A hash that changes when the files do; told from their sizes and times, so that it is quick."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256(str(path.resolve()).encode())
    for file in files:
        status = file.stat()
        digest.update(f"\0{file.name}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()


def name_of(path: Path) -> str:
    """A model's name for people: the file's without its quantisation, the folder's, or the hub's."""
    path = path.resolve()
    if path.parent.name == "snapshots":  # the hub's cache: models--owner--name/snapshots/<commit>
        return path.parent.parent.name.split("--")[-1]
    return path.name if path.is_dir() else re.sub(r"[.-](I?Q\d\w*|B?F16|F32)$", "", path.stem, flags=re.I)


def shape_of(part: str, config: ModelConfig) -> tuple[int, ...]:
    """The shape that a part must have in a decoder of this shape."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, ffn = config.hidden, config.ffn
    shapes = {
        "embedding": (config.vocab, hidden),
        "head": (config.vocab, hidden),
        "rope_factors": (config.head_dim // 2,),
        **dict.fromkeys(("final_norm", "attention_norm", "mlp_norm", "o_bias", "down_bias"), (hidden,)),
        **dict.fromkeys(("q_norm", "k_norm"), (config.head_dim,)),
        **dict.fromkeys(("k", "v"), (keys, hidden)),
        **dict.fromkeys(("k_bias", "v_bias"), (keys,)),
        **dict.fromkeys(("gate", "up"), (ffn, hidden)),
        **dict.fromkeys(("gate_bias", "up_bias"), (ffn,)),
        "q": (queries, hidden),
        "q_bias": (queries,),
        "o": (hidden, queries),
        "down": (hidden, ffn),
    }
    return shapes[part.rpartition(".")[2]]


def parts_of(config: ModelConfig) -> Iterator[str]:
    """Every part that a decoder of this shape cannot do without."""
    yield from ("embedding", "final_norm", *(() if config.tied else ("head",)))
    layer = ["attention_norm", "q", "k", "v", "o", "mlp_norm", "gate", "up", "down"]
    layer += ["q_norm", "k_norm"] * config.qk_norm + ["q_bias", "k_bias", "v_bias"] * config.qkv_bias
    layer += ["o_bias"] * config.output_bias + ["gate_bias", "up_bias", "down_bias"] * config.mlp_bias
    for i in range(config.layers):
        yield from (f"layers.{i}.{part}" for part in layer)


def named_parts(
    config: ModelConfig, whole: Mapping[str, str], layer: Mapping[str, str], frame: str
) -> dict[str, str]:
    """Map each tensor's name in a format to the part that it is; `frame` is the format's `layers.{}.`."""
    named = {name: part for part, name in whole.items()}
    for i in range(config.layers):
        named |= {frame.format(i) + name: f"layers.{i}.{part}" for part, name in layer.items()}
    return named


def check_parts(found: Mapping[str, tuple[int, ...]], config: ModelConfig, where: str) -> None:
    """Refuse files that lack a part, or hold one in a shape that contradicts the configuration."""
    missing = [part for part in parts_of(config) if part not in found]
    if missing:
        raise BadModelFile(
            f"{where}: got no tensor for {_few(missing)}, expected one in a {config.family} of "
            f"{config.layers} layers; the file is incomplete, fetch it again."
        )
    for part, shape in found.items():
        if shape != (expected := shape_of(part, config)):
            raise BadModelFile(
                f"{where}: {part}: got shape {list(shape)}, expected {list(expected)}; "
                "the weights contradict the configuration, fetch the model again."
            )


def refuse_unknown(names: Iterable[str], config: ModelConfig, where: str) -> None:
    """Refuse tensors that the decoder has no place for: ignoring one would change what the model says."""
    if extra := sorted(names):
        raise UnsupportedModel(
            f"{where}: got {_few(extra)}, which a {config.family} here has no place for; "
            "expected a plain decoder without adapters, experts or extra norms."
        )


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn whatever a parser raises on broken input into one `BadModelFile`."""
    try:
        yield
    except ThermoscopeError:
        raise
    except Exception as error:  # tokenizers raises bare Exception, and parsers all kinds
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BadModelFile(
            f"{where}: got content that does not parse ({detail}); fetch the model again."
        ) from error


def read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """Read a JSON object from a file; an empty one where the file is optional and missing.

    **Errors:** `BadModelFile`.
    """
    if not path.exists():
        if optional:
            return {}
        raise BadModelFile(f"{path.parent}: got no {path.name}, expected one in every model's folder.")
    with reading(f"{path.parent.name}/{path.name}"):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise BadModelFile(f"{path}: got a {type(found).__name__}, expected a JSON object; fetch it again.")
    return found


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
