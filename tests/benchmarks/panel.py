"""How quickly the panel answers, and how much it sends for a redraw.

python -m tests.benchmarks.panel
"""

import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ipywidgets

from labkit.base.store import Store
from labkit.engine.training import Recipe
from labkit.experiments.experiment import Experiment
from labkit.experiments.task import Task
from labkit.panel.panel import _NUMBERS, Panel
from labkit.panel.references import TITLES
from tests.benchmarks.training import Times, milliseconds, spread

TIMES = 50
BYTES = 30_000  # promised of a redraw
SMALL = Experiment(task=Task(recipe=Recipe(iterations=200)), rounds=1, seeds=(0,))


def main() -> None:
    """Measure, and print a line for each promise."""
    with wire() as sent:
        panel = Panel(SMALL, store=Store(tempfile.mkdtemp(), shipped=False), device="cpu")
        redraws = run_to_the_end(panel, sent)
        change_settings(panel, sent)
        report_bytes("while it trains, and at the end of a run", redraws)
        scrub(sent)
        unfold(sent)
        answer(panel)


@contextmanager
def wire() -> Iterator[list[int]]:
    """The bytes of every message that a widget sends to the front end, as they are sent."""
    sent: list[int] = []
    send = ipywidgets.Widget._send

    def counted(self: ipywidgets.Widget, message: object, buffers: object = None) -> None:
        sent.append(len(json.dumps(message, ensure_ascii=False, default=str).encode()))
        send(self, message, buffers)

    ipywidgets.Widget._send = counted
    try:
        yield sent
    finally:
        ipywidgets.Widget._send = send


def weighed(action: Callable[[], object], sent: list[int]) -> int:
    """The bytes that an action sends."""
    sent.clear()
    action()
    return sum(sent)


def run_to_the_end(panel: Panel, sent: list[int]) -> list[int]:
    """Train; the bytes of each tick that drew something."""
    panel.run()
    redraws = []
    while panel.session.active:
        redraws.append(weighed(panel.tick, sent))
    assert panel.session.state == "done", panel.session.in_words()
    return redraws


def change_settings(panel: Panel, sent: list[int]) -> None:
    """A control is changed to what is stored."""
    rounds = panel.controls.parts["rounds"]

    def change() -> None:
        rounds.value = str(1 - int(rounds.value))

    report("a stored setting is redrawn", [timed(change) for _ in range(TIMES)], 0.1)
    report_bytes("a stored setting is redrawn", [weighed(change, sent) for _ in range(TIMES)])


def answer(panel: Panel) -> None:
    """The first point of a curve, and the buttons."""

    def first_point() -> None:
        panel.run()
        while not panel.live_results.live:
            panel.tick()

    points, ticks, stops, pauses = [], [], [], []
    seeds = panel.controls.parts["further"]
    for number in range(TIMES):
        seeds.value = f"seeds={number + 1}"
        points.append(timed(first_point))
        ticks.append(max((timed(panel.tick) for _ in range(3)), key=lambda each: each.wall))
        pauses.append(timed(panel.pause))
        stops.append(timed(panel.stop))
    report("the first point of a curve", points, 2.0)
    # What is pressed waits at most for the tick that is under way.
    for button, times in (("Pause", pauses), ("Stop", stops)):
        both = [Times(*map(sum, zip(a, b, strict=True))) for a, b in zip(ticks, times, strict=True)]
        report(f"{button}, with the longest of three ticks before it", both, 0.2)


def scrub(sent: list[int]) -> None:
    """A frame of the scrubber, and what it sends, over the shipped results of every lesson."""
    store = Store(tempfile.mkdtemp())
    seconds, found = [], {}
    for name in TITLES:
        for size in ("quick", "reference"):
            panel = Panel(name, size, store=store, device="cpu")
            weights = []
            for place in [*range(panel.stage.slider.max + 1)][::-1]:
                sent.clear()
                seconds.append(timed(lambda: panel.stage._choose(place)))  # noqa: B023
                weights.append(sum(sent))
            found[f"{name}, {size}"] = weights
    report("the scrubber moves by a round", seconds, 0.1)
    report_bytes("the scrubber moves by a round", [w for each in found.values() for w in each])
    worst = max(found, key=lambda name: max(found[name]))
    report_bytes(f"the same, of {worst}, which sends most", found[worst])
    report_bytes("the same, of the lottery's reference", found["lottery, reference"])


def unfold(sent: list[int]) -> None:
    """The tables of the largest shipped results, which are sent where they are asked for alone."""
    lottery = Panel("lottery", "reference", store=Store(tempfile.mkdtemp()), device="cpu")
    folded = weighed(lottery._show_setting, sent)
    tables = weighed(lambda: setattr(lottery.folds, "selected_index", _NUMBERS), sent)
    print(f"the lottery's reference: {folded:,} bytes folded, {tables:,} when unfolded")


def timed(action: Callable[[], object]) -> Times:
    return milliseconds(action, 1, warm_up=0)


def report(what: str, times: list[Times], promise: float) -> None:
    """Print a line; promise: seconds of wall time."""
    processor, wall = zip(*times, strict=True)
    print(f"{what}: {spread(wall)} ms (promised {1e3 * promise:.0f}); "
          f"of the processor here {spread(processor)} ms")  # fmt: skip


def report_bytes(what: str, redraws: list[int]) -> None:
    """Print a line of the redraws that sent something."""
    known = [count for count in redraws if count] or [0]
    print(f"bytes sent, {what}: median {statistics.median(known):,.0f}, most {max(known):,} "
          f"(promised {BYTES:,})")  # fmt: skip


if __name__ == "__main__":
    main()
