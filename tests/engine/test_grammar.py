import pytest

from thermoscope.engine.grammar import Grammar
from thermoscope.errors import InvalidRequest


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grammar.choice([]), r"grammar: got \[\], expected texts"),
        (lambda: Grammar.choice(["a", ""]), "expected texts that are not empty"),
        (lambda: Grammar.regex("a" * 70_000), "grammar: got 70000 bytes, expected at most 65536"),
        (lambda: Grammar.lark("start: \ud800"), "half a surrogate pair"),
        (lambda: Grammar.json_schema([]), "grammar: schema: got list, expected an object or a boolean"),
        (lambda: Grammar.json_schema(None), "got null"),
    ],
)
def test_what_cannot_be_a_grammar_is_refused_in_one_line(make, message):
    with pytest.raises(InvalidRequest, match=message) as refusal:
        make()
    assert refusal.value.param == "grammar"


def test_an_error_names_the_field_that_the_grammar_came_in():
    with pytest.raises(InvalidRequest, match=r"^response_format: schema\.not: ") as refusal:
        Grammar.json_schema({"not": {}}, param="response_format")
    assert refusal.value.param == "response_format"


def test_the_same_grammar_from_another_field_is_the_same():
    assert Grammar.regex("a", param="x") == Grammar.regex("a")
    assert hash(Grammar.regex("a", param="x")) == hash(Grammar.regex("a"))
    assert Grammar.regex("a") != Grammar.lark("a")
