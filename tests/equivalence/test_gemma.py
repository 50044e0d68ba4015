"""Gemma 3 270M, the real weights: its words, and its logits against `transformers` from the same file."""

from pathlib import Path

import pytest
import torch
import transformers

from thermoscope.engine.engine import Engine
from thermoscope.engine.replay import replay
from thermoscope.engine.request import Request, Sampling
from thermoscope.models.model import Model
from thermoscope.models.store import locate

pytestmark = pytest.mark.slow

QUESTION = "Question: What is the largest planet of the solar system?\nAnswer:"


@pytest.fixture(scope="module")
def path():
    """248 MiB, fetched into the user's cache if it is not there yet; under the Gemma Terms of Use."""
    return locate("gemma-3-270m", progress=False)


@pytest.fixture(scope="module")
def model(path):
    torch.set_num_threads(2)
    return Model.load(str(path), precision="fp32", context=2048)


@pytest.fixture(scope="module")
def reference(path):
    """Names and values of the file as transformers reads them."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()


def test_it_answers_a_question(model):
    engine = Engine(model, slots=1, context=256)
    greedy = Sampling(temperature=0.0, max_tokens=4)
    generation = engine.prepare(Request(prompt=model.tokenizer.prompt(QUESTION), sampling=greedy))
    engine.submit(generation)
    while engine.busy:
        engine.step()
    assert model.tokenizer.decode(generation.sequences[0].trace.tokens).startswith(" Jupiter\n")


def test_logits_agree_beyond_the_window(model, reference):
    text = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tokens = list(model.tokenizer.prompt(text))[:800]
    assert len(tokens) == 800 > model.config.window
    with torch.inference_mode():
        expected = reference(torch.tensor([tokens])).logits[0]
    ours = replay(model, tokens, logits=True).logits
    worst = float((ours - expected).abs().max())
    print(f"largest logit difference over {len(tokens)} tokens: {worst:.2e}")
    assert worst <= 2e-3
    assert torch.equal(ours.argmax(dim=-1), expected.argmax(dim=-1))


def test_tokens_are_those_of_transformers(path, model):
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for text in (
        QUESTION,
        "  two  spaces\n\n\nand\ttabs  ",
        "été 東京 🎉",
        "<start_of_turn>user\nHi<end_of_turn>",
    ):
        assert model.tokenizer.encode(text, special=True) == theirs.encode(text, add_special_tokens=False)
