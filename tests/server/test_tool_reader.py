"""An answer's text in pieces, wherever tokens cut it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscope.models.calls import FORMATS, HERMES, LLAMA3, MISTRAL, MISTRAL_NAMED
from thermoscope.server.tools.reader import Arguments, Call, CallBegins, CallReader, Content, call_id, gather

NAMES = dict(zip(("hermes", "llama3", "mistral", "mistral spaced", "mistral named"), FORMATS, strict=True))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=4)


def read(form, parts):
    reader = CallReader(form)
    pieces = [piece for part in parts for piece in reader.push(part)] + reader.push("", last=True)
    return pieces, reader.complete


def written(form, calls):
    return form.text([{"function": {"name": name, "arguments": arguments}} for name, arguments in calls])


@pytest.mark.parametrize("form", NAMES.values(), ids=NAMES)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_what_a_form_writes_is_read_back(form, data):
    """Any calls, after any text, cut anywhere."""
    several = form.again is not None
    calls = data.draw(
        st.lists(
            st.tuples(st.sampled_from(["f", "get_weather", "a-b_1"]), OBJECTS), max_size=3 if several else 1
        )
    )
    said = data.draw(st.text(alphabet="ab \n<[{\"'", max_size=12)) if not form.leads or not calls else ""
    text = said + (written(form, calls) if calls else "")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    pieces, complete = read(form, parts)
    content, found = gather(pieces)
    assert content == (said.rstrip() if calls else said)
    assert [(call.name, json.loads(call.arguments)) for call in found] == calls
    assert complete == bool(calls)
    assert gather(read(form, text)[0])[0] == content  # a character at a time


@pytest.mark.parametrize("form", NAMES.values(), ids=NAMES)
def test_a_call_begins_before_its_arguments_come(form):
    text = written(form, [("weather", {"city": "Bern"})])
    pieces, _ = read(form, text)
    begins, *arguments = pieces
    assert isinstance(begins, CallBegins)
    assert (begins.index, begins.name) == (0, "weather")
    assert [piece.text for piece in arguments] == list('{"city": "Bern"}')
    assert all(isinstance(piece, Arguments) and piece.index == 0 for piece in arguments)


def test_text_is_shown_as_soon_as_it_cannot_be_a_mark():
    reader = CallReader(HERMES)
    assert reader.push("a <tool") == [Content("a")]
    assert reader.push("box") == [Content(" <toolbox")]
    assert reader.push(" \n") == []
    assert reader.push("b") == [Content(" \nb")]
    assert reader.push("<tool_", last=True) == [Content("<tool_")]


def test_a_call_that_was_cut_is_not_complete():
    cut = '<tool_call>\n{"name": "f", "arguments": {"a": "}'
    pieces, complete = read(HERMES, [cut])
    assert [type(piece) for piece in pieces] == [CallBegins, Arguments]
    assert not complete
    pieces, complete = read(
        HERMES, [written(HERMES, [("f", {})]) + '\n<tool_call>\n{"name": "g", "arguments": {']
    )
    assert [call.arguments for call in gather(pieces)[1]] == ["{}", "{"]
    assert not complete
    for size in range(len('<tool_call>\n{"name": "f", "argu')):
        pieces, complete = read(HERMES, ['<tool_call>\n{"name": "f", "argu'[: max(size, 11)]])
        assert (pieces, complete) == ([], False)


def test_a_mark_that_no_call_follows_is_text():
    assert gather(read(HERMES, "Write <tool_call> first.")[0]) == ("Write <tool_call> first.", [])


def test_only_the_very_start_is_a_call_where_a_form_says_so():
    text = 'Say {"name": "f", "parameters": {}}'
    assert gather(read(LLAMA3, text)[0]) == (text, [])
    assert gather(read(LLAMA3, '{"nam": 1}')[0]) == ('{"nam": 1}', [])


def test_nothing_behind_the_calls_is_shown():
    for form in (HERMES, MISTRAL, MISTRAL_NAMED):
        content, calls = gather(read(form, written(form, [("f", {"a": 1})]) + " Done.")[0])
        assert (content, [call.arguments for call in calls]) == ("", ['{"a": 1}'])


def test_ids_are_new_and_as_long_as_the_template_wants():
    assert len({call_id(form) for form in FORMATS for _ in range(20)}) == 20 * len(FORMATS)
    assert call_id(HERMES).startswith("call_")
    assert len(call_id(MISTRAL)) == 9
    assert call_id(MISTRAL).isalnum()


def test_gather_keeps_calls_apart():
    pieces = [
        Content("a"),
        CallBegins(0, "x", "f"),
        CallBegins(1, "y", "g"),
        Arguments(1, "{}"),
        Arguments(0, "{"),
    ]
    assert gather(pieces) == ("a", [Call("x", "f", "{"), Call("y", "g", "{}")])
