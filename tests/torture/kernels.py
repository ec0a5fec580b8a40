"""A class: as many kernels on this machine as are asked for, each with a panel that is run.

All must open their panels and finish, and Stop must be heard in each.
"""

import json
import os
import sys
import time
from pathlib import Path
from queue import Empty
from random import Random

from jupyter_client import BlockingKernelClient, KernelManager

from tests.torture.figures import Figure

COUNT = 20
PATIENCE = 1_500.0  # seconds for all of them
STOP = 1.0  # second, for each kernel that competes

CODE = """
import json, time
from labkit import Experiment, Panel, Pruning, Recipe, Store, Task
task = Task(network="lenet-50-20", recipe=Recipe(iterations=200), examples=2_000, validation=500)
experiment = Experiment(task, Pruning(rate=0.5), rounds=1, seeds=({seed},), evaluate_every=50)
panel = Panel(experiment, store=Store({store!r}, shipped=False), device="cpu")
stops = []
for turn in range(4):
    panel.run()
    for _ in range(3):
        panel.tick(panel.session.generation)
    began = time.monotonic()
    panel.tick(panel.session.generation)  # what is under way when Stop is pressed
    panel.stop()
    stops.append(time.monotonic() - began)
panel.run()
while panel.session.active:
    panel.tick(panel.session.generation)
print(json.dumps([panel.session.state, max(stops)]))
"""


def torture(count: int, seed: int, folder: Path) -> list[Figure]:
    """Start `count` kernels at once. Figures: which of them open, finish and hear Stop."""
    finished = Figure(f"kernels of {count} at once whose panel opens and runs to its end")
    heard = Figure(f"kernels whose Stop takes less than {STOP:g} s for each kernel per core")
    dice, began = Random(seed), time.monotonic()
    os.environ["PYTHONPATH"] = os.pathsep.join(["", *sys.path])[1:]
    managers = [KernelManager(kernel_name="python3") for _ in range(count)]
    clients: list[BlockingKernelClient] = []
    share = count / len(os.sched_getaffinity(0))
    try:
        for number, manager in enumerate(managers):
            clients.append(_start(manager, folder / str(number), dice))
        slowest = 0.0
        for number, client in enumerate(clients):
            state, stop = _answer(client, began + PATIENCE)
            finished.count(state == "done", f"kernel {number}: {state}")
            heard.count(stop < STOP * max(1.0, share), f"kernel {number}: {stop:.1f} s")
            slowest = max(slowest, stop)
    finally:
        for client in clients:
            client.stop_channels()
        for manager in managers:
            manager.shutdown_kernel(now=True)
    finished.note = f"all in {time.monotonic() - began:,.0f} s"
    heard.note = f"slowest Stop {slowest:.2f} s"
    return [finished, heard]


def _start(manager: KernelManager, store: Path, dice: Random) -> BlockingKernelClient:
    manager.start_kernel()
    client: BlockingKernelClient = manager.client()
    client.start_channels()
    client.execute(CODE.format(seed=dice.randrange(1_000), store=str(store)))
    return client


def _answer(client: BlockingKernelClient, deadline: float) -> tuple[str, float]:
    """The state in which a kernel's panel ended, and its slowest Stop."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            message = client.get_iopub_msg(timeout=left)
        except Empty:
            break
        content = message["content"]
        if message["msg_type"] == "error":
            return "; ".join([content["ename"], content["evalue"]]), float("inf")
        if message["msg_type"] == "stream" and content["text"].startswith("["):
            state, stop = json.loads(content["text"])
            return state, stop
    return "not finished in time", float("inf")
