"""The default model in float32 against `transformers` in float32, from the same file."""

import pytest
import torch
import transformers

from tests.prompts import PROMPTS
from thermoscope.engine.engine import Engine
from thermoscope.engine.replay import replay
from thermoscope.engine.request import Request, Sampling

TOKENS = 64


@pytest.fixture(scope="module")
def reference(smollm2):
    network = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32
    )
    return network.eval()


@pytest.fixture(scope="module")
def answers(exact):
    """64 greedy tokens for each prompt, through the engine, eight at a time."""
    engine = Engine(exact, slots=8, context=512)
    greedy = Sampling(temperature=0.0, max_tokens=TOKENS, ignore_eos=True)
    prompts = [exact.tokenizer.chat([{"role": "user", "content": prompt}]) for prompt in PROMPTS]
    generations = [
        engine.prepare(Request(prompt=prompt, sampling=greedy, record=False)) for prompt in prompts
    ]
    for generation in generations:
        engine.submit(generation)
    while engine.busy:
        engine.step()
    return [generation.sequences[0].trace for generation in generations]


def test_logits_agree_and_greedy_tokens_are_the_same(exact, reference, answers):
    worst = 0.0
    for trace in answers:
        tokens = [*trace.prompt, *trace.tokens]
        assert len(trace.tokens) == TOKENS
        with torch.inference_mode():
            expected = reference(torch.tensor([tokens])).logits[0]
        ours = replay(exact, tokens, logits=True).logits
        worst = max(worst, float((ours - expected).abs().max()))
        chosen = expected[len(trace.prompt) - 1 : -1].argmax(dim=-1).tolist()
        assert tuple(chosen) == trace.tokens, exact.tokenizer.decode(trace.tokens)
    print(f"largest logit difference over {len(answers)} prompts: {worst:.2e}")
    assert worst <= 2e-3
