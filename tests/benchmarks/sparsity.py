"""What sparsity saves: python -m tests.benchmarks.sparsity [--replicas N] [--iterations N]

Tickets of LeNet-300-100 on MNIST are found by short trainings, 20% per round, and each is trained
and evaluated in four ways: masked, which multiplies by zeros; compacted, without the pixels and
neurons that reach no output, but dense; sparse, its survivors alone; and as `train` chooses. All
time is processor time of one thread, in turns within this process, so another program changes a
ratio less than a time; a ratio is told as median (lowest-highest) of the turns, beside what the
arithmetic alone would give. Then a whole search of 20 rounds, with an evaluation of the validation
set every 100 iterations, and the total account: what finding a ticket costs against what using it
saves, in trainings of the dense network.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor

from labkit import (
    Data,
    Masks,
    Population,
    Pruning,
    Recipe,
    Split,
    State,
    apply_masks,
    build,
    density,
    evaluate_on,
    flops,
    full_masks,
    generator,
    load,
    prune,
    train,
)
from labkit.engine import sparse

NETWORK = "lenet-300-100"
ROUNDS = 20
SHOWN = (1, 3, 5, 7, 11, 15, 20)  # rounds of the table: 80% to 1.2%
EVALUATE_EVERY = 100  # iterations (Frankle & Carbin 2019, section 2)
SEARCH = Recipe(iterations=300)  # of a round: short, for masks with the shape of real ones
ENDLESS = Recipe(iterations=1_000_000)
Times = dict[str, list[float]]  # way -> processor time of each turn


def tickets(data: Data, replicas: int) -> Iterator[tuple[Masks, State]]:
    """Masks and rewound weights, of the dense network and of every round."""
    network = build(NETWORK, data.image_shape, 10, replicas)
    network.initialise([generator(seed, "initialisation") for seed in range(replicas)])
    first, masks = network.state(), full_masks(network)
    for _ in range(ROUNDS + 1):
        yield masks, apply_masks(first, masks)
        network.load_state_dict(apply_masks(first, masks))
        for _ in train(network, SEARCH, data, list(range(replicas)), masks=masks):
            pass
        masks = prune(Pruning(), network.state(), masks, [])


def compacted(state: State, masks: Masks, data: Data) -> tuple[State, Masks, Data]:
    """A ticket without the neurons and pixels that reach no output: the same logits, the same
    gradients of what reaches one. Of one replica, since others lose other ones.
    """
    names = list(masks)  # input to output
    state, masks = dict(state), dict(masks)
    for name in reversed(names):  # (1, out, in)
        reach = masks[name][0].any(0).nonzero().squeeze(1)  # units that this layer reads
        state[name], masks[name] = (t[name].index_select(2, reach) for t in (state, masks))
        if name == names[0]:
            break
        before = names[names.index(name) - 1]
        bias = before.replace("weight", "bias")
        state[before], masks[before] = (t[before].index_select(1, reach) for t in (state, masks))
        state[bias] = state[bias].index_select(1, reach)
    return state, masks, _only_pixels(data, reach)


def _only_pixels(data: Data, pixels: Tensor) -> Data:
    def part(split: Split) -> Split:
        return Split(split.images.flatten(1)[:, pixels][:, None, None], split.labels)

    return replace(
        data, train=part(data.train), validation=part(data.validation), test=part(data.test)
    )


def in_turns(ways: dict[str, Callable[[], object]], turns: int) -> Times:
    """Processor time of each way, one after the other, again and again."""
    for way in ways.values():
        way()  # the first call is not timed
    times: Times = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            began = time.process_time()
            way()
            times[name].append(time.process_time() - began)
    return times


def ratio(times: Times, way: str) -> str:
    """How many times as fast as masked: median (lowest-highest) of the turns."""
    each = [m / t for m, t in zip(times["masked"], times[way], strict=True)]
    return f"{median(each):5.2f} ({min(each):.2f}-{max(each):.2f})"


def some_steps(
    network: Population, data: Data, masks: Masks, alone: bool | None, count: int
) -> Callable[[], None]:
    """A function that trains on, for so many iterations."""
    seeds = list(range(network.replicas))
    steps = train(network, ENDLESS, data, seeds, masks=masks, sparse=alone)

    def advance() -> None:
        for _ in range(count):
            next(steps)

    return advance


def evaluation(network: Population, data: Data, limit: float) -> Callable[[], None]:
    """A function that evaluates on the validation set, by survivors alone up to this density."""

    def evaluate() -> None:
        usual = sparse.EVALUATED
        sparse.EVALUATED = limit
        try:
            evaluate_on(network, data, data.validation)
        finally:
            sparse.EVALUATED = usual

    return evaluate


def training_ways(
    state: State, masks: Masks, data: Data, count: int
) -> dict[str, Callable[[], object]]:
    """Training in every way; a ticket of several replicas cannot be compacted side by side."""
    plain = build(NETWORK, data.image_shape, 10)
    ways: dict[str, Callable[[], object]] = {
        name: some_steps(plain.with_state(state), data, masks, alone, count)
        for name, alone in (("masked", False), ("sparse", True), ("chosen", None))
    }
    if len(next(iter(state.values()))) == 1:
        small, left, fewer = compacted(state, masks, data)
        ways["compacted"] = some_steps(plain.with_state(small), fewer, left, False, count)
    return ways


def evaluation_ways(state: State, masks: Masks, data: Data) -> dict[str, Callable[[], object]]:
    """Evaluation in every way."""
    whole = build(NETWORK, data.image_shape, 10).with_state(state)
    ways: dict[str, Callable[[], object]] = {
        "masked": evaluation(whole, data, -1.0),
        "sparse": evaluation(whole, data, 1.0),
        "chosen": evaluation(whole, data, sparse.EVALUATED),
    }
    if whole.replicas == 1:
        small, _, fewer = compacted(state, masks, data)
        ways["compacted"] = evaluation(whole.with_state(small), fewer, -1.0)
    return ways


def row(what: str, share: float, arithmetic: float, times: Times, per: float) -> None:
    """Print a density: arithmetic saved, time, and time saved in every way."""
    saved = "  ".join(f"{way} {ratio(times, way)}" for way in times if way != "masked")
    whole = 1e3 * median(times["masked"]) / per
    print(f"{what:<10} {share:6.1%}  arithmetic {arithmetic:5.1f}  masked {whole:7.3f} ms  {saved}")


def account(left: list[float], seconds: list[dict[str, float]]) -> None:
    """Print what tickets cost, in trainings of the dense network. left: density of each round.
    seconds: of a training in each round, by the way it was done.
    """
    rate = 1 - left[1]
    print("\nround density  search  by masks  as chosen   pays after: law, one shot, as chosen")
    dense = seconds[0]["masked"]
    for number in SHOWN:
        law = (1 - left[number]) / rate  # (1 - (1 - q)^r) / q
        masked = sum(each["masked"] for each in seconds[:number]) / dense
        chosen = sum(each["chosen"] for each in seconds[:number]) / dense
        saved = 1 - seconds[number]["chosen"] / dense
        pays = f"{chosen / saved:6.1f}" if saved > 0.05 else " never"
        print(
            f"{number:5} {left[number]:7.1%} {law:7.2f} {masked:9.2f} {chosen:10.2f}   "
            f"{law / (1 - left[number]):10.1f}, {1 / (1 - left[number]):.2f}, {pays}"
        )
    whole = {way: sum(each[way] for each in seconds) for way in ("masked", "chosen")}
    print(f"\nall {ROUNDS} rounds: {whole['chosen'] / whole['masked']:.2f} of the masked time")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What sparsity saves.")
    parser.add_argument("--replicas", type=int, default=1, help="networks side by side")
    parser.add_argument("--iterations", type=int, default=30, help="of a turn")
    parser.add_argument("--turns", type=int, default=7)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, processor time, {chosen.replicas} replicas")
    print("ratios: masked / other, median (lowest-highest)")
    data = load("mnist")
    left, seconds = [], []
    for number, (masks, state) in enumerate(tickets(data, chosen.replicas)):
        network = build(NETWORK, data.image_shape, 10).with_state(state)
        share = density(masks).mean().item()
        dense = flops(network, data.image_shape, full_masks(network))
        arithmetic = (dense / flops(network, data.image_shape, masks)).mean().item()
        training = in_turns(training_ways(state, masks, data, chosen.iterations), chosen.turns)
        inference = in_turns(evaluation_ways(state, masks, data), chosen.turns)
        left.append(share)
        seconds.append(
            {
                way: median(training[way]) / chosen.iterations
                + median(inference[way]) / EVALUATE_EVERY
                for way in ("masked", "chosen")
            }
        )
        if number in SHOWN:
            each = chosen.replicas * chosen.iterations
            row("training", share, arithmetic, training, each)
            row("inference", share, arithmetic, inference, chosen.replicas)
    account(left, seconds)


if __name__ == "__main__":
    main()
