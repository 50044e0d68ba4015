"""One network run by transformers and by us: what must be the same."""

import torch

from thermoscope.engine.replay import replay


def assert_agree(network, model, tokens, *, spread):
    """Logits, hidden states and attention; logits spread at least so far, or a mistake would not show."""
    with torch.inference_mode():
        expected = network(tokens[None], output_hidden_states=True, output_attentions=True)
    ours = replay(model, tokens.tolist(), keep=("residual", "attention"), logits=True)
    assert expected.logits.std() > spread, "weights too small to show a mistake"
    torch.testing.assert_close(ours.logits, expected.logits[0], rtol=0, atol=1e-4)
    for layer in range(model.config.layers):
        torch.testing.assert_close(
            ours.kept["residual", layer], expected.hidden_states[layer][0], rtol=0, atol=1e-4
        )
        torch.testing.assert_close(
            ours.kept["attention", layer], expected.attentions[layer][0], rtol=0, atol=1e-5
        )
