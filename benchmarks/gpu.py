"""Decoding on a graphics card against what its memory allows: a table, and one JSON line last.

    python benchmarks/gpu.py        where there is no CUDA device it says so, and that is all

The readable decoder in bfloat16, one greedy answer. A step must read all weights once, so bytes / bandwidth
is the least time; the bandwidth is that of summing a large buffer.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from targets import Line, table

from thermoscope.bench.bandwidth import weight_bytes
from thermoscope.bench.measure import TEXT
from thermoscope.errors import ThermoscopeError
from thermoscope.models import pack
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.decoder import Decoder
from thermoscope.models.kernels.bandwidth import BUFFER
from thermoscope.models.product import Dense
from thermoscope.models.store import locate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda", help="cpu shows that the benchmark itself works")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("benchmark: no CUDA device here, so nothing is measured.")
        return
    try:
        with torch.device(arguments.device), torch.inference_mode():
            result = measure(arguments.model, arguments.device, arguments.tokens, arguments.rounds)
    except (ThermoscopeError, OSError) as error:
        raise SystemExit(f"benchmark: {error}") from None
    figure = f"{result['tokens_per_second']:.0f} tok/s; {result['weights'] / 1e6:.1f} MB a step at "
    figure += f"{result['bandwidth'] / 1e9:.0f} GB/s"
    line = Line(f"share of the memory limit, {arguments.tokens} tokens", f"{result['share']:.1%}: {figure}")
    console = Console(width=120)
    console.print(result["device"])
    console.print(table([line]))
    print(json.dumps(result | {"lines": [line._asdict()]}))


def measure(model: str, device: str, tokens: int, rounds: int) -> dict[str, str | float]:
    """The median speed of decoding over some rounds, and its share of the limit."""
    decoder, prompt = load(model, device)
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
    }


def load(model: str, device: str) -> tuple[Decoder, list[int]]:
    """The readable decoder with its weights there, and a prompt."""
    checkpoint = open_checkpoint(locate(model))
    tensors = {name: tensor.to(device) for name, tensor in pack.pack(checkpoint, "bf16")}
    words = {name: tensors[name].bfloat16() for name in ("embedding", "head") if name in tensors}
    decoder = pack.build(checkpoint.config, tensors | words)
    assert isinstance(decoder, Decoder)
    decoder.head = Dense(words.get("head", words["embedding"]))
    return decoder, list(checkpoint.tokenizer.prompt(TEXT))[:128]


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
    words = torch.ones(BUFFER // 8, dtype=torch.int64)
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
