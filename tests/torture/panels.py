"""Panels under random actions, and under clocks that stall, double, echo or die.

Driven as a front end drives them: controls are set, buttons are pressed, the clock ticks or does
not. Whatever came, a panel can be run or says why not, never fails, and in the end, with a clock
that ticks, finishes what it shows.
"""

import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random

from ipywidgets import Button, Widget

from labkit.base.store import Store
from labkit.engine.data import TORCHVISION
from labkit.engine.pruning import Pruning
from labkit.experiments.experiment import Experiment
from labkit.experiments.task import Task
from labkit.panel.panel import Panel
from tests.synthetic import SGD
from tests.torture.figures import Figure
from tests.torture.limits import Watch

COUNT = 10_000
ACTIONS = 200  # of one panel, at most
MOST_TICKS = 20_000  # until a run must be done
TINY = Experiment(
    Task("mnist", "lenet-8-6", SGD, examples=500, validation=200, image_size=7),
    Pruning(rate=0.5),
    rounds=1,
    seeds=(0,),
    evaluate_every=5,
)
TYPED = ("-1", "0", "0.1", "1", "2", "3", "10", "50", "99.9", "1e12", "x", "", "nan", "٣", "1e400")
FURTHER = ("", "x", "draws=2", "rewind=none", "'", "seeds=0,1", "task.dataset=folder:/nonexistent")

Clock = Callable[[Panel, Random], None]


def _ticks(panel: Panel, dice: Random) -> None:
    panel.tick(panel.session.generation)


def _stalls(panel: Panel, dice: Random) -> None:
    if dice.random() < 0.1:
        panel.tick(panel.session.generation)


def _doubles(panel: Panel, dice: Random) -> None:
    for _ in range(2):
        panel.tick(panel.session.generation)


def _echoes(panel: Panel, dice: Random) -> None:
    panel.tick(panel.session.generation - dice.choice((0, 1, 2, -1)))


def _dies(panel: Panel, dice: Random) -> None:
    pass


CLOCKS: dict[str, Clock] = {
    "a clock that ticks": _ticks,
    "a clock that stalls": _stalls,
    "a clock that doubles": _doubles,
    "a clock that echoes": _echoes,
    "a clock that dies": _dies,
}


def torture(count: int, seed: int, folder: Path) -> list[Figure]:
    """Do `count` actions. Figures: what each clock leaves, and what is never answered."""
    dice, watch = Random(seed), Watch()
    states = {name: Figure(f"{name}: after an action a panel can be run or says why not")
              for name in CLOCKS}  # fmt: skip
    ends = Figure("panels that finish once their clock ticks again")
    hangs = Figure("actions that are answered within 10 s")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        each = min(ACTIONS, -(-count // len(CLOCKS)))
        for number in range(-(-count // each)):
            name = list(CLOCKS)[number % len(CLOCKS)]
            panel = Panel(TINY, store=Store(folder / str(number), shipped=False), device="cpu")
            for _ in range(each):
                told = "nothing"
                with watch:
                    told = _act(panel, dice)
                    CLOCKS[name](panel, dice)
                states[name].count(_is_sound(panel), f"{told}: {_said(panel)}")
                hangs.count(not watch.hung, told)
            ends.count(_finishes(panel), f"{name}: {_said(panel)}")
            panel.close()
            Widget.close_all()
    hangs.note = f"longest {watch.longest:.1f} s of the processor"
    return [*states.values(), ends, hangs]


def _act(panel: Panel, dice: Random) -> str:
    """One action, mostly a change of a control; what it was."""
    chance = dice.random()
    if chance < 0.3:
        word = dice.choice(("run", "run", "pause", "stop", "reset", "stop"))
        getattr(panel, word)()
        return word
    if chance < 0.35:
        panel._repr_mimebundle_()
        return "shown again"
    name, part = dice.choice(list(panel.controls.parts.items()))
    if isinstance(part, Button):
        part.click()
    elif hasattr(part, "options"):
        values = [option[1] if isinstance(option, tuple) else option for option in part.options]
        here = [n for n, value in enumerate(values) if str(value) not in TORCHVISION]
        part.index = dice.choice(here)  # what is not here would be downloaded
    elif isinstance(part.value, bool):
        part.value = dice.random() < 0.5
    elif isinstance(part.value, str):
        part.value = dice.choice(FURTHER if name == "further" else TYPED)
    else:
        part.value = type(part.value)(dice.choice((0, 1, 2, 50)))
    return f"{name}={part.value!r}" if hasattr(part, "value") else name


def _is_sound(panel: Panel) -> bool:
    refused = "cannot be run" in panel.setting.value
    in_words = re.match("(Value|Data|Store)Error: ", panel.session.error)
    failed = panel.session.state == "failed" and not in_words
    return refused == (panel.experiment is None) and not failed


def _said(panel: Panel) -> str:
    words = re.sub("<[^>]*>", "", panel.setting.value)
    return f"{panel.session.state}, {panel.session.error}, {words:.200}"


def _finishes(panel: Panel) -> bool:
    panel.reset()
    panel.run()
    deadline = time.monotonic() + 100
    for _ in range(MOST_TICKS):
        if not panel.session.active or time.monotonic() > deadline:
            break
        panel.tick(panel.session.generation)
    return panel.session.state == "done"
