"""Neutral ground: what was set in torch before must not change a result.

Default dtype and device, autocast, the gradient mode, the number of threads, and the flags that
trade digits for speed belong to whoever runs this Python. A result is found by its settings alone,
so training and evaluation put all these to the values that results were made with, and put them
back whenever they hand over: at each `yield`, and in between nobody else computes.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
Y = TypeVar("Y")
T = TypeVar("T")


def _precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError as error:  # set by the other of torch's two interfaces
        raise ValueError(
            'fp32_precision of torch.backends must be "none", as it is at the start, where labkit '
            f"trains or evaluates: any other gives other digits ({error})"
        ) from error


_FLAGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any], Any], ...] = (
    # Threads of one training wait for each other, and on a busy machine for one that does not run;
    # `labkit.base.workers` uses the other cores.
    (torch.get_num_threads, torch.set_num_threads, 1),
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0),
    (_precision, torch.set_float32_matmul_precision, "highest"),
)
# Else a GPU ends elsewhere whenever it trains VGGs.
_CUDNN = {"deterministic": True, "benchmark": False}


@contextmanager
def neutral() -> Iterator[None]:
    """Within the block torch is as results were made with; afterwards as it was.

    Raises ValueError where that cannot be.
    """
    with ExitStack() as after:
        for get, put, wanted in _FLAGS:
            if (found := get()) != wanted:
                put(wanted)
                after.callback(put, found)
        for name, value in _CUDNN.items():
            if (found := getattr(torch.backends.cudnn, name)) != value:
                setattr(torch.backends.cudnn, name, value)
                after.callback(setattr, torch.backends.cudnn, name, found)
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                after.enter_context(torch.autocast(kind, enabled=False))
        # Only where it is needed, since it slows every call; "meta" is for shapes without memory.
        if torch.empty(0).device.type not in ("cpu", "meta"):
            after.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            after.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            after.enter_context(torch.enable_grad())
        yield


def on_neutral_ground(
    function: Callable[P, Generator[Y, None, T]],
) -> Callable[P, Generator[Y, None, T]]:
    """A generator function whose steps run on neutral ground, and what pulls them does not."""

    @wraps(function)
    def generator(*args: P.args, **kwargs: P.kwargs) -> Generator[Y, None, T]:
        steps = function(*args, **kwargs)
        try:
            while True:
                with neutral():
                    try:
                        value = next(steps)
                    except StopIteration as end:
                        return end.value
                yield value
        finally:
            steps.close()

    return generator
