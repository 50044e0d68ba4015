"""Shapes by their published configs, written out here so that a test does not depend on the catalogue."""

from thermoscope.catalogue.architecture import Architecture, Experts, Latent

MISTRAL = Architecture(
    name="Mistral-7B", hidden=4096, layers=32, heads=32, kv_heads=8, head_dim=128, ffn=14336, vocab=32000,
    context=32768,
)  # fmt: skip
LLAMA = Architecture(
    name="Llama-2-7B", hidden=4096, layers=32, heads=32, kv_heads=32, head_dim=128, ffn=11008, vocab=32000,
    context=4096,
)  # fmt: skip
QWEN = Architecture(
    name="Qwen3-0.6B", hidden=1024, layers=28, heads=16, kv_heads=8, head_dim=128, ffn=3072, vocab=151936,
    context=40960, tied=True, qk_norm="head",
)  # fmt: skip
SMALL = Architecture(
    name="small", hidden=256, layers=2, heads=4, kv_heads=2, head_dim=64, ffn=704, vocab=64, context=512
)
MIXTURE = Architecture(
    name="mixture", hidden=64, layers=2, heads=4, kv_heads=4, head_dim=16, ffn=128, vocab=100, context=256,
    experts=Experts(count=8, active=2, ffn=96, dense_layers=1),
)  # fmt: skip
LATENT = Architecture(
    name="latent", hidden=64, layers=3, heads=4, kv_heads=4, head_dim=24, ffn=128, vocab=100, context=256,
    latent=Latent(q_rank=32, kv_rank=16, rope_dim=8, nope_dim=16, v_dim=12),
)  # fmt: skip
