"""A name or a path -> a model that is ready to run."""

import contextlib
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.catalogue.files import name_of
from thermoscope.catalogue.precision import NATIVE, PRECISIONS, Precision
from thermoscope.errors import BadModelFile, InvalidRequest, OutOfMemory
from thermoscope.models import foreign, pack, packed, store, yardstick
from thermoscope.models.adapter import Adapter
from thermoscope.models.cache import KVCache
from thermoscope.models.checkpoint import Checkpoint, open_checkpoint
from thermoscope.models.decoder import Decoder
from thermoscope.models.fused import Fused
from thermoscope.models.kernels import build as kernel
from thermoscope.models.tokenizer import Tokenizer
from thermoscope.planning import serving

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """Words, weights and shape of one language model at one precision."""

    name: str
    precision: Precision
    config: ModelConfig
    tokenizer: Tokenizer
    decoder: Decoder | Fused | Adapter
    rounding: float | None = None  # mean KL to the file's own weights, nats a token, where they were rounded

    @property
    def native(self) -> bool:
        """Whether the own kernel runs it."""
        return isinstance(self.decoder, Fused)

    def cache(self, *, slots: int, context: int) -> KVCache:
        """An empty cache of the kind that the decoder reads and writes."""
        return KVCache(self.config, slots=slots, context=context, dtype=self.decoder.cache_type)

    def run_on(self, threads: int) -> None:
        """Use so many threads: the kernel's where it runs the layers, else PyTorch's.

        Those of the other would spin beside them on the same cores. To be called on the thread that computes.
        """
        kernel.look_again()
        if kernel.available():
            kernel.loaded().threads = threads if self.native else 1
        torch.set_num_threads(1 if self.native else threads)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        precision: str | None = None,
        slots: int = 1,
        context: int | None = None,
        native: bool | None = None,
        progress: bool = False,
    ) -> "Model":
        """Find a model, pack it if it was not packed before, and build its decoder.

        `precision`: one of `PRECISIONS`; None is the fastest that stays close to fp32. `slots`, `context`:
        the cache that it is to run with, counted when memory is checked. `native`: whether the own kernel is
        to run it, at the precisions that it has; None is where it has been built.

        **Errors:** `ModelNotFound`, `FetchFailed`, `BadModelFile`, `UnsupportedModel`, `OutOfMemory`;
        `InvalidRequest` for an unknown precision; `KernelUnavailable` where `native` is asked for, not built.
        """
        if precision is not None and precision not in PRECISIONS:
            raise InvalidRequest(
                f"precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}.", param="precision"
            )
        if native:
            kernel.loaded()
        source = store.locate(name, progress=progress)
        if foreign.is_foreign(source):
            return _foreign(source, precision, slots, context)
        ready = _packed(source, precision, kernel.available() if native is None else native, slots, context)
        if ready.rounding is not None:
            log.warning(
                "%s: rounded for %s, mean KL to the file's own weights in float32 %.2g nats a token.",
                ready.name, ready.precision, ready.rounding,
            )  # fmt: skip
        decoder = pack.build(ready.config, ready.tensors)
        return cls(ready.name, ready.precision, ready.config, ready.tokenizer, decoder, ready.rounding)


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


def _packed(
    source: Path, precision: Precision | None, native: bool, slots: int, context: int | None
) -> packed.Packed:
    """From the cache, or packed now and kept there where the disk has room."""
    folder = packed.folder_for(store.cache_dir(), source, precision, native=native)
    if folder.exists():
        try:
            ready = packed.load(folder)
        except BadModelFile:
            shutil.rmtree(folder, ignore_errors=True)  # damaged: made anew below
        else:
            _check_memory(ready.config, ready.precision, slots, context, native=native)
            return ready
    checkpoint = open_checkpoint(source)
    chosen = precision or pack.default_precision(checkpoint, native=native)
    _check_memory(checkpoint.config, chosen, slots, context, native=native)
    tensors = dict(pack.pack(checkpoint, chosen, native=native))
    rounding = _rounding(checkpoint, tensors) if pack.rounded(checkpoint, chosen) else None
    ready = packed.Packed(checkpoint.name, chosen, checkpoint.config, checkpoint.tokenizer, tensors, rounding)
    size = sum(tensor.nbytes for tensor in tensors.values())
    with contextlib.suppress(OSError, SafetensorError):  # a cache that cannot be written costs time, no more
        folder.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder.parent).free > 2 * size:
            packed.save(folder, ready)
    return ready


def _rounding(checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> float | None:
    """What rounding costs, where there is memory for both forms at once."""
    try:
        _check_memory(checkpoint.config, "fp32", 1, yardstick.TOKENS)
    except OutOfMemory as error:
        log.warning("%s: weights rounded; by how much is not measured: %s", checkpoint.name, error)
        return None
    exact, rounded = (
        pack.build(checkpoint.config, each) for each in (dict(pack.pack(checkpoint, "fp32")), tensors)
    )
    return yardstick.divergence(exact, rounded, checkpoint.tokenizer)


def _check_memory(
    config: ModelConfig,
    precision: Precision,
    slots: int,
    context: int | None,
    weights: int | None = None,
    *,
    native: bool = False,
) -> None:
    longest = min(context or config.context, config.context)
    native = native and precision in NATIVE and Fused.knows(config)
    needed = serving.serving_memory(
        config, precision, slots=slots, context=longest, file_bytes=weights, native=native
    )
    serving.check_fits(needed.total, serving.free_bytes())
