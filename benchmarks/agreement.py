"""How far we and llama.cpp say the same from the same file: a table, and one JSON line last.

    python benchmarks/agreement.py --text FILE      the best token after each of 2,000 tokens of a real text
    python benchmarks/agreement.py                  20 greedy runs alone

Where a greedy run first differs, the margin is that of fp32's best two logits there: where it is small,
rounding decides, and neither is wrong.
"""

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thermoscope.bench import llama
from thermoscope.errors import ThermoscopeError

WINDOW = 512  # tokens of a text that stand together; llama-perplexity keeps what follows the second half
GREEDY = 32  # tokens of a greedy run
PATIENCE = 120  # seconds for llama-server to load


class Judged(NamedTuple):
    """One greedy run: where the two first differ, fp32's margin there, and whose token fp32 says.

    None where they do not differ.
    """

    prompt: str
    position: int | None = None
    margin: float | None = None
    fp32: str | None = None  # ours, theirs, neither


class Scores(NamedTuple):
    """What llama-perplexity keeps: windows of tokens, and the best token after each of the second halves'."""

    windows: list[list[int]]
    best: list[list[int]]


def agree(
    model: str, precision: str | None, folder: Path, path: Path, threads: int, text: str | None, tokens: int
) -> dict[str, Any]:
    """Both comparisons, for a worker of its own: `top1` with a text, and `greedy`."""
    import torch

    from thermoscope.models.model import Model

    torch.set_num_threads(threads)
    ours = Model.load(model, precision=precision)
    top = None if text is None else _top1(ours, llama_best(folder, path, text, tokens, threads))
    return {"top1": top, "greedy": [each._asdict() for each in _greedy(model, ours, folder, path, threads)]}


class Agreement:
    """`agree` as a contender."""

    def agree(self, **settings: Any) -> dict[str, Any]:
        return agree(**settings)


def llama_best(folder: Path, path: Path, text: str, tokens: int, threads: int) -> Scores:
    """llama.cpp's best tokens, teacher-forced, from the file of logits that `llama-perplexity` writes.

    A window gives WINDOW/2 − 1 of them. It keeps log-probabilities in 16 bits, 0.00025 nats apart.
    """
    each = WINDOW - 1 - WINDOW // 2
    chunks = -(-tokens // each)
    with tempfile.TemporaryDirectory(prefix="thermoscope-top1-") as scratch:
        words, kept = Path(scratch) / "text", Path(scratch) / "logits"
        words.write_text(text[: 16 * WINDOW * (chunks + 1)], encoding="utf-8")
        llama.run(
            folder,
            "llama-perplexity",
            [
                *("-m", path, "-f", words, "-c", WINDOW, "-b", WINDOW, "-t", threads, "-tb", threads),
                *("--chunks", chunks, "--kl-divergence-base", kept),
            ],
        )
        return read_scores(kept)


def read_scores(path: Path) -> Scores:
    """`_logits_`, then int32 window, vocabulary and windows, the tokens; then a row for each token scored:
    two floats (step and least log-probability) and 16 bits for each word of the vocabulary."""
    with path.open("rb") as file:
        if file.read(8) != b"_logits_":
            raise ThermoscopeError("llama-perplexity: got a file of another form than expected.")
        window, vocab, count = np.fromfile(file, np.int32, 3).tolist()
        ids = np.fromfile(file, np.int32, window * count).reshape(count, window)
        rows, width = window - 1 - window // 2, 2 * ((vocab + 1) // 2) + 4
        best = []
        for _ in range(count):
            scores = np.fromfile(file, np.uint16, rows * width).reshape(rows, width)
            best.append(scores[:, 4 : 4 + vocab].argmax(axis=1).tolist())
    return Scores(ids.tolist(), best)


def _top1(ours: Any, theirs: Scores) -> dict[str, int]:
    from thermoscope.engine.replay import replay

    same = count = 0
    lead = list(ours.tokenizer.prompt(""))  # what every text begins with here, and every window there
    for window, best in zip(theirs.windows, theirs.best, strict=True):
        logits = replay(ours, [*lead, *window[len(lead) :]], logits=True).logits
        first = WINDOW // 2
        said = logits[first : first + len(best)].argmax(dim=-1).tolist()
        same += sum(a == b for a, b in zip(said, best, strict=True))
        count += len(best)
    return {"same": same, "tokens": count}


def _greedy(model: str, ours: Any, folder: Path, path: Path, threads: int) -> Iterator[Judged]:
    from thermoscope.engine.engine import Engine
    from thermoscope.engine.replay import replay
    from thermoscope.engine.request import Request, Sampling
    from thermoscope.models.model import Model

    prompts = prompts_of_the_tests()
    asked = [list(ours.tokenizer.chat([{"role": "user", "content": prompt}])) for prompt in prompts]
    engine = Engine(ours, slots=1, context=512)
    said = []
    for ids in asked:
        sampling = Sampling(temperature=0.0, max_tokens=GREEDY)
        generation = engine.prepare(Request(prompt=tuple(ids), sampling=sampling, record=False))
        engine.submit(generation)
        while engine.busy:
            engine.step()
        said.append(list(generation.sequences[0].trace.tokens))
    theirs = llama_greedy(folder, path, asked, threads)
    reference = Model.load(model, precision="fp32")
    for prompt, ids, mine, (other, ended) in zip(prompts, asked, said, theirs, strict=True):
        place = first_difference(mine, other, ended, ours.tokenizer.end_ids)
        if place is None:
            yield Judged(prompt)
            continue
        scores, best = replay(reference, [*ids, *mine[:place]], logits=True).logits[-1].topk(2)
        says = {tuple(mine[place : place + 1]): "ours", tuple(other[place : place + 1]): "theirs"}
        margin = float(scores[0] - scores[1])
        yield Judged(prompt, place, margin, says.get((int(best[0]),), "neither"))


def first_difference(mine: list[int], other: list[int], ended: bool, ends: frozenset[int]) -> int | None:
    """Where two runs part. The token that `ended` a run is the last of ours, and may be missing in theirs."""
    for place, (a, b) in enumerate(zip(mine, other, strict=False)):
        if a != b:
            return place
    if len(mine) == len(other) + 1 and ended and mine[-1] in ends:
        return None
    return None if len(mine) == len(other) else min(len(mine), len(other))


def llama_greedy(
    folder: Path, path: Path, prompts: Sequence[Sequence[int]], threads: int, *options: str
) -> list[tuple[list[int], bool]]:
    """Each prompt's greedy tokens from `llama-server` with these options, and whether the model ended it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(folder / "llama-server"), "-m", str(path), "-t", str(threads), "-c", "1024", "-np", "1"]
    process = subprocess.Popen(
        [*command, *options, "--host", "127.0.0.1", "--port", str(port)],
        **{"env": llama.environment(folder), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL},
    )
    try:
        _wait(process, f"http://127.0.0.1:{port}/health")
        return [_complete(f"http://127.0.0.1:{port}/completion", ids) for ids in prompts]
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen, url: str) -> None:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise ThermoscopeError("llama-server: it did not start; run it by hand to see why.")


def _complete(url: str, ids: Sequence[int]) -> tuple[list[int], bool]:
    asked = {"prompt": list(ids), "n_predict": GREEDY, "temperature": 0, "samplers": ["temperature"]}
    asked |= {"return_tokens": True, "cache_prompt": False}
    request = urllib.request.Request(url, json.dumps(asked).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        done = json.loads(answer.read())
    return done["tokens"], done["stop_type"] == "eos"


def prompts_of_the_tests() -> Sequence[str]:
    root = str(Path(__file__).parents[1])
    if root not in sys.path:
        sys.path.insert(0, root)
    from tests.prompts import PROMPTS

    return PROMPTS


def main() -> None:
    from quality import read_text
    from rich.console import Console
    from targets import agreement_lines, table

    from thermoscope.models.kernels.native import cores
    from thermoscope.models.store import locate

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--precision")
    parser.add_argument("--text", type=Path, metavar="FILE", help="real text, plain or JSON lines")
    parser.add_argument("--text-tokens", type=int, default=2000)
    arguments = parser.parse_args()
    try:
        folder = llama.find()
        if folder is None:
            raise ThermoscopeError(f"llama.cpp: not found; name its folder in {llama.FOLDER}.")
        text = read_text(arguments.text) if arguments.text else None
        path, threads = locate(arguments.model), cores()
        found = agree(
            **{"model": arguments.model, "precision": arguments.precision, "folder": folder, "path": path},
            **{"threads": threads, "text": text, "tokens": arguments.text_tokens},
        )
    except (ThermoscopeError, OSError) as error:
        raise SystemExit(f"benchmark: {error}") from None
    Console(width=110).print(table(agreement_lines(found)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
