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
        smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32, attn_implementation="eager"
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


@pytest.mark.parametrize("count", [3, pytest.param(len(PROMPTS), marks=pytest.mark.slow)])
def test_states_and_attention_agree_in_every_layer(exact, reference, count):
    """transformers' last state is after the final norm; ours is before, and compared through it."""
    worst = {"residual": 0.0, "attention": 0.0}
    for prompt in PROMPTS[:count]:
        tokens = exact.tokenizer.chat([{"role": "user", "content": prompt}])
        with torch.inference_mode():
            told = reference(torch.tensor([tokens]), output_hidden_states=True, output_attentions=True)
            ours = replay(exact, tokens, keep=("residual", "attention")).kept
            top = exact.config.layers
            normed = exact.decoder._norm(ours["residual", top], exact.decoder.final_norm)
        states = [ours["residual", layer] for layer in range(top)] + [normed]
        for mine, theirs in zip(states, told.hidden_states, strict=True):
            relative = (mine - theirs[0]).norm(dim=-1) / theirs[0].norm(dim=-1)
            worst["residual"] = max(worst["residual"], float(relative.max()))
        for layer, theirs in enumerate(told.attentions):
            relative = (ours["attention", layer] - theirs[0]).norm(dim=-1) / theirs[0].norm(dim=-1)
            worst["attention"] = max(worst["attention"], float(relative.max()))
    print(f"largest relative difference of a row over {count} prompts: {worst}")
    assert max(worst.values()) <= 1e-4


def test_what_a_head_mixes_is_its_weights_times_the_values_in_every_layer(exact):
    """c_t = softmax(q_t K_tᵀ / √d) V_t, recomputed in float64 from the memory, a token at a time."""
    config = exact.config
    tokens = exact.tokenizer.chat([{"role": "user", "content": PROMPTS[4]}])
    kept = replay(exact, tokens, keep=("q", "k", "v", "head_out", "attention_out")).kept
    for layer in range(config.layers):
        q, k, v, mixed = (kept[name, layer].double() for name in ("q", "k", "v", "head_out"))
        for head in range(config.heads):
            group = head // (config.heads // config.kv_heads)
            for t in (0, 1, len(tokens) // 2, len(tokens) - 1):
                memory = k[: t + 1, group], v[: t + 1, group]
                weights = (memory[0] @ q[t, head] / config.head_dim**0.5).softmax(dim=0)
                assert (weights @ memory[1] - mixed[t, head]).abs().max() <= 1e-5
        added = mixed.flatten(1) @ exact.decoder.layers[layer].output.weight().double().T
        scale = added.abs().max()
        assert (kept["attention_out", layer] - added).abs().max() <= 1e-5 * max(1.0, float(scale))
