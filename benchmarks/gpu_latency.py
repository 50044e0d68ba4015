"""transformers' `generate` on a graphics card against the latency planner: a row each, one JSON line last.

    python benchmarks/gpu_latency.py         where there is no CUDA device it says so, and that is all

Networks of the catalogue's shapes with random weights in bfloat16, greedy answers of a fixed length. A prompt
is the time to one token; a step is what each further token took. The planner is asked about the card by its
name, with the class `eager`; nothing is calibrated.
"""

import argparse
import json
import time
from statistics import median
from typing import Any

import torch
import transformers

from thermoscope.catalogue.hardware import hardware
from thermoscope.catalogue.lookup import architecture
from thermoscope.planning.latency.efficiency import fitted
from thermoscope.planning.latency.formats import weight_format
from thermoscope.planning.latency.prediction import Ceilings, Request, predict
from thermoscope.tuning import network

MODELS, BATCHES = ("smollm2-135m", "llama-3.2-1b", "llama-3.1-8b"), (1, 8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cpu shows that the benchmark itself works")
    parser.add_argument("--gpu", default="H100", help="the card's name in the catalogue")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("benchmark: no CUDA device here, so nothing is measured.")
        return
    torch.manual_seed(0)
    print("milliseconds, medians              measured  predicted       from         to    error")
    rows = []
    for name in arguments.models:
        model = build(name, arguments.device)
        for batch in BATCHES:
            seconds = measure(model, batch, arguments.prompt, arguments.tokens, arguments.rounds)
            rows += beside(name, arguments.gpu, batch, arguments.prompt, arguments.tokens, seconds)
        del model
        torch.cuda.empty_cache()
    print(json.dumps({"rows": rows}))


def build(name: str, device: str) -> Any:
    """The network of a shape."""
    with torch.device(device):
        return transformers.AutoModelForCausalLM.from_config(
            network.config(architecture(name, local=False)), dtype=torch.bfloat16, attn_implementation="sdpa"
        ).eval()


def measure(model: Any, batch: int, prompt: int, tokens: int, rounds: int) -> dict[str, float]:
    """Seconds of a prompt and of a further token, the median of some rounds after one that warms up."""
    ids = torch.randint(model.config.vocab_size, (batch, prompt), device=model.device)
    mask, times = torch.ones_like(ids), {1: [], tokens: []}  # type: ignore[var-annotated]

    def answer(length: int) -> float:
        since = time.perf_counter()
        said = model.generate(
            ids, attention_mask=mask, max_new_tokens=length, min_new_tokens=length, do_sample=False,
            use_cache=True, pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
        assert said[0, -1].item() >= 0  # waits for the card
        assert said.shape[1] == prompt + length
        return time.perf_counter() - since

    for number in range(rounds + 1):
        for length in (1, tokens):
            seconds = answer(length)
            if number:
                times[length].append(seconds)
    first = median(times[1])
    return {"prefill": first, "decode": (median(times[tokens]) - first) / (tokens - 1)}


def beside(
    name: str, gpu: str, batch: int, prompt: int, tokens: int, seconds: dict[str, float]
) -> list[dict[str, Any]]:
    """What was measured and what was foretold, a row for each phase, printed."""
    source = Ceilings(fitted())
    request = Request(
        shape=architecture(name, local=False), device=hardware(gpu), framework="eager", precision="bf16",
        format=weight_format("bf16"), cache="bf16", batch=batch, prompt=prompt, answer=tokens,
    )  # fmt: skip
    foretold = predict(request, source)
    rows = []
    for phase, said in (("prefill", foretold.first), ("decode", foretold.each)):
        band = source.band(request, said, phase)  # type: ignore[arg-type]
        found = seconds[phase]
        inside, error = band.low <= found <= band.high, said / found - 1
        rows.append({
            "model": name, "batch": batch, "phase": phase, "measured": found, "predicted": said,
            "band": (band.low, band.high), "inside": inside, "error": error,
        })  # fmt: skip
        times = "".join(f"{each * 1e3:11.2f}" for each in (found, said, band.low, band.high))
        print(
            f"{name:13} {batch:2} {phase:8}{times}{error:+9.1%} {'inside' if inside else 'outside'}",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    main()
