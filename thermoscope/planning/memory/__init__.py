"""What fine-tuning or running a model takes of a device's memory: counted from its shape, no torch.

`storage` says what a weight takes at rest, `adapter` what is trained beside it, `optimizer` what training
keeps of it, `activations` and `loss` what a step holds of its tokens, `parallel` who holds which part.
`training` and `inference` put them together, phase by phase; `search` asks backwards.
"""
