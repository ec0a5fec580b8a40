"""The three papers, and what followed, as plain loops. Read this first.

One network, one seed, nothing else: no store, no processes, no schedule of runs. `labkit.run` does
the same for many networks at a time and ends at the same weights, bit for bit (a test holds it to
that). What is called here stands in `labkit.engine`, in this order: `build`, `train`, `prune`,
`apply_masks`, `error_along`. States and masks are dictionaries from the name of a weight to a
tensor with one replica in front, (1, ...).
"""

from collections.abc import Iterator
from dataclasses import replace

from labkit import (
    TREATMENTS,
    Instability,
    Masks,
    Moments,
    Population,
    Pruning,
    State,
    Task,
    apply_masks,
    build,
    error_along,
    full_masks,
    generator,
    instability,
    narrow,
    prune,
    train,
    widen_state,
)

PAIR = Instability(copies=2)


def tickets(
    task: Task,
    pruning: Pruning,
    rounds: int,
    k: int = 0,
    seed: int = 0,
    own: Population | None = None,
) -> Iterator[tuple[Masks, State, State]]:
    """Train, prune, rewind, and again: iterative magnitude pruning.

    own: a network of your own with its first weights, by `Population.from_module`, in place of the
    task's; it stays as it is.

    Yields masks, the weights that training starts from, and those it ends at: of the dense network
    and then of each round's ticket. With k = 0 tickets are rewound to their initialisation
    (Frankle & Carbin 2019, section 2), else to iteration k (Frankle et al. 2020, section 4).
    """
    network = own[0] if own else _network(task).initialise([generator(seed, "initialisation")])
    masks, first = full_masks(network), network.state()  # every mask True; W_0
    for step in train(network, task.recipe, task.data(), [seed], snapshots=[k]):
        if step.snapshot is not None:
            rewound = step.snapshot.network  # W_k
    trained = network.state()  # W_T
    yield masks, first, trained
    for number in range(1, rounds + 1):
        chance = [generator(seed, "pruning", number)]  # for the criterion "random" alone
        masks = prune(pruning, trained, masks, chance, units=network.units())
        start = apply_masks(rewound, masks)  # the rewinding
        trained = train_again(task, pruning, masks, start, k, seed, own=own)
        yield masks, start, trained


def reinitialised(
    task: Task, pruning: Pruning, masks: Masks, number: int, draw: int = 0, seed: int = 0
) -> State:
    """The same masks with new weights: the control of Frankle & Carbin 2019, and what Liu et al.
    2019 (section 3) train from scratch. masks: of round `number`. Returns the weights at the end.
    """
    network = _network(task)
    if pruning.structured:  # fewer inputs, so larger first weights
        network = narrow(network, masks)
    network.initialise([generator(seed, "re-initialisation", number, draw)])
    fresh = network.state()
    if pruning.structured:
        fresh = widen_state(fresh, masks, _network(task).units())
    return train_again(task, pruning, masks, apply_masks(fresh, masks), 0, seed)


def fine_tuned(
    task: Task, pruning: Pruning, rounds: int, seed: int = 0
) -> Iterator[tuple[Masks, State]]:
    """Train, prune, fine-tune, and again: no weight ever goes back (Han et al. 2015).

    Yields masks and trained weights, of the dense network and then of each round.
    """
    network = _network(task).initialise([generator(seed, "initialisation")])
    for _ in train(network, task.recipe, task.data(), [seed]):
        pass
    masks, trained = full_masks(network), network.state()
    yield masks, trained
    gently = replace(task, recipe=TREATMENTS["fine-tune"].recipe(task.recipe))  # the last rate
    for number in range(1, rounds + 1):
        chance = [generator(seed, "pruning", number)]
        masks = prune(pruning, trained, masks, chance, units=network.units())
        trained = train_again(gently, pruning, masks, apply_masks(trained, masks), 0, seed)
        yield masks, trained


def drawn_at(task: Task, pruning: Pruning, at: int, seed: int = 0) -> tuple[Masks, State, State]:
    """Draw the mask at iteration `at` of the training, once, and train on from there: an early-bird
    ticket (You et al. 2020, section 4); or a mask from before training, with at = 0.

    Returns masks, the weights at that iteration and those at the end.
    """
    network = _network(task).initialise([generator(seed, "initialisation")])
    for step in train(network, task.recipe, task.data(), [seed], snapshots=[at]):
        if step.snapshot is not None:
            weights = step.snapshot.network  # W_at
            break
    chance = [generator(seed, "pruning", 1)]
    masks = prune(pruning, weights, full_masks(network), chance, units=network.units())
    start = apply_masks(weights, masks)
    return masks, start, train_again(task, pruning, masks, start, at, seed)


def signs(first: State, masks: Masks) -> State:
    """What Zhou et al. 2019 (section 4) leave of a ticket's first weights: their signs, and one
    magnitude in a layer, the deviation of all its weights. first: before they were masked.
    """
    constant = {name: first[name].sign() * first[name].std() for name in masks}
    return apply_masks(first | constant, masks)


def instability_at(
    task: Task,
    pruning: Pruning,
    masks: Masks,
    start: State,
    k: int = 0,
    seed: int = 0,
    moments: Moments | None = None,
    analysis: Instability = PAIR,
) -> float:
    """How far two copies part that go on from one state with different SGD noise: the highest test
    error on the line between them, minus the mean of its ends (Frankle et al. 2020, section 2).

    start: weights at iteration k, masked; moments: the optimizer's there, of the dense network.
    """
    one, other = (
        train_again(task, pruning, masks, start, k, seed, copy, moments) for copy in (0, 1)
    )
    path = error_along(_network(task), one, other, task.data(), analysis, task.recipe)
    return instability(path.test_error)


def train_again(
    task: Task,
    pruning: Pruning,
    masks: Masks,
    start: State,
    k: int = 0,
    seed: int = 0,
    copy: int = 0,
    moments: Moments | None = None,
    own: Population | None = None,
) -> State:
    """Train what the masks leave of these weights from iteration k to the last. copy: the number of
    its SGD noise. Returns the weights at the end, zeros where the masks are False.
    """
    network = own[0] if own else _network(task)
    network.load_state_dict(start)
    units, left = network.units(), masks
    if pruning.structured:  # a network that is really narrower has nothing left to mask
        network, left = narrow(network, masks), {}
    again = train(
        network,
        task.recipe,
        task.data(),
        [seed],
        copies=[copy],
        masks=left,
        start=k,
        moments=moments,
    )
    for _ in again:
        pass
    return widen_state(network.state(), masks, units) if pruning.structured else network.state()


def _network(task: Task) -> Population:
    data = task.data()
    return build(task.network, data.image_shape, len(data.classes))
