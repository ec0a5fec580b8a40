"""One source, two products: what a lecturer hands out is made from the lessons, never by hand.

python -m tools.course [LESSON ...]          student and nbgrader copies, in build/course
python -m tools.course --execute [LESSON ...]  and executed copies with static figures

An exercise in a lesson is a heading that tells difficulty and minutes, a cell that ends in a check
of `labkit.checks`, and its solution in a cell tagged `solution`. Notebooks are dictionaries here,
as in their files.
"""

import argparse
import ast
import html
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

Notebook = dict[str, Any]
Cell = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
POINTS = {"easy": 1, "medium": 2, "hard": 3, "open": 3}
EXERCISE = re.compile(r"^#+ Exercise \d+: (.+) \((easy|medium|hard|open), (\d+) minutes\)$", re.M)
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
_WIDGETS = "application/vnd.jupyter.widget-state+json"
_VIEW = "application/vnd.jupyter.widget-view+json"
_CONFIGURATION = """\
# For nbgrader, run in this folder: `nbgrader generate_assignment LESSON`, hand out `release/`,
# collect into `submitted/STUDENT/LESSON/`, then in a clone of the lab
# `python -m tools.submissions THIS_FOLDER LESSON`, which mends what editors and copied cells break,
# then here `nbgrader autograde LESSON`. Submissions run as you do: grade in a container.
c = get_config()
c.CourseDirectory.course_id = "lottery-ticket-lab"
# Three times the slowest right cell on two cores; more for a slower machine.
c.Execute.timeout = {seconds}
c.Execute.error_on_timeout = {{
    "ename": "CellTimeoutError",
    "evalue": "stopped after {seconds} s",
    "traceback": ["Stopped after {seconds} s, three times what a right answer takes: endless?"],
}}
c.LimitOutput.max_lines = 200


from nbgrader.preprocessors import LimitOutput, NbGraderPreprocessor


class ShortOutput(NbGraderPreprocessor):  # LimitOutput counts lines, which may be long
    most = {characters}

    def preprocess_cell(self, cell, resources, index):
        for output in cell.get("outputs", []):
            if len(output.get("text", "")) > self.most:
                output["text"] = output["text"][: self.most] + "... cut"
            for shown in list(output.get("data", {{}}).values()):
                if isinstance(shown, str) and len(shown) > 20 * self.most:  # a figure may be long
                    output["data"] = {{"text/plain": f"cut: {{len(shown):,}} characters"}}
        return cell, resources


from nbgrader.converters import Autograde

preprocessors = list(Autograde.autograde_preprocessors.default_args[0])
preprocessors.insert(preprocessors.index(LimitOutput), ShortOutput)
c.Autograde.autograde_preprocessors = preprocessors
"""
HONEST_SECONDS = 45  # of the slowest right answer and of the slowest cell of a lesson, on two cores
MOST_CHARACTERS = 20_000
# Checks are imported anew: what a cell did to those of the kernel does not count.
_FRESH = """\
### BEGIN HIDDEN TESTS
import importlib, sys
for name in [name for name in sys.modules if name.startswith("labkit.checks")]:
    del sys.modules[name]
print(importlib.import_module("labkit.checks").{test})
### END HIDDEN TESTS"""
_BY_HAND = """\
**What did you expect, what did you find?** Name the control, the seeds and the interval.

{begin}
{rubric}
{end}"""


def read(path: Path) -> Notebook:
    """The notebook in a file, every cell's source as one string."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def write(notebook: Notebook, path: Path) -> Path:
    """Write a notebook, making folders as needed, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
    return path


def is_solution(cell: Cell) -> bool:
    """Whether the cell is tagged `solution`."""
    return "solution" in cell["metadata"].get("tags", [])


def student(lesson: Notebook) -> Notebook:
    """The lesson without its solutions."""
    copy = deepcopy(lesson)
    copy["cells"] = [cell for cell in copy["cells"] if not is_solution(cell)]
    return copy


def graded(lesson: Notebook) -> Notebook:
    """The lesson as a source for nbgrader: answers with marked solutions, and checks with points.

    An easy exercise is worth 1 point, a medium one 2, a hard or open one 3. An open one has no
    check of `labkit.checks`: it gets a cell for words, graded by hand with a rubric.
    """
    copy, points, kind, name = deepcopy(lesson), 1, "", ""
    cells: list[Cell] = []
    waiting: Cell | None = None  # the student's cell of an exercise whose solution comes next
    for cell in copy["cells"]:
        if heading := EXERCISE.search(cell["source"]):
            name, kind = re.sub(r"\W+", "-", heading[1]).strip("-"), heading[2]
            points = POINTS[kind]
        if is_solution(cell):
            if waiting is not None:
                cells[-1:] = _graded_pair(waiting, cell, points)
            elif kind == "open":
                cells.append(_graded_by_hand(cell, name, points))
            waiting = None
            continue
        cells.append(cell)
        if cell["cell_type"] == "code" and _check_call(cell["source"]) is not None:
            waiting = cell
    copy["cells"] = cells
    return copy


def _graded_pair(stub: Cell, solution: Cell, points: int) -> list[Cell]:
    """The student's cell and its solution as nbgrader's answer cell and test cell."""
    call = _check_call(stub["source"])
    assert call is not None and isinstance(call.func, ast.Name)
    name = call.func.id.removeprefix("check_")
    imports = [line for line in _imports(stub["source"]) if "labkit.checks" in line]
    test = f"{call.func.id}({ast.unparse(call.args[0])}).require()"
    # Printed: nbgrader takes the value of a last line for points.
    source = "\n".join([*imports, "", f"print({test})", _FRESH.format(test=test)])
    answer = {**stub, "source": _marked(stub["source"], solution["source"])}
    answer["metadata"] = {"nbgrader": _metadata(name, solution=True)}
    check = {
        **deepcopy(solution),
        "source": source,
        "metadata": {"nbgrader": {**_metadata(f"{name}-check", solution=False), "points": points}},
    }
    return [answer, check]


def _graded_by_hand(cell: Cell, name: str, points: int) -> Cell:
    """A cell for words in the place of a solution; what follows the question is the rubric."""
    mark = {**_metadata(name, solution=True), "grade": True, "points": points}
    kept = {key: cell[key] for key in ("id",) if key in cell}
    source = _BY_HAND.format(begin=BEGIN, rubric=rubric(), end=END)
    return {**kept, "cell_type": "markdown", "metadata": {"nbgrader": mark}, "source": source}


def rubric() -> str:
    """The points of an open exercise with examples, as the page for lecturers has them."""
    page = (ROOT / "docs" / "teaching" / "rubric.md").read_text("utf-8")
    found = re.search(r"<!-- rubric -->\n+(.+?)\n+<!-- end of rubric -->", page, re.S)
    if found is None:
        raise ValueError("rubric.md must have a part between <!-- rubric --> and its end")
    return found[1]


def _imports(source: str) -> list[str]:
    parts = ast.parse(source).body
    return [ast.unparse(part) for part in parts if isinstance(part, ast.Import | ast.ImportFrom)]


def _metadata(grade_id: str, *, solution: bool) -> dict[str, Any]:
    return {
        "grade": not solution,
        "grade_id": grade_id,
        "locked": not solution,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }


def _check_call(source: str) -> ast.Call | None:
    """The call of a check of `labkit.checks` that a student's cell ends in, if it does."""
    if "labkit.checks" not in source:
        return None
    last = ast.parse(source).body[-1]
    call = last.value if isinstance(last, ast.Expr) else None
    if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("check_"):
        return call
    return None


def _marked(stub: str, solution: str) -> str:
    """The student's cell with the solution between nbgrader's marks.

    Of functions the marks enclose the body, so that the signature is handed out. Functions of the
    solution that the student's cell lacks, and what the solution does besides, are left out.
    """
    lines, known = solution.splitlines(), _statements(solution)
    imports = dict.fromkeys([*_imports(stub), *_imports(solution)])
    head = "\n".join(line for line in imports if "labkit.checks" not in line)
    pieces = [head] if head else []
    for name, part in _statements(stub).items():
        text = stub.splitlines()[part.lineno - 1 : part.end_lineno]
        right = known[name]
        if isinstance(part, ast.FunctionDef) and isinstance(right, ast.FunctionDef):
            signature = text[: part.body[0].lineno - part.lineno]
            body = lines[right.body[0].lineno - 1 : right.end_lineno]
            pieces.append("\n".join([*signature, f"    {BEGIN}", *body, f"    {END}"]))
        else:
            own = lines[right.lineno - 1 : right.end_lineno]
            pieces.append("\n".join([*text, BEGIN, *own, END]))
    return "\n\n\n".join(pieces)


def _statements(source: str) -> dict[str, ast.stmt]:
    """The functions and assignments of a cell by name."""
    found: dict[str, ast.stmt] = {}
    for part in ast.parse(source).body:
        if isinstance(part, ast.FunctionDef):
            found[part.name] = part
        elif isinstance(part, ast.Assign):
            found[ast.unparse(part.targets[0])] = part
    return found


def static(executed: Notebook) -> Notebook:
    """An executed notebook whose widgets are replaced by plain HTML: what they say of themselves
    where no front end listens, and else what they showed.
    """
    copy = deepcopy(executed)
    state = copy["metadata"].pop("widgets", {}).get(_WIDGETS, {}).get("state", {})
    for cell in copy["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if view := data.pop(_VIEW, None):
                shown = data.get("text/html") or _as_html(view["model_id"], state)
                shown = f"<div>{''.join(shown)}</div>"  # pages lay out what is not in one piece
                output["data"] = {"text/html": shown, "text/plain": ""}
    return copy


def _as_html(model: str, state: dict[str, Any]) -> str:
    """The HTML, text and captions of a widget and its children, without its controls."""
    known = state.get(model, {})
    own, kind = known.get("state", {}), known.get("model_name", "")
    if kind == "HTMLModel":
        return own.get("value", "")
    if kind == "LabelModel":
        return f"<p>{html.escape(own.get('value', ''))}</p>"
    children = [child.removeprefix("IPY_MODEL_") for child in own.get("children", [])]
    return "\n".join(filter(None, (_as_html(child, state) for child in children)))


def title(lesson: Notebook) -> str:
    """The lesson's first heading."""
    return lesson["cells"][0]["source"].splitlines()[0].removeprefix("# ")


def write_course(lessons: Sequence[Path], folder: Path) -> None:
    """Write the student copies and nbgrader's source folder of the lessons.

    The source folder is nbgrader's: an assignment per lesson that has graded exercises.
    """
    for path in lessons:
        lesson = read(path)
        write(student(lesson), folder / "student" / path.name)
        source = graded(lesson)
        if any("nbgrader" in cell["metadata"] for cell in source["cells"]):
            write(source, folder / "nbgrader" / "source" / path.stem / path.name)
    (folder / "nbgrader").mkdir(parents=True, exist_ok=True)
    configuration = _CONFIGURATION.format(seconds=3 * HONEST_SECONDS, characters=MOST_CHARACTERS)
    (folder / "nbgrader" / "nbgrader_config.py").write_text(configuration, encoding="utf-8")


def execute(path: Path, folder: Path) -> Path:
    """Run a lesson in its own folder and write it with static figures; returns the new path."""
    nbconvert("notebook", path, folder, "--execute", "--ExecutePreprocessor.timeout=1800")
    return write(static(read(folder / path.name)), folder / path.name)


def nbconvert(kind: str, path: Path, folder: Path, *options: str) -> None:
    """Convert a notebook by Jupyter's own tool, into a folder."""
    command = [sys.executable, "-m", "nbconvert", "--log-level=WARN", "--to", kind, *options]
    subprocess.run([*command, f"--output-dir={folder.resolve()}", str(path)], check=True)


def chosen(names: Sequence[str]) -> list[Path]:
    """The lessons of these names, all without names. Raises ValueError for a name unknown."""
    lessons = sorted((ROOT / "notebooks").glob("*.ipynb"))
    known = {path.stem for path in lessons}
    if unknown := set(names) - known:
        raise ValueError(f"lessons must be among {', '.join(sorted(known))}, not {sorted(unknown)}")
    return [path for path in lessons if path.stem in (names or known)]


def main(words: Sequence[str] | None = None) -> None:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tools.course", description=__doc__)
    parser.add_argument("lessons", nargs="*", help="names such as 01_pruning; none means all")
    parser.add_argument("--execute", action="store_true", help="run the lessons, too")
    parser.add_argument("--folder", type=Path, default=ROOT / "build", help="where to write")
    arguments = parser.parse_args(words)
    try:
        lessons = chosen(arguments.lessons)
    except ValueError as error:
        parser.error(str(error))
    course = arguments.folder / "course"
    write_course(lessons, course)
    if arguments.execute:
        for path in lessons:
            execute(path, course / "executed")
    print(course)


if __name__ == "__main__":
    main()
