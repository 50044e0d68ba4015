import json

import httpx
import pytest

from tests import tiny
from thermoscope.errors import InvalidRequest, UpstreamFailed, UpstreamUnreachable
from thermoscope.upstream.connection import Connection
from thermoscope.upstream.probe import probe


def test_our_own_server_is_found_out(upstream, local):
    found = upstream.abilities
    assert found.model == local.name
    assert found.server == "thermoscope"
    assert found.chat
    assert found.top_logprobs == 20
    assert found.logprobs == "raw"
    assert found.streamed_logprobs
    assert found.n
    assert found.seed
    assert found.vocabulary == tiny.VOCAB
    assert "logprobs raw, 20 at most" in found.summary()


def test_a_model_that_is_not_there_is_refused(address):
    with pytest.raises(InvalidRequest, match="upstream_model: got 'llama', expected one of"):
        probe(Connection(address), "llama")


def test_nobody_at_the_address():
    with pytest.raises(UpstreamUnreachable, match="cannot be reached"):
        probe(Connection("http://127.0.0.1:9"))


def scripted(answer, models=("toy",), **about):
    """A server in this process; `answer(path, body)` gives the choices, or a status that it fails with.

    `about`: what it says of each of its models.
    """

    def handle(request):
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": name} | about for name in models]})
        said = answer(request.url.path.removeprefix("/v1"), json.loads(request.content))
        if isinstance(said, int):
            return httpx.Response(said, json={"error": {"message": "no"}})
        return httpx.Response(200, json={"choices": said})

    return Connection("http://toy", transport=httpx.MockTransport(handle))


def tempered(path, body):
    """Log-probabilities at the request's temperature, as some servers show them."""
    if path != "/completions" or body.get("n") or body.get("stream"):
        return 400
    logits = {"a": 0.0, "b": -1.0, "c": -3.0}
    shown = {text: z / body["temperature"] for text, z in logits.items()}
    asked = body.get("logprobs")
    if asked and asked > 5:
        return 400
    logprobs = {"tokens": ["a"], "token_logprobs": [0.0], "top_logprobs": [shown]} if asked else None
    return [{"text": "a", "logprobs": logprobs}]


def test_tempered_logprobs_are_told_from_raw_ones():
    found = probe(scripted(tempered))
    assert found.logprobs == "tempered"
    assert found.completion_logprobs == 3
    assert not found.chat
    assert not found.n
    assert not found.streamed_logprobs
    assert found.tools == ()
    assert "no chat" in found.summary()


@pytest.mark.parametrize(
    "about",
    [
        {"max_model_len": 1024},  # vLLM
        {"meta": {"n_ctx": 1024}},  # llama.cpp
        {"metadata": {"max_request_context_length": 1024}},  # Ray Serve
    ],
)
def test_each_server_says_its_context_in_its_own_way(about):
    assert probe(scripted(tempered, **about)).context == 1024


def test_a_model_may_be_described_in_other_ways():
    assert probe(scripted(tempered, meta="toy", metadata=["toy"])).context is None


def test_an_answer_that_ends_at_once_is_asked_for_again():
    nothing = {"tokens": [], "token_logprobs": [], "top_logprobs": []}
    ended = [{"text": "", "finish_reason": "stop", "logprobs": nothing}]
    asked = []

    def often_ends(path, body):
        asked.append(body.get("logprobs"))
        ends = len(asked) % 3 and body.get("logprobs") and not body.get("stream")
        return ended if ends else tempered(path, body)

    found = probe(scripted(often_ends))
    assert found.completion_logprobs == 3
    assert found.logprobs == "tempered"
    assert asked.count(5) > 1


def test_a_server_that_shows_nothing():
    found = probe(scripted(lambda *_: [{"message": {"content": "a"}}]))
    assert found.top_logprobs == 0
    assert found.logprobs == "unknown"
    assert "no logprobs" in found.summary()


def test_one_of_several_models_must_be_named():
    def says(path, body):
        return [{"text": "a"}]

    with pytest.raises(InvalidRequest, match=r"got 2 models .* one, other"):
        probe(scripted(says, ["one", "other"]))
    assert probe(scripted(says, ["one", "other"]), "other").model == "other"
    with pytest.raises(UpstreamFailed, match="lists no model"):
        probe(scripted(says, []))


def test_a_server_that_answers_nothing():
    with pytest.raises(UpstreamFailed, match="answers neither"):
        probe(scripted(lambda *_: 500))
