"""How quickly the panel answers: median and worst of 50.

python -m tests.benchmarks.panel
"""

import statistics
import tempfile
import time
from collections.abc import Callable

from labkit.base.store import Store
from labkit.engine.training import Recipe
from labkit.experiments.experiment import Experiment, Task
from labkit.panel.panel import Panel

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
        rounds.value = 1 - rounds.value

    def first_point() -> None:
        panel.run()
        while not panel.readings.live:
            panel.tick()

    report("a stored setting is redrawn", [timed(change) for _ in range(TIMES)], 0.1)
    points, ticks, stops = [], [], []
    seeds = panel.controls.parts["further"]
    for number in range(TIMES):
        seeds.value = f"seeds={number + 1}"
        points.append(timed(first_point))
        ticks.append(max(timed(panel.tick) for _ in range(3)))
        stops.append(timed(panel.stop))
    report("the first point of a curve", points, 2.0)
    # A Stop waits at most for the tick that is under way.
    report("Stop, with the longest of three ticks before it",
           [a + b for a, b in zip(ticks, stops, strict=True)], 0.2)  # fmt: skip


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def report(what: str, seconds: list[float], promise: float) -> None:
    median, worst = 1_000 * statistics.median(seconds), 1_000 * max(seconds)
    print(f"{what}: median {median:.0f} ms, worst {worst:.0f} ms (promised {1_000 * promise:.0f})")


if __name__ == "__main__":
    main()
