"""Real servers behind ours: llama.cpp's and vLLM's, on the default model's weights.

llama-server is found as llama.cpp's other programs are. vLLM is the Python of an environment that has it,
named by THERMOSCOPE_VLLM, or the address of one that runs already and calls its model `peer`. Both are asked
for the whole distribution once, so that bounds from twenty tokens can be held against it. The model's own
template knows no tools, and llama.cpp then leaves them out: it is given tools.jinja.
"""

import contextlib
import json
import math
import os
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import torch
import transformers

from tests.server.conftest import up
from thermoscope import instruments
from thermoscope.bench import llama
from thermoscope.instruments.shape.lab import Lab
from thermoscope.laws import boltzmann, truncation
from thermoscope.server.options import DEFAULTS
from thermoscope.server.upstream.serve import Server
from thermoscope.upstream.probe import HOW, TOOL
from thermoscope.upstream.upstream import Upstream, open_upstream

pytestmark = pytest.mark.peer

VLLM = "THERMOSCOPE_VLLM"
PATIENCE = 240  # seconds until a server is up
VOCABULARY = 49_152
PROMPT = "The capital of France is"
TWENTY = {"top_logprobs": 20, "completion_logprobs": 20}


@contextlib.contextmanager
def started(command, log, environment):
    """A server's address once it answers; it is ended afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*map(str, command), "--host", "127.0.0.1", "--port", str(port)],
            **{"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, "env": os.environ | environment},
        )
        try:
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until and process.poll() is None:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"http://127.0.0.1:{port}/health").is_success:
                        yield f"http://127.0.0.1:{port}"
                        return
                time.sleep(0.5)
            pytest.fail(log.read_text()[-2000:])
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def weights(smollm2, tmp_path_factory):
    """The GGUF's weights as a folder of Hugging Face's form."""
    folder = tmp_path_factory.mktemp("weights")
    there = {"gguf_file": smollm2.name}
    network = transformers.AutoModelForCausalLM.from_pretrained(smollm2.parent, dtype=torch.bfloat16, **there)
    plain = transformers.LlamaForCausalLM(transformers.LlamaConfig(**network.config.to_dict()))
    plain.to(torch.bfloat16).load_state_dict(network.state_dict())
    del plain.config.quantization_config
    plain.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(smollm2.parent, **there).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["llama-server", "vllm"])
def peer(request, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "log"
    if request.param == "llama-server":
        folder = llama.find()
        if folder is None or not (folder / "llama-server").is_file():
            pytest.skip(f"llama-server: not found; name the folder of llama.cpp's programs in {llama.FOLDER}")
        model = request.getfixturevalue("smollm2")
        command = [folder / "llama-server", "-m", model, "-c", 4096, "-np", 2, "-t", 1, "--alias", "peer"]
        command += ["--jinja", "--chat-template-file", Path(__file__).parent / "tools.jinja"]
        environment = llama.environment(folder)
    else:
        python = os.environ.get(VLLM)
        if not python:
            pytest.skip(f"vLLM: name the Python of its environment in {VLLM}")
        if python.startswith("http"):
            yield request.param, python
            return
        model = request.getfixturevalue("weights")
        command = [
            python,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            model,
            "--served-model-name",
            "peer",
        ]
        command += ["--dtype", "bfloat16", "--max-model-len", 1024, "--enforce-eager", "--max-logprobs", -1]
        command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
        environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "2"}
    with started(command, log, environment) as address:
        yield request.param, address


@pytest.fixture(scope="module")
def upstream(peer):
    """As a server is that shows twenty tokens, and does not say how many there are."""
    _, address = peer
    found = open_upstream(address, vocabulary=VOCABULARY)
    yield Upstream(found.connection, replace(found.abilities, **TWENTY))
    found.connection.close()


@pytest.fixture(scope="module")
def client(upstream):
    """OpenAI's own, over a port of ours."""
    with up(Server(upstream, DEFAULTS)) as address:
        yield openai.OpenAI(base_url=f"{address}/v1", api_key="none", _strict_response_validation=True)


@pytest.fixture(scope="module")
def truth(peer, upstream):
    """The whole distribution after the prompt in a chat, as log-probabilities."""
    whole = Upstream(upstream.connection, replace(upstream.abilities, top_logprobs=VOCABULARY))
    (answer,) = whole.speak(PROMPT, chat=True, max_tokens=1, temperature=1, seed=0)
    log_p = np.array([each.logprob for each in answer.tokens[0].best])
    assert len(log_p) == VOCABULARY
    assert math.fsum(np.exp(log_p)) == pytest.approx(1, abs=1e-3)
    return log_p


def test_what_was_found(peer, upstream):
    name, _ = peer
    found = upstream.abilities
    print(found.summary())
    assert found.logprobs == "raw"
    assert found.chat
    assert found.completions
    assert found.streamed_logprobs
    assert found.n
    assert found.seed
    assert found.vocabulary == VOCABULARY
    assert found.context == (1024 if name == "vllm" else 2048)  # of a slot
    if name == "vllm":
        assert "named" in found.tools  # there it is held to a call; llama.cpp takes none but by a word


def test_a_chat_and_its_stream_say_the_same(client):
    asked = {
        "model": "peer", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 12,
        "temperature": 0, "logprobs": True, "top_logprobs": 3,
        "extra_body": {"thermoscope": {"steps": True, "trace": True}},
    }  # fmt: skip
    whole = client.chat.completions.create(**asked)
    pieces = list(client.chat.completions.create(**asked, stream=True))
    said = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    (choice,) = whole.choices
    assert said == choice.message.content
    tokens = choice.logprobs.content
    assert 4 < len(tokens) <= 12  # it may end before
    assert all(len(each.top_logprobs) == 3 for each in tokens)
    steps = choice.thermoscope["steps"]
    streamed = [step for piece in pieces for each in piece.choices for step in each.thermoscope["steps"]]
    # llama.cpp's stream says nothing of the token that ended the answer.
    whole_text, streamed_text = (
        [step["text"] for step in each if step["text"]] for each in (steps, streamed)
    )
    assert whole_text == streamed_text
    assert all(step["entropy"][0] <= step["entropy"][1] for step in steps)
    kept = httpx.get(f"{client.base_url}traces/{whole.thermoscope['trace']}").json()
    assert kept["status"] == "complete"
    assert [step["text"] for step in kept["choices"][0]["steps"]] == [step["text"] for step in steps]


def test_a_completion_has_openais_form(client):
    answer = client.completions.create(
        model="peer", prompt=PROMPT, max_tokens=3, temperature=0, logprobs=2, extra_body={"seed": 1}
    )
    (choice,) = answer.choices
    logprobs = choice.logprobs
    assert "".join(logprobs.tokens) == choice.text
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == 3
    assert [len(each) for each in logprobs.top_logprobs] == [2, 2, 2]


def test_tools_go_through(peer, client):
    """Calls before it show so small a model that it is to call.

    Each is held to the call in the way that it knows: llama.cpp takes no object as `tool_choice`. What
    vLLM 0.32 writes as the arguments of a named call is held to no schema, and passed on as it is.
    """
    choice = "required" if peer[0] == "llama-server" else HOW["named"]
    said = [message for city in ("Rome", "Oslo", "Lima") for message in called(city)]
    asked = {
        "model": "peer", "messages": [*said, *called("Paris")[:1]], "max_tokens": 64, "temperature": 0,
        "tools": [TOOL], "tool_choice": choice,
    }  # fmt: skip
    (choice,) = client.chat.completions.create(**asked).choices
    (call,) = choice.message.tool_calls
    # As OpenAI has it, an answer that had to be one named call ends with `stop`: what the peer says goes on.
    assert choice.finish_reason == ("stop" if peer[0] == "vllm" else "tool_calls")
    assert call.function.name == "weather"
    if peer[0] == "llama-server":
        assert isinstance(json.loads(call.function.arguments)["city"], str)
    names, arguments = [], ""
    for piece in client.chat.completions.create(**asked, stream=True):
        for choice in piece.choices:
            for each in choice.delta.tool_calls or ():
                names += [each.function.name] if each.function.name else []
                arguments += each.function.arguments or ""
    assert names == ["weather"]
    assert arguments == call.function.arguments


def test_a_response_is_what_the_chat_says(client):
    """At once, in events and continued; as OpenAI's client takes them apart, which reads strictly."""
    asked = {"model": "peer", "input": PROMPT, "max_output_tokens": 12, "temperature": 0}
    messages = [{"role": "user", "content": PROMPT}]
    chat = client.chat.completions.create(model="peer", messages=messages, max_tokens=12, temperature=0)
    whole = client.responses.create(**asked, include=["message.output_text.logprobs"], top_logprobs=2)
    assert whole.output_text == chat.choices[0].message.content
    assert len(whole.output[0].content[0].logprobs) > 4
    assert whole.usage.input_tokens == chat.usage.prompt_tokens
    *_, last = client.responses.create(**asked, stream=True)
    assert last.type == ("response.incomplete" if whole.incomplete_details else "response.completed")
    assert last.response.output_text == whole.output_text
    assert last.response.usage.output_tokens == whole.usage.output_tokens
    again = client.responses.create(**asked | {"input": "And of Italy?"}, previous_response_id=whole.id)
    assert again.usage.input_tokens > whole.usage.input_tokens
    assert client.responses.retrieve(again.id).output_text == again.output_text


def test_a_response_calls(peer, client):
    said = [item for city in ("Rome", "Oslo", "Lima") for item in called_as_items(city)]
    tool = {"type": "function", **TOOL["function"], "strict": False}
    asked = {
        "model": "peer", "input": [*said, *called_as_items("Paris")[:1]], "max_output_tokens": 64,
        "temperature": 0, "tools": [tool], "tool_choice": "required",
    }  # fmt: skip
    if peer[0] == "vllm":
        asked["tool_choice"] = {"type": "function", "name": "weather"}
    (call,) = client.responses.create(**asked).output
    assert (call.type, call.name) == ("function_call", "weather")
    events = list(client.responses.create(**asked, stream=True))
    assert "".join(each.delta for each in events if each.type.endswith("arguments.delta")) == call.arguments
    assert [each.item.name for each in events if each.type == "response.output_item.done"] == ["weather"]


def called_as_items(city):
    """The same as `called`, and what the function gave."""
    return (
        {"role": "user", "content": f"What is the weather in {city}?"},
        {
            "type": "function_call",
            "call_id": city,
            "name": "weather",
            "arguments": json.dumps({"city": city}),
        },
        {"type": "function_call_output", "call_id": city, "output": "sunny"},
    )


def test_what_passed_was_counted(client):
    text = httpx.get(f"{client.base_url}".replace("/v1/", "/metrics")).text
    drawn = next(line for line in text.splitlines() if line.startswith("vllm:generation_tokens_total"))
    assert float(drawn.split()[-1]) > 50


def called(city):
    """A question, and its answer by a call."""
    function = {"name": "weather", "arguments": json.dumps({"city": city})}
    calls = [{"id": city, "type": "function", "function": function}]
    return (
        {"role": "user", "content": f"What is the weather in {city}?"},
        {"role": "assistant", "content": "", "tool_calls": calls},
    )


def test_errors_have_openais_form(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="peer", messages="no", max_tokens=1)
    assert set(refused.value.body) == {"message", "type", "param", "code"}


def test_temperature_within_its_bounds(upstream, truth):
    temperatures = [0.3, 0.7, 1.0, 1.5]
    reading = read(upstream, "temperature", temperatures=temperatures, samples=1, max_tokens=4)
    for row in reading.table("temperatures").to_dict()["rows"]:
        tempered = boltzmann.log_probabilities(truth, row["temperature"])
        print(row)
        assert inside(row, "entropy", float(boltzmann.thermodynamics(truth, row["temperature"]).entropy))
        assert inside(row, "top_probability", math.exp(tempered.max()))
        assert inside(row, "unseen", math.fsum(np.exp(np.sort(tempered)[:-20])), 0.02)


@pytest.mark.parametrize("top_p", [0.5, 0.9])
def test_nucleus_within_its_bounds(upstream, truth, top_p):
    reading = read(upstream, "nucleus", top_p=top_p, max_tokens=8)
    (row,) = reading.table("next").to_dict()["rows"]
    print(row)
    size = len(truncation.nucleus(truth, top_p).ids)
    assert row["size_low"] - 1 <= size <= row["size_high"] + 1  # two answers lie apart by what bf16 rounds
    assert len(reading.table("along").rows) > 0


def test_boltzmann_within_its_bounds(upstream, truth):
    reading = read(upstream, "boltzmann", temperature=0.7)
    (row,) = reading.table("whole").to_dict()["rows"]
    print(row)
    assert inside(row, "z", math.fsum(np.exp(boltzmann.exponents_of(truth, 0.7))))
    assert inside(row, "entropy", float(boltzmann.thermodynamics(truth, 0.7).entropy))


def read(upstream, card, **settings):
    instrument = instruments.instrument(card)
    lab = Lab.of(upstream, watch=lambda _: None)
    reading = instrument.read(instrument.settings.parse({"prompt": PROMPT, "chat": True} | settings), lab)
    assert reading.passed, reading.checks
    return reading


def inside(row, key, value, slack=0.01):
    """Two answers of a server lie apart by what bf16 rounds, and by its company in the batch."""
    return row[f"{key}_low"] - slack <= value <= row[f"{key}_high"] + slack
