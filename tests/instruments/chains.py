"""Chains of thought of made-up tokens for small random models, and what a replay keeps of them."""

from itertools import pairwise

import torch

from tests import tiny
from thermoscope.engine.replay import QUANTITIES, replay
from thermoscope.instruments._chain import Chain
from thermoscope.instruments._steps import Step

SINKS, UNTIL, HEAD = 2, 30, (1, 1)
EDGES = (9, 18, 26, 33, 41, 46)  # the prompt's end, then each step's
SIZES = (2, 7, 9, 8, 7, 8, 5, 5)  # sinks, rest of the prompt, steps, end


def chain():
    """Five steps."""
    dice = torch.Generator().manual_seed(8)
    tokens = tuple(torch.randint(2, tiny.VOCAB, (sum(SIZES),), generator=dice).tolist())
    steps = [Step(first, end, f"step {at}") for at, (first, end) in enumerate(pairwise(EDGES))]
    return Chain(tokens[:9], tokens[9:46], steps, tokens[46:49], tokens[49:], "7", tokens[:3])


def kept(lab, interventions=()):
    """All of a pass over it."""
    return replay(lab.model.model, chain().tokens, keep=QUANTITIES, logits=True, interventions=interventions)
