"""The papers' two optimizers, Adam and SGD with momentum, by torch's own functional kernels.

`torch.optim.Adam` and `SGD` compute the same numbers, but their first use imports torch's compiler:
five seconds of a processor and 140 MB, in every notebook, for nothing.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

Moments = list[dict[str, Tensor]]
"""What an optimizer remembers: one dictionary per parameter, each (R, ...) but Adam's count."""


class Optimizer:
    """Updates parameters by their gradients.

    name: "adam" or "sgd". weight_decay x weight is added to the gradient. moments: of an earlier
    optimizer, to go on with; None or an empty list are those of a new one, zero.
    """

    def __init__(
        self,
        name: str,
        parameters: Iterable[Tensor],
        momentum: float,
        weight_decay: float,
        moments: Sequence[dict[str, Tensor]] | None = None,
    ) -> None:
        self._adam, self._momentum, self._decay = name == "adam", momentum, weight_decay
        self._parameters: list[Tensor] = list(parameters)
        self._moments: Moments = [{n: t.clone() for n, t in part.items()} for part in moments or ()]

    def moments(self) -> Moments:
        """Copies of what it remembers; empty before the first update, and without momentum."""
        return [{name: value.clone() for name, value in part.items()} for part in self._moments]

    def held(self) -> list[Tensor]:
        """What it remembers, not copied."""
        return [value for part in self._moments for value in part.values()]

    @torch.no_grad()
    def step(self, gradients: list[Tensor], rate: float | Tensor) -> None:
        """Update every parameter by its gradient, at this learning rate."""
        if self._adam:
            self._step_adam(gradients, rate)
        else:
            self._step_sgd(gradients, rate)

    def _step_adam(self, gradients: list[Tensor], rate: float | Tensor) -> None:
        if not self._moments:  # both means begin at 0; `step` corrects them for that
            self._moments = [
                {
                    "exp_avg": torch.zeros_like(weight),
                    "exp_avg_sq": torch.zeros_like(weight),
                    "step": torch.zeros((), device=weight.device),
                }
                for weight in self._parameters
            ]
        first, second, steps = (
            [part[name] for part in self._moments] for name in ("exp_avg", "exp_avg_sq", "step")
        )
        # weight -= rate * mean / (sqrt(mean of squares) + eps), each weight for itself: R networks
        # in one tensor train as R tensors would (Kingma & Ba 2015, algorithm 1).
        adam(
            self._parameters,
            gradients,
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=self._decay,
            eps=1e-8,
            maximize=False,
        )

    def _step_sgd(self, gradients: list[Tensor], rate: float | Tensor) -> None:
        name = "momentum_buffer"
        buffers: list[Tensor | None] = [part[name] for part in self._moments]
        buffers = buffers or [None] * len(gradients)  # torch begins each with the first gradient
        # buffer = momentum * buffer + gradient, weight -= rate * buffer. A buffer goes on moving a
        # pruned weight: that is why masks are applied after every update, not to gradients alone.
        sgd(
            self._parameters,
            gradients,
            buffers,
            fused=True,
            weight_decay=self._decay,
            momentum=self._momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        self._moments = [{name: buffer} for buffer in buffers if buffer is not None]
