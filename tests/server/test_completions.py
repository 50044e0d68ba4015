"""Plain texts over HTTP, on a tiny model: what is sent is what the engine said, in the older form."""

import json

import pytest

from thermoscope.engine.replay import replay

from .scripted import counts


@pytest.fixture
def ask(tiny_client):
    def post(**fields):
        body = {"model": "gpt-4o", "prompt": "hello", "seed": 3, "max_tokens": 4} | fields
        return tiny_client.post("/v1/completions", json=body)

    return post


def events(response):
    assert response.headers["content-type"].startswith("text/event-stream")
    *lines, done = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    assert done == "[DONE]"
    return [json.loads(line) for line in lines]


def said(lm, prompt, **sampling):
    return lm.generate(prompt, **({"seed": 3, "max_tokens": 4} | sampling))


def test_an_answer_has_openais_shape(ask, tiny_lm):
    answer = ask().json()
    reply = said(tiny_lm, "hello")
    assert answer["id"].startswith("cmpl-")
    assert (answer["object"], answer["model"]) == ("text_completion", "gpt-4o")
    assert answer["choices"] == [
        {"index": 0, "text": reply.text, "logprobs": None, "finish_reason": reply.finish_reason}
    ]
    assert answer["usage"]["prompt_tokens"] == 5
    assert answer["usage"]["completion_tokens"] == reply.completion_tokens


def test_sixteen_tokens_unless_asked_for(tiny_client, tiny_lm):
    body = {"model": "gpt-4o", "prompt": "hello", "seed": 3, "thermoscope": {"ignore_eos": True}}
    assert tiny_client.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] == 16
    long = body | {"prompt": "x" * 120}  # of 128
    assert tiny_client.post("/v1/completions", json=long).json()["usage"]["completion_tokens"] == 8


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("hello", ["hello"]),
        (["hello", "world"], ["hello", "world"]),
        ([10, 20], [[10, 20]]),
        ([[10, 20], [30]], [[10, 20], [30]]),
    ],
)
@pytest.mark.parametrize("n", [1, 2])
def test_every_form_of_prompt_is_answered_as_if_it_were_alone(ask, tiny_lm, prompt, texts, n):
    choices = ask(prompt=prompt, n=n).json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(n * len(texts)))
    expected = [trace.text for text in texts for trace in said(tiny_lm, text, n=n).traces]
    assert [choice["text"] for choice in choices] == expected


def test_streamed_is_what_plain_is(ask):
    fields = {"prompt": ["hello", "world"], "n": 2, "logprobs": 2, "echo": True}
    plain = ask(**fields).json()
    *chunks, last = events(ask(**fields, stream=True, stream_options={"include_usage": True}))
    assert (last["choices"], counts(last["usage"])) == ([], counts(plain["usage"]))
    for choice in plain["choices"]:
        pieces = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in pieces) == choice["text"]
        found = {
            name: [value for piece in pieces for value in piece["logprobs"][name]]
            for name in choice["logprobs"]
        }
        assert found["tokens"] == choice["logprobs"]["tokens"]
        assert found["text_offset"] == choice["logprobs"]["text_offset"]
        assert found["token_logprobs"][0] is choice["logprobs"]["token_logprobs"][0] is None
        # Not to the bit: the second time the prompt is in the cache, and PyTorch's products round otherwise.
        expected = pytest.approx(choice["logprobs"]["token_logprobs"][1:], abs=1e-4)
        assert found["token_logprobs"][1:] == expected
        assert [piece["finish_reason"] for piece in pieces if piece["finish_reason"]] == [
            choice["finish_reason"]
        ]
    assert all(chunk["object"] == "text_completion" and chunk["usage"] is None for chunk in chunks)


def test_logprobs_of_prompt_and_answer_are_the_replays(ask, tiny_lm):
    choice = ask(prompt=[10, 20, 30], echo=True, logprobs=3).json()["choices"][0]
    trace = said(tiny_lm, [10, 20, 30]).trace
    tokens = [10, 20, 30, *trace.tokens]
    looked = replay(tiny_lm.model, tokens, logits=True)
    found = choice["logprobs"]
    assert found["tokens"] == [tiny_lm.tokenizer.piece(token) for token in tokens]
    assert found["token_logprobs"][0] is None
    assert found["token_logprobs"][1:] == pytest.approx(looked.logprobs.tolist(), abs=1e-4)
    assert found["top_logprobs"][0] is None
    for row, token, named in zip(looked.logits, tokens[1:], found["top_logprobs"][1:], strict=False):
        best = row.double().log_softmax(dim=0).topk(3)
        expected = {
            tiny_lm.tokenizer.piece(each): value
            for each, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        }
        assert named.keys() == expected.keys() | {tiny_lm.tokenizer.piece(token)}
        for text, value in expected.items():
            assert named[text] == pytest.approx(value, abs=1e-4)
    for text, at in zip(found["tokens"], found["text_offset"], strict=True):
        assert choice["text"].startswith(text, at) or text in ("<s>", "</s>")


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_is_scored_without_an_answer(ask, tiny_lm, stream):
    response = ask(prompt="hello", max_tokens=0, echo=True, logprobs=0, stream=stream)
    choices = events(response) if stream else [response.json()]
    (first, *rest) = [choice for chunk in choices for choice in chunk["choices"]]
    ids = tiny_lm.tokenizer.prompt("hello")
    assert first["text"] == "hello"
    assert first["logprobs"]["token_logprobs"][1:] == pytest.approx(
        replay(tiny_lm.model, ids).logprobs.tolist(), abs=1e-4
    )
    assert all(list(named) == [text] for text, named in zip(
        first["logprobs"]["tokens"][1:], first["logprobs"]["top_logprobs"][1:], strict=True
    ))  # fmt: skip
    assert (rest or [first])[-1]["finish_reason"] == "length"
    if not stream:
        assert response.json()["usage"]["completion_tokens"] == 0


def test_more_alternatives_than_openai_shows(ask):
    named = ask(logprobs=1, thermoscope={"top_logprobs": 50}).json()["choices"][0]["logprobs"]["top_logprobs"]
    assert all(len(each) in (50, 51) for each in named)


def test_steps_and_stop(ask, tiny_lm):
    choice = ask(thermoscope={"steps": True, "ignore_eos": True}, max_tokens=8).json()["choices"][0]
    assert len(choice["thermoscope"]["steps"]) == 8
    stop = choice["text"][3]
    cut = ask(thermoscope={"ignore_eos": True}, max_tokens=8, stop=stop).json()["choices"][0]
    assert cut["text"] == choice["text"][: choice["text"].index(stop)]
    assert cut["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_a_trace_has_every_prompts_answers_numbered_through(tiny_client, ask, stream):
    response = ask(prompt=["hello", "world"], n=2, thermoscope={"trace": True}, stream=stream)
    answer = events(response)[0] if stream else response.json()
    kept = tiny_client.get(f"/v1/traces/{answer['thermoscope']['trace']}").json()["choices"]
    plain = ask(prompt=["hello", "world"], n=2).json()["choices"]
    assert [(each["choice"], each["text"]) for each in kept] == [
        (each["index"], each["text"]) for each in plain
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt"),
        ({"thermoscope": {"stop_ids": [10**6]}}, "thermoscope.stop_ids"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"thermoscope": {"top_logprobs": 5}}, "thermoscope.top_logprobs"),
        ({"thermoscope": {"prompt_logprobs": 5}}, "thermoscope.prompt_logprobs"),
        ({"logprobs": 1, "n": 9, "thermoscope": {"top_logprobs": 10**6}}, "thermoscope.top_logprobs"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(tiny_client, ask, fields, param):
    body = {"model": "gpt-4o", "prompt": "hello"} | fields
    response = tiny_client.post(
        "/v1/completions", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_best_of_is_taken_where_it_changes_nothing(ask):
    assert ask(best_of=2, n=2).json()["choices"] == ask(n=2).json()["choices"]


def test_a_prompt_that_does_not_fit(ask):
    error = ask(prompt="x" * 126).json()["error"]
    assert (error["code"], error["type"]) == ("context_length_exceeded", "invalid_request_error")
    assert error["param"] == "prompt"
    assert ask(model="gpt-9").status_code == 404


def test_one_prompt_that_is_refused_leaves_no_answer_behind(ask, tiny_lm):
    assert ask(prompt=["hello", "x" * 126], max_tokens=100).status_code == 400
    assert ask().status_code == 200
    assert tiny_lm.runner.running == 0
