"""Runs a notebook without a browser and says everything that went wrong in it.

nbclient alone is content when a widget callback, an Output widget or a thread has raised: the
exception ends up in the widget's state, or nowhere. Here each of these is a fault.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 900.0  # a hang must end, but time decides no test

_KERNEL = "labkit-tests"
_BAD_ON_STDERR = re.compile(r"Traceback|Exception in thread|Exception ignored|Error|Warning")

# What a thread prints after its cell has ended belongs to no cell, so nbclient drops it.
# These two cells, around the notebook's own, keep it until the end.
_BEFORE = """
import threading as _threading
_old_threads, _thread_errors = set(_threading.enumerate()), []
_threading.excepthook = _thread_errors.append
"""
_PEAK = """
import sys as _sys
# Not getrusage: what that calls the peak of a process includes its parent's at the fork.
_status = open("/proc/self/status").read() if _sys.platform == "linux" else "VmHWM: 0 kB"
print("MiB:", int(_status.partition("VmHWM:")[2].split()[0]) / 1_024)
"""
_AFTER = """
import sys as _sys, time as _time, traceback as _traceback
for _thread in set(_threading.enumerate()) - _old_threads:
    _thread.join(timeout=2)
for _error in _thread_errors:
    print("Exception in thread", _error.thread.name, file=_sys.stderr)
    _traceback.print_exception(_error.exc_type, _error.exc_value, _error.exc_traceback)
_sys.stderr.flush()
_time.sleep(0.1)
print("CPU seconds:", _time.process_time())
"""


def read(path: Path) -> NotebookNode:
    """The notebook at path, in the current format."""
    return nbformat.read(path, as_version=4)


def kernel_environment() -> dict[str, str]:
    """The environment of a user's kernel: figures go inline, and labkit can be imported."""
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    paths = [str(ROOT), environment.get("PYTHONPATH", "")]
    return environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def execute(notebook: NotebookNode, folder: Path, seconds: float = SECONDS) -> list[str]:
    """Run all cells of the notebook in a fresh kernel, in place, and return its faults.

    folder is the kernel's working directory. The kernel runs the interpreter that runs this. The
    result is empty for a clean run; running out of time and losing the kernel are faults too.
    """
    _install_kernel()
    before, after = (nbformat.v4.new_code_cell(source) for source in (_BEFORE, _AFTER + _PEAK))
    notebook.cells = [before, *notebook.cells, after]
    deadline = time.monotonic() + seconds
    client = NotebookClient(
        notebook,
        kernel_name=_KERNEL,
        timeout_func=lambda _: max(0.1, deadline - time.monotonic()),
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=True,
    )
    stopped = []
    try:
        asyncio.run(client.async_execute(env=kernel_environment()))
    except CellExecutionError:
        pass  # The cell holds the error output that `faults` reports.
    except (CellTimeoutError, DeadKernelError):
        late = time.monotonic() >= deadline
        reason = f"not finished within {seconds} s" if late else "the kernel died"
        started = [cell.source for cell in notebook.cells if "execution" in cell.metadata]
        last = started[-1].strip()[:60] if started else "before the first"
        stopped = [f"{reason}, at cell {last!r}"]
    finally:
        client.set_widgets_metadata()  # nbclient does so only at the end of a clean run.
    return stopped + faults(notebook)


def cpu_seconds(notebook: NotebookNode) -> float:
    """Processor time of the kernel of an executed notebook; what runs beside it lengthens it."""
    return _said(notebook, "CPU seconds")


def peak_memory(notebook: NotebookNode) -> float:
    """The most memory that the kernel of an executed notebook used, in MiB; 0 but on Linux."""
    return _said(notebook, "MiB")


@cache
def memory_of_torch() -> float:
    """What torch alone takes once it is imported, in MiB; builds of it differ by hundreds."""
    code = ["-c", f"import torch\n{_PEAK}"]
    return float(subprocess.check_output([sys.executable, *code], text=True).split()[-1])


def _said(notebook: NotebookNode, what: str) -> float:
    last = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    return float(re.findall(rf"^{what}: (\S+)$", last, re.M)[-1])


def silent_pictures(notebook: NotebookNode) -> list[str]:
    """Pictures in the outputs and widgets of an executed notebook that have no alternative text."""
    found = []
    for data in _displayed(notebook):
        found += [kind for kind in data if kind.startswith("image/")]
        tags = re.findall(r"<img [^>]*>", "".join(data.get("text/html", "")))
        tags = [tag for tag in tags if 'alt="" width="0"' not in tag]  # there is nothing to see
        found += [tag[:80] for tag in tags if not re.search(r'\balt="[^"]', tag)]
    return found


COUNTS = ("seeds", "rounds", "round", "iterations", "early_stop", "rewind", "k", "weights")


def counts_with_a_point(notebook: NotebookNode) -> list[str]:
    """Columns of the tables that an executed notebook shows in which every number ends in ".0": a
    count that has been made a float. Small numbers, such as ratios, may end so by chance, unless
    the column is called by what is counted.
    """
    found = []
    for data in _displayed(notebook):
        shown = BeautifulSoup("".join(data.get("text/html", "")), "html.parser")
        for table in shown("table"):
            titles = (
                [th.get_text().strip() for th in table.thead("tr")[0]("th")] if table.thead else []
            )
            rows = [[td.get_text().strip() for td in row("td")] for row in table("tr") if row("td")]
            for number, column in enumerate(reversed(list(zip(*rows, strict=False)))):
                known = [value.replace(",", "") for value in column if value]
                whole = known and all(re.fullmatch(r"[-+]?\d+\.0+", value) for value in known)
                title = titles[-1 - number] if titles else ""
                if whole and (title in COUNTS or max(map(abs, map(float, known))) >= 1_000):
                    found.append(f"{title}: {', '.join(column)}")
    return found


def _displayed(notebook: NotebookNode) -> Iterator[dict[str, Any]]:
    for cell in notebook.cells:
        yield from (output.get("data", {}) for output in cell.get("outputs", []))
    for kind in notebook.metadata.get("widgets", {}).values():
        for model in kind["state"].values():
            if model.get("model_name") == "HTMLModel":
                yield {"text/html": model["state"].get("value", "")}


def faults(notebook: NotebookNode) -> list[str]:
    """What went wrong in an executed notebook, one line or traceback each.

    Looks at the outputs of all cells (errors are allowed where the cell is tagged
    raises-exception) and at the saved state of all widgets.
    """
    found = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        expected = "raises-exception" in cell.metadata.get("tags", [])
        for fault in _bad_outputs(cell.get("outputs", [])):
            if not (expected and fault.startswith("error")):
                found.append(f"cell {number} ({cell.source.strip()[:60]!r}): {fault}")
    for fault in _bad_outputs(notebook.metadata.get("widgets", {})):
        found.append(f"widget state: {fault}")
    return found


def _bad_outputs(tree: Any) -> Iterator[str]:
    """Error outputs, and complaints on stderr, at any depth of nested outputs or state."""
    if isinstance(tree, dict):
        if tree.get("output_type") == "error":
            yield f"error: {tree.get('ename')}: {tree.get('evalue')}"
        elif tree.get("output_type") == "stream" and tree.get("name") == "stderr":
            if _BAD_ON_STDERR.search(text := "".join(tree.get("text", ""))):
                yield f"stderr: {text}"
        else:
            yield from _bad_outputs(list(tree.values()))
    elif isinstance(tree, list):
        for branch in tree:
            yield from _bad_outputs(branch)


def _install_kernel() -> None:
    """Register the running interpreter as a kernel, in the tests' own Jupyter folder."""
    folder = Path(os.environ["JUPYTER_DATA_DIR"], "kernels", _KERNEL)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    specification = {"argv": command, "display_name": _KERNEL, "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(specification))
