"""Scheduling: which networks a run has to train, which of them side by side, and how long for."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

from labkit.base.store import Store
from labkit.base.workers import Call
from labkit.engine.networks import outline
from labkit.experiments.experiment import Experiment, Study, Trial, all_trials
from labkit.experiments.proof import result_of
from labkit.experiments.strays import strays
from labkit.experiments.tickets import FINAL, SNAPSHOT
from labkit.experiments.treatments import BY_FLOPS, REWIND

CACHE = 20_000_000  # bytes of weights, gradients and moments that stay in a processor's cache


def missing(study: Study, store: Store) -> list[Trial]:
    """The trials that `run` has to train, in an order in which it can: those without a result,
    those of whose weights a later one needs some that the store lacks, strays, and those that were
    trained side by side with one of these.

    Training may be chaotic, so that a rounding error suffices to end somewhere else. Hence a dense
    network whose state at a rewind iteration is lacking is trained again as a whole, or its early
    and late weights would not be those of one training; and what was interrupted between two of a
    company, or lost one of it, is trained again in that company, or it would end elsewhere.
    """
    trials: dict[str, Trial] = {}
    for trial in all_trials(study):
        # Of experiments that share it, one with an analysis, for which its weights are kept.
        if trial.key not in trials or trial.analysed:
            trials[trial.key] = trial
    results = {key: result_of(trial, store) for key, trial in trials.items()}
    lacking = [key for key, result in results.items() if result is None]
    lacking += strays(trials.values(), results)
    companions: dict[str, set[str]] | None = None  # they are asked for rarely, and take a while
    there: dict[str, bool] = {}  # tensors of a key, which are read but once
    todo: set[str] = set()
    while lacking:
        key = lacking.pop()
        if key in todo:
            continue
        todo.add(key)
        companions = _companions(trials, results) if companions is None else companions
        lacking += companions.get(key, ())
        for other, tensors in starts_from(trials[key]):
            if tensors not in there:
                parts = FINAL if tensors == other else SNAPSHOT
                there[tensors] = store.has_tensors(tensors, parts)
            if not there[tensors] and other in trials:
                lacking.append(other)
    return [trial for key, trial in trials.items() if key in todo]


def _companions(
    trials: dict[str, Trial], results: dict[str, dict[str, Any] | None]
) -> dict[str, set[str]]:
    """Trial -> those whose results tell that they were trained side by side with it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for key, result in results.items():
        for label, seed, draw in (result or {}).get("provenance", {}).get("company", ()):
            if (member := _member(trials[key], label, seed, draw)) in trials:
                found[member].add(key)
    return found


def _member(trial: Trial, label: str, seed: int, draw: int) -> str:
    """The key of a member of a trial's company; nothing for one that its experiment has not."""
    e = trial.experiment
    named = {t.name: t for t in (e.link, *e.treatments)} if trial.round else {"dense": REWIND}
    if label not in named:
        return ""
    return replace(trial, seed=seed, draw=draw, treatment=named[label]).key


def in_chunks(trials: list[Trial], device: str, jobs: int = 1) -> list[Call[list[Trial]]]:
    """Trials in chunks that train side by side, each as one population, in an order that respects
    what they start from.

    jobs: how many chunks train at a time, with a share each of a processor's cache; so a round is
    cut into at least as many, where it has the networks.
    """
    chunks: list[list[Trial]] = []
    for (experiment, _, _), same in groupby(trials, lambda t: (t.experiment, t.round, t.analysis)):
        group = list(same)
        first, limit = group[0], population_limit(experiment, device)
        # Counted with those that are done: what was stopped must go on with the same chunks.
        whole = [t for t in experiment.trials(first.round) if t.analysis == first.analysis]
        share = min(-(-limit // jobs), max(1, len(whole) // jobs))
        chunks += _chunks(group, share)
    place = {trial.key: number for number, chunk in enumerate(chunks) for trial in chunk}
    calls = []
    for chunk in chunks:
        needs = {key for trial in chunk for key, _ in starts_from(trial)}
        calls.append(Call(chunk, after=frozenset(place[key] for key in needs & place.keys())))
    return calls


def starts_from(trial: Trial) -> list[tuple[str, str]]:
    """What it needs before it can train: the keys of other trials, and of tensors they leave."""
    needs = [(other.key, other.key) for other in trial.needs]
    return needs + [(trial.dense.key, trial.dense_key(at)) for at in trial.snapshots]


def _chunks(trials: list[Trial], limit: int) -> Iterator[list[Trial]]:
    """Trials of one experiment and round in even groups of one schedule and one architecture."""

    def kind(trial: Trial) -> tuple[int, str, str, bool, bool, bool]:
        treatment = trial.treatment
        last = "last" if treatment.schedule == "last" else ""
        return trial.start, last, treatment.budget, trial.slims, trial.restores, _single(trial)

    for (*_, single), group in groupby(sorted(trials, key=kind), kind):
        rest = list(group)
        most = 1 if single else limit
        while rest:
            size = -(-len(rest) // -(-len(rest) // most))
            yield rest[:size]
            rest = rest[size:]


def _single(trial: Trial) -> bool:
    """Whether it must be a population of one: where global pruning gives each seed other widths, or
    other FLOPs, or where its copies are the population.
    """
    by_size = trial.narrow or trial.treatment.budget in BY_FLOPS
    uneven = trial.experiment.pruning.scope == "global" or trial.treatment.mask == "random"
    return trial.analysis or (by_size and uneven)


def population_limit(experiment: Experiment, device: str) -> int:
    """How many networks to train side by side: what fits the cache of a processor, or enough to
    keep a GPU busy.

    Activations are not counted: since their memory is kept (`keep_memory`), two to four ResNet-8
    side by side take 3 to 6% less time each than eight (`python -m tests.benchmarks.training`).
    """
    if device != "cpu":
        return 64
    data = experiment.task.data()
    network = outline(experiment.task.network, data.image_shape, len(data.classes))
    return max(1, min(8, CACHE // (16 * sum(p.numel() for p in network.parameters()))))
