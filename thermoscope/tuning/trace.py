r"""A real training step, followed tensor by tensor: what it takes, phase by phase, without weights or a GPU.

transformers' network runs forward, loss, backward and the optimizer's step on tensors that have sizes and no
memory (PyTorch's FakeTensorMode), and PyTorch's MemTracker adds up what is alive. Only a few layers run:
every moment of a step is a straight line in the depth,

$$m(L) = m(2) + (L - 2)\,(m(3) - m(2)),$$

if the backward pass is cut into moments of which each has its peak in the same place at any depth: its last
layer, its middle, its first layer, its embedding. The greatest of them is the phase's peak. L: layers; m:
bytes.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from thermoscope.planning.memory.training import Training
from thermoscope.tuning.network import network

DEPTHS = (2, 3)
PHASES = ("forward", "loss", "backward", "step")
PLACES = {0: "embedding", 1: "first layer"}  # what comes once the input of this layer has its gradient
CPU = torch.device("cpu")
AUTOCAST = {"transformers": True, "transformers-pure": False}
OPTIMIZERS: Mapping[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "adamw": lambda trained: torch.optim.AdamW(trained, foreach=True),
    "adamw-fused": lambda trained: torch.optim.AdamW(trained, fused=True),
    "sgd": lambda trained: torch.optim.SGD(trained, foreach=True),
    "sgd-momentum": lambda trained: torch.optim.SGD(trained, momentum=0.9, foreach=True),
}


def moments(job: Training, layers: int) -> dict[str, int]:
    """Bytes at the peak of each moment of one step of `job` with so many layers.

    Moments are named `phase` or `phase, where`. The optimizer has its states already, as from a step before.
    """
    mode = FakeTensorMode()
    model = network(job, layers, mode)
    with mode:
        trained = list(model.parameters())
        optimizer = OPTIMIZERS[job.optimizer](trained)
        for each in trained:
            each.grad = torch.empty_like(each)
        optimizer.step()
        optimizer.zero_grad()
        tokens = torch.zeros(job.batch, job.sequence, dtype=torch.long)
        watched = _Watched()
        watched.tracker.track_external(model, optimizer, tokens)
        decoder = _decoder(model)
        for index, layer in enumerate(decoder.layers):
            layer.register_forward_pre_hook(watched.before(f"backward, {PLACES.get(index, 'middle')}"))
        decoder.norm.register_forward_pre_hook(watched.before("backward, last layer", now="loss"))
        with watched.tracker:
            watched.enter("forward")
            with _autocast(job):
                loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
            del loss
            watched.enter("end")
        return watched.peaks | {"step": _step(model, optimizer)}


def phases(job: Training, found: Mapping[int, Mapping[str, int]]) -> dict[str, float]:
    """Bytes at the peak of each phase at the job's own depth, from the moments at the two of `DEPTHS`."""
    shallow, deep = (found[layers] for layers in DEPTHS)
    further = job.shape.layers - DEPTHS[0]
    peaks = {name: shallow[name] + further * (deep[name] - shallow[name]) for name in shallow}
    return {
        phase: float(max(size for name, size in peaks.items() if name.split(",")[0] == phase))
        for phase in PHASES
    }


@dataclass
class _Watched:
    """MemTracker, and its peak of each moment."""

    tracker: MemTracker = field(default_factory=MemTracker)
    peaks: dict[str, int] = field(default_factory=dict)
    moment: str = ""

    def enter(self, moment: str) -> None:
        """End a moment, and begin another; some come again where layers are worked out again."""
        peak = self.tracker.get_tracker_snapshot("peak")
        if self.moment and peak:
            self.peaks[self.moment] = max(self.peaks.get(self.moment, 0), peak[CPU]["Total"])
        self.moment = moment
        self.tracker._peak_mem.clear()  # it has no other way to begin anew
        self.tracker._peak_mem_snap.clear()

    def before(self, then: str, *, now: str | None = None) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        """A hook before a module's forward pass: `now` begins, and `then` once its input has a gradient."""

        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if now is not None:
                self.enter(now)
            hidden: Any = inputs[0]
            if hidden.requires_grad:
                hidden.register_hook(lambda _: self.enter(then))

        return hook


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """The peak of the optimizer's step, with a tracker of its own: the other's hooks keep the embedding's
    output alive, which without them is gone once the backward pass is."""
    tracker = MemTracker()
    tracker.track_external(model, optimizer)
    with tracker:
        optimizer.step()
    return int(tracker.get_tracker_snapshot("peak")[CPU]["Total"])


def _decoder(model: Any) -> Any:
    return (model.get_base_model() if hasattr(model, "get_base_model") else model).get_decoder()


def _autocast(job: Training) -> contextlib.AbstractContextManager[Any]:
    half = AUTOCAST[job.stack] and job.width == 2
    return torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext()
