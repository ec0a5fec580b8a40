"""How far studies scale on a cluster: times measured here, and a simulation from them.

python -m tests.benchmarks.cluster

Processor time is measured, of one thread, since this machine may be busy. Measured are training and
evaluation of every network, and what a chunk costs the scheduler and whoever pulls, who are one
process here and do one thing at a time. The simulation lets workers of this speed do the chunks as
a run sends them; it leaves out the network's speed and machines that fail.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any

from labkit.base.store import Store
from labkit.base.workers import Call
from labkit.engine.networks import build
from labkit.engine.pruning import full_masks
from labkit.engine.training import Recipe, evaluate_on, generator, train
from labkit.experiments.cluster import run_on
from labkit.experiments.experiment import Experiment, Study, Trial
from labkit.experiments.planning import _evaluated_examples
from labkit.experiments.presets import PRESETS, study
from labkit.experiments.running import Evaluated, run
from labkit.experiments.scheduling import in_chunks, missing
from labkit.experiments.task import Task
from tests.synthetic import local_cluster

SECONDS = 1.0  # of measuring each
SIDE_BY_SIDE = (1, 2, 4, 8)
WORKERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
STUDIES: dict[str, Study] = {
    "`lottery`": study("lottery", "reference"),
    "`lottery` with 250 seeds": tuple(
        replace(experiment, seeds=tuple(range(250))) for experiment in study("lottery", "reference")
    ),
    "all presets": tuple(dict.fromkeys(e for name in PRESETS for e in study(name, "reference"))),
}


@dataclass(frozen=True)
class Cost:
    """Seconds of an iteration and of an evaluated example, of one network among `side_by_side`."""

    iteration: float
    example: float


def cost_of(task: Task, side_by_side: int) -> Cost:
    data = task.data()
    network = build(task.network, data.image_shape, len(data.classes), side_by_side)
    network.initialise([generator(i) for i in range(side_by_side)])
    steps = train(network, task.recipe, data, list(range(side_by_side)), masks=full_masks(network))
    for _ in range(4):  # the first ones allocate
        next(steps)
    done, began = 0, time.thread_time()
    while time.thread_time() < began + SECONDS:
        next(steps)
        done += 1
    iteration = (time.thread_time() - began) / done
    steps.close()
    began = time.thread_time()
    evaluate_on(network, data, data.validation[:1_000], task.recipe.precision)
    example = (time.thread_time() - began) / 1_000
    return Cost(iteration / side_by_side, example / side_by_side)


def hand_over(chunk: Sequence[Trial], store: Store, data: object) -> Iterator[int]:
    """A chunk that takes no time and leaves so many bytes."""
    yield 0
    store.write(f"{chunk[0].seed:032x}.pt", bytes(chunk[0].draw))


def seconds_of_a_chunk(client: Any, megabytes: float, count: int = 200) -> float:
    """Processor time of scheduler and whoever pulls, of one chunk."""
    tiny = Experiment(Task(validation=0, examples=1))
    size = int(megabytes * 1e6)
    calls = [Call([Trial(tiny, n, 0, tiny.link, draw=size)]) for n in range(count)]
    store = Store(tempfile.mkdtemp(), shipped=False)
    began = time.process_time()
    for _ in run_on(client, hand_over, calls, store):
        pass
    return (time.process_time() - began) / count


def seconds_to_stop(client: Any) -> float:
    """Until no worker computes, after a run is closed."""
    store = Store(tempfile.mkdtemp(), shipped=False)
    running = run(study("lottery", "reference"), store, client=client)
    while not isinstance(next(running), Evaluated):
        pass
    began = time.monotonic()
    running.close()
    while any(client.run(lambda dask_worker: len(dask_worker.state.executing)).values()):
        pass
    return time.monotonic() - began


def wall_time(calls: Sequence[Call[Any]], seconds: Sequence[float], each: float, n: int) -> float:
    """When the last of the chunks is in the store. each: of one chunk, for scheduler and store."""
    waits = [len(call.after) for call in calls]
    readers: list[list[int]] = [[] for _ in calls]
    for number, call in enumerate(calls):
        for other in call.after:
            readers[other].append(number)
    ready = [number for number, count in enumerate(waits) if not count]  # a heap, as it is sorted
    running: list[tuple[float, int]] = []
    now = desk = 0.0
    while ready or running:
        while ready and len(running) < n:
            number = heappop(ready)
            heappush(running, (now + seconds[number], number))
        end, number = heappop(running)
        now = desk = max(desk, end) + each  # one after the other
        for reader in readers[number]:
            waits[reader] -= 1
            if not waits[reader]:
                heappush(ready, reader)
    return now


def longest_chain(calls: Sequence[Call[Any]], seconds: Sequence[float]) -> float:
    """Of chunks that wait for each other."""
    ends: list[float] = []
    for call, own in zip(calls, seconds, strict=True):
        ends.append(own + max((ends[other] for other in call.after), default=0.0))
    return max(ends)


def main() -> None:
    """Measure, simulate, and print a table for each study."""
    with local_cluster(2) as cluster:
        client = cluster.get_client()
        client.wait_for_workers(2)
        seconds_of_a_chunk(client, 0, 20)
        light, heavy = (seconds_of_a_chunk(client, m) for m in (0.0, 2.0))
        stop = sorted(seconds_to_stop(client) for _ in range(5))
        client.close()
    print(f"a chunk costs scheduler and store {1e3 * light:.1f} ms, one of 2 MB "
          f"{1e3 * heavy:.1f} ms; after Stop the workers were idle in "
          f"{stop[0]:.2f}-{stop[-1]:.2f} s")  # fmt: skip
    costs: dict[tuple[Task, int], Cost] = {}
    nothing = Store(tempfile.mkdtemp(), shipped=False)
    for title, own in STUDIES.items():
        todo = missing(own, nothing)
        print(f"\n{title}: {len(todo)} networks\n")
        print("| workers | chunks | hours | times faster | of the workers' time used |")
        print("|---:|---:|---:|---:|---:|")
        alone = 0.0
        for workers in WORKERS:
            calls = in_chunks(todo, "cpu", workers)
            seconds = [chunk_seconds(call.argument, costs) for call in calls]
            took = wall_time(calls, seconds, heavy, workers)
            alone = alone or took
            print(f"| {workers:,} | {len(calls):,} | {took / 3600:.2f} | {alone / took:.1f} | "
                  f"{sum(seconds) / took / workers:.0%} |")  # fmt: skip
        chain, desk = longest_chain(calls, seconds), len(calls) * heavy
        print(f"\nthe longest chain takes {chain / 3600:.2f} h, scheduler and store together "
              f"{desk / 3600:.3f} h")  # fmt: skip
    print("\nmilliseconds of a network and iteration:")
    for (task, n), cost in costs.items():
        print(f"  {task.network}, batch {task.recipe.batch_size}, {n} side by side: "
              f"{1e3 * cost.iteration:.2f}")  # fmt: skip


def chunk_seconds(chunk: Sequence[Trial], costs: dict[tuple[Task, int], Cost]) -> float:
    task = chunk[0].experiment.task
    n = max(size for size in SIDE_BY_SIDE if size <= len(chunk))
    # What decides the time of an iteration; long, so that it does not end while it is measured.
    own = task.recipe
    like = Task(
        task.dataset,
        task.network,
        Recipe(batch_size=own.batch_size, augmentation=own.augmentation, iterations=1_000_000),
    )
    if (like, n) not in costs:
        costs[like, n] = cost_of(like, n)
    cost = costs[like, n]
    evaluated = sum(_evaluated_examples(trial, task.data()) for trial in chunk)
    return sum(trial.work for trial in chunk) * cost.iteration + evaluated * cost.example


if __name__ == "__main__":
    main()
