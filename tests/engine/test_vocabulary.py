"""What llguidance is told of a tokenizer, and that a text stays text."""

import numpy as np
import pytest

from tests import tiny
from tests.models.test_gguf_tokenizer import header_of, trained
from thermoscope.engine.grammar import Grammar
from thermoscope.engine.guide import Guides
from thermoscope.engine.vocabulary import vocabulary
from thermoscope.models.gguf_tokenizer import gguf_tokenizer


def said(guide, tokenizer, choose):
    tokens = []
    while not guide.complete and (token := choose(guide.allowed())) not in tokenizer.end_ids:
        guide.accept(token)
        tokens.append(token)
    return tokens


@pytest.mark.parametrize("text", ["</s>", "<s>", "x</s>y"])
def test_a_text_that_looks_like_a_control_token_is_spelled_as_text(model, text):
    guides = Guides(model.tokenizer, tiny.VOCAB)
    for grammar, wanted in (
        (Grammar.choice([text]), text),
        (Grammar.json_schema({"const": text}), f'"{text}"'),
    ):
        tokens = said(guides.guide(grammar), model.tokenizer, lambda ids: int(ids[-1]))
        assert model.tokenizer.decode(tokens) == wanted
        assert not any(map(model.tokenizer.is_control, tokens))


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_spells_what_it_must_and_as_within_a_text(prefix):
    words = trained(prefix)
    tokenizer = gguf_tokenizer(header_of(words, add_space_prefix=prefix), rows=480, where="model")
    guides, random = Guides(tokenizer, 480), np.random.default_rng(1)
    for text in ("the quick brown fox", " lead", "é ü", "a  b"):
        tokens = said(
            guides.guide(Grammar.choice([text, f"{text} of it"])),
            tokenizer,
            lambda ids: int(random.choice(ids)),
        )
        assert tokenizer.decode(tokens) in (text, f"{text} of it")


def test_every_token_has_its_bytes_and_control_tokens_are_none(model):
    seen = vocabulary(model.tokenizer, tiny.VOCAB + 4)
    assert seen.vocab_size == tiny.VOCAB + 4
    for token in range(tiny.VOCAB + 4):
        control = model.tokenizer.is_control(token)
        assert seen.is_special_token(token) == control
        assert control or seen.decode_bytes([token]) == model.tokenizer.bytes_of(token)


@pytest.mark.parametrize("prefix", [True, False])
def test_a_text_is_spelled_as_the_tokenizer_spells_it(prefix):
    words = trained(prefix)
    tokenizer = gguf_tokenizer(header_of(words, add_space_prefix=prefix), rows=480, where="model")
    spelled = vocabulary(tokenizer, 480).tokenize_str("hot dogs sleep")
    assert tokenizer.decode(spelled) == "hot dogs sleep"
    assert len(spelled) <= len(words.encode("hot dogs sleep")) + 2
