"""Mend submissions before nbgrader sees them, and say what cannot be mended.

python -m tools.submissions FOLDER LESSON    FOLDER: build/course/nbgrader, or a copy of it

A copied cell doubles its grade_id, and some editors strip the metadata of cells: nbgrader then
drops the submission, or gives 0 without a word. Here a doubled cell counts where it ran last, and a
cell without its mark gets the one of the released cell that it answers. The exit status is 1 when
a submission still lacks a cell.
"""

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.course import Cell, Notebook, read, write


def grade_id(cell: Cell) -> str:
    """The name that nbgrader knows a cell by, or ""."""
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")


def defined(cell: Cell) -> set[str]:
    """The names that a code cell defines; none where it is no Python."""
    if cell["cell_type"] != "code":
        return set()
    try:
        parts = ast.parse(cell["source"]).body
    except SyntaxError:
        return set()
    names = {part.name for part in parts if isinstance(part, ast.FunctionDef)}
    assignments = (part for part in parts if isinstance(part, ast.Assign))
    return names | {ast.unparse(target) for part in assignments for target in part.targets}


def answers(cell: Cell, released: Cell) -> bool:
    """Whether a cell without a mark looks like an answer to a released one."""
    if cell["cell_type"] != released["cell_type"] or grade_id(cell):
        return False
    if cell["source"].strip() == released["source"].strip():
        return True
    if released["cell_type"] == "markdown":  # words: they begin as the question does
        return cell["source"].startswith(released["source"].split("\n")[0])
    wanted = defined(released)
    return bool(wanted) and released["metadata"]["nbgrader"]["solution"] and wanted <= defined(cell)


def mend(submitted: Notebook, released: Notebook) -> tuple[list[str], list[str]]:
    """Mend a submission in place; what was done, and the names of cells that it still lacks."""
    done, lacking = [], []
    for known in filter(grade_id, released["cells"]):
        name = grade_id(known)
        marked = [cell for cell in submitted["cells"] if grade_id(cell) == name]
        for cell in marked[:-1]:
            del cell["metadata"]["nbgrader"]
            done.append(f"{name} is there twice: the last counts")
        if not marked:
            # The last, as it is the one whose names hold when the checks run.
            found = [cell for cell in submitted["cells"] if answers(cell, known)]
            if found:
                found[-1]["metadata"]["nbgrader"] = dict(known["metadata"]["nbgrader"])
                done.append(f"{name} had lost its mark")
            else:
                lacking.append(name)
    return done, lacking


def main(words: Sequence[str] | None = None) -> int:
    """Mend all submissions of a lesson."""
    parser = argparse.ArgumentParser(prog="python -m tools.submissions", description=__doc__)
    parser.add_argument("folder", type=Path, help="with release/ and submitted/ in it")
    parser.add_argument("lesson", help="such as 01_pruning")
    given = parser.parse_args(words)
    name = Path(given.lesson, f"{given.lesson}.ipynb")
    release = given.folder / "release" / name
    paths = sorted((given.folder / "submitted").glob(f"*/{name.as_posix()}"))
    if not release.is_file() or not paths:
        parser.error(f"there must be {release} and submissions in {given.folder / 'submitted'}")
    incomplete = 0
    for path in paths:
        student, submitted = path.parts[-3], read(path)
        done, lacking = mend(submitted, read(release))
        if done:
            write(submitted, path)
        for line in done:
            print(f"{student}: {line}")
        if lacking:
            incomplete += 1
            print(f"{student}: LACKS {', '.join(lacking)}; nbgrader would give 0 for it")
    print(f"{len(paths)} submissions, {incomplete} incomplete")
    return 1 if incomplete else 0


if __name__ == "__main__":
    sys.exit(main())
