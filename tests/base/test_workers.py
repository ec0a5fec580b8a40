"""Calls in processes: the same values, each call after those that it needs, and no survivors."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from labkit.base.workers import AHEAD, EVERY, Call, Ended, Silence, run_calls

PATIENCE = 60  # seconds until a test that waits gives up


def apply(call: tuple[Any, tuple[Any, ...]]) -> Iterator[Any]:
    function, arguments = call
    yield from function(*arguments)


def calling(function: Any, arguments: tuple[Any, ...], **order: Any) -> Call[Any]:
    return Call((function, arguments), **order)


def words(*given: object) -> Iterator[object]:
    yield from given


def wait_for(*paths: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"{paths} did not come"
        time.sleep(0.01)


def meet(own: Path, other: Path) -> Iterator[str]:
    """Ends only while the other call runs as well."""
    own.touch()
    wait_for(other)
    yield own.name


def leave(path: Path) -> Iterator[str]:
    time.sleep(0.2)
    path.touch()
    yield path.name


def find(*paths: Path) -> Iterator[list[bool]]:
    yield [path.exists() for path in paths]


def count_to(number: int) -> Iterator[int]:
    yield from range(number)


def stumble(path: Path) -> Iterator[str]:
    wait_for(path)
    yield "so far so good"
    raise ValueError("no further")


def drop_dead() -> Iterator[str]:
    yield "alive"
    os.kill(os.getpid(), signal.SIGKILL)


def go_on_for_ever(started: Path) -> Iterator[int]:
    started.write_text(str(os.getpid()))
    while True:
        time.sleep(0.01)
        yield 1


def threads() -> Iterator[tuple[int, int]]:
    yield os.getpid(), torch.get_num_threads()


def values(events: list[tuple[int, Any]], number: int) -> list[Any]:
    return [value for place, value in events if place == number and value != Silence()]


def gone(pid: int) -> bool:
    """Whether a process has ended, whoever has to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_all_that_calls_yield_comes_out_in_the_order_of_each(jobs: int) -> None:
    given = [("a", None, 1.5), (), ("b", {"c": torch.ones(2)})]
    events = list(run_calls(apply, [calling(words, some) for some in given], jobs))
    for number, some in enumerate(given):
        *found, last = values(events, number)
        assert last == Ended() and str(found) == str(list(some))
    if jobs == 1:
        assert [number for number, _ in events] == sorted(number for number, _ in events)


def test_one_job_is_this_process() -> None:
    for _, value in run_calls(apply, [calling(threads, ())] * 3, 1):
        assert value == Ended() or value[0] == os.getpid()
        assert multiprocessing.active_children() == []


def test_processes_take_one_call_after_the_other() -> None:
    events = list(run_calls(apply, [calling(threads, ())] * 9, 3))
    pids = {value[0] for number in range(9) for value in values(events, number)[:-1]}
    assert os.getpid() not in pids and len(pids) <= 3


def test_calls_run_at_the_same_time(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    events = list(run_calls(apply, [calling(meet, (a, b)), calling(meet, (b, a))], 2))
    assert sorted(values(events, 0) + values(events, 1), key=str) == [Ended(), Ended(), "a", "b"]


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_a_call_begins_after_those_that_it_needs(jobs: int, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    calls = [
        calling(leave, (a,)),
        calling(leave, (b,), after=frozenset({0})),
        calling(find, (a, b), after=frozenset({0, 1})),
        calling(find, (a,), after=frozenset({0})),
    ]
    events = list(run_calls(apply, calls, jobs))
    assert values(events, 2) == [[True, True], Ended()]
    assert values(events, 3) == [[True], Ended()]


def test_no_more_calls_run_at_a_time_than_jobs() -> None:
    begun, most = set[int](), 0
    for number, value in run_calls(apply, [calling(words, ("begun",))] * 9, 3):
        if value != Silence():
            begun ^= {number}
        most = max(most, len(begun), len(multiprocessing.active_children()))
        assert value in ("begun", Ended(), Silence())
    assert not begun and 1 < most <= 3


def test_of_numbers_processes_send_some(tmp_path: Path) -> None:
    numbers = 10_000
    here = list(run_calls(apply, [calling(count_to, (numbers,))] * 2, 1))
    assert values(here, 0) == [*range(numbers), Ended()]
    there = values(list(run_calls(apply, [calling(count_to, (numbers,))] * 2, 2)), 0)
    assert there[0] == 0 and there[-1] == Ended() and len(there) < numbers
    assert there[:-1] == sorted(there[:-1])


def test_processes_have_one_thread_each() -> None:
    before = torch.get_num_threads()
    events = list(run_calls(apply, [calling(threads, ())] * 2, 2))
    (one, first), (other, second) = values(events, 0)[0], values(events, 1)[0]
    assert len({one, other, os.getpid()}) == 3
    assert first == second == 1 and torch.get_num_threads() == before


def be_silent_until(path: Path) -> Iterator[int]:
    wait_for(path)
    yield 1


def test_nobody_who_pulls_is_kept_by_silent_processes(tmp_path: Path) -> None:
    release = tmp_path / "release"
    pulled = run_calls(apply, [calling(be_silent_until, (release,))] * 2, 2)
    assert [next(pulled)[1] for _ in range(3)] == [Silence()] * 3
    release.touch()
    assert values(list(pulled), 0) == [1, Ended()]


def count_into(path: Path) -> Iterator[int]:
    for number in range(1_000_000):
        path.write_text(str(number))
        time.sleep(0.001)
        yield number


def test_not_to_pull_is_to_pause(tmp_path: Path) -> None:
    path = tmp_path / "count"
    pulled = run_calls(apply, [calling(count_into, (path,))] * 2, 2)
    while not path.exists():
        next(pulled)
    time.sleep((AHEAD + 4) * EVERY)  # until they are ahead
    deadline, before = time.monotonic() + PATIENCE, ""
    while (now := path.read_text()) != before or not now:
        assert time.monotonic() < deadline, "they go on for nobody"
        before = now
        time.sleep(5 * EVERY)
    while path.read_text() == before:
        assert time.monotonic() < deadline, "they do not go on when they are pulled"
        next(pulled)
    pulled.close()
    assert multiprocessing.active_children() == []


def test_what_a_call_raises_is_raised_and_ends_the_others(tmp_path: Path) -> None:
    started = tmp_path / "started"
    found = []
    with pytest.raises(ValueError, match="no further") as raised:
        for _, value in run_calls(
            apply, [calling(go_on_for_ever, (started,)), calling(stumble, (started,))], 2
        ):
            found.append(value)
    assert "so far so good" in found
    assert "in stumble" in str(raised.value.__cause__), "it says where it was raised"
    assert multiprocessing.active_children() == [] and gone(int(started.read_text()))


def test_a_process_that_dies_is_an_error_which_names_memory() -> None:
    with pytest.raises(RuntimeError, match=r"died with status -9, as when memory runs out"):
        list(run_calls(apply, [calling(drop_dead, ())] * 2, 2))
    assert multiprocessing.active_children() == []


SPAWNING = """
import torch
torch.cuda.is_available = lambda: True  # then processes are spawned, as on a Mac
from labkit.base.workers import Call, Silence, run_calls
from tests.base.test_workers import {function}
{guard}
    values = run_calls({function}, [Call({argument})] * 2, 2)
    print([value for _, value in values if value != Silence()])
"""


@pytest.mark.parametrize(
    ("guard", "function", "argument", "out", "err"),
    [
        ('if __name__ == "__main__":', "count_to", "1", "[0, Ended(), 0, Ended()]", ""),
        ("if True:", "count_to", "1", "", 'needs `if __name__ == "__main__":` around what it'),
        ('if __name__ == "__main__":', "drop_dead", "0", "", "as when memory runs out"),
    ],
)
def test_a_script_without_a_guard_is_told_what_is_the_matter(
    guard: str, function: str, argument: str, out: str, err: str, tmp_path: Path, root: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SPAWNING.format(guard=guard, function=function, argument=argument))
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert sorted(done.stdout.strip()) == sorted(out) and err in done.stderr
    assert (done.returncode == 0) == (err == "")
    assert ("memory" in done.stderr) == ("memory" in err)


def test_to_close_ends_the_processes(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    running = run_calls(apply, [calling(go_on_for_ever, (path,)) for path in paths], 2)
    next(running)
    wait_for(*paths)
    running.close()
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_nobody_survives_the_process_that_pulled(tmp_path: Path, root: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from labkit.base.workers import Call, run_calls\n"
        "from tests.base.test_workers import go_on_for_ever\n"
        "paths = [pathlib.Path(word) for word in sys.argv[1:]]\n"
        "for _ in run_calls(go_on_for_ever, [Call(path) for path in paths], len(paths)): pass\n"
    )
    paths = [tmp_path / name for name in "abc"]
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, paths)], cwd=root)
    try:
        wait_for(*paths)
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + PATIENCE
    while not all(gone(int(path.read_text())) for path in paths):
        assert time.monotonic() < deadline, "they train for nobody"
        time.sleep(0.05)
