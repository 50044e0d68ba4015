"""A name or a path -> a model that is ready to run."""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from thermoscope.catalogue.config import ModelConfig
from thermoscope.catalogue.precision import PRECISIONS, Precision
from thermoscope.errors import BadModelFile, InvalidRequest
from thermoscope.models import foreign, pack, packed, store
from thermoscope.models.adapter import Adapter
from thermoscope.models.checkpoint import name_of, open_checkpoint
from thermoscope.models.decoder import Decoder
from thermoscope.models.tokenizer import Tokenizer
from thermoscope.planning import memory


@dataclass(frozen=True)
class Model:
    """Words, weights and shape of one language model at one precision."""

    name: str
    precision: Precision
    config: ModelConfig
    tokenizer: Tokenizer
    decoder: Decoder | Adapter

    @classmethod
    def load(
        cls,
        name: str,
        *,
        precision: str | None = None,
        slots: int = 1,
        context: int | None = None,
        progress: bool = False,
    ) -> "Model":
        """Find a model, pack it if it was not packed before, and build its decoder.

        `precision`: one of `PRECISIONS`; None is the fastest that stays close to fp32. `slots`, `context`:
        the cache that it is to run with, counted when memory is checked.

        **Errors:** `ModelNotFound`, `FetchFailed`, `BadModelFile`, `UnsupportedModel`, `OutOfMemory`, and
        `InvalidRequest` for an unknown precision.
        """
        if precision is not None and precision not in PRECISIONS:
            raise InvalidRequest(
                f"precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}.", param="precision"
            )
        source = store.locate(name, progress=progress)
        if foreign.is_foreign(source):
            return _foreign(source, precision, slots, context)
        ready = _packed(source, precision, slots, context)
        decoder = pack.build(ready.config, ready.tensors)
        return cls(ready.name, ready.precision, ready.config, ready.tokenizer, decoder)


def _foreign(source: Path, precision: Precision | None, slots: int, context: int | None) -> Model:
    """A family that is not ours, run by transformers."""
    if precision not in (None, "fp32"):
        raise InvalidRequest(
            f"precision: got {precision!r}, expected fp32 for a model that runs through transformers.",
            param="precision",
        )
    found = foreign.Foreign.open(source)
    _check_memory(found.config, "fp32", slots, context, found.weight_bytes)
    return Model(name_of(source), "fp32", found.config, found.tokenizer, found.load())


def _packed(source: Path, precision: Precision | None, slots: int, context: int | None) -> packed.Packed:
    """From the cache, or packed now and kept there where the disk has room."""
    folder = packed.folder_for(store.cache_dir(), source, precision)
    if folder.exists():
        try:
            ready = packed.load(folder)
        except BadModelFile:
            shutil.rmtree(folder, ignore_errors=True)  # damaged: made anew below
        else:
            _check_memory(ready.config, ready.precision, slots, context)
            return ready
    checkpoint = open_checkpoint(source)
    chosen = precision or pack.default_precision(checkpoint)
    _check_memory(checkpoint.config, chosen, slots, context)
    tensors = dict(pack.pack(checkpoint, chosen))
    ready = packed.Packed(checkpoint.name, chosen, checkpoint.config, checkpoint.tokenizer, tensors)
    size = sum(tensor.nbytes for tensor in tensors.values())
    with contextlib.suppress(OSError, SafetensorError):  # a cache that cannot be written costs time, no more
        folder.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder.parent).free > 2 * size:
            packed.save(folder, ready)
    return ready


def _check_memory(
    config: ModelConfig, precision: Precision, slots: int, context: int | None, weights: int | None = None
) -> None:
    longest = min(context or config.context, config.context)
    needed = memory.serving_memory(config, precision, slots=slots, context=longest, file_bytes=weights)
    memory.check_fits(needed.total, memory.free_bytes())
