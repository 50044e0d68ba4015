import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscope.errors import UpstreamFailed
from thermoscope.upstream.events import Events

OBJECTS = [{"a": "line\u2028end\u0085and\x1cmore"}, {"b": [1, None]}, {"c": "é"}]
WIRE = (
    b": a comment\n\n"
    + b"".join(b"data: " + json.dumps(each, ensure_ascii=False).encode() + b"\r\n\r\n" for each in OBJECTS)
    + b'event: x\ndata:{\ndata: "d": 1}\n\ndata: [DONE]\n\ndata: {"late": 1}\n\n'
)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, len(WIRE)), max_size=20))
def test_wherever_the_bytes_are_cut(cuts):
    ends = [0, *sorted(cuts), len(WIRE)]
    events = Events("http://toy")
    found = []
    for since, until in pairwise(ends):
        if not events.ended:
            found += events.feed(WIRE[since:until])
    assert found == [*OBJECTS, {"d": 1}]
    assert events.ended


def test_a_stream_without_its_end_has_not_ended():
    events = Events("http://toy")
    assert list(events.feed(b'data: {"a": 1}\n\ndata: {"b"')) == [{"a": 1}]
    assert not events.ended


@pytest.mark.parametrize(
    ("data", "message"),
    [(b'{"error": {"message": "oh"}}', "upstream: oh"), (b"oh", "got oh from http://toy")],
)
def test_an_event_that_is_an_error(data, message):
    with pytest.raises(UpstreamFailed, match=message):
        list(Events("http://toy").feed(b"data: " + data + b"\n\n"))
