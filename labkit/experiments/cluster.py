"""On a cluster: the chunks of a run as tasks of dask.distributed, on any number of machines.

Whoever pulls sends every chunk as a task, with those that it starts from as its dependencies. The
weights that a chunk leaves travel to the chunks that start from them, from worker to worker, and to
whoever pulls, who alone writes to the store: workers need no common folder. Data are a task of
their own, found by their digest, so that each worker gets them once. A worker that is lost costs
what it was training and what nobody else holds, which is trained again, to the same bits.
"""

import hashlib
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch

from labkit.base.machine import lab_version
from labkit.base.store import InMemory, Store
from labkit.base.validation import whole
from labkit.base.workers import EVERY, Call, Ended, Silence
from labkit.engine.data import Data, Split
from labkit.experiments.experiment import Trial
from labkit.experiments.scheduling import starts_from

if TYPE_CHECKING:
    from distributed import Client, Future

HEARD = 0.5  # seconds between two numbers that a worker sends, of which there may be a thousand
MOST = 100_000  # workers; dask's own limit is lower
NEEDED = (
    "a cluster needs dask.distributed, which the extra [cluster] of lottery-ticket-lab brings, or "
    "`pip install distributed`"
)
Events = Callable[..., Iterator[Any]]


def connect(address: str) -> "Client":
    """A client of the scheduler at this address, tcp://HOST:PORT, or of this scheduler file.

    Raises ValueError where dask is not installed or the address cannot be one, and OSError where
    nobody answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(NEEDED) from error
    if Path(address).is_file():
        return Client(scheduler_file=address)
    return Client(address)


def shares(jobs: int | None, client: "Client") -> int:
    """Into how many chunks a round is cut at least, where it has the networks: one for each worker
    that is there now, or a number of your own, which makes the numbers independent of that.
    """
    if jobs is None:
        return max(1, len(client.nthreads()))
    return whole("jobs", jobs, 1, MOST)


@dataclass
class _Made:
    """What a chunk's task leaves. events: all that it yielded but numbers. entries: of the store,
    in the order in which they are to be written.
    """

    events: list[Any]
    entries: dict[str, bytes]


def run_on(
    client: "Client", events: Events, calls: Sequence[Call[list[Trial]]], store: Store
) -> Iterator[tuple[int, Any]]:
    """Everything that the calls yield on the workers of a cluster, as `run_calls` does here.

    events: called with a chunk, a store and its data, each a keyword. An event that needs the store
    comes after the store has it. What a worker raises is raised here and ends the others, and so
    does closing this generator. Raises RuntimeError where workers die again and again of one chunk,
    and ConnectionError where the cluster is gone.
    """
    from distributed import CancelledError, KilledWorker

    name = f"labkit-{uuid4().hex}"
    inbox: SimpleQueue[tuple[int, int, Any]] = SimpleQueue()  # call, place of the event, event
    client.subscribe_topic(name, lambda event: inbox.put(pickle.loads(event[1])))
    futures: dict[int, Future] = {}
    readers: list[set[int]] = [set() for _ in calls]  # of each call, those that start from it
    for number, call in enumerate(calls):
        for other in call.after:
            readers[other].add(number)
    told, done = [0] * len(calls), set[int]()
    try:
        _submit(client, name, events, calls, store, futures, inbox)
        while len(done) < len(calls):
            try:
                number, place, event = inbox.get(timeout=EVERY)
            except Empty:
                yield min(set(range(len(calls))) - done), Silence()
                continue
            if number in done:  # the last words of one who did it twice
                continue
            if place == _NUMBER:
                yield number, event
            elif place == told[number]:
                told[number] += 1
                yield number, event
            elif place == _READY:
                made = futures[number].result()
                done.add(number)
                for entry, content in made.entries.items():
                    store.write(entry, content)
                for event in made.events[told[number] :]:
                    yield number, event
                yield number, Ended()
                for other in [n for n in futures if n in done and readers[n] <= done]:
                    del futures[other]  # what nobody will start from any more
    except KilledWorker as error:
        raise RuntimeError(
            f"several workers died of the same networks, as when memory runs out; more jobs, and "
            f"so smaller chunks, need less ({error})"
        ) from error
    except CancelledError as error:
        raise ConnectionError(
            f"the cluster has ended, or lost this run; what was finished is kept ({error})"
        ) from error
    finally:
        with suppress(Exception):  # there may be no scheduler any more, nor a client
            client.unsubscribe_topic(name)
            if futures:
                client.cancel(list(futures.values()))


_NUMBER, _READY = -1, -2  # in place of an event's place: how far a call is, and that it has ended


def _submit(
    client: "Client",
    name: str,
    events: Events,
    calls: Sequence[Call[list[Trial]]],
    store: Store,
    futures: "dict[int, Future]",
    inbox: "SimpleQueue[tuple[int, int, Any]]",
) -> None:
    """Send every call as a task, in their order; the futures go to `futures`."""
    import dask

    tasks = dict.fromkeys(call.argument[0].experiment.task for call in calls)
    # Data and weights stay with the scheduler, who sends them again where a worker was lost.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
        data = {}
        for task in tasks:
            own = _whole(task.data())
            data[task] = client.submit(_itself, own, key=f"labkit-data-{_digest(own)}")
        for number, call in enumerate(calls):
            futures[number] = client.submit(
                _work,
                events,
                call.argument,
                [futures[other] for other in sorted(call.after)],
                _given(call.argument, calls, store),
                data[call.argument[0].experiment.task],
                _versions(),
                (name, number),
                key=f"{name}-{number}",
                priority=-number,
            )
            futures[number].add_done_callback(
                lambda _, number=number: inbox.put((number, _READY, None))
            )


def _given(
    chunk: Sequence[Trial], calls: Sequence[Call[list[Trial]]], store: Store
) -> dict[str, bytes]:
    """The entries that a chunk starts from and that no call makes."""
    made = {trial.key for call in calls for trial in call.argument}
    given = InMemory()
    for key, tensors in dict.fromkeys(need for trial in chunk for need in starts_from(trial)):
        if key not in made:
            given.put_tensors(tensors, store.get_tensors(tensors))
    return given.files


def _whole(data: Data) -> Data:
    """The same data in memory of its own: a part would bring all that it is a part of."""

    def copied(split: Split) -> Split:
        return Split(split.images.clone(), split.labels.clone())

    train, validation, test = map(copied, (data.train, data.validation, data.test))
    return replace(data, train=train, validation=validation, test=test)


def _digest(data: Data) -> str:
    """Of all that they are, so that equal data are sent once."""
    found = hashlib.sha256(repr((data.name, data.classes)).encode())
    tensors = [data.mean, data.deviation]
    for split in (data.train, data.validation, data.test):
        tensors += [split.images, split.labels]
    for tensor in tensors:
        found.update(repr(tensor.shape).encode())
        found.update(tensor.contiguous().numpy().data)
    return found.hexdigest()


def _itself(data: Data) -> Data:
    return data


def _versions() -> dict[str, str]:
    """Of what decides the numbers."""
    return {"labkit": lab_version(), "torch": torch.__version__}


# On the workers.


def _work(
    events: Events,
    chunk: list[Trial],
    before: Sequence[_Made],
    given: Mapping[str, bytes],
    data: Data,
    versions: Mapping[str, str],
    sender: tuple[str, int],
) -> _Made:
    """A chunk, from what was made before and what is given; tells the sender's topic what comes."""
    from distributed import get_worker

    worker, (name, number) = get_worker(), sender
    if versions != _versions():
        raise ValueError(
            f"workers must have the versions of whoever runs a study, {versions}, and "
            f"{worker.address} has {_versions()}"
        )
    if worker.state.nthreads != 1:
        raise ValueError(
            f"workers must have one thread each (--nthreads 1), and {worker.address} has "
            f"{worker.state.nthreads}: where two train in one process, numbers do not repeat"
        )
    store = InMemory(dict(given))
    for made in before:
        store.files.update(made.entries)
    found: list[Any] = []
    key, sent = worker.get_current_task(), 0.0

    def tell(place: int, value: object) -> None:
        worker.log_event(name, pickle.dumps((number, place, value)))

    for value in events(chunk, store=store, data=data):
        task = worker.state.tasks.get(key)
        if task is None or task.state != "executing":  # nobody waits for it any more
            break
        if not isinstance(value, int):
            # Those of results wait until whoever pulls has these in the store.
            if not any(entry.endswith(".json") for entry in store.written):
                tell(len(found), value)
            found.append(value)
        elif time.monotonic() > sent + HEARD:
            tell(_NUMBER, value)
            sent = time.monotonic()
    return _Made(found, store.written)
