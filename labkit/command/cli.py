"""The command line: `labkit lab`, `lessons`, `reproduce`, `run`, `claims`, `plan`, ...

Results go to standard output; progress and messages, each a line that starts with "labkit:", to
standard error. The exit status is 0 only when what was asked is done, 1 when something failed, 2
for bad input, 130 and 143 when stopped by Ctrl-C or SIGTERM; whatever was finished is kept.

torch takes seconds to import, so everything that needs it is imported where it is used.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from labkit.base.machine import (
    MOST_JOBS,
    available_cores,
    device_label,
    find_device,
    find_jobs,
    lab_version,
)
from labkit.command.terminal import (
    Terminated,
    ignore_interrupts,
    open_closed_streams,
    say,
    silence,
    stopped_once,
    warnings_in_one_line,
)

if TYPE_CHECKING:
    import pandas as pd

    from labkit.base.store import Store
    from labkit.experiments.experiment import Study
    from labkit.experiments.results import Tables
    from labkit.experiments.running import Event
    from labkit.papers.claims import ClaimsTable

DONE, FAILED, BAD_INPUT, BROKEN_PIPE, INTERRUPTED, TERMINATED = 0, 1, 2, 141, 130, 143
SIZES = ("quick", "reference")


class _BadUsage(ValueError):
    """argparse's complaint."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _BadUsage(f"{message}; see {self.prog} --help")


def console() -> NoReturn:
    """The command `labkit`: exits with the status of `main`, which no later signal changes."""
    status = main()
    ignore_interrupts()
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    argv: the words after `labkit`; None means those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not open_closed_streams():
            return _complain("standard output is closed, and results would go there", FAILED)
        with warnings_in_one_line(), stopped_once():
            status = _run(words)
            sys.stdout.flush()  # a broken pipe must show here and not at the interpreter's exit
            return status
    except BrokenPipeError:
        silence(sys.stdout, sys.stderr)
        return BROKEN_PIPE
    except OSError as error:
        silence(sys.stdout)
        return _complain(error, FAILED)


def _run(words: list[str]) -> int:
    try:
        arguments = _parser().parse_args(words)
    except _BadUsage as error:
        return _complain(error, BAD_INPUT)
    except SystemExit as done:  # after --help and --version
        return int(done.code or 0)
    try:
        from labkit.base.places import DataError
        from labkit.base.store import StoreError
    except KeyboardInterrupt:
        return _complain("stopped", INTERRUPTED)
    try:
        return arguments.command(arguments)
    except (StoreError, DataError) as error:
        return _complain(error, FAILED)
    except ValueError as error:
        return _complain(error, BAD_INPUT)
    except KeyboardInterrupt as stop:
        status = TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
        return _complain(_how_to_continue(arguments, words), status)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        return _complain(f"not enough memory; `labkit plan` predicts it ({error})", FAILED)


def _parser() -> _Parser:
    parser = _Parser(
        prog="labkit",
        description="The Lottery Ticket Lab: three papers on pruning, reproduced live.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"labkit {lab_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> _Parser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(command=run, name=name)
        added.add_argument(
            "--store",
            metavar="DIR",
            help="folder of results (default: $LABKIT_STORE, or the user's cache folder)",
        )
        return added

    for name, run, text in (
        ("lessons", _lessons, "Write the lessons, notebooks, into a folder of your own."),
        ("lab", _lab, "The same, and open the first in JupyterLab."),
    ):
        sub = command(name, run, text)
        sub.add_argument(
            "folder",
            type=Path,
            nargs="?",
            default=Path("lottery-ticket-lessons"),
            metavar="FOLDER",
            help="lessons that it holds are left as they are (default: %(default)s)",
        )
    sub.add_argument(
        "options",
        nargs=argparse.REMAINDER,
        metavar="OPTION",
        help="the rest goes to JupyterLab, such as --no-browser",
    )
    sub = command("reproduce", _reproduce, "Reproduce a paper's results, and write a report.")
    sub.add_argument("paper", nargs="?", default="all", help="lottery, ..., or all (the default)")
    _add_size(sub)
    sub.add_argument("--seeds", type=int, metavar="N", help="train seeds 0 to N-1")
    _add_device(sub)
    sub.add_argument(
        "--report",
        type=Path,
        default=Path("labkit-report.html"),
        metavar="FILE",
        help="HTML report to write (default: %(default)s)",
    )
    sub = command("run", _train, "Run an experiment: a preset, with settings of your own.")
    _add_experiment(sub)
    _add_device(sub)
    sub.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="train on the workers of this dask scheduler, tcp://HOST:PORT or its scheduler file; "
        "the device, cpu or cuda, is then theirs, and jobs are as many as there are workers",
    )
    sub = command("claims", _claims, "What the papers say, what was measured, and the verdict.")
    _add_size(sub, "your own results to show beside the shipped reference")
    sub.add_argument("--json", action="store_true", help="as JSON, with the numbers")
    sub.add_argument("--cells", action="store_true", help="every trained cell behind them, as CSV")
    sub.add_argument(
        "--reference",
        type=Path,
        metavar="FILE.zip",
        help="somebody else's results, by `labkit export`, in place of the shipped reference",
    )
    sub = command("plan", _plan, "Predict minutes and memory of a run, by a short calibration.")
    _add_experiment(sub)
    _add_device(sub)
    sub = command("export", _export, "Write the finished results of a preset to a zip file.")
    _add_experiment(sub)
    sub.add_argument("file", type=Path, metavar="FILE.zip")
    command("doctor", _doctor, "Check versions, device, data and store.")
    return parser


def _add_size(parser: argparse.ArgumentParser, text: str = "size of the experiment") -> None:
    parser.add_argument(
        "--size", choices=SIZES, default="quick", help=f"{text} (default: %(default)s)"
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:1 or mps, where torch finds it; auto (the default) is cuda when "
        "there is one. Each has numbers of its own, and those of mps may not repeat",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="processes that train at a time on the CPU, of one thread each (default: one for each "
        f"core that torch would use, up to {MOST_JOBS}); 1 trains in this one, with one thread",
    )


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("preset", metavar="PRESET", help="lottery, ..., or a code of a panel")
    parser.add_argument(
        "--size",
        default="quick",
        metavar="SIZE",
        help="quick (the default), reference, or a full size such as vgg-16-a, hours of a GPU",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field, such as pruning.rate=0.3 or seeds=0,1; may be repeated",
    )


# The commands. Each returns an exit status.


def _lessons(arguments: argparse.Namespace) -> int:
    from labkit.command.lessons import write_lessons

    folder = arguments.folder.expanduser()
    written, kept = write_lessons(folder)
    say(f"{written} lessons written, {kept} were there and are left as they are")
    print(folder.resolve())
    return DONE


def _lab(arguments: argparse.Namespace) -> int:
    from labkit.command.lessons import open_lab, write_lessons

    folder = arguments.folder.expanduser()
    write_lessons(folder)
    return open_lab(folder, arguments.options)


def _reproduce(arguments: argparse.Namespace) -> int:
    names = _papers(arguments.paper)
    studies = [_seeded(_study(name, arguments.size), arguments.seeds) for name in names]
    path = _report_path(arguments.report)
    # A reproduction trains: results that came with the lab are shown beside it, never as it.
    store = _store(arguments, shipped=False, writing=True)
    device, jobs = _workplace(arguments)
    found = []
    for name, study in zip(names, studies, strict=True):
        run = _follow(f"{name} ({arguments.size})", study, store, device, jobs)
        found.append((name, study, run, *_compare(name, run)))
    # Only now: a run's processes may need the memory that matplotlib takes.
    from labkit.papers.report import Section, write_report

    report = write_report(path, [Section(*each) for each in found])
    print(f"Report: {report.resolve()}")
    return DONE


def _compare(name: str, run: "Tables") -> "tuple[Tables | None, ClaimsTable]":
    """Print the claims about a preset, and return the shipped results and the table."""
    from labkit.papers.claims import claims_table

    reference = _reference(name)
    claims = claims_table(_tickets(reference), run.tickets, name)
    print(f"{name}\n\n{claims.to_text()}\n")
    return reference, claims


def _train(arguments: argparse.Namespace) -> int:
    from labkit.experiments.mishaps import told

    study = _chosen_study(arguments)
    store = _store(arguments, writing=True)
    title = f"{arguments.preset} ({arguments.size})"
    if arguments.scheduler is None:
        results = _follow(title, study, store, *_workplace(arguments))
    else:
        results = _follow_on_cluster(title, study, store, arguments)
    print(_summary(results.tickets))
    print(f"\nMeans over seeds and draws. Results are in {store.folder}")
    for words in told(results.tickets):
        print(words)
    return DONE


def _claims(arguments: argparse.Namespace) -> int:
    from labkit.papers.cells import evidence
    from labkit.papers.claims import claims_table

    if arguments.reference:
        say(f"the reference is {arguments.reference}, and not the results that came with the lab")
    own = evidence(_store(arguments, shipped=False), arguments.size)
    reference = evidence(_shipped(arguments.reference))
    if reference.empty and own.empty:
        where = f"neither in {_shipped(arguments.reference).folder} nor in the store"
        return _complain(f"there are no results, {where}; `labkit doctor` says more", FAILED)
    claims = claims_table(reference, own)
    if arguments.json:
        print(json.dumps(json.loads(claims.rows.to_json(orient="records")), indent=2))
    elif arguments.cells:
        print(claims.cells.to_csv(index=False), end="")
    else:
        print(claims.to_text())
        print(f"\n{claims.summary()}")
    return DONE


def _shipped(foreign: Path | None = None) -> "Store":
    """A store that has nothing of its own: only what was shipped, or is in a foreign zip file."""
    from labkit.base.store import Store, shipped_folder

    return Store(shipped_folder(), shipped=foreign or True)


def _plan(arguments: argparse.Namespace) -> int:
    from labkit.experiments.planning import plan
    from labkit.experiments.progress import duration

    study = _chosen_study(arguments)
    store, (device, jobs) = _store(arguments), _workplace(arguments)
    busy = os.getloadavg()[0] / available_cores() if hasattr(os, "getloadavg") else 0.0
    what = plan(study, store, device, jobs)
    print(f"{arguments.preset} ({arguments.size}): {what.trials} networks, {what.stored} of them "
          f"stored in {store.folder} or shipped")  # fmt: skip
    if what.stored == what.trials:
        print("nothing to train: 0 minutes")
        return DONE
    print(f"to train: {what.trials - what.stored} networks, {what.iterations:,} iterations in all")
    print(f"this machine: {device_label(device, jobs)}; {what.milliseconds:.2f} ms per network "
          f"and iteration, {what.side_by_side} side by side")  # fmt: skip
    memory = f"{what.megabytes:,.0f} MB of memory"
    if what.gpu_megabytes:
        memory += f" and {what.gpu_megabytes:,.0f} MB on the GPU"
    print(f"predicted: {what.seconds / 60:.1f} minutes ({duration(what.seconds)}), {memory}")
    if busy > 0.5:
        print(f"Other programs use this machine ({busy:.1f} per core); idle, it is faster.")
    return DONE


def _export(arguments: argparse.Namespace) -> int:
    from labkit.base.store import StoreError, enlist, ship, shipped_folder
    from labkit.experiments.experiment import all_trials
    from labkit.experiments.proof import result_of

    study, store = _chosen_study(arguments), _store(arguments)
    found = {trial.key: result_of(trial, store) for trial in all_trials(study)}
    results = {key: result for key, result in found.items() if result is not None}
    of_all = f"{len(results)} of {len(found)} results of {arguments.preset} ({arguments.size})"
    if not results:
        return _complain(f"{of_all} are in {store.folder}; nothing was written", FAILED)
    path = arguments.file.expanduser()
    temporary = path.with_name(path.name + ".part")
    try:
        ship(results, temporary)
        temporary.replace(path)
        if path.resolve().parent == shipped_folder().resolve():
            enlist(path)
    except OSError as error:
        raise StoreError(f"cannot write {path} ({error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    print(f"{of_all} are in {path} ({path.stat().st_size / 1e6:.2f} MB)")
    if len(results) < len(found):
        print(f"the weights that the others start from stay in {store.folder}: to go on on another "
              "machine, copy that folder")  # fmt: skip
    return DONE


def _doctor(arguments: argparse.Namespace) -> int:
    from labkit.command.doctor import examine

    wrong = 0
    for state, text in examine(arguments.store):
        wrong += state == "WRONG"
        print(f"{state:<5}  {text}", flush=True)
    print(f"{wrong} problem{'' if wrong == 1 else 's'} found" if wrong else "all is well")
    return FAILED if wrong else DONE


# From words to values.


def _study(name: str, size: str) -> "Study":
    from labkit.experiments.presets import study

    return study(name, size)


def _chosen_study(arguments: argparse.Namespace) -> "Study":
    from labkit.experiments.words import with_settings

    if "~" in arguments.preset or "." in arguments.preset:  # a code that a panel shares
        from labkit.panel.codes import experiment_of

        study: Study = (experiment_of(arguments.preset),)
    else:
        study = _study(arguments.preset, arguments.size)
    # Settings can make experiments of a study equal, which are then one.
    return tuple(dict.fromkeys(with_settings(experiment, arguments.set) for experiment in study))


def _papers(word: str) -> list[str]:
    """Names of the presets of a paper, or of all papers."""
    from labkit.base.validation import choice
    from labkit.experiments.presets import PAPERS

    choice("paper", word, (*PAPERS, "all"))
    chosen = PAPERS if word == "all" else (word,)
    return list(dict.fromkeys(name for paper in chosen for name in PAPERS[paper]))


def _seeded(study: "Study", seeds: int | None) -> "Study":
    from labkit.base.validation import whole

    if seeds is None:
        return study
    whole("--seeds", seeds, 1, 1000)
    return tuple(replace(experiment, seeds=tuple(range(seeds))) for experiment in study)


def _store(
    arguments: argparse.Namespace, *, shipped: bool = True, writing: bool = False
) -> "Store":
    from labkit.base.store import Store

    store = Store(arguments.store, shipped=shipped)
    if writing:  # now, and not when the first network is finished
        store.check_writable()
    return store


def _workplace(arguments: argparse.Namespace) -> tuple[str, int]:
    """The device, and how many processes train on it at a time."""
    device = find_device(arguments.device)
    return device, find_jobs(arguments.jobs, device)


def _report_path(path: Path) -> Path:
    """Where the report goes, checked before hours are spent on what goes there."""
    path = path.expanduser()
    if path.is_dir():
        raise ValueError(f"--report must be a file, not the folder {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ValueError(
            f"--report must be a file that can be written, not {path} ({error})"
        ) from error
    return path


# Running and showing.


def _follow(title: str, study: "Study", store: "Store", device: str, jobs: int) -> "Tables":
    from labkit.experiments.running import run

    where = device_label(device, jobs)
    return _followed(title, study, store, where, run(study, store, device, jobs))


def _follow_on_cluster(
    title: str, study: "Study", store: "Store", arguments: argparse.Namespace
) -> "Tables":
    from labkit.base.validation import choice
    from labkit.experiments.cluster import connect, shares
    from labkit.experiments.running import run

    device = "cpu" if arguments.device == "auto" else arguments.device
    choice("--device with --scheduler", device, ("cpu", "cuda"))
    with connect(arguments.scheduler) as client:
        jobs = shares(arguments.jobs, client)
        where = f"{len(client.nthreads())} workers of {arguments.scheduler}"
        events = run(study, store, device, jobs, client=client)
        return _followed(title, study, store, where, events)


def _followed(
    title: str, study: "Study", store: "Store", where: str, events: "Generator[Event, None, None]"
) -> "Tables":
    """Pull a run, say how far it is, and give its tables. where: it trains, in words."""
    from labkit.experiments.experiment import all_trials
    from labkit.experiments.progress import follow
    from labkit.experiments.scheduling import missing

    todo = len(missing(study, store))
    trials = len({trial.key for trial in all_trials(study)})
    say(
        f"{title}: {trials} networks, {trials - todo} done before, {todo} to train on "
        f"{where}; results go to {store.folder}"
    )
    with closing(events):
        follow(events)
    from labkit.experiments.results import (
        tables,  # brings pandas, which the processes of a run can do without
    )

    return tables(study, store)


def _reference(name: str) -> "Tables | None":
    """The shipped results of a preset at reference size, or None."""
    from labkit.experiments.results import tables

    reference = tables(_study(name, "reference"), _shipped())
    return None if reference.tickets.empty else reference


def _tickets(results: "Tables | None") -> "pd.DataFrame | None":
    return None if results is None or results.tickets.empty else results.tickets


def _summary(tickets: "pd.DataFrame") -> str:
    """Means by round and treatment, and by what else the experiments differ in, as plain text."""
    from labkit.experiments.results import SETTINGS

    by = [name for name in SETTINGS if tickets[name].nunique() > 1] + ["round", "treatment"]
    rows = tickets.groupby(by, sort=False).agg(
        density=("density", "mean"),
        accuracy=("test_accuracy", "mean"),
        final=("final_test_accuracy", "mean"),
        early_stop=("early_stop", "mean"),
        instability=("instability", "mean"),
        networks=("seed", "size"),
    )
    rows = rows.reset_index()
    for column in ("density", "accuracy", "final", "instability"):
        rows[column] = rows[column].map(lambda share: f"{100 * share:.2f}%")
    rows["early_stop"] = rows["early_stop"].map(lambda iteration: f"{iteration:.0f}")
    if tickets["instability"].isna().all():
        rows = rows.drop(columns="instability")
    names = {
        "accuracy": "test accuracy",
        "final": "after the last iteration",
        "early_stop": "early-stop iteration",
    }
    return rows.rename(columns=names).to_string(index=False)


def _complain(message: object, status: int) -> int:
    say(message)
    return status


def _how_to_continue(arguments: argparse.Namespace, words: list[str]) -> str:
    if arguments.name not in ("reproduce", "run"):
        return "stopped"
    again = shlex.join(["labkit", *words])
    return f"stopped; networks that were finished are kept. To go on from there, run again: {again}"


if __name__ == "__main__":
    console()
