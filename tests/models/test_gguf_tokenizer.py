import io
from pathlib import Path
from typing import Any

import pytest
import regex
import sentencepiece
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from tests.models.test_tokenizer import TEXTS
from tests.models.tiny import TOKENIZER, TOKENS
from thermoscope.errors import BadModelFile, UnsupportedModel
from thermoscope.models.gguf_tokenizer import PRE_TOKENIZERS, gguf_tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog while the other dogs sleep.",
    "A thermoscope lets people see heat before they can put a number on it.",
    "She sells sea shells by the sea shore; the shells she sells are sea shells.",
    "def main(argument):\n    return [value for value in argument if value > 10]",
    "In 1714 Fahrenheit, in 1742 Celsius, and in 1848 Kelvin named their scales.",
    "être naïve à Zürich, über alles, señor, ça va?",
    *(f"{a} {b} {c}" for a in ("one", "two") for b in ("hot", "cold", "warm") for c in ("day", "night")),
]
KINDS = ("is_unknown", "is_control", "is_unused", "is_byte")


def header_of(model: sentencepiece.SentencePieceProcessor, **changed: Any) -> dict[str, Any]:
    """The GGUF metadata of a SentencePiece model, as llama.cpp's converter writes it."""
    ids = range(model.get_piece_size())
    types = {"is_unknown": 2, "is_control": 3, "is_unused": 5, "is_byte": 6}
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [model.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [model.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": [
            next((types[kind] for kind in KINDS if getattr(model, kind)(i)), 1) for i in ids
        ],
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        **{f"tokenizer.ggml.{key}": value for key, value in changed.items()},
    }


def trained(prefix: bool) -> sentencepiece.SentencePieceProcessor:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 5),
        model_writer=out,
        model_type="bpe",
        vocab_size=480,
        byte_fallback=True,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        split_digits=True,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_ids(prefix: bool) -> None:
    model = trained(prefix)
    ours = gguf_tokenizer(header_of(model, add_space_prefix=prefix), rows=480, where="model")
    for text in [*TEXTS, *CORPUS]:
        assert ours.encode(text) == model.encode(text), text
        assert ours.prompt(text) == (1, *model.encode(text))
        assert ours.decode(model.encode(text)) == (" " if prefix and text else "") + text


def test_sentencepiece_pieces() -> None:
    model = trained(True)
    ours = gguf_tokenizer(header_of(model), rows=480, where="model")
    assert ours.end_ids == {2}
    assert ours.encode("<s>hot", special=True)[0] == 1
    assert 1 not in ours.encode("<s>hot")
    assert [ours.is_control(i) for i in (0, 1, 2, 3)] == [True, True, True, False]
    assert ours.bytes_of(model.piece_to_id("<0xE2>")) == b"\xe2"
    assert ours.piece(model.encode("the")[0]).startswith(" ")


def test_sentencepiece_without_bos() -> None:
    model = trained(True)
    ours = gguf_tokenizer(header_of(model, add_bos_token=False), rows=480, where="model")
    assert ours.prompt("hot") == tuple(model.encode("hot"))


def cut(name: str, text: str) -> list[str]:
    """Cut a text as the format defines it, by the `regex` package in place of the library's engine."""
    pieces = [text]
    for expression in PRE_TOKENIZERS[name].cuts:
        cutter = regex.compile(expression)
        after = []
        for piece in pieces:
            at = 0
            for match in cutter.finditer(piece):
                after += [piece[at : match.start()], match.group()]
                at = match.end()
            after.append(piece[at:])
        pieces = [piece for piece in after if piece]
    return pieces


@pytest.mark.parametrize("name", sorted(PRE_TOKENIZERS))
def test_every_pre_tokenizer_cuts_as_its_expressions_say(name: str) -> None:
    tokenizer = gguf_tokenizer({**TOKENIZER, "tokenizer.ggml.pre": name}, rows=len(TOKENS), where="m")
    pre = tokenizer.core.pre_tokenizer
    assert pre is not None
    for text in TEXTS:
        found = [text[start:end] for _, (start, end) in pre.pre_tokenize_str(text)]
        assert found == cut(name, text)


@pytest.mark.parametrize("name", sorted(GGUF_PRE_TOKENIZER_SPLITS.keys() & PRE_TOKENIZERS.keys()))
def test_pre_tokenizers_cut_as_those_of_transformers(name: str) -> None:
    theirs = regex.compile(GGUF_PRE_TOKENIZER_SPLITS[name])
    for text in TEXTS:
        assert cut(name, text) == theirs.findall(text)


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [
        ("gpt-2", "I'm  12345!", ["I", "'m", " ", " 12345", "!"]),
        ("smollm", "a 123", ["a", " ", "1", "2", "3"]),
        ("default", "a,b 12345", ["a", ",", "b", " ", "123", "45"]),
        ("llama-bpe", "I'M 12345 a.b\n\nc", ["I", "'M", " ", "123", "45", " a", ".b", "\n\n", "c"]),
        ("qwen2", "I'M 123 a.b", ["I", "'M", " ", "1", "2", "3", " a", ".b"]),
        ("tekken", "HelloWorld it's 12", ["Hello", "World", " it", "'s", " ", "1", "2"]),
        ("gpt-4o", "HelloWorld it's 1234", ["Hello", "World", " it's", " ", "123", "4"]),
    ],
)
def test_known_cuts(name: str, text: str, pieces: list[str]) -> None:
    assert cut(name, text) == pieces


@pytest.mark.parametrize(
    ("pre", "bos"), [("llama-bpe", True), ("tekken", True), ("qwen2", False), ("smollm", False)]
)
def test_whether_bos_is_added(pre: str, bos: bool) -> None:
    header = {**TOKENIZER, "tokenizer.ggml.pre": pre}
    for changed, expected in (({}, bos), ({"tokenizer.ggml.add_bos_token": not bos}, not bos)):
        ours = gguf_tokenizer({**header, **changed}, rows=len(TOKENS), where="model")
        assert (ours.prompt("h")[0] == 1) is expected


def test_merges_are_applied_and_whole_words_come_first() -> None:
    whole = {**TOKENIZER, "tokenizer.ggml.merges": TOKENIZER["tokenizer.ggml.merges"][:2]}
    by_merges = gguf_tokenizer({**whole, "tokenizer.ggml.pre": "qwen2"}, rows=len(TOKENS), where="m")
    at_once = gguf_tokenizer({**whole, "tokenizer.ggml.pre": "llama-bpe"}, rows=len(TOKENS), where="m")
    assert [by_merges.piece(i) for i in by_merges.encode("hello")] == ["he", "ll", "o"]
    assert [at_once.piece(i) for i in at_once.encode("hello")] == ["hello"]


def test_user_defined_tokens_are_text_that_stays_whole() -> None:
    types = [3, 3, 3, *[1] * (len(TOKENS) - 3)]
    types[TOKENS.index("hello")] = 4
    header = {**TOKENIZER, "tokenizer.ggml.token_type": types}
    ours = gguf_tokenizer(header, rows=len(TOKENS), where="model")
    assert TOKENS.index("hello") in ours.encode("xhellox")
    assert ours.decode(ours.encode("xhellox")) == "xhellox"


def test_chat_template_and_ends(tmp_path: Path) -> None:
    ours = gguf_tokenizer({**TOKENIZER, "tokenizer.ggml.eot_token_id": 5}, rows=len(TOKENS), where="model")
    assert ours.end_ids == {0, 2, 5}  # <|endoftext|> by its name
    assert ours.decode(ours.chat([{"role": "user", "content": "hello"}])) == "user\nhello\n"
    bare = {key: value for key, value in TOKENIZER.items() if "template" not in key}
    assert gguf_tokenizer(bare, rows=len(TOKENS), where="model").template is None


def test_refuses_scores_that_are_missing() -> None:
    header = {**TOKENIZER, "tokenizer.ggml.model": "llama"}
    with pytest.raises(BadModelFile, match="scores"):
        gguf_tokenizer(header, rows=len(TOKENS), where="model")


def test_refuses_a_pre_tokenizer_that_it_does_not_know() -> None:
    with pytest.raises(UnsupportedModel, match=r"klingon.*expected one of .*smollm"):
        gguf_tokenizer({**TOKENIZER, "tokenizer.ggml.pre": "klingon"}, rows=len(TOKENS), where="model")
