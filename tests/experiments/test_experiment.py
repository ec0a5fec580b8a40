"""Every setting is checked where the value is made, and every result knows what it depends on."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from labkit import TREATMENTS, Experiment, Pruning, Recipe, Task, Treatment
from labkit.base.store import key_of
from labkit.engine.connectivity import Instability
from labkit.experiments.experiment import Trial, all_trials
from labkit.experiments.task import settings
from labkit.experiments.treatments import REWIND

REINITIALISE = TREATMENTS["reinitialise"]
SAME = ("reinitialise", "scratch-e")  # two papers' names of one thing
BAD = [
    (Recipe, "optimizer", "adagrad", "adam, sgd"),
    (Recipe, "learning_rate", 0, "above 0"),
    (Recipe, "learning_rate", float("nan"), "above 0"),
    (Recipe, "momentum", 1.0, r"\[0, 1\)"),
    (Recipe, "momentum", 0.9, "must be 0 with adam"),
    (Recipe, "weight_decay", -1e-4, "at least 0"),
    (Recipe, "batch_size", 0, "from 1"),
    (Recipe, "batch_size", 6.0, "whole number"),
    (Recipe, "batch_size", 2**63, "from 1 to 100000"),
    (Recipe, "iterations", 10**12, "from 1 to 10000000"),
    (Recipe, "learning_rate", 10**400, "at most 1e[+]30"),
    (Recipe, "slimming", 1e308, "at most 1e[+]30"),
    (Recipe, "momentum", True, r"\[0, 1\)"),
    (Task, "network", "lenet-1٣", "lenet-300-100"),
    (Task, "network", "resnet-8-w1٣", "resnet-8/14/20/56"),
    (Recipe, "iterations", True, "whole number"),
    (Recipe, "milestones", (0.5, 1.5), r"\(0, 1\)"),
    (Recipe, "milestones", (0.7, 0.5), "must increase"),
    (Recipe, "decay", 1, r"\(0, 1\)"),
    (Recipe, "warmup", 5_001, "from 0 to 5000"),
    (Recipe, "augmentation", "mixup", "none, flip-crop"),
    (Recipe, "precision", "float16", "float32, bfloat16"),
    (Pruning, "kind", "rows", "unstructured, structured"),
    (Pruning, "criterion", "hessian", "of unstructured pruning must.*, obd, random"),
    (Pruning, "scope", "local", "layerwise, global"),
    (Pruning, "rate", 0.0, r"\(0, 1\)"),
    (Pruning, "rate", 1, r"\(0, 1\)"),
    (Pruning, "rate", "0.2", r"\(0, 1\)"),
    (Pruning, "conv_rate", -0.1, r"\[0, 1\) or None"),
    (Pruning, "output_rate", 1.0, r"\[0, 1\) or None"),
    (Pruning, "layer_rates", (0.5, 1.0), r"\[0, 1\)"),
    (Pruning, "layer_rates", 0.5, "list or a tuple"),
    (Recipe, "slimming", -1e-4, "at least 0"),
    (Instability, "copies", 1, "0 or from 2 to 20"),
    (Instability, "copies", 21, "from 0 to 20"),
    (Instability, "alphas", 2, "from 3 to 1000"),
    (Instability, "statistics", "mean", "re-estimated, interpolated"),
    (Instability, "train_examples", 1, "from 2"),
    (Task, "network", "lenet-0", "lenet-300-100"),
    (Task, "network", "resnet-9", "resnet-8/14/20/56"),
    (Task, "examples", 0, "from 1 or None"),
    (Task, "image_size", -4, "from 1 or None"),
    (Task, "normalisation", "zca", "unit, standard"),
    (Task, "validation", -1, "from 0"),
    (Experiment, "rounds", -1, "from 0 to 100"),
    (Experiment, "rewind", 5_000, "from 0 to 4999"),
    (Experiment, "optimizer_state", "warm", "fresh, restored"),
    (Experiment, "treatments", ("prayer",), "rewind, fine-tune"),
    (Experiment, "treatments", ("fine-tune", "fine-tune"), "different names"),
    (Experiment, "treated_rounds", (0,), "from 1 to 7"),
    (Experiment, "analysed_rounds", (8,), "from 0 to 7"),
    (Experiment, "draws", 0, "from 1 to 100"),
    (Experiment, "seeds", (), "one or more different numbers"),
    (Experiment, "seeds", (1, 1), "one or more different numbers"),
    (Experiment, "seeds", (-1,), "from 0"),
    (Experiment, "evaluate_every", 0, "from 1"),
    (Experiment, "evaluate_every", 10**12, "from 1 to 10000000"),
    (Recipe, "milestones", 0.5, "list or a tuple"),
    (Experiment, "seeds", 3, "list or a tuple"),
    (Experiment, "seeds", np.array(2), "list or a tuple"),
    (Experiment, "treated_rounds", 2, "list or a tuple"),
    (Experiment, "treatments", "fine-tune", "list or a tuple"),
    (Experiment, "treatments", (3,), "rewind, fine-tune"),
    (Experiment, "task", "mnist", "must be a Task"),
    (Experiment, "pruning", 0.2, "must be a Pruning"),
    (Experiment, "instability", 3, "must be a Instability"),
    (Task, "recipe", "adam", "must be a Recipe"),
]


@pytest.mark.parametrize(("kind", "field", "value", "allowed"), BAD)
def test_a_bad_value_is_an_error_that_names_field_range_and_value(kind, field, value, allowed):
    given = value[-1] if isinstance(value, tuple) and value else value
    with pytest.raises(ValueError, match=allowed) as caught:
        kind(**{field: value})
    assert field in str(caught.value) and str(given) in str(caught.value)


EQUAL = [
    (Recipe(learning_rate=1, decay=0.1 + 0.2), Recipe(learning_rate=1.0, decay=0.3)),
    (Recipe(batch_size=np.int32(32), momentum=np.float32(0)), Recipe(batch_size=32)),
    (Recipe(milestones=np.array([0.25, 0.5])), Recipe(milestones=[0.25, 0.1 * 5])),
    (Recipe(weight_decay=np.float64(1e-4)), Recipe(weight_decay=1e-4)),
    (Pruning(rate=1 - 0.8, output_rate=0), Pruning(rate=0.2, output_rate=0.0)),
    (Pruning("structured", layer_rates=np.array([0.5])), Pruning("structured", layer_rates=[0.5])),
    (Instability(copies=np.int64(2)), Instability(copies=2)),
    (Experiment(seeds=np.arange(3), rewind=np.int8(5)), Experiment(seeds=range(3), rewind=5)),
    (Experiment(treated_rounds=np.array([1, 2])), Experiment(treated_rounds=(1, 2))),
    (Task(examples=np.int64(100)), Task(examples=100)),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_values_that_are_equal_have_one_form_and_so_one_address(one, other):
    assert repr(one) == repr(other) and key_of(settings(one)) == key_of(settings(other))


@given(value=st.floats(1e-300, 1e30), digits=st.integers(13, 17))
def test_a_rounding_error_changes_no_address(value, digits):
    short = float(f"{value:.8g}")
    noisy = short * (1 + 10.0**-digits)
    assert Recipe(learning_rate=noisy).learning_rate == Recipe(learning_rate=short).learning_rate


@pytest.mark.parametrize("endless", [range(10**12), itertools.count()])
def test_what_has_no_end_is_refused_at_once(endless):
    with pytest.raises(ValueError, match=r"seeds must be at most 10000 values, not (range|count)"):
        Experiment(seeds=endless)


def test_an_array_is_no_name():
    for make in (Task, Recipe, lambda name: Task(network=name), lambda name: Pruning(kind=name)):
        with pytest.raises(ValueError, match=r"must be one of .*, not array\(\[0, 1\]\)"):
            make(np.arange(2))


def test_an_unknown_data_set_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match=r"data set must be one of mnist, .*, not 'imagenet'"):
        Task(dataset="imagenet")


@pytest.mark.parametrize("field", ["mask", "weights", "schedule", "budget", "removed"])
def test_a_treatment_has_five_choices_each_from_a_list(field: str):
    with pytest.raises(ValueError, match=rf"treatment\.{field} must be one of .*, not 'any'"):
        Treatment("mine", **{field: "any"})


@pytest.mark.parametrize("name", ["rewind", "dense"])
def test_a_treatment_may_not_be_called_like_the_chain(name: str):
    with pytest.raises(ValueError, match=f"treatments must have different names.* not {name}"):
        Experiment(treatments=(Treatment(name, weights="final"),))


def test_a_treatment_is_called_by_a_word():
    with pytest.raises(ValueError, match=r"treatment\.name must be a str, not 3"):
        Treatment(3)


@pytest.mark.parametrize("field", ["conv_rate", "output_rate"])
def test_global_scope_has_no_rates_per_layer(field: str):
    with pytest.raises(ValueError, match=rf"pruning\.{field} must be None.*not 0\.1"):
        Pruning(scope="global", **{field: 0.1})
    assert Pruning(scope="global", output_rate=0).output_rate == 0


STRUCTURED = Pruning("structured")
VGG = Task(network="vgg-small")
SLIM = Task(network="vgg-small", recipe=Recipe(slimming=1e-4))
COMBINATIONS = [  # what is made; words of the error: the field, what is allowed, what was given
    (lambda: Pruning("structured", "obd"), "pruning.criterion", "magnitude, gamma, random", "obd"),
    (lambda: Pruning(criterion="gamma"), "pruning.criterion", "magnitude, obd, random", "gamma"),
    (lambda: Pruning("structured", conv_rate=0.1), "pruning.conv_rate", "None", "0.1"),
    (lambda: Pruning("structured", output_rate=0.1), "pruning.output_rate", "None", "0.1"),
    (lambda: Pruning(layer_rates=(0.1,)), "pruning.layer_rates", "()", "0.1"),
    (
        lambda: Pruning("structured", scope="global", layer_rates=(0.1,)),
        *("pruning.layer_rates", "()", "0.1"),
    ),
    (
        lambda: Treatment("mine", schedule="rewound", budget="quarter"),
        *("treatment.schedule", "last", "rewound"),
    ),
    (
        lambda: Treatment("mine", schedule="last", budget="flops"),
        *("treatment.schedule", "restarted", "last"),
    ),
    (
        lambda: Experiment(Task(recipe=Recipe(slimming=1e-4))),
        *("task.recipe.slimming", "0", "0.0001 for lenet-300-100"),
    ),
    (
        lambda: Experiment(Task(network="resnet-8", recipe=Recipe(batch_size=1))),
        *("task.recipe.batch_size", "at least 2", "1 for resnet-8"),
    ),
    (
        lambda: Experiment(Task(recipe=Recipe(iterations=10**7)), evaluate_every=99),
        *("evaluate_every", "from 100", "not 99"),
    ),
    (
        lambda: Experiment(rounds=100, seeds=range(300)),
        *("seeds, rounds", "at most 20,000", "not 30,300"),
    ),
    (
        lambda: Experiment(
            treatments=("reinitialise",), treated_rounds=(1, 7), draws=100, seeds=range(1_000)
        ),
        *("treatments and draws", "at most 20,000", "not 208,000"),
    ),
    (
        lambda: Experiment(Task(network="conv-2"), Pruning("structured", "gamma")),
        *("pruning.criterion", "batch normalisation", "conv-2"),
    ),
    (
        lambda: Experiment(VGG, Pruning("structured", "gamma")),
        *("task.recipe.slimming", "above 0", "not 0"),
    ),
    (
        lambda: Experiment(pruning=STRUCTURED, treatments=("random-mask",)),
        *("treatments", "must not", "random-mask"),
    ),
    (
        lambda: Experiment(pruning=STRUCTURED, treatments=("scratch-rescaled",)),
        *("treatments", "must not", "scratch-rescaled"),
    ),
    (
        lambda: Experiment(VGG, Pruning("structured", layer_rates=(0.5, 0.5))),
        *("pruning.layer_rates", "must have 5", "not 2"),
    ),
    (
        lambda: Experiment(Task(network="lenet-4-9"), Pruning("structured", rate=0.9), rounds=1),
        *("pruning.rate", "every layer a unit", "0.9: of 4 units in layers.0 it leaves 0"),
    ),
    (
        lambda: Experiment(
            Task(network="lenet-9-4"), Pruning("structured", layer_rates=(0.1, 0.9)), rounds=1
        ),
        *("pruning.layer_rates", "every layer a unit", "0.9: of 4 units in layers.2 it leaves 0"),
    ),
    (
        lambda: Experiment(
            Task(network="lenet-4-9"), Pruning("structured", scope="global", rate=0.9), rounds=1
        ),
        *("pruning.rate", "every layer a unit", "0.9: of 13 units in all layers it leaves 1"),
    ),
    (
        lambda: Experiment(Task(network="lenet-4-9"), Pruning("structured", rate=0.6), rounds=20),
        *("pruning.rate", "every layer a unit", "of 4 units in layers.0 it leaves 0 after round 3"),
    ),
]


@pytest.mark.parametrize(("make", "field", "allowed", "given"), COMBINATIONS)
def test_what_does_not_go_together_is_an_error_at_construction(make, field, allowed, given):
    with pytest.raises(ValueError) as caught:
        make()
    for words in (field, allowed, given):
        assert words in str(caught.value)


def test_what_does_go_together_is_none():
    Experiment(SLIM, Pruning("structured", "gamma", "global", 0.6), rounds=1)
    Experiment(SLIM, STRUCTURED, treatments=("scratch-e", "scratch-b", "shuffled-mask"))
    Experiment(VGG, Pruning("structured", layer_rates=(0, 0.5, 0.5, 0.5, 0.5)), rounds=1)
    Experiment(Task(network="lenet-4-9"), Pruning("structured", rate=0.4), rounds=20)
    Experiment(Task(network="resnet-8"), Pruning(criterion="obd", scope="global"))


def test_treatments_are_known_by_name_and_the_chain_is_always_run():
    experiment = Experiment(treatments=("rewind", "reinitialise"))
    assert experiment.treatments == (REINITIALISE,)
    assert [trial.label for trial in experiment.trials(1)] == ["rewind"] * 3 + ["reinitialise"] * 3


def test_round_zero_is_one_dense_network_per_seed():
    experiment = Experiment(treatments=("reinitialise",), draws=3, seeds=(4, 5))
    assert [(t.seed, t.label) for t in experiment.trials(0)] == [(4, "dense"), (5, "dense")]


def test_only_what_involves_chance_is_drawn_more_than_once():
    experiment = Experiment(treatments=tuple(TREATMENTS), draws=3, seeds=(0,))
    counts = dict.fromkeys(TREATMENTS, 0)
    for trial in experiment.trials(1):
        counts[trial.label] += 1
    once = ("rewind", "fine-tune", "fine-tune-quarter", "learning-rate-rewind")
    once += ("signs", "frozen", "untrained", "untrained-signs", "pruned")
    assert counts == {name: 1 if name in once else 3 for name in TREATMENTS}


def test_treated_rounds_are_the_only_ones_with_treatments():
    experiment = Experiment(treatments=("fine-tune",), treated_rounds=(2,), seeds=(0,))
    assert [len(experiment.trials(number)) for number in range(4)] == [1, 1, 2, 1]


def test_analysed_rounds_are_the_only_ones_whose_instability_is_measured():
    experiment = Experiment(instability=Instability(copies=2), analysed_rounds=(0, 2), seeds=(0,))
    assert [sum(t.analysis for t in experiment.trials(n)) for n in range(4)] == [1, 0, 1, 0]
    everywhere = replace(experiment, analysed_rounds=None)
    assert {t.key for t in experiment.trials(2)} == {t.key for t in everywhere.trials(2)}


def test_a_dense_network_is_shared_by_all_experiments_on_its_task():
    key = Trial(Experiment(), 0, 0, REWIND).key
    for changed in (
        Experiment(pruning=Pruning(rate=0.5)),
        Experiment(rounds=3, rewind=100, draws=4, seeds=(0,), treatments=("fine-tune",)),
    ):
        assert Trial(changed, 0, 0, REWIND).key == key


def test_a_key_changes_with_everything_that_changes_the_result():
    base = Experiment(task=Task(recipe=Recipe(optimizer="sgd")))
    changed = [
        replace(base, task=replace(base.task, recipe=replace(base.task.recipe, **{field: value})))
        for field, value in {
            **{"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "batch_size": 61},
            **{"iterations": 4_999, "milestones": (0.5,), "decay": 0.2, "warmup": 5},
            **{"augmentation": "flip-crop", "precision": "bfloat16", "optimizer": "adam"},
        }.items()
    ]
    changed += [
        replace(base, task=replace(base.task, **{field: value}))
        for field, value in {
            **{"dataset": "cifar10-16", "network": "lenet-300", "examples": 100},
            **{"image_size": 14, "normalisation": "standard", "validation": 1_000},
        }.items()
    ]
    changed += [
        replace(base, pruning=Pruning(**{field: value}))
        for field, value in {
            **{"criterion": "random", "scope": "global", "rate": 0.3},
            **{"conv_rate": 0.1, "output_rate": 0.1, "kind": "structured"},
        }.items()
    ]
    changed += [
        replace(base, rewind=1),
        replace(base, optimizer_state="restored"),
        replace(base, evaluate_every=50),
    ]
    trials = [Trial(experiment, 0, 1, REINITIALISE) for experiment in [base, *changed]]
    trials += [
        Trial(base, 1, 1, REINITIALISE),
        Trial(base, 0, 2, REINITIALISE),
        Trial(base, 0, 1, REINITIALISE, draw=1),
        *(Trial(base, 0, 1, t) for n, t in TREATMENTS.items() if n not in SAME),
    ]
    assert len({trial.key for trial in trials}) == len(trials)


def test_the_name_of_a_treatment_and_the_number_of_seeds_change_no_key():
    named = replace(REINITIALISE, name="mine")
    one = Trial(Experiment(), 0, 1, REINITIALISE).key
    assert Trial(Experiment(seeds=(0,), rounds=1), 0, 1, named).key == one


def test_training_starts_where_the_schedule_says():
    experiment = Experiment(rewind=100)
    starts = {t.name: Trial(experiment, 0, 1, t).start for t in TREATMENTS.values()}
    restarted = {"reinitialise", "scratch-e", "scratch-b", "scratch-b-uncapped"}
    restarted |= {"scratch-rescaled", "fine-tune-quarter"}
    untrained = [name for name, treatment in TREATMENTS.items() if treatment.budget == "none"]
    other = dict.fromkeys(restarted, 0) | dict.fromkeys(untrained, 5_000)
    assert starts == {name: other.get(name, 100) for name in TREATMENTS}
    assert Trial(experiment, 0, 0, REWIND).start == 0


def test_an_analysis_has_a_result_of_its_own_and_changes_no_other():
    plain, analysed = Experiment(rewind=5), Experiment(rewind=5, instability=Instability(copies=3))
    treated = replace(analysed, seeds=(0,), rounds=1, draws=3)
    treated = replace(treated, treatments=("reinitialise", "shuffled-mask"))
    assert [t.key for t in plain.trials(1)] == [t.key for t in analysed.trials(1)[:3]]
    trials = all_trials(treated)
    assert len({t.key for t in trials}) == len(trials) == 1 + 1 + (1 + 3 + 3) + 2
    for trial in trials:
        own = {other.key for other in trial.needs}
        before = trials[: trials.index(trial)]
        assert own <= {other.key for other in before}, "each comes after those that it needs"
        if trial.analysis:
            assert replace(trial, analysis=False).key in own and trial.draw == 0
            assert trial.treatment.weights == "rewound", "only what starts from the state at k"


def test_the_key_of_an_analysis_changes_with_its_settings():
    base = Experiment(rewind=5, instability=Instability(copies=2))
    keys = set()
    for number in (0, 1):
        for change in (
            {},
            {"rewind": 6},
            {"rewind": 0},
            {"instability": Instability(copies=3)},
            {"instability": Instability(copies=2, alphas=5)},
            {"instability": Instability(copies=2, statistics="interpolated")},
            {"instability": Instability(copies=2, train_examples=7)},
        ):
            keys.add(Trial(replace(base, **change), 0, number, REWIND, analysis=True).key)
    assert len(keys) == 14


def test_the_penalty_of_slimming_applies_to_the_chain_only():
    experiment = Experiment(SLIM, STRUCTURED, treatments=("fine-tune", "scratch-e"), rounds=2)
    for trial in all_trials(experiment):
        assert trial.slims == (trial.label in ("dense", "rewind"))
        assert trial.narrow == (trial.round > 0)
