"""The benchmark runs, and ends with a line of JSON that says what its table says."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def bench(*arguments):
    return subprocess.run(
        [sys.executable, "benchmarks/decode.py", *arguments],
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 500},
    )


def test_a_quick_run_prints_a_table_and_ends_with_json(smollm2):
    done = bench("--quick", "--no-transformers", "--llama-bench", "", "--text", "README.md")
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    result = json.loads(last)
    (only,) = result["rounds"]
    assert only["same_tokens"] is True
    assert 0 < only["one_decoding"] < only["eight_decoding"]
    for line in result["lines"]:
        assert any(line["name"] in row for row in table)
    distance = {row["precision"]: row["kl"] for row in result["precisions"]}
    assert distance["fp32"] == 0
    assert 0 < distance["fp16"] < distance["int4"] < 0.005
    assert 100e6 < result["peak_bytes"] < 1.2e9


def test_what_measures_nothing_is_refused():
    done = bench("--tokens", "1")
    assert done.returncode == 2
    assert "--tokens: got 1" in done.stderr


def test_a_model_that_is_none_is_one_line():
    done = bench("--model", "nothing.gguf")
    assert done.returncode != 0
    assert done.stderr.startswith("benchmark: ")
    assert "Traceback" not in done.stderr
