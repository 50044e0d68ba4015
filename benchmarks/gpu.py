"""Decoding on a graphics card against what its memory allows: a table, and one JSON line last.

    python benchmarks/gpu.py                        where there is no CUDA device it says so, and that is all
    python benchmarks/gpu.py --shape llama-3.1-8b   random weights of a shape of the catalogue

The readable decoder in bfloat16, one greedy answer. A step must read all weights once, so bytes / bandwidth
is the least time; the bandwidth is that of summing a large buffer. On a card the kernels of a step are
counted as well, and for how much of it one of them runs: for the rest the card waits for Python.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from rich.console import Console
from targets import Line, table

from thermoscope.bench.bandwidth import weight_bytes
from thermoscope.bench.measure import TEXT
from thermoscope.catalogue.architecture import Architecture
from thermoscope.catalogue.config import ModelConfig
from thermoscope.catalogue.lookup import architecture
from thermoscope.errors import ThermoscopeError, UnsupportedModel
from thermoscope.models import pack
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.decoder import Decoder
from thermoscope.models.kernels.bandwidth import BUFFER
from thermoscope.models.parts import parts_of, shape_of
from thermoscope.models.product import Dense
from thermoscope.models.store import locate

PROMPT = 128  # tokens


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--shape", help="a shape of the catalogue like Llama's, with random weights, instead")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda", help="cpu shows that the benchmark itself works")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("benchmark: no CUDA device here, so nothing is measured.")
        return
    try:
        with torch.device(arguments.device), torch.inference_mode():
            shape = architecture(arguments.shape, local=False) if arguments.shape else None
            decoder, prompt = noise(shape) if shape else load(arguments.model, arguments.device)
            result = measure(decoder, prompt, arguments.device, arguments.tokens, arguments.rounds)
    except (ThermoscopeError, OSError) as error:
        raise SystemExit(f"benchmark: {error}") from None
    figure = f"{result['tokens_per_second']:.0f} tok/s; {result['weights'] / 1e6:.1f} MB a step at "
    figure += f"{result['bandwidth'] / 1e9:.0f} GB/s"
    lines = [
        Line(f"share of the memory limit, {arguments.tokens} tokens", f"{result['share']:.1%}: {figure}")
    ]
    if "kernels" in result:
        busy = f"{result['busy'] * 1e3:.2f} ms in {result['kernels']} kernels"
        lines.append(Line(f"of a step of {1e3 / result['tokens_per_second']:.2f} ms the card works", busy))
    console = Console(width=120)
    console.print(f"{arguments.shape or arguments.model} on {result['device']}, torch {torch.__version__}")
    console.print(table(lines))
    print(json.dumps(result | {"lines": [line._asdict() for line in lines]}))


def measure(decoder: Decoder, prompt: list[int], device: str, tokens: int, rounds: int) -> dict[str, Any]:
    """The median speed of decoding over some rounds, and its share of the limit."""
    weights, speeds, bandwidths = weight_bytes(decoder), [], []
    decode(decoder, prompt, 2, device)
    for _ in range(rounds):
        speeds.append(decode(decoder, prompt, tokens, device))
        bandwidths.append(read(device))
    speed, bandwidth = median(speeds), median(bandwidths)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    return {
        "device": name,
        "tokens_per_second": speed,
        "weights": weights,
        "bandwidth": bandwidth,
        "share": speed * weights / bandwidth,
        **(work(decoder, prompt) if device == "cuda" else {}),
    }


def load(model: str, device: str) -> tuple[Decoder, list[int]]:
    """The readable decoder with its weights there, and a prompt."""
    checkpoint = open_checkpoint(locate(model))
    return build(checkpoint, device), list(checkpoint.tokenizer.prompt(TEXT))[:PROMPT]


def noise(shape: Architecture) -> tuple[Decoder, list[int]]:
    """The readable decoder of a shape with random weights, whose values do not change its speed."""
    torch.manual_seed(0)
    checkpoint = Noise(shape)
    return build(checkpoint, str(torch.get_default_device())), list(range(PROMPT))


class Noise:
    """What `pack` asks of a checkpoint, with random weights on the device that is PyTorch's default."""

    def __init__(self, shape: Architecture) -> None:
        names = ("vocab", "hidden", "layers", "heads", "kv_heads", "head_dim", "ffn", "context", "tied")
        biases = {name: getattr(shape, name) for name in ("qkv_bias", "output_bias", "mlp_bias")}
        self.config = ModelConfig(
            family="llama", norm_eps=1e-5, **{name: getattr(shape, name) for name in names}, **biases
        )
        if self.config.parameters != shape.parameters:
            raise UnsupportedModel(f"shape: got {shape.name}, expected one whose layers are those of Llama.")
        self._parts = set(parts_of(self.config))

    def has(self, part: str) -> bool:
        return part in self._parts

    def read(self, part: str) -> torch.Tensor:
        shape = shape_of(part, self.config)
        return torch.ones(shape) if part.endswith("norm") else 0.02 * torch.randn(shape, dtype=torch.bfloat16)


def build(checkpoint: Any, device: str) -> Decoder:
    """The decoder, with words in bfloat16 as everything else."""
    tensors = {name: tensor.to(device) for name, tensor in pack.pack(checkpoint, "bf16")}
    words = {name: tensors[name].bfloat16() for name in ("embedding", "head") if name in tensors}
    decoder = pack.build(checkpoint.config, tensors | words)
    assert isinstance(decoder, Decoder)
    decoder.head = Dense(words.get("head", words["embedding"]))
    return decoder


def work(decoder: Decoder, prompt: list[int], tokens: int = 16) -> dict[str, float]:
    """Kernels of a step, and the seconds in which they run."""
    both = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    found = []
    for steps in (tokens, 2 * tokens):  # the difference is of steps alone, without the prompt
        with torch.profiler.profile(activities=both, acc_events=True) as profile:
            decode(decoder, prompt, steps, "cuda")
        events = [each for each in profile.events() if each.device_type == torch.autograd.DeviceType.CUDA]
        found.append((len(events), sum(each.time_range.elapsed_us() for each in events)))
    (fewer, shorter), (more, longer) = found
    return {"kernels": round((more - fewer) / tokens), "busy": (longer - shorter) / tokens / 1e6}


def decode(decoder: Decoder, prompt: list[int], tokens: int, device: str) -> float:
    """Tokens a second of a greedy answer, the prompt read before."""
    cache = KVCache(decoder.config, slots=1, context=len(prompt) + tokens, dtype=decoder.cache_type)
    memory = cache._memory.to(device)
    cache._memory, cache.keys, cache.values = memory, memory[:, 0], memory[:, 1]

    def step(said: list[int], start: int) -> int:
        hidden = decoder.forward(said, [Span(0, start, len(said))], cache)
        return int(decoder.logits(hidden[-1:]).argmax())

    token = step(prompt, 0)
    since = time.perf_counter()
    for place in range(tokens - 1):
        token = step([token], len(prompt) + place)
    return (tokens - 1) / (time.perf_counter() - since)


def read(device: str, passes: int = 9) -> float:
    """Bytes a second."""
    size = BUFFER * (8 if device == "cuda" else 1)  # a card takes the small one in the time of a launch
    words = torch.ones(size // 8, dtype=torch.int64)
    settle: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    for _ in range(passes):
        settle()
        since = time.perf_counter()
        words.sum()
        settle()
        times.append(time.perf_counter() - since)
    return words.nbytes / median(times)


if __name__ == "__main__":
    sys.exit(main())
