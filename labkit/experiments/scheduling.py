"""Scheduling: which networks a run has to train, which of them side by side, and how long for."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby

from labkit.base.store import Store
from labkit.base.workers import Call
from labkit.engine.networks import outline
from labkit.experiments.experiment import BY_FLOPS, Experiment, Study, Trial, all_trials
from labkit.experiments.proof import result_of
from labkit.experiments.tickets import FINAL, SNAPSHOT

CACHE = 20_000_000  # bytes of weights, gradients and moments that stay in a processor's cache


def missing(study: Study, store: Store) -> list[Trial]:
    """The trials that `run` has to train, in an order in which it can: those without a result, and
    those of whose weights a later one needs some that the store lacks.

    A dense network whose state at a rewind iteration is lacking is trained again as a whole: where
    training is unstable, a rounding error suffices to end somewhere else, and its early and late
    weights would not be those of one training.
    """
    trials: dict[str, Trial] = {}
    for trial in all_trials(study):
        # Of experiments that share it, one with an analysis, for which its weights are kept.
        if trial.key not in trials or trial.analysed:
            trials[trial.key] = trial
    wanted: defaultdict[str, set[str]] = defaultdict(set)  # trial -> tensors that it has to leave
    todo: list[Trial] = []
    for key, trial in reversed(trials.items()):
        leaves = all(
            store.has_tensors(name, FINAL if name == key else SNAPSHOT) for name in wanted[key]
        )
        if result_of(trial, store) is None or not leaves:
            todo.append(trial)
            for other, tensors in starts_from(trial):
                wanted[other].add(tensors)
    return todo[::-1]


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
    """
    if device != "cpu":
        return 64
    data = experiment.task.data()
    network = outline(experiment.task.network, data.image_shape, len(data.classes))
    return max(1, min(8, CACHE // (16 * sum(p.numel() for p in network.parameters()))))
