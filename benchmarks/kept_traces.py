"""What keeping traces costs the engine: steps of eight answers with and without `--keep-traces`, in turns.

    python benchmarks/kept_traces.py [ROUNDS]

Of each run the faster half of the steps counts, so that what else the machine does weighs little. Then what a
token costs a core: written, and counted for /metrics.
"""

import statistics
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

import thermoscope as ts
from thermoscope.engine.request import Request, Sampling
from thermoscope.engine.trace import Trace
from thermoscope.server.metrics import Metrics
from thermoscope.server.traces.coding import pack
from thermoscope.server.traces.store import Traces

STREAMS, LENGTH = 8, 128


def step_ms(model, traces):
    """Milliseconds of a step of eight answers, each kept if there is somewhere to."""
    prompt = model.tokenizer.chat([{"role": "user", "content": "Tell me a long story about a lighthouse."}])
    ended, moments = threading.Semaphore(0), []

    def receive(trace, first):
        def deliver(delta):
            if first:
                moments.append(time.perf_counter())

            def arrived(_):
                if delta.finish_reason:
                    ended.release()

            arrived(None) if trace is None else traces.add(trace, delta, arrived)

        return deliver

    for at in range(STREAMS):
        head = Trace(model=model.name, precision=model.precision, prompt=prompt, sampling={})
        trace = None if traces is None else traces.begin([head])
        sampling = Sampling(seed=at, max_tokens=LENGTH, ignore_eos=True, temperature=0.8)
        model.runner.submit(Request(prompt=prompt, sampling=sampling), receive(trace, at == 0))
    for _ in range(STREAMS):
        ended.acquire()
    gaps = sorted(later - earlier for earlier, later in pairwise(moments))
    return 1e3 * statistics.median(gaps[: len(gaps) // 2])


def core_us(work, steps):
    """Microseconds of one core for a step, the best of five rounds."""

    def once():
        began = time.thread_time()
        for step in steps:
            work(step)
        return time.thread_time() - began

    return 1e6 * min(once() for _ in range(5)) / len(steps)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with ts.load(context=512) as model, tempfile.TemporaryDirectory() as folder:
        traces = Traces(Path(folder) / "traces.db")
        step_ms(model, None), step_ms(model, traces)
        plain, kept = [], []
        for _ in range(rounds):
            plain.append(step_ms(model, None))
            kept.append(step_ms(model, traces))
        traces.close()
        ratios = [after / before for before, after in zip(plain, kept, strict=True)]
        print(
            f"a step of {STREAMS}: {statistics.median(plain):.2f} ms, kept {statistics.median(kept):.2f} ms; "
        )
        print(f"ratio {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")
        steps = model.chat("Tell me a story.", seed=1, max_tokens=200, ignore_eos=True).trace.steps
        metrics = Metrics(model)
        print(f"packing a step: {core_us(pack, steps):.0f} us of a core; ", end="")
        print(f"counting it: {core_us(lambda step: metrics.drew(step, first=False), steps):.0f} us")


if __name__ == "__main__":
    main()
