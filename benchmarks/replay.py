"""What looking costs: a replay that keeps states and attention beside a plain prefill, and the card's tasks.

    python benchmarks/replay.py [--model NAME] [--tokens 512] [--rounds 5] [--processor]

Each round runs every line in turn, so that ratios are of the same minutes. Prints a table for people, and one
JSON line last. With --processor time is the processor's, of one thread: for a machine that others use, too.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.resources import files

import torch

from thermoscope.engine.counterfactual import Counterfactual
from thermoscope.engine.gradient import gradients
from thermoscope.engine.replay import chunks
from thermoscope.engine.scheduler import PREFILL_CHUNK
from thermoscope.models.cache import Span
from thermoscope.models.exact import Exact
from thermoscope.models.intervention import Suppress
from thermoscope.models.model import Model

STEPS, TRACE = 10, 300  # of the card reasoning's example
PROMPT = 64  # tokens of a prompt whose gradient is taken
LIMITS = {"states, one layer's attention": 1.3, "states, all attention": 2.5}  # times the plain prefill


def prefill(model: Model, tokens: list[int]) -> None:
    """What an answer's prompt takes: all layers, and the head for the last token."""
    cache = model.cache(slots=1, context=len(tokens))
    for start in range(0, len(tokens), PREFILL_CHUNK):
        rows = tokens[start : start + PREFILL_CHUNK]
        hidden = model.decoder.forward(rows, [Span(0, start, len(rows))], cache)
    model.decoder.logits(hidden[-1:])


def looked(model: Model, tokens: list[int], **how) -> None:
    """A replay, what it sees let go at once."""
    for _ in chunks(model, tokens, see=lambda *_: None, **how):
        pass


def attended(model: Model, tokens: list[int], layers: list[int], first: int) -> None:
    """All layers' states, and some layers' attention; distributions from a token on."""
    looked(model, tokens, keep={"residual": None, "attention": layers}, first=first)


def suppressed(model: Model, tokens: list[int]) -> float:
    """Each of some steps hidden in turn: mean KL to the plain pass on all later tokens, in nats."""
    size = len(tokens) // (STEPS + 1)
    sequence = Counterfactual(model, tokens)
    plain = torch.cat([part.logits.log_softmax(-1) for part in sequence.plain(logits=True)])
    total = 0.0
    for step in range(STEPS):
        hidden = Suppress(range(step * size, (step + 1) * size))
        for part in sequence.changed([hidden], logits=True):
            was = plain[part.start : part.start + len(part.logits)]
            total += float((was.exp() * (was - part.logits.log_softmax(-1))).sum(-1).mean())
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--precision")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processor", action="store_true", help="the processor's time, of one thread")
    given = parser.parse_args()
    model = Model.load(given.model, precision=given.precision)
    model.run_on(1 if given.processor else 2)
    clock = time.process_time if given.processor else time.perf_counter
    text = (files("thermoscope.models") / "yardstick.txt").read_text(encoding="utf-8")
    tokens = list(model.tokenizer.prompt(text * 4))[: given.tokens]
    layers, count, trace = model.config.layers, len(tokens), tokens[:TRACE]
    exact = Exact(model.decoder)
    lines: dict[str, Callable[[], object]] = {
        "prefill": lambda: prefill(model, tokens),
        "every token's log p": lambda: looked(model, tokens),
        "states": lambda: looked(model, tokens, keep=("residual",), first=count),
        "states, one layer's attention": lambda: attended(model, tokens, [layers // 2], count),
        "states, all attention": lambda: attended(model, tokens, list(range(layers)), count),
        "states, one layer's attention, log p": lambda: attended(model, tokens, [layers // 2], 0),
        "states, all attention, log p": lambda: attended(model, tokens, list(range(layers)), 0),
        f"{STEPS} steps suppressed, {len(trace)} tokens": lambda: suppressed(model, trace),
        f"gradient of {PROMPT} tokens, all layers": lambda: gradients(exact, [(tokens[:PROMPT], [1])]),
    }
    taken: dict[str, list[float]] = {name: [] for name in lines}
    for round_ in range(given.rounds + 1):  # the first is for nothing
        for name, run in lines.items():
            began = clock()
            with torch.inference_mode("gradient" not in name):
                run()
            if round_:
                taken[name].append(clock() - began)
    result = {
        name: {
            "seconds": round(statistics.median(each), 4),
            "times": round(statistics.median(a / b for a, b in zip(each, taken["prefill"], strict=True)), 3),
        }
        for name, each in taken.items()
    }
    print(f"{model.name}, {model.precision}, {len(tokens)} tokens, median of {given.rounds} rounds")
    print(f"{'':42} {'seconds':>8} {'× prefill':>10} {'at most':>8}")
    for name, each in result.items():
        limit = LIMITS.get(name, "")
        print(f"{name:42} {each['seconds']:8.3f} {each['times']:10.2f} {limit:>8}")
    print(json.dumps({"tokens": len(tokens), "rounds": given.rounds, "lines": result, "limits": LIMITS}))


if __name__ == "__main__":
    main()
