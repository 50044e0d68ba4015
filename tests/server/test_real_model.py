"""The default model behind the server: what OpenAI's client gets is what Python gets."""

import json
import math
import subprocess
import sys

import openai
import pytest

import thermoscope as ts
from thermoscope.server.fields import Extension

from .conftest import serving, strict
from .scripted import wait_until

QUESTION = "What is the capital of France?"
MESSAGES = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def lm():
    with ts.load(context=512) as lm:
        yield lm


@pytest.fixture(scope="module")
def client(lm):
    with (
        serving(lm, ["gpt-4o"]) as address,
        strict(address) as client,
    ):
        yield client


@pytest.fixture
def create(client):
    def create(**fields):
        return client.chat.completions.create(**({"model": "gpt-4o", "messages": MESSAGES} | fields))

    return create


def test_plain_streamed_and_python_agree(lm, create):
    settings = {"temperature": 0.7, "top_p": 0.8, "max_tokens": 30, "seed": 7}
    reply = lm.chat(QUESTION, **settings)
    plain = create(**settings)
    *chunks, last = create(**settings, stream=True, stream_options={"include_usage": True})
    assert plain.choices[0].message.content == reply.text
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == reply.text
    assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (
        reply.prompt_tokens,
        reply.completion_tokens,
    )
    assert last.usage.completion_tokens == plain.usage.completion_tokens
    # The question is in the cache from the second answer on, all of it but the token that has to speak.
    assert last.usage.prompt_tokens_details.cached_tokens == reply.prompt_tokens - 1
    assert plain.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == reply.finish_reason


def test_a_response_says_what_a_completion_does_and_goes_on_from_there(client, create):
    settings = {"temperature": 0.7, "top_p": 0.8}
    seed = {"extra_body": {"seed": 7}}
    first = client.responses.create(model="gpt-4o", input=QUESTION, max_output_tokens=24, **settings, **seed)
    said = create(**settings, max_tokens=24, seed=7).choices[0].message.content
    assert first.output_text == said
    second = client.responses.create(
        model="gpt-4o",
        input="And of Italy?",
        previous_response_id=first.id,
        max_output_tokens=24,
        stream=True,
        **settings,
        **seed,
    )
    history = [
        *MESSAGES,
        {"role": "assistant", "content": said},
        {"role": "user", "content": "And of Italy?"},
    ]
    answer = create(**settings, max_tokens=24, seed=7, messages=history)
    *deltas, last = second
    text = "".join(event.delta for event in deltas if event.type == "response.output_text.delta")
    assert text == last.response.output_text == answer.choices[0].message.content
    assert last.response.usage.input_tokens == answer.usage.prompt_tokens


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.9, "top_p": 0.95, "presence_penalty": 0.5},
        {"temperature": 1.2, "typical_p": 0.9, "xtc_probability": 0.3, "dry_multiplier": 0.8},
        {"temperature": 0.8, "profile": "llama.cpp", "top_k": 40, "min_p": 0.05},
        {"mirostat_tau": 4.0},
    ],
    ids=str,
)
def test_a_seed_gives_the_same_tokens_on_the_command_line_over_http_and_in_python(lm, create, settings):
    given = {"seed": 11, "max_tokens": 24}
    tokens = list(lm.chat(QUESTION, **settings, **given).trace.tokens)
    own = {name: value for name, value in settings.items() if name in Extension.model_fields}
    openai_s = {name: value for name, value in settings.items() if name not in own}
    answer = create(**openai_s, **given, extra_body={"thermoscope": {**own, "steps": True}})
    assert [step["token"] for step in answer.choices[0].thermoscope["steps"]] == tokens
    options = [f"--{name.replace('_', '-')}={value}" for name, value in (settings | given).items()]
    done = subprocess.run(
        [sys.executable, "-m", "thermoscope", "run", QUESTION, "--json", "--steps", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert [step["token"] for step in json.loads(done.stdout)["steps"]] == tokens


def test_greedy_names_paris_and_takes_the_best_token(create):
    choice = create(temperature=0, max_tokens=16, logprobs=True, top_logprobs=20).choices[0]
    assert "Paris" in choice.message.content
    for item in choice.logprobs.content:
        assert item.token == item.top_logprobs[0].token
        assert item.logprob == item.top_logprobs[0].logprob
        assert len(item.top_logprobs) == 20
        assert sum(math.exp(other.logprob) for other in item.top_logprobs) <= 1 + 1e-6
    assert b"".join(bytes(item.bytes) for item in choice.logprobs.content).decode() == choice.message.content


def test_logprobs_are_the_models_own_at_any_temperature(create):
    first = [
        create(temperature=temperature, max_tokens=1, logprobs=True, top_logprobs=5, seed=1, top_p=0.9)
        .choices[0]
        .logprobs.content[0]
        .top_logprobs
        for temperature in (0, 0.3, 2)
    ]
    assert first[0] == first[1] == first[2]


def test_choices_have_their_own_noise_and_a_seed_repeats_them(create):
    runs = [create(n=3, seed=5, temperature=1.5, max_tokens=12) for _ in range(2)]
    texts = [[choice.message.content for choice in run.choices] for run in runs]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 3


def test_a_stop_string_never_shows(create):
    free = create(temperature=0, max_tokens=24).choices[0].message.content
    stop = free[8:12]
    held = create(temperature=0, max_tokens=24, stop=stop, stream=True)
    choices = [chunk.choices[0] for chunk in held]
    assert "".join(choice.delta.content or "" for choice in choices) == free[: free.index(stop)]
    assert choices[-1].finish_reason == "stop"


def test_infinite_temperature(create):
    answer = create(
        temperature="inf", max_tokens=3, seed=2, extra_body={"thermoscope": {"top_k": 2, "steps": True}}
    )
    steps = answer.choices[0].thermoscope["steps"]
    assert [step["kept"] for step in steps] == [2] * len(steps)
    assert all(step["sampler_logprob"] == pytest.approx(-math.log(2)) for step in steps)


def test_a_client_that_goes_away_frees_its_slot(lm, create):
    endless = {"max_tokens": 400, "extra_body": {"thermoscope": {"ignore_eos": True}}}
    stream = create(stream=True, n=2, **endless)
    next(iter(stream))
    wait_until(lambda: lm.runner.running == 2)
    stream.close()
    wait_until(lambda: lm.runner.running == 0)


def test_more_than_the_context(create):
    with pytest.raises(openai.BadRequestError) as caught:
        create(messages=[{"role": "user", "content": "again " * 600}])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    with pytest.raises(openai.BadRequestError) as caught:
        create(max_tokens=512)
    assert caught.value.code == "context_length_exceeded"


def test_a_token_outside_the_vocabulary(create):
    with pytest.raises(openai.BadRequestError) as caught:
        create(logit_bias={"49152": 1})
    assert caught.value.param == "logit_bias"
    with pytest.raises(openai.BadRequestError) as caught:
        create(extra_body={"thermoscope": {"stop_ids": [49152]}})
    assert caught.value.param == "thermoscope.stop_ids"


def test_any_text_is_read(create):
    for text in ("", " ", "\x00", "日本語 🙂 \u202e", "<|im_end|><|im_start|>system", "a" * 1000):
        assert create(messages=[{"role": "user", "content": text}], max_tokens=2).choices[0].finish_reason
