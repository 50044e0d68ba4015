"""The ways of training that gpu_memory.py measures."""

from typing import Literal, NamedTuple

from thermoscope.catalogue.lookup import architecture
from thermoscope.planning.memory.adapter import Adapter, targets
from thermoscope.planning.memory.training import Training


class Run(NamedTuple):
    """One way of training. `way`: full bf16, full amp (autocast over float32 weights), lora (autocast over
    bf16 weights) or lora pure (without autocast)."""

    model: str
    way: str
    batch: int
    sequence: int
    checkpointing: Literal["none", "full"] = "none"
    attention: Literal["sdpa", "eager"] = "sdpa"
    optimizer: str = "adamw"
    aims: str = "attention"

    def job(self, *, tiny: bool = False) -> Training:
        """The planner's question."""
        lora, pure = self.way.startswith("lora"), self.way in ("full bf16", "lora pure")
        return Training(
            shape=architecture(self.model, local=False), method="lora" if lora else "full",
            batch=1 if tiny else self.batch, sequence=64 if tiny else self.sequence,
            precision="amp" if self.way == "full amp" else "bf16", checkpointing=self.checkpointing,
            adapter=Adapter(rank=16, targets=targets(self.aims)) if lora else None,
            stack="transformers-pure" if pure else "transformers", attention=self.attention,
            optimizer=self.optimizer,
        )  # fmt: skip


RUNS = (
    Run("smollm2-135m", "full bf16", 4, 1024),
    Run("smollm2-135m", "full bf16", 1, 512, optimizer="adamw-fused"),
    Run("smollm2-135m", "full amp", 8, 1024),
    Run("smollm2-360m", "full bf16", 8, 2048, "full", optimizer="adamw-fused"),
    Run("qwen2.5-0.5b", "full bf16", 4, 2048, "full"),
    Run("qwen2.5-0.5b", "full amp", 2, 1024),
    Run("qwen2.5-0.5b", "lora", 1, 2048, attention="eager"),
    Run("qwen3-0.6b", "full bf16", 2, 2048),
    Run("llama-3.2-1b", "full bf16", 1, 512, "full"),
    Run("llama-3.2-1b", "full bf16", 2, 2048),
    Run("llama-3.2-1b", "full amp", 4, 1024, "full"),
    Run("qwen2.5-1.5b", "lora", 4, 2048, "full"),
    Run("qwen2.5-1.5b", "lora pure", 1, 2048),
    Run("qwen2.5-1.5b", "lora", 8, 512),
    Run("smollm2-1.7b", "full bf16", 4, 2048, "full"),
    Run("smollm2-1.7b", "full bf16", 1, 4096, optimizer="adamw-fused"),
    Run("llama-3.2-3b", "lora", 2, 4096, "full"),
    Run("llama-3.2-3b", "lora", 1, 1024, aims="all-linear"),
    Run("llama-3.2-3b", "full bf16", 1, 1024, "full"),
    Run("llama-3.1-8b", "lora", 4, 2048, aims="q,v"),
    Run("llama-3.1-8b", "full bf16", 1, 1024, "full"),
    Run("llama-3.1-8b", "full amp", 1, 512, "full"),
)
