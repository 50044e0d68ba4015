import json
import time
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from thermoscope.errors import BadModelFile, ContextExceeded, InvalidRequest, UnsupportedModel
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.tokenizer import SETTINGS_FILE, Tokenizer, check_ids

TEXTS = [
    "",
    " ",
    "Hello, we can use",
    "The capital of France is Paris.",
    "  leading, trailing  ",
    "tabs\t\tand\nnew\r\nlines\n\n\n  indented",
    "def f(x: int) -> int:\n    return x ** 2  # naïve\n\n\tif x != 3: pass",
    "1234567890 3.14159 ١٢٣ Ⅷ ½ 10^-36 x1y2",
    "I'm we'll they've he'd it's 'tis O'Brien DON'T",
    "Ünïcödé straße Ελληνικά Русский العربية עברית 日本語 中文 한국어 ไทย",
    "🤗👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 \u00a0nbsp\u2003em\u200bzero",
    "!!!???... --- ### $$$ @user <html>&amp;</html> {json: [1, 2]}",
    "a" * 300,
    "https://example.org/path?q=1&r=%20#frag",
]


@pytest.fixture(scope="module")
def ours(smollm2: Path) -> Tokenizer:
    return open_checkpoint(smollm2).tokenizer


@pytest.fixture(scope="module")
def reference(smollm2: Path) -> Any:
    found = AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)
    # transformers knows no pre-tokenizer "smollm"; these two are what the model's own tokenizer.json names
    found.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return found


@pytest.mark.parametrize("text", TEXTS)
def test_encodes_as_transformers_does(ours: Tokenizer, reference: Any, text: str) -> None:
    assert ours.encode(text) == reference.encode(text, add_special_tokens=False)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Co", "Cn"]), max_size=60))
def test_any_text_encodes_as_transformers_does_and_comes_back(
    ours: Tokenizer, reference: Any, text: str
) -> None:
    ids = ours.encode(text)
    assert ids == reference.encode(text, add_special_tokens=False)
    assert ours.decode(ids) == text


def test_known_ids(ours: Tokenizer) -> None:
    assert ours.encode("Hello, we can use") == [19556, 28, 392, 416, 722]
    assert ours.encode("Hello world! 123") == [19556, 905, 17, 216, 33, 34, 35]
    assert ours.encode("Café déjà vu.") == [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30]


def test_chat_is_what_transformers_makes_of_it(ours: Tokenizer, reference: Any) -> None:
    messages = [
        {"role": "user", "content": "What is 7 × 6?"},
        {"role": "assistant", "content": "42"},
        {"role": "user", "content": "An <|im_end|> inside"},
    ]
    expected = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert list(ours.chat(messages)) == expected
    assert ours.chat(messages).count(2) == 5  # the default system prompt, three messages, and the one spelled


def test_control_tokens_are_text_unless_asked_for(ours: Tokenizer) -> None:
    plain = ours.encode("<|im_start|>user")
    assert 1 not in plain
    assert ours.decode(plain) == "<|im_start|>user"
    assert ours.encode("<|im_start|>user", special=True) == [1, 4093]
    assert ours.encode("<|im_start|>user") == plain  # the choice of one call does not stay


def test_the_default_model_adds_no_bos(ours: Tokenizer) -> None:
    assert ours.prompt("Hello") == tuple(ours.encode("Hello"))
    assert ours.end_ids == {0, 2}
    assert ours.vocab_size == 49152


def test_pieces(ours: Tokenizer) -> None:
    assert ours.is_control(1)
    assert ours.bytes_of(1) == b""
    assert ours.piece(1) == "<|im_start|>"
    assert ours.piece(905) == " world"
    parts = ours.encode("🤗")
    assert len(parts) > 1
    assert b"".join(map(ours.bytes_of, parts)) == "🤗".encode()
    assert "�" in ours.piece(parts[-1])  # a part of a character
    assert ours.is_control(49152)  # past the vocabulary
    assert ours.bytes_of(49152) == b""
    assert ours.piece(49152) == "<unused 49152>"


def test_every_token_has_the_bytes_that_the_library_decodes(ours: Tokenizer) -> None:
    for token in range(ours.vocab_size):
        expected = ours.core.decode([token], skip_special_tokens=True)
        assert ours.decode([token]) == expected


def test_half_a_surrogate_pair_is_an_invalid_request(ours: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="character 3"):
        ours.encode("abc\ud83e")


def test_without_a_template_there_is_no_chat(ours: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="chat template"):
        Tokenizer(ours.core).chat([{"role": "user", "content": "hi"}])


def test_saves_and_loads_quickly(ours: Tokenizer, tmp_path: Path) -> None:
    ours.save(tmp_path)
    start = time.perf_counter()
    loaded = Tokenizer.load(tmp_path)
    assert time.perf_counter() - start < 0.5
    assert (loaded.end_ids, loaded.bos, loaded.vocab_size) == (ours.end_ids, ours.bos, ours.vocab_size)
    messages = [{"role": "user", "content": "Hi 12"}]
    assert loaded.chat(messages) == ours.chat(messages)
    assert [loaded.bytes_of(i) for i in range(500)] == [ours.bytes_of(i) for i in range(500)]


@pytest.mark.parametrize("spoil", ["", "{", json.dumps({"end_ids": []}), "[]"])
def test_a_spoiled_copy_is_a_bad_model_file(ours: Tokenizer, tmp_path: Path, spoil: str) -> None:
    ours.save(tmp_path)
    (tmp_path / SETTINGS_FILE).write_text(spoil)
    with pytest.raises(BadModelFile):
        Tokenizer.load(tmp_path)


def core_of(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))


@pytest.mark.parametrize(
    ("vocabulary", "named", "rows", "says"),
    [
        ({"a": 0, "b": 1}, {}, 1, "2 ids, expected 1"),
        ({"a": 0}, {}, 5000, "1 ids, expected 5000"),
        ({"a": 0, "b": 2}, {}, 3, "first being 1"),
        ({"a": 0, "b": 1}, {"eos": 2}, 2, "eos: got id 2"),
        ({"a": 0, "b": 1}, {"eos": -1}, 2, "eos: got id -1"),
    ],
)
def test_refuses_ids_that_do_not_fit(
    vocabulary: dict[str, int], named: dict[str, int | None], rows: int, says: str
) -> None:
    with pytest.raises(BadModelFile, match=says):
        check_ids(core_of(vocabulary), named, rows, "model")


def test_rows_may_round_the_vocabulary_up() -> None:
    check_ids(core_of({"a": 0, "b": 1}), {"eos": 1, "bos": None}, 64, "model")


def test_refuses_a_spelling_that_it_does_not_know() -> None:
    core = core_of({"a": 0})
    core.decoder = tokenizers.decoders.WordPiece()
    with pytest.raises(UnsupportedModel, match="WordPiece"):
        Tokenizer(core)


def test_a_conversation_far_too_long_is_refused_unread(ours, monkeypatch):
    tokenizer = Tokenizer(ours.core, template=ours.template)
    assert tokenizer.core.normalizer is None
    tokenizer.room = 100
    assert len(tokenizer.chat([{"role": "user", "content": "hello"}])) < 100
    monkeypatch.setattr(tokenizer, "encode", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ContextExceeded, match=r"got at least \d+ tokens of the prompt, expected at most 100"):
        tokenizer.chat([{"role": "user", "content": "x " * 4_000_000}])
