"""A control vector of ours in llama.cpp: it changes what is said as it does here."""

import pytest
import torch

import thermoscope as ts
from benchmarks.agreement import first_difference, llama_greedy
from tests.prompts import PROMPTS
from thermoscope.bench import llama
from thermoscope.engine.replay import replay
from thermoscope.engine.steering import Steering
from thermoscope.models.model import Model

pytestmark = pytest.mark.peer

TOKENS = 24
LAYERS = (12, 20)
MARGIN = 0.3  # nats between fp32's best two, where rounding may decide


@pytest.fixture(scope="module")
def folder():
    found = llama.find()
    if found is None:
        pytest.skip(f"llama.cpp: not found; name the folder of its programs in {llama.FOLDER}")
    return found


def test_greedy_answers_change_as_ours_do(folder, smollm2, tmp_path):
    with ts.load(str(smollm2), context=1024) as lm:
        asked = [lm.tokenizer.chat([{"role": "user", "content": prompt}]) for prompt in PROMPTS[:5]]
        size = {}
        for layer in LAYERS:  # of a quarter of a state's length: enough to turn an answer
            seen = lm.runner.call(lambda at=layer: replay(lm.model, asked[0], keep=["residual"], layers=[at]))
            size[layer] = float(seen.kept["residual", layer][1:].norm(dim=1).mean()) / 4
        dice = torch.Generator().manual_seed(5)
        vectors = {}
        for layer in LAYERS:
            direction = torch.randn(lm.config.hidden, generator=dice)
            vectors[layer] = size[layer] * direction / direction.norm()
        steering = Steering(lm.name, lm.config.family, lm.config.layers, vectors)
        steering.save(tmp_path / "v.gguf")
        how = {"temperature": 0, "max_tokens": TOKENS}
        ours = [list(lm.generate(ids, steer=steering, **how).trace.tokens) for ids in asked]
        plain = [list(lm.generate(ids, **how).trace.tokens) for ids in asked]
        ends = lm.tokenizer.end_ids
    assert sum(one != other for one, other in zip(ours, plain, strict=True)) >= 4, (
        "the vector must move the answers"
    )

    theirs = llama_greedy(folder, smollm2, asked, 1, "--control-vector", str(tmp_path / "v.gguf"))
    reference = Model.load(str(smollm2), precision="fp32")
    margins = []
    for ids, mine, (other, ended) in zip(asked, ours, theirs, strict=True):
        place = first_difference(mine, other[:TOKENS], ended, ends)
        if place is None:
            continue
        changes = steering.interventions(len(ids))
        scores = replay(reference, [*ids, *mine[:place]], logits=True, interventions=changes).logits[-1]
        margins.append(float(scores.topk(2).values.diff().abs()))
        print(f"part at token {place}, where fp32's best two are {margins[-1]:.3f} nats apart")
    print(f"the same {TOKENS} tokens: {len(asked) - len(margins)} of {len(asked)}")
    assert max(margins, default=0) <= MARGIN
