"""How quickly the panel answers, and how much it sends for a redraw.

python -m tests.benchmarks.panel
"""

import statistics
import tempfile
from collections.abc import Callable

from labkit.base.store import Store
from labkit.engine.training import Recipe
from labkit.experiments.experiment import Experiment, Task
from labkit.panel.panel import Panel
from labkit.panel.references import TITLES
from tests.benchmarks.training import Times, milliseconds, spread

TIMES = 50
SMALL = Experiment(task=Task(recipe=Recipe(iterations=200)), rounds=1, seeds=(0,))


def main() -> None:
    """Measure, and print a line for each promise."""
    panel = Panel(SMALL, store=Store(tempfile.mkdtemp(), shipped=False), device="cpu")
    rounds = panel.controls.parts["rounds"]
    panel.run()
    while panel.session.active:
        panel.tick()
    assert panel.session.state == "done", panel.session.in_words()

    def change() -> None:
        rounds.value = str(1 - int(rounds.value))

    def first_point() -> None:
        panel.run()
        while not panel.live_results.live:
            panel.tick()

    report("a stored setting is redrawn", [timed(change) for _ in range(TIMES)], 0.1)
    scrub()
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
    lottery = Panel("lottery", "reference", store=Store(tempfile.mkdtemp()), device="cpu")
    sizes = (len(html.value.encode()) / 1e3 for html in (lottery.picture, lottery.numbers))
    print("a redraw of the lottery's reference sends {:.0f} kB of pictures, {:.0f} kB of tables"
          .format(*sizes))  # fmt: skip


def scrub() -> None:
    """A frame of the scrubber, and what it sends, over the shipped results of every lesson."""
    store = Store(tempfile.mkdtemp())
    seconds, sent = [], []
    for name in TITLES:
        panel = Panel(name, store=store, device="cpu")
        widgets = [*panel.stage.pictures, panel.stage.verdict, panel.stage.note]
        for place in [*range(panel.stage.slider.max + 1)][::-1]:
            before = [widget.value for widget in widgets]
            seconds.append(timed(lambda: panel.stage._choose(place)))  # noqa: B023
            values = (widget.value for widget in widgets)
            changed = [v for v, b in zip(values, before, strict=True) if v != b]
            sent.append(sum(len(value.encode()) for value in changed))
    report("the scrubber moves by a round", seconds, 0.1)
    print(
        f"bytes per redraw: median {statistics.median(sent):,.0f}, most {max(sent):,} "
        "(promised 30,000)"
    )


def timed(action: Callable[[], object]) -> Times:
    return milliseconds(action, 1, warm_up=0)


def report(what: str, times: list[Times], promise: float) -> None:
    """Print a line; promise: seconds of wall time."""
    processor, wall = zip(*times, strict=True)
    print(f"{what}: {spread(wall)} ms (promised {1e3 * promise:.0f}); "
          f"of the processor here {spread(processor)} ms")  # fmt: skip


if __name__ == "__main__":
    main()
