"""Updates as CUDA graphs: everything that a training step launches on a GPU, launched at once.

A step of LeNet is some 26 kernels, one of ResNet-20 some 215, and a GPU is done with most of them
sooner than Python has launched the next. Recorded once and replayed, they follow each other without
Python, in the memory that they had when they were recorded.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Update = Callable[..., None]
"""Changes tensors where they are. Its arguments are tensors, of the same shapes at every call, and
numbers; it looks at the value of none, since a replay repeats what was launched, not what was
decided."""
Recorder = Callable[[Callable[[], None], torch.device], Callable[[], None]]

WORTH_IT = 200  # updates, a guess: what recording costs was not measured


def cuda_graph(update: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Record an update; the result replays it. What it changes is left anywhere."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        beside = torch.cuda.Stream()  # torch's libraries set up each stream at its first use
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            update()
        torch.cuda.current_stream().wait_stream(beside)
        with torch.cuda.graph(graph):
            update()
    return graph.replay


RECORDERS: dict[str, Recorder] = {"cuda": cuda_graph}
"""Type of a device -> what records there."""


def replayed(
    update: Update, changes: Callable[[], Sequence[Tensor]], device: torch.device, times: int
) -> Update:
    """The same update, recorded and replayed where the device can and so many times pay.

    changes: gives the tensors that it changes, the same ones from its first call on.
    """
    able = device.type in RECORDERS and times >= WORTH_IT
    return _Replayed(update, changes, device) if able else update


class _Replayed:
    """An update that is recorded at its second call, when it has all its memory.

    The first replay must do to the tensors what the update does. If not, or if it cannot be
    recorded, a warning says so, and it is called every time.
    """

    def __init__(
        self, update: Update, changes: Callable[[], Sequence[Tensor]], device: torch.device
    ) -> None:
        self._update, self._changes, self._device = update, changes, device
        self._calls = 0
        self._ours: list[Tensor] = []  # the arguments of every replay
        self._replay: Callable[[], None] | None = None

    def __call__(self, *arguments: Tensor | float) -> None:
        # A number would be recorded as it is.
        given = [
            a if isinstance(a, Tensor) else torch.full((), a, device=self._device)
            for a in arguments
        ]
        self._calls += 1
        if self._calls == 2:
            self._record(given)
        elif self._replay is None:
            self._update(*given)
        else:
            _copy(given, self._ours)
            self._replay()

    def _record(self, given: Sequence[Tensor]) -> None:
        changed = self._changes()
        before = _copies(changed)
        self._update(*given)
        after = _copies(changed)
        self._ours = _copies(given)
        try:
            record = RECORDERS[self._device.type]
            replay = record(lambda: self._update(*self._ours), self._device)
            _copy(before, changed)
            replay()
        except RuntimeError as error:
            wrong = f"it cannot be recorded ({error})"
        else:
            if all(map(_same, before, after, changed)):
                self._replay = replay
                return
            wrong = "its replay does something else"
        _copy(after, changed)
        words = f"updates are launched kernel by kernel, which is slower: {wrong}"
        warnings.warn(words, stacklevel=3)


def _same(before: Tensor, after: Tensor, now: Tensor) -> bool:
    """Whether a tensor was changed as it should be, but for rounding."""
    allowed = 1e-3 * (after - before).norm() + 1e-6 * after.norm()
    return bool((now - after).norm() <= allowed)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


@torch.no_grad()
def _copy(values: Sequence[Tensor], to: Sequence[Tensor]) -> None:
    for value, tensor in zip(values, to, strict=True):
        tensor.copy_(value)
