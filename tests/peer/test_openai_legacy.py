"""`openai==0.28.1` in an environment of its own: the two snippets on the cards, as they are printed."""

import json
import subprocess
import textwrap

import pytest

import thermoscope as ts
from tests.server.conftest import serving

from .environment import interpreter

pytestmark = pytest.mark.peer

PACKAGE = "openai==0.28.1"

# Between the lines are the cards' own, unchanged; around them is what their reader has to add.
SETUP = """
import json, openai
openai.api_base = {address!r} + '/v1'
openai.api_key = 'none'
question = 'What is the capital of France?'
"""
TEMPERATURE = """
response = openai.ChatCompletion.create(
    model='gpt-4o',
    temperature=0.7,
    max_tokens=30,
    messages=[{'role': 'user', 'content': question}]
)
"""
NUCLEUS = """
response = openai.ChatCompletion.create(
    model='gpt-4o',
    top_p=0.8,
    max_tokens=30,
    messages=[{'role': 'user', 'content': question}]
)
"""


@pytest.fixture(scope="module")
def python():
    """The interpreter of an environment that holds the old client, made once and kept."""
    return interpreter(PACKAGE)


@pytest.fixture(scope="module")
def address():
    with ts.load() as lm, serving(lm, ["gpt-4o"]) as address:
        yield address


@pytest.fixture
def run(python, address):
    """Run a program of the old client against the server, and read the JSON that it prints."""

    def run(program):
        source = SETUP.format(address=address) + textwrap.dedent(program)
        done = subprocess.run(
            [python, "-c", source], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("snippet", [TEMPERATURE, NUCLEUS], ids=["temperature", "nucleus"])
def test_the_cards_snippets_run_as_printed(run, snippet):
    answer = run(snippet + "print(json.dumps(response))")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "gpt-4o"
    (choice,) = answer["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].strip()
    assert choice["finish_reason"] in ("stop", "length")
    assert 1 <= answer["usage"]["completion_tokens"] <= 30


def test_attributes_and_greedy(run):
    text = run("""
        response = openai.ChatCompletion.create(
            model='gpt-4o', temperature=0, max_tokens=16, messages=[{'role': 'user', 'content': question}]
        )
        print(json.dumps(response.choices[0].message.content))
    """)
    assert "Paris" in text


def test_streamed_is_what_plain_is(run):
    plain, streamed, reasons = run("""
        messages = [{'role': 'user', 'content': question}]
        same = dict(model='gpt-4o', temperature=0.7, seed=3, max_tokens=30, messages=messages)
        plain = openai.ChatCompletion.create(**same)
        choices = [chunk.choices[0] for chunk in openai.ChatCompletion.create(stream=True, **same)]
        print(json.dumps([
            plain.choices[0].message.content,
            ''.join(choice.delta.get('content', '') for choice in choices),
            [choice.finish_reason for choice in choices if choice.finish_reason],
        ]))
    """)
    assert streamed == plain
    assert len(reasons) == 1


def test_logprobs_and_choices(run):
    choices = run("""
        response = openai.ChatCompletion.create(
            model='gpt-4o', n=2, logprobs=True, top_logprobs=3, max_tokens=5,
            messages=[{'role': 'user', 'content': question}]
        )
        print(json.dumps(response.choices))
    """)
    assert [choice["index"] for choice in choices] == [0, 1]
    assert all(len(item["top_logprobs"]) == 3 for choice in choices for item in choice["logprobs"]["content"])


def test_errors_have_their_classes(run):
    told = run("""
        told = []
        for wrong in ({'model': 'gpt-9'}, {'top_p': 2}, {'messages': []}, {'functions': [{'name': 'a b'}]}):
            right = {'model': 'gpt-4o', 'messages': [{'role': 'user', 'content': question}]}
            try:
                openai.ChatCompletion.create(**{**right, **wrong})
            except openai.error.InvalidRequestError as error:
                told.append([error.http_status, error.param, error.code])
        print(json.dumps(told))
    """)
    assert told == [
        [404, "model", "model_not_found"],
        [400, "top_p", None],
        [400, "messages", None],
        [400, "functions[0].name", None],
    ]


def test_models(run):
    names = run("print(json.dumps([model.id for model in openai.Model.list().data]))")
    assert names == ["SmolLM2-135M-Instruct", "gpt-4o"]


def test_the_old_client_is_what_ran(python):
    version = subprocess.run(
        [python, "-c", "import openai; print(openai.__version__)"], capture_output=True, text=True, check=True
    )
    assert version.stdout.strip() == "0.28.1"
