"""Real training steps on a graphics card against what the memory planner said: a row each, and one JSON line
last.

    python benchmarks/gpu_memory.py          where there is no CUDA device it says so, and that is all

transformers' network of a shape with random weights, peft's adapters, three steps of AdamW on random tokens;
each run in a process of its own. In GiB: what the planner says tensors take at the peak, and in which phase;
what they took, what PyTorch reserved, what the process took of the card, and what the planner says it needs.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
from statistics import fmean, median
from typing import Any

from gpu_memory_runs import RUNS, Run

from thermoscope.catalogue.hardware import Hardware, hardware
from thermoscope.planning.memory import device as devices
from thermoscope.planning.memory import training
from thermoscope.planning.memory.training import Training

GIB = 2**30


def train(asked: Training, place: str) -> dict[str, Any]:
    """Three steps, and the bytes that they took; on a processor nothing is measured."""
    import torch
    import transformers

    from thermoscope.tuning import network, trace

    cuda, peaks = place == "cuda", dict.fromkeys(("forward", "backward", "step"), 0)

    def passed(phase: str) -> None:
        if cuda:
            peaks[phase] = max(peaks[phase], torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()

    with torch.device(place):
        model: Any = transformers.AutoModelForCausalLM.from_config(
            network.config(asked.shape), attn_implementation=asked.attention,
            dtype=torch.float32 if asked.precision == "amp" else torch.bfloat16,
        )  # fmt: skip
    if asked.checkpointing == "full":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if asked.adapter is not None:
        model = network.adapted(model, asked.adapter, meta=False)
    model.to(place).train()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = trace.OPTIMIZERS[asked.optimizer](trained)
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    half = trace.AUTOCAST[asked.stack]
    for _ in range(3):
        tokens = torch.randint(asked.shape.vocab, (asked.batch, asked.sequence), device=place)
        with torch.autocast(place, torch.bfloat16) if half else contextlib.nullcontext():
            loss = model(input_ids=tokens, labels=tokens).loss
        passed("forward")
        loss.backward()
        passed("backward")
        optimizer.step()
        optimizer.zero_grad()
        passed("step")
    sizes = {"allocated": max(peaks.values()), "reserved": torch.cuda.memory_reserved(), "device": _held()}
    return {"loss": float(loss), "phases": peaks, **(sizes if cuda else {})}


def _held() -> int:
    """Bytes of the card that the driver says this process has; 0 where it does not say."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, ValueError):
        said = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        return 2**20 * dict(map(int, line.split(",")) for line in said.splitlines()).get(os.getpid(), 0)
    return 0


def measured(index: int, place: str, limit: float) -> dict[str, Any]:
    """What a run found in a process of its own; for want of memory to end is a finding, too."""
    command = [sys.executable, "-W", "ignore", __file__, "--device", place, "--one", str(index)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit:g} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no word"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def beside(run: Run, card: Hardware, found: dict[str, Any]) -> dict[str, Any]:
    """A run's findings and its plan."""
    plan = training.plan(run.job())
    needed, (low, high) = devices.needed(plan), devices.band(plan.peak, "training")
    row = {**run._asdict(), "predicted": plan.peak, "phase": plan.peak_phase, "needed": needed, **found}
    row["fits"] = needed <= devices.usable(card)
    if size := found.get("allocated"):
        row |= {"error": plan.peak / size - 1, "inside": low <= size <= high}
    return row


def say(row: dict[str, Any]) -> None:
    """One line of the table."""
    what = ", ".join(str(row[name]) for name in ("way", "checkpointing", "attention", "optimizer", "aims"))
    text = f"{row['model']:12} {what:47} {row['batch']}×{row['sequence']:4}{row['predicted'] / GIB:7.2f} "
    text += f"{row['phase']:8}"
    if "allocated" in row:
        text += "".join(f"{row[name] / GIB:7.2f}" for name in ("allocated", "reserved", "device", "needed"))
        text += f"{row['error']:+7.1%} {'inside' if row['inside'] else 'outside'}"
    else:
        text += f" {row['needed'] / GIB:.1f} needed, {'fits' if row['fits'] else 'does not fit'}: "
        text += row.get("failed", "nothing measured")
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cpu shows that a step runs, of 64 tokens")
    parser.add_argument("--gpu", default="H100", help="the card's name in the catalogue")
    parser.add_argument("--limit", type=float, default=60, help="seconds for a run")
    parser.add_argument("--only", type=int, nargs="+", default=range(len(RUNS)), help="numbers of runs")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(train(RUNS[arguments.one].job(tiny=arguments.device == "cpu"), arguments.device)))
        return
    if arguments.device == "cuda" and not shutil.which("nvidia-smi"):
        print("benchmark: no CUDA device here, so nothing is measured.")
        return
    card, rows = hardware(arguments.gpu), []
    for index in arguments.only:
        rows.append(beside(RUNS[index], card, measured(index, arguments.device, arguments.limit)))
        say(rows[-1])
    print(json.dumps({"rows": rows} | summary(rows)))


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How right the planner was, printed and as numbers."""
    done = [row for row in rows if "allocated" in row]
    ended = [row for row in rows if "OutOfMemoryError" in row.get("failed", "")]
    right = sum(row["fits"] for row in done) + sum(not row["fits"] for row in ended)
    found: dict[str, float] = {"measured": len(done), "out_of_memory": len(ended), "foretold": right}
    print(f"{right} of {len(done) + len(ended)} that fitted or did not were foretold.")
    if errors := [abs(row["error"]) for row in done]:
        inside = fmean(row["inside"] for row in done)
        found |= {"mape": fmean(errors), "median": median(errors), "coverage": inside}
        print(
            f"{found['mape']:.1%} off on average, {found['median']:.1%} in the median; {inside:.0%} inside."
        )
    return found


if __name__ == "__main__":
    main()
