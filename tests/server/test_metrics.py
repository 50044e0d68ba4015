"""What /metrics counts is what was asked and said, counted here a second time."""

import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .conftest import serving
from .scripted import wait_until
from .test_serve import connect


@pytest.fixture
def scrape(client):
    def scrape():
        return values(client.get("/metrics").text)

    return scrape


def values(text):
    """Every sample by its name and its labels beyond the model's."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("model_name") == "Scripted-1B"
            found[sample.name, *labels.values()] = sample.value
    return found


def test_names_are_vllm_s(scrape):
    names = {name for name, *_ in scrape()}
    assert {
        *("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"),
        *("vllm:prompt_tokens_total", "vllm:generation_tokens_total"),
        *("vllm:time_to_first_token_seconds_bucket", "vllm:inter_token_latency_seconds_count"),
        *("vllm:e2e_request_latency_seconds_sum", "vllm:request_prompt_tokens_bucket"),
        "thermoscope:token_entropy_nats_bucket",
    } <= names


def test_tokens_and_answers_are_counted(ask, scrape, model):
    model.runner.running, model.runner.waiting = 3, 2
    reply = ask(n=2).json()
    ask(stream=True, max_tokens=4)
    usage = reply["usage"]
    counted = scrape()
    assert counted["vllm:prompt_tokens_total",] == 2 * usage["prompt_tokens"]
    assert counted["vllm:generation_tokens_total",] == usage["completion_tokens"] + 4
    assert counted["vllm:request_success_total", "stop"] == 2
    assert counted["vllm:request_success_total", "length"] == 1
    assert counted["vllm:time_to_first_token_seconds_count",] == 3
    assert counted["vllm:inter_token_latency_seconds_count",] == usage["completion_tokens"] + 4 - 3
    assert counted["vllm:inter_token_latency_seconds_sum",] == pytest.approx(
        0.001 * (usage["completion_tokens"] + 1)
    )
    assert counted["vllm:e2e_request_latency_seconds_count",] == 3
    assert counted["vllm:num_requests_running",] == 3
    assert counted["vllm:num_requests_waiting",] == 2
    assert counted["vllm:kv_cache_usage_perc",] == 0.25


def test_distributions_are_counted_whether_they_are_recorded_or_not(ask, scrape, model):
    ask(max_tokens=3)
    ask(max_tokens=3, thermoscope={"steps": False})
    ask(max_tokens=3, thermoscope={"steps": True})
    assert [request.record for request in model.runner.requests] == [False, False, True]
    counted = scrape()
    assert counted["thermoscope:token_entropy_nats_count",] == 9
    assert counted["thermoscope:token_entropy_nats_sum",] == 9.0  # one nat each
    assert counted["thermoscope:kept_tokens_bucket", "1.0"] == 9


def test_an_answer_that_failed_or_was_left(model):
    model.runner.script, model.runner.pause = ["x" * 10_000], 0.01
    with serving(model, ["gpt-4o"]) as address:
        left = connect(address, n=2)
        wait_until(lambda: model.runner.tickets)
        left.sock.close()
        left.close()
        assert model.runner.tickets[0].cancelled.wait(5)
        model.runner.script, model.runner.pause = ["x", ValueError("broken")], 0.0
        broken = connect(address)
        assert broken.getresponse().status == 500
        broken.close()
        with urllib.request.urlopen(f"{address}/metrics", timeout=5) as response:
            counted = values(response.read().decode())
    assert counted["vllm:request_success_total", "abort"] == 2
    assert counted["vllm:request_success_total", "error"] == 1
