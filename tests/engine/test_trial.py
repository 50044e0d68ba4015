"""Grammars that are meant to harm: refused in time, and nobody else waits for them."""

import threading
import time

import pytest

from tests import tiny
from thermoscope.engine.grammar import Grammar
from thermoscope.engine.guide import Guides
from thermoscope.engine.trial import TRIAL
from thermoscope.errors import InvalidRequest

ENDLESS = {"allOf": [{"type": "string", "pattern": f"a.{{0,{i}}}b.*c"} for i in range(1, 40)]}


@pytest.fixture
def guides(model):
    return Guides(model.tokenizer, tiny.VOCAB)


def nested(levels):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


HOSTILE = {
    "many patterns": (lambda: Grammar.json_schema(ENDLESS), "to compile"),
    "a large prime": (lambda: Grammar.json_schema({"type": "integer", "multipleOf": 10**9 + 7}), "fuel"),
    "deep": (lambda: Grammar.json_schema(nested(3000)), "levels"),
    "a giant enum": (lambda: Grammar.json_schema({"enum": [*range(100_000)]}), "bytes"),
    "alternatives": (lambda: Grammar.regex("|".join(f"a{{{i}}}" for i in range(1, 3000))), "too many"),
    "itself": (lambda: Grammar.json_schema({"$ref": "#"}), "nothing satisfies it"),
    "nothing": (lambda: Grammar.json_schema(False), "false"),
    "a file": (lambda: Grammar.json_schema({"$ref": "file:///etc/passwd"}), "retriev"),
    "many properties": (
        lambda: Grammar.json_schema({
            "type": "object", "properties": {f"property-{i}": {"type": "string"} for i in range(700)},
        }),
        "items",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_grammar_is_refused_within_two_seconds(guides, name):
    TRIAL.reason(Grammar.regex("a"), tiny.VOCAB)  # the process is there
    make, reason = HOSTILE[name]
    began = time.perf_counter()
    with pytest.raises(InvalidRequest, match=reason) as refusal:
        guides.guide(make())
    assert time.perf_counter() - began < 2
    assert "\n" not in str(refusal.value)
    guides.guide(Grammar.regex("a+"))  # and the next one is none the worse


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 10**9},
        {"type": "array", "items": {"type": "integer"}, "minItems": 10**9},
        {"type": "string", "pattern": "^(a|b)*a(a|b){25}$"},
        {"$defs": {"a": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/a"}}, {"type": "null"}]}},
         "$ref": "#/$defs/a"},
    ],
)  # fmt: skip
def test_what_only_looks_hostile_is_taken_and_stays_cheap(guides, schema):
    guide = guides.guide(Grammar.json_schema(schema))
    began = time.perf_counter()
    for _ in range(50):
        allowed = guide.allowed()
        if guide.complete:
            break
        guide.accept(int(allowed[-1]))
    assert time.perf_counter() - began < 1


def test_one_that_becomes_too_much_on_the_way_says_where(guides):
    guide = guides.guide(Grammar.regex("((a{1,1000}){1,1000}){1,1000}"))

    def go_on():
        for _ in range(50):
            guide.accept(int(guide.allowed()[-1]))

    with pytest.raises(InvalidRequest, match=r"got stuck after \d+ tokens \(lexer error: too many"):
        go_on()


def test_others_do_not_wait_while_one_is_tried(guides):
    guides.guide(Grammar.regex("b"))

    def try_it():
        with pytest.raises(InvalidRequest):
            guides.guide(Grammar.json_schema(ENDLESS))

    thread = threading.Thread(target=try_it)
    thread.start()
    longest, since = 0.0, time.perf_counter()
    while thread.is_alive():
        guides.guide(Grammar.regex("b")).allowed()
        now = time.perf_counter()
        longest, since = max(longest, now - since), now
    thread.join()
    assert longest < 0.5


def test_a_reason_is_remembered(guides):
    for limit in (2, 0.1):
        began = time.perf_counter()
        with pytest.raises(InvalidRequest, match="to compile"):
            guides.guide(Grammar.json_schema(ENDLESS))
        assert time.perf_counter() - began < limit
