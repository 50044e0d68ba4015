import threading
import time

import numpy as np
import pytest
import torch

import thermoscope as ts
from tests import tiny
from thermoscope.engine.engine import Engine
from thermoscope.engine.language_model import LanguageModel, Reply, load
from thermoscope.engine.trace import Trace
from thermoscope.errors import ContextExceeded, EngineStopped, InvalidRequest, ModelNotFound

FIXED = {"seed": 3, "max_tokens": 6, "ignore_eos": True}


@pytest.fixture(scope="module")
def lm(model):
    with LanguageModel(lambda: Engine(model, slots=2, context=64)) as made:
        yield made


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen within 20 seconds"
        time.sleep(0.002)


def test_a_reply_holds_the_answer_and_how_it_came_about(lm):
    reply = lm.chat("Hi", **FIXED)
    assert reply.trace.prompt == lm.tokenizer.chat([{"role": "user", "content": "Hi"}])
    assert reply.text == reply.trace.text == lm.tokenizer.decode(reply.trace.tokens)
    assert (reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == ("length", 2, 6)
    assert isinstance(reply.trace, ts.Trace)


def test_a_reply_of_many_answers_has_them_in_order(lm):
    reply = lm.generate("Hi", n=5, **FIXED)
    assert [trace.choice for trace in reply.traces] == list(range(5))
    assert reply.text == reply.traces[0].text
    assert (reply.completion_tokens, reply.prompt_tokens) == (30, 2)


def test_a_conversation_a_text_and_token_ids_are_prompts(lm):
    words = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert lm.chat(words, **FIXED).trace.prompt == lm.tokenizer.chat(words)
    text = lm.generate("Hi", **FIXED)
    ids = lm.tokenizer.encode("Hi")
    for same in (ids, tuple(ids), np.array(ids), torch.tensor(ids)):
        assert lm.generate(same, **FIXED).trace.prompt == tuple(ids) == text.trace.prompt
        assert lm.generate(same, **FIXED).text == text.text


@pytest.mark.parametrize("prompt", [5, None, [1.5], ["a", 3], {"role": "user"}])
def test_a_prompt_that_is_no_text_and_no_ids_is_refused(lm, prompt):
    with pytest.raises(InvalidRequest, match=r"^prompt: got .* expected text or token ids"):
        lm.generate(prompt, **FIXED)


def test_a_stream_gives_the_same_tokens_and_text_delta_by_delta(lm):
    for whole, stream in ((lm.chat, lm.stream_chat), (lm.generate, lm.stream)):
        reply, deltas = whole("Hi", **FIXED), list(stream("Hi", **FIXED))
        assert [delta.step.token for delta in deltas] == list(reply.trace.tokens)
        assert "".join(delta.text for delta in deltas) == reply.text
        assert [delta.finish_reason for delta in deltas] == [None] * 5 + ["length"]


def test_a_stop_string_may_stand_alone(lm):
    whole = lm.generate("Hi", seed=3, max_tokens=12, ignore_eos=True).text
    for stop in (whole[2:4], (whole[2:4],), [whole[2:4]]):
        reply = lm.generate("Hi", seed=3, max_tokens=12, ignore_eos=True, stop=stop)
        assert reply.text == whole[: whole.index(whole[2:4])]
        assert reply.finish_reason == "stop"


def test_an_unknown_setting_is_refused_by_name_before_anything_runs(lm):
    for ask in (lm.chat, lm.generate, lm.stream, lm.stream_chat):
        with pytest.raises(InvalidRequest, match=r"temprature: no such setting; .*temperature") as caught:
            ask("Hi", temprature=0.5)
        assert caught.value.param == "temprature"


def test_a_value_out_of_range_and_a_prompt_too_long_are_refused(lm):
    with pytest.raises(InvalidRequest, match="top_p: got 2"):
        lm.chat("Hi", top_p=2)
    with pytest.raises(ContextExceeded, match="got 65 tokens"):
        lm.generate([5] * 65)
    with pytest.raises(ContextExceeded, match="got 65 tokens"):
        next(lm.stream([5] * 65))


def test_leaving_a_stream_cancels_it(lm):
    for delta in lm.stream("Hi", ignore_eos=True, n=3):
        assert delta.choice == 0
        break
    wait_until(lambda: lm.runner.running == lm.runner.waiting == 0)
    stream = lm.stream("Hi", ignore_eos=True)
    next(stream)
    assert lm.runner.running == 1
    stream.close()
    wait_until(lambda: lm.runner.running == 0)


def test_a_stream_that_is_never_read_holds_no_slot(lm):
    unread = lm.stream("Hi", ignore_eos=True)
    assert (lm.runner.running, lm.runner.waiting) == (0, 0)
    unread.close()
    assert list(unread) == []


def test_an_error_inside_the_loop_cancels_too(lm):
    stream = lm.stream("Hi", ignore_eos=True)
    next(stream)
    with pytest.raises(KeyboardInterrupt):
        stream.throw(KeyboardInterrupt)
    wait_until(lambda: lm.runner.running == 0)


def test_it_names_what_it_runs(lm, model):
    assert (lm.name, lm.precision, lm.context) == (model.name, "fp32", 64)
    assert lm.config is model.config
    assert lm.tokenizer is model.tokenizer


def test_the_context_manager_stops_the_engine(model):
    with LanguageModel(lambda: Engine(model, slots=1, context=256)) as lm:
        stream = lm.stream("Hi", ignore_eos=True)
        next(stream)
    assert not [thread for thread in threading.enumerate() if thread is lm.runner._thread]
    with pytest.raises(EngineStopped, match="stopped before the answer was finished"):
        list(stream)
    with pytest.raises(EngineStopped, match="start it again"):
        lm.chat("Hi")


def test_a_reply_reads_the_first_trace():
    traces = [Trace(model="m", precision="p", prompt=(1, 2, 3), sampling={}, text=text) for text in "ab"]
    reply = Reply(traces)
    assert (reply.trace, reply.text, reply.prompt_tokens) == (traces[0], "a", 3)
    assert (reply.completion_tokens, reply.finish_reason) == (0, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save(tiny.reference("llama"), tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THERMOSCOPE_CACHE", str(tmp_path))
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def test_loading_gives_a_model_that_speaks(folder, cache):
    with load(str(folder), precision="fp32", slots=3, threads=1) as lm:
        assert (lm.precision, lm.context, lm.runner.slots) == ("fp32", 256, 3)
        assert lm.runner.call(torch.get_num_threads) == 1
        assert len(lm.generate("Hi", **FIXED).trace.tokens) == 6
    with load(str(folder), precision="fp32", context=16, threads=1) as lm:
        assert lm.context == 16


def test_a_context_longer_than_the_model_was_trained_for_is_refused(folder, cache):
    with pytest.raises(InvalidRequest, match=r"context: got 257, expected at most 256") as caught:
        load(str(folder), precision="fp32", context=257)
    assert caught.value.param == "context"


@pytest.mark.parametrize("field", ["context", "slots", "threads"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "8"])
def test_sizes_that_are_no_whole_number_are_refused_before_loading(field, value):
    with pytest.raises(InvalidRequest, match=rf"^{field}: got .*, expected a whole number, 1 or more"):
        load("no such model", **{field: value})


def test_more_threads_than_any_machine_has_are_refused():
    with pytest.raises(InvalidRequest, match=r"^threads: got 99999999999, expected at most 255;"):
        load("no such model", threads=99999999999)


def test_what_loading_raises_load_raises_and_no_thread_stays(cache):
    before = set(threading.enumerate())
    with pytest.raises(ModelNotFound, match="no such model"):
        load("no such model")
    wait_until(lambda: set(threading.enumerate()) <= before)
