"""The controls of a panel: an experiment as labelled, native form elements, and back.

Nothing is corrected on the way: what does not go together is for `Experiment` to refuse, in words.
What has no control of its own keeps the value of the experiment that the controls were set to, and
can be written as on the command line under "Further settings".
"""

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ipywidgets

from labkit.base.validation import whole
from labkit.engine.connectivity import Instability
from labkit.engine.data import NAMES
from labkit.engine.pruning import CRITERIA, KINDS, SCOPES
from labkit.experiments.experiment import TREATMENTS, Experiment
from labkit.experiments.forecast import densities, rate_for
from labkit.experiments.words import with_settings

NETWORKS = ("lenet-300-100", "conv-2", "conv-4", "conv-6", "vgg-small", "vgg-16", "vgg-19",
            "resnet-8", "resnet-14", "resnet-20", "vit-2-8")  # fmt: skip
KIND_WORDS = {
    "unstructured": "single weights",
    "structured": "filters and neurons",
}
PER_ROUND, ONE_SHOT, REACHED = "removed per round", "removed at one stroke", "left in the end"
RATIOS = (PER_ROUND, ONE_SHOT, REACHED)
_SCOPE_WORDS = ("each loses its share", "ranked together (global)")
REWINDS = (0, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
_ALIKE, _HALF, _ALONE = "like the other layers", "half the rate", "left alone"


class Controls:
    """The form. Its widgets by name are in `parts`; `box` is what to display.

    changed: called after every change by a user or a program, but those made by `show`.
    """

    def __init__(self, experiment: Experiment, changed: Callable[[], None]) -> None:
        self._changed, self._quiet = changed, False
        style = {"description_width": "9.5em"}
        layout = ipywidgets.Layout(width="25em", margin="2px 12px 2px 0")

        def dropdown(label: str, options: Any) -> Any:
            return ipywidgets.Dropdown(
                options=options, description=label, style=style, layout=layout
            )

        def number(label: str, kind: Any = ipywidgets.IntText) -> Any:
            return kind(description=label, style=style, layout=layout, continuous_update=False)

        criteria = dict.fromkeys(name for names in CRITERIA.values() for name in names)
        rewinds = [(_rewind_words(k), k) for k in REWINDS]
        self.parts: dict[str, Any] = {
            "dataset": dropdown("Data set", NAMES),
            "network": dropdown("Network", NETWORKS),
            "kind": dropdown("What is pruned", [(KIND_WORDS[k], k) for k in KINDS]),
            "criterion": dropdown("Criterion", tuple(criteria)),
            "scope": dropdown("Layers", list(zip(_SCOPE_WORDS, SCOPES, strict=True))),
            "output": dropdown("Output layer", (_ALIKE, _HALF, _ALONE)),
            "ratio": dropdown("Ratio", RATIOS),
            "percent": number("Percent", ipywidgets.FloatText),
            "rounds": number("Rounds"),
            "rewind": dropdown("Rewind to iteration", rewinds),
            "learning_rate": number("Learning rate", ipywidgets.FloatText),
            "iterations": number("Iterations"),
            "seeds": number("Seeds"),
            "copies": number("Stability copies"),
            "treated": dropdown("Compare in", ("every round", "the last round")),
        }
        checks = {
            f"treatment {name}": ipywidgets.Checkbox(
                description=name, indent=False, layout=ipywidgets.Layout(width="14em")
            )
            for name in TREATMENTS
            if name != "rewind"
        }
        self.parts |= checks
        self.parts["from 0"] = ipywidgets.Checkbox(
            value=True,
            description="itself rewound to 0",
            indent=False,
            layout=ipywidgets.Layout(width="14em"),
        )
        self.parts["further"] = ipywidgets.Text(
            description="Further settings",
            placeholder="such as optimizer_state=restored task.recipe.batch_size=128",
            style=style,
            layout=ipywidgets.Layout(width="51em", max_width="98%"),
            continuous_update=False,
        )
        wrap = ipywidgets.Layout(flex_flow="row wrap", display="flex")
        compared = {name: self.parts[name] for name in ("from 0", *checks)}
        plain = [p for name, p in self.parts.items() if name not in ("further", *compared)]
        label = ipywidgets.HTML('<span style="color: inherit">Compare the ticket with:</span>')
        self.box = ipywidgets.VBox([
            ipywidgets.Box(plain, layout=wrap),
            ipywidgets.Box([label, *compared.values()], layout=wrap),
            self.parts["further"],
        ])  # fmt: skip
        self._base = experiment
        self.show(experiment)
        for name, part in self.parts.items():
            part.observe(lambda change, name=name: self._on_change(name, change["old"]), "value")

    def show(self, experiment: Experiment, ratio: str | None = None) -> None:
        """Set every control to this experiment. ratio: one of RATIOS; None is what fits it."""
        e, recipe = experiment, experiment.task.recipe
        self._base, self._quiet = experiment, True
        try:
            chosen = {t.name for t in e.treatments}
            values: dict[str, Any] = {
                "dataset": e.task.dataset, "network": e.task.network, "kind": e.pruning.kind,
                "criterion": e.pruning.criterion, "scope": e.pruning.scope,
                "output": self._output(e), "rounds": e.rounds, "rewind": e.rewind,
                "learning_rate": recipe.learning_rate, "iterations": recipe.iterations,
                "seeds": len(e.seeds), "copies": e.instability.copies, "further": "",
                "treated": self._treated(e),
            }  # fmt: skip
            values["ratio"] = ratio or (ONE_SHOT if e.rounds == 1 else PER_ROUND)
            values["percent"] = self._percent(e, values["ratio"])
            for name, value in values.items():
                self._set(name, value)
            for name, part in self.parts.items():
                if name.startswith("treatment "):
                    part.value = name.removeprefix("treatment ") in chosen
        finally:
            self._quiet = False

    def experiment(self) -> Experiment:
        """What the controls say. Raises ValueError, in words, for what does not go together."""
        base, v = self._base, {name: part.value for name, part in self.parts.items()}
        recipe = replace(
            base.task.recipe, learning_rate=v["learning_rate"], iterations=v["iterations"]
        )
        rounds = 1 if v["ratio"] == ONE_SHOT else v["rounds"]
        whole("seeds", v["seeds"], 1, 1_000)
        seeds = base.seeds if v["seeds"] == len(base.seeds) else tuple(range(v["seeds"]))
        ticked = {name: t for name, t in TREATMENTS.items() if v.get(f"treatment {name}")}
        boxed = {name for name, t in TREATMENTS.items() if f"treatment {name}" in v}
        own = [
            t
            for t in base.treatments
            if t.name in ticked or t.name not in boxed or TREATMENTS[t.name] != t
        ]
        treatments = dict.fromkeys((*own, *ticked.values()))  # those of before in their order
        treated = {"every round": None, "the last round": (rounds,) if rounds else None}
        experiment = replace(
            base,
            task=replace(base.task, dataset=v["dataset"], network=v["network"], recipe=recipe),
            pruning=self._pruning(v, rounds),
            rounds=rounds,
            rewind=v["rewind"],
            treatments=tuple(treatments),
            treated_rounds=treated.get(v["treated"], base.treated_rounds),
            seeds=seeds,
            instability=replace(base.instability, copies=v["copies"]),
        )
        return with_settings(experiment, shlex.split(v["further"]))

    def from_initialisation(self, experiment: Experiment) -> Experiment | None:
        """The same tickets rewound to 0, to compare a later iteration with, or None without."""
        if not (self.parts["from 0"].value and experiment.rewind and experiment.rounds):
            return None
        return replace(experiment, rewind=0, treatments=(), instability=Instability())

    def densities(self, experiment: Experiment) -> str:
        """The density after each round, in words."""
        found = densities(experiment.task, experiment.pruning, experiment.rounds)
        what = "filters and neurons" if experiment.pruning.structured else "weights"
        each = f"Each round removes {experiment.pruning.rate:.1%} of the {what} that are left."
        if found is None:
            return f"{each} Which layers lose them, and so the density, depends on the training."
        shown = [f"{share:.1%}" for share in found[1:]]
        if len(shown) > 6:
            shown = [*shown[:3], "...", *shown[-2:]]
        if not shown:
            return "Nothing is pruned."
        return f"{each} Density, the share of weights that survive, by round: {', '.join(shown)}."

    def disable(self, disabled: bool) -> None:
        """Grey out the whole form, or not."""
        for part in self.parts.values():
            part.disabled = disabled

    def _pruning(self, v: dict[str, Any], rounds: int) -> Any:
        base = self._base.pruning
        task = replace(self._base.task, dataset=v["dataset"], network=v["network"])
        words = {"kind": v["kind"], "criterion": v["criterion"], "scope": v["scope"]}

        def with_rate(rate: float) -> Any:
            output = {_ALIKE: None, _HALF: rate / 2, _ALONE: 0.0}
            own = output.get(v["output"], base.output_rate)
            return replace(base, **words, rate=rate, output_rate=own)

        if v["ratio"] != REACHED:
            return with_rate(round(v["percent"] / 100, 6))
        whole("rounds", rounds, 1, 100)
        if not 0 < v["percent"] < 100:
            raise ValueError(f"percent left must be between 0 and 100, not {v['percent']:g}")
        return with_rate(rate_for(task, with_rate, rounds, v["percent"] / 100))

    def _on_change(self, name: str, old: Any) -> None:
        if self._quiet:
            return
        if name == "ratio":
            self._convert(old)
        self._changed()

    def _convert(self, old: str) -> None:
        """Say the same ratio in the new way, where both ways can."""
        new = self.parts["ratio"].value
        self._quiet = True
        try:
            self.parts["ratio"].value = old
            before = self.experiment()
            self.parts["ratio"].value = new
            self.parts["percent"].value = self._percent(before, new)
        except ValueError:
            self.parts["ratio"].value = new
        finally:
            self._quiet = False

    def _percent(self, e: Experiment, ratio: str) -> float:
        found = densities(e.task, e.pruning, e.rounds) if ratio == REACHED else None
        if found is not None:
            return float(f"{100 * found[-1]:.3g}")
        return round(100 * e.pruning.rate, 4)

    def _output(self, e: Experiment) -> str:
        rate = e.pruning.output_rate
        known = {None: _ALIKE, e.pruning.rate / 2: _HALF, 0: _ALONE}
        return known.get(rate, f"{rate:.1%}" if rate is not None else _ALIKE)

    def _treated(self, e: Experiment) -> str:
        if e.treated_rounds is None:
            return "every round"
        if e.treated_rounds == (e.rounds,):
            return "the last round"
        return f"rounds {', '.join(map(str, e.treated_rounds))}"

    def _set(self, name: str, value: Any) -> None:
        part = self.parts[name]
        if isinstance(part, ipywidgets.Dropdown):
            values = [o[1] if isinstance(o, tuple) else o for o in part.options]
            if value not in values:  # a value of the experiment's own
                words = _rewind_words(value) if name == "rewind" else value
                part.options = [*part.options, (words, value) if name == "rewind" else value]
        part.value = value


def _rewind_words(iteration: int) -> str:
    return "0: initialisation" if iteration == 0 else f"{iteration:,}"
