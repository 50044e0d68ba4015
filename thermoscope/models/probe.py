"""Who looks on while a decoder runs: told of a quantity at the moment it exists."""

from collections.abc import Callable

from torch import Tensor


def _everything(_quantity: str, _layer: int) -> bool:
    return True


class Probe:
    """Called with the name of a quantity, its layer, and the tensor; the names stand at `Decoder.forward`.

    - `see`: what takes them. It may keep a tensor, and must not write into it.
    - `wants`: whether it takes this quantity of this layer; a decoder need not compute what nobody wants.
    """

    def __init__(
        self, see: Callable[[str, int, Tensor], None], wants: Callable[[str, int], bool] = _everything
    ) -> None:
        self._see, self.wants = see, wants

    def __call__(self, quantity: str, layer: int, value: Tensor) -> None:
        """Show a tensor, if it is wanted."""
        if self.wants(quantity, layer):
            self._see(quantity, layer, value)
