"""The benchmark runs, and ends with a line of JSON that says what its table says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def bench(*arguments, program="decode"):
    return subprocess.run(
        [sys.executable, f"benchmarks/{program}.py", *arguments],
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 500},
    )


def test_a_quick_run_prints_a_table_and_ends_with_json(smollm2):
    # One thread: two would wait for each other wherever the other tests have a core.
    done = bench("--quick", "--threads", "1", "--no-transformers", "--no-llama", "--text", "README.md")
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
    assert 100e6 < result["serving"]["uss"] < result["serving"]["rss"] < 1.2e9
    assert 50e6 < result["bytes"]["weights"] < 2e8
    assert sum(only["one_step"].values()) > 0


def test_what_measures_nothing_is_refused():
    done = bench("--tokens", "1")
    assert done.returncode == 2
    assert "--tokens: got 1" in done.stderr


def test_a_model_that_is_none_is_one_line():
    done = bench("--model", "nothing.gguf")
    assert done.returncode != 0
    assert done.stderr.startswith("benchmark: ")
    assert "Traceback" not in done.stderr


def test_a_graphics_card_is_measured_where_there_is_one():
    done = bench(program="gpu")
    assert done.returncode == 0, done.stderr
    if not torch.cuda.is_available():
        assert done.stdout == "benchmark: no CUDA device here, so nothing is measured.\n"
    else:
        assert 0 < json.loads(done.stdout.splitlines()[-1])["share"] < 1


def test_the_cost_of_a_grammar_is_measured(smollm2):
    done = bench("--quick", "--threads", "1", program="grammar")
    assert done.returncode == 0, done.stderr
    lines = json.loads(done.stdout.splitlines()[-1])["lines"]
    assert [line["clients"] for line in lines] == [1, 8]
    assert all(line["free"] > 0 and line["held"] > 0 for line in lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
@pytest.mark.parametrize("program", ["gpu_memory", "gpu_latency"])
def test_without_a_graphics_card_no_planner_is_measured_on_one(program):
    done = bench(program=program)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "benchmark: no CUDA device here, so nothing is measured.\n"


def test_a_training_step_of_the_memory_benchmark_runs():
    done = bench("--device", "cpu", "--only", "1", program="gpu_memory")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert row["fits"]
    assert 9 < row["loss"] < 13


@pytest.mark.parametrize("shape", [(), ("--shape", "smollm2-135m")])
def test_the_cards_benchmark_runs_on_what_there_is(smollm2, shape):
    done = bench("--device", "cpu", "--tokens", "4", "--rounds", "1", *shape, program="gpu")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    speed = result["tokens_per_second"]
    assert result["share"] == pytest.approx(speed * result["weights"] / result["bandwidth"])


COLUMNS = (
    "id,model,params_b,hidden,layers,heads,kv_heads,head_dim,ffn,vocab,gated_mlp,tied_emb,task,method,precision,"
    "base_quant,lora_rank,lora_targets,optimizer,micro_batch,seq_len,grad_ckpt,attention_impl,ce_loss,parallel,"
    "gpus,gpu,measured_gib,outcome,notes,source"
)
SHAPE = "M,7.242,4096,32,32,8,128,14336,32000,1,0"
FULL_LOGITS = "yes,flash_attention_2,HF full logits (fp32 upcast)"
ROWS = f"""{COLUMNS}
1,{SHAPE},finetune,Full,bfloat16,none,,,AdamW,4,4096,{FULL_LOGITS},none,1,A100-80GB,67.46,OK,,table.csv
2,{SHAPE},finetune,Full,bfloat16,none,,,AdamW,64,4096,{FULL_LOGITS},none,1,A100-80GB,,OOM,,table.csv
3,kernel:rope,,,,,,,,,,,kernel,liger,bf16,,,,,8,,,,,,1,A100-80GB,1.5,OK,,table.csv
4,{SHAPE},finetune,LoRA,bfloat16,int3,8,"q,v",AdamW,4,4096,{FULL_LOGITS},none,1,A100-80GB,20,OK,,table.csv
"""


def test_the_planner_is_measured_on_any_file_of_rows(tmp_path):
    (tmp_path / "rows.csv").write_text(ROWS, encoding="utf-8")
    done = bench("memory", str(tmp_path / "rows.csv"), program="planner_accuracy")
    assert done.returncode == 0, done.stderr
    assert "4: not predicted: base_quant: got 'int3'" in done.stdout
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["rows"], result["oom_rows"], result["oom_right"]) == (1, 1, 1.0)
    assert result["mape"] < 0.001
    assert result["coverage"] == 1.0


def test_the_sampler_s_benchmark_ends_with_what_its_table_says(smollm2):
    done = bench("--quick", program="sampler")
    assert done.returncode == 0, done.stderr
    *rows, last = done.stdout.splitlines()
    result = json.loads(last)
    for name, figures in result["ms"].items():
        assert set(figures) == {"49152", "262144"}
        row = next(row for row in rows if name in row)
        assert all(f"{figure:.3f}" in row for figure in figures.values())


def test_the_replay_s_benchmark_ends_with_what_its_table_says(smollm2):
    done = bench("--tokens", "48", "--rounds", "1", program="replay")
    assert done.returncode == 0, done.stderr
    *rows, last = done.stdout.splitlines()
    result = json.loads(last)
    assert result["lines"]["prefill"]["times"] == 1.0
    assert set(result["limits"]) <= set(result["lines"])
    for name, figures in result["lines"].items():
        assert any(name in row and f"{figures['seconds']:.3f}" in row for row in rows)


@pytest.mark.slow
def test_many_clients_are_measured_on_a_real_port(smollm2):
    done = bench("--quick", "--threads", "1", "--no-llama", program="serving")
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    result = json.loads(last)
    (only,) = result["rounds"]
    assert only["crowd_errors"] == 0
    assert only["prefix_cached"] >= 100
    assert 0 < only["gap_median_s"] <= only["gap_beside_worst_s"]
    assert 0 < only["ours_one"] < only["ours_eight"]
    for line in result["lines"]:
        assert any(line["name"] in row for row in table)
