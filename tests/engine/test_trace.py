import copy
import dataclasses
import json
import math
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermoscope.engine.request import Sampling
from thermoscope.engine.sampler import Sampler
from thermoscope.engine.trace import Alternative, Constraint, Record, Step, Trace
from thermoscope.errors import BadModelFile, InvalidRequest

FINITE = st.floats(allow_nan=False, allow_infinity=False)
LOGPROB = st.floats(max_value=0.0, allow_nan=False)  # -inf is one
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ALTERNATIVES = st.builds(Alternative, st.integers(0, 10**6), TEXT, LOGPROB, LOGPROB)
RECORDS = st.builds(
    Record,
    logprob=LOGPROB,
    sampler_logprob=LOGPROB,
    entropy=FINITE,
    log_z=FINITE,
    kept=st.integers(1, 10**6),
    removed_mass=st.floats(0, 1),
    alternatives=st.lists(ALTERNATIVES, max_size=3).map(tuple),
    constraint=st.none() | st.builds(Constraint, st.integers(1, 10**6), st.floats(0, 1e4)),
)
STEPS = st.builds(
    Step, st.integers(0, 10**6), TEXT, st.binary(max_size=6), st.floats(0, 1e9), st.none() | RECORDS
)
TRACES = st.builds(
    Trace,
    model=TEXT,
    precision=st.just("int4"),
    prompt=st.lists(st.integers(0, 10**6)).map(tuple),
    sampling=st.fixed_dictionaries(
        {
            "temperature": st.floats(0, math.inf),
            "seed": st.integers(-(2**63), 2**64 - 1),
            "stop": st.lists(TEXT),
            "logit_bias": st.dictionaries(st.integers(0, 99).map(str), FINITE),
            "ignore_eos": st.booleans(),
            "max_tokens": st.none() | st.integers(1),
        }
    ),
    choice=st.integers(0, 127),
    text=TEXT,
    finish_reason=st.sampled_from([None, "stop", "length"]),
    prefill_ms=st.floats(0, 1e9),
    steps=st.lists(STEPS, max_size=3),
    steered=st.none() | st.text("0123456789abcdef", min_size=16, max_size=16),
)


def sample(**changed):
    record = Record(
        logprob=-1.25,
        sampler_logprob=-0.5,
        entropy=2.0,
        log_z=13.5,
        kept=2,
        removed_mass=0.25,
        alternatives=(Alternative(7, "é", -1.25, -0.5), Alternative(9, "b", -2.0, -math.inf)),
    )
    steps = [Step(7, "", b"\xc3", 1.23456789, record), Step(8, "é", b"\xa9", 0.5)]
    fields = {
        "model": "m",
        "precision": "fp32",
        "prompt": (1, 2),
        "sampling": {"temperature": math.inf, "seed": 3},
        "text": "é",
        "finish_reason": "length",
        "prefill_ms": 12.3456789,
        "steps": steps,
    }
    return Trace(**fields | changed)


@given(TRACES)
def test_a_trace_comes_back_equal_from_json(trace):
    assert Trace.from_dict(json.loads(json.dumps(trace.to_dict(), allow_nan=False))) == trace


def test_a_saved_trace_loads_equal(tmp_path):
    sample().save(tmp_path / "trace.json")
    assert Trace.load(tmp_path / "trace.json") == sample()
    assert Trace.load(str(tmp_path / "trace.json")).tokens == (7, 8)


def test_numbers_that_json_lacks_are_strings(tmp_path):
    sample().save(tmp_path / "trace.json")
    plain = json.loads((tmp_path / "trace.json").read_text(), parse_constant=pytest.fail)
    assert plain["sampling"]["temperature"] == "inf"
    assert plain["steps"][0]["alternatives"][1]["sampler_logprob"] == "-inf"


def test_a_step_shows_its_record_beside_itself():
    first, second = (step.to_dict() for step in sample().steps)
    assert first["bytes"] == [0xC3]
    assert first["kept"] == 2
    assert first["alternatives"][0] == {
        "token": 7, "text": "é", "logprob": -1.25, "sampler_logprob": -0.5
    }  # fmt: skip
    assert second == {"token": 8, "text": "é", "bytes": [0xA9], "ms": 0.5}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b"{}",
        b'{"format": 99}',
        b'{"format": 1}',
        b'{"format": 1, "prompt": 3}',
        json.dumps(sample().to_dict() | {"more": 1}).encode(),
        json.dumps(sample().to_dict() | {"sampling": []}).encode(),
        json.dumps(sample().to_dict() | {"steps": [{}]}).encode(),
        json.dumps(sample().to_dict() | {"steps": [3]}).encode(),
        json.dumps(sample().to_dict() | {"steps": [{"token": 1, "text": "", "bytes": [999]}]}).encode(),
        json.dumps(sample().to_dict()).encode()[:-40],
    ],
)
def test_a_broken_or_foreign_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "trace.json"
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=r"trace\.json: .*expected") as caught:
        Trace.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_the_same_kind_of_error(tmp_path):
    with pytest.raises(BadModelFile, match=r"none\.json: .*FileNotFoundError"):
        Trace.load(tmp_path / "none.json")


def test_a_foreign_format_over_http_is_an_invalid_request():
    with pytest.raises(InvalidRequest, match="got format 2, expected 1"):
        Trace.from_dict(sample().to_dict() | {"format": 2})


def test_the_old_file_stays_whole_when_writing_fails(tmp_path):
    path = tmp_path / "trace.json"
    sample().save(path)
    with pytest.raises(UnicodeEncodeError):
        sample(text="\ud800").save(path)
    assert Trace.load(path) == sample()
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_where_the_last_move_fails(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        sample().save(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_a_reader_never_sees_half_a_file(tmp_path, monkeypatch):
    path = tmp_path / "trace.json"
    seen = []
    write = Path.write_text

    def watched(self, *args, **kwargs):
        count = write(self, *args, **kwargs)
        seen.append((self.name, path.exists()))
        return count

    monkeypatch.setattr(Path, "write_text", watched)
    sample().save(path)
    assert seen == [("trace.json.part", False)]
    assert path.exists()


def test_a_recorded_step_can_be_copied_and_pickled():
    row = np.random.default_rng(1).standard_normal(50).astype(np.float32)

    class Words:
        lock = threading.Lock()  # as a tokenizer has

        def piece(self, token):
            return f"<{token}>"

    _, record = Sampler(Sampling(top_p=0.5), seed=1, choice=0, prompt=()).draw(row, 0, Words())
    step = Step(1, "a", b"a", 0.5, record)
    for again in (pickle.loads(pickle.dumps(step)), copy.deepcopy(step)):
        assert again == step
        assert hash(again) == hash(step)
        assert repr(again) == repr(step)


def test_what_a_mask_did_survives_a_file(tmp_path):
    record = sample().steps[0].record
    held = dataclasses.replace(record, constraint=Constraint(7, 0.25))
    trace = sample()
    trace.steps[0] = dataclasses.replace(trace.steps[0], record=held)
    trace.grammar = {"kind": "regex", "source": "a+"}
    trace.save(tmp_path / "trace.json")
    assert Trace.load(tmp_path / "trace.json") == trace
    assert trace.to_dict()["steps"][0]["constraint"] == {
        "allowed": 7,
        "removed_mass": pytest.approx(1 - math.exp(-0.25)),
        "work": 0.25,
    }
    assert "constraint" not in sample().to_dict()["steps"][0]
