import json

import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.corpus import Document, documents, labelled
from thermoscope.instruments.shape.source import File


def parsed(text):
    return documents(File(name="data", data=text.encode()))


def test_an_empty_line_ends_a_document_of_plain_text():
    assert parsed("one\ntwo\r\n\r\nthree\n\n\n") == [Document("", "one\ntwo"), Document("", "three")]


def test_json_lines_hold_texts_or_pairs():
    lines = [
        '{"text": "all of it"}',
        "",
        '{"prompt": "2 + 2 =", "completion": "4"}',
        '{"question": "Why?\\n", "answer": "So.", "id": 3}',
        '{"input": "", "output": "x"}',
    ]
    assert parsed("\n".join(lines)) == [
        Document("", "all of it"),
        Document("2 + 2 =", "4"),
        Document("Why?\n", "So."),
        Document("", "x"),
    ]


@pytest.mark.parametrize(
    ("question", "answer", "joined"),
    [
        ("Why?", "So.", "Why? So."),
        ("Why?\n", "So.", "Why?\nSo."),
        ("Why? ", "So.", "Why? So."),
        ("Why?", "\nSo.", "Why?\nSo."),
        ("", "So.", "So."),
    ],
)
def test_a_space_comes_between_question_and_answer_if_neither_has_one(question, answer, joined):
    (document,) = parsed(json.dumps({"question": question, "answer": answer}))
    assert document.given + document.wanted == joined


@pytest.mark.parametrize(("given", "wanted"), [("prompt", "completion"), ("input", "output")])
def test_the_halves_of_one_text_are_joined_as_they_stand(given, wanted):
    assert parsed(json.dumps({given: "2+2=", wanted: "4"})) == [Document("2+2=", "4")]


def test_a_line_of_json_ends_at_a_newline_only():
    lines = [json.dumps({"text": each}, ensure_ascii=False) for each in ("a\u2028b\x85c", "d")]
    assert parsed("\r\n".join(lines)) == [Document("", "a\u2028b\x85c"), Document("", "d")]


def test_a_document_that_the_context_cuts_is_known(lab):
    room = lab.model.context - 1
    for length, cut in ((room, False), (room + 1, True)):
        text = " a" * length
        assert len(lab.model.tokenizer.prompt(text)) == length
        found = labelled(lab, Document("", text))
        assert (len(found.tokens), found.cut) == (room, cut)


@pytest.mark.parametrize(
    "line",
    ['{"text": 5}', '{"prompt": "x"}', "{broken", '{"text": ""}', '{"prompt": 1, "completion": "x"}', "{}"],
)
def test_a_line_that_holds_neither_is_named_by_its_number(line):
    with pytest.raises(InvalidRequest, match=r"data, line 2: got .*, expected a JSON object with text, or"):
        parsed('{"text": "fine"}\n' + line)


@pytest.mark.parametrize("text", ["", " \n\n "])
def test_an_empty_file_is_refused(text):
    with pytest.raises(InvalidRequest, match="data: got no text, expected documents"):
        parsed(text)


def test_only_what_was_wanted_counts(lab):
    tokenizer = lab.model.tokenizer
    tokens, first, _ = labelled(lab, Document("The capital of France is ", "Paris."))
    assert tokens == tuple(tokenizer.prompt("The capital of France is Paris."))
    assert "".join(map(tokenizer.piece, tokens[first:])) == " Paris."  # its first token spans the seam


def test_the_first_token_of_a_text_has_nothing_to_be_predicted_from(lab):
    tokens, first, _ = labelled(lab, Document("", "Hello there"))
    assert first == 1
    assert len(tokens) == 2
