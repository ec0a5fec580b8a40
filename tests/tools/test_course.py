"""What is handed out is made from the lessons, keeps in step with them, and can be graded."""

import ast
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest

from tests.notebooks import NOTEBOOKS, ROOT, kernel_environment
from tools import course, submissions
from tools.course import Notebook

every_lesson = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def sources(notebook: Notebook) -> list[str]:
    return [cell["source"] for cell in notebook["cells"]]


def checks_in(source: str) -> list[str]:
    return re.findall(r"\bcheck_\w+(?=\()", source)


def functions(source: str) -> dict[str, str]:
    """The functions in a cell, without comments and layout."""
    parts = ast.parse(source).body
    return {p.name: ast.unparse(p) for p in parts if isinstance(p, ast.FunctionDef)}


# --- The student's copy ---------------------------------------------------------------------------


@every_lesson
def test_a_student_copy_and_the_solutions_make_the_lesson(path: Path):
    lesson = course.read(path)
    handed_out = sources(course.student(lesson))
    left = iter(handed_out)
    for cell in lesson["cells"]:
        assert course.is_solution(cell) or cell["source"] == next(left)
    assert next(left, None) is None
    nbformat.validate(nbformat.from_dict(course.student(lesson)))


@every_lesson
def test_a_student_copy_gives_no_solution_away(path: Path):
    lesson = course.read(path)
    text = "\n".join(sources(course.student(lesson)))
    for cell in filter(course.is_solution, lesson["cells"]):
        for function in functions(cell["source"]).values():
            assert function not in text
            body = "\n".join(function.splitlines()[1:])
            assert body not in text


@every_lesson
def test_every_check_is_the_last_word_of_its_cell_and_its_function_waits(path: Path):
    lesson = course.read(path)
    for cell in lesson["cells"]:
        if cell["cell_type"] == "code" and "labkit.checks" in cell["source"]:
            assert not course.is_solution(cell), "the student's copy needs this import"
            assert course._check_call(cell["source"]) is not None, cell["source"]
            for function in functions(cell["source"]).values():
                assert "raise NotImplementedError" in function


# --- nbgrader's source ----------------------------------------------------------------------------


@every_lesson
def test_graded_answers_hold_the_lesson_s_solutions(path: Path):
    lesson = course.read(path)
    graded = course.graded(lesson)
    nbformat.validate(nbformat.from_dict(graded))
    answers = {}
    for cell in graded["cells"]:
        if "nbgrader" in cell["metadata"]:
            assert set(cell["metadata"]) == {"nbgrader"}, "nothing to be filled in is folded"
            assert "@title" not in cell["source"]
        if cell["metadata"].get("nbgrader", {}).get("solution"):
            assert cell["source"].count(course.BEGIN) == cell["source"].count(course.END) >= 1
            answers |= functions(cell["source"]) if cell["cell_type"] == "code" else {}
    stubs = {
        n for s in sources(course.student(lesson)) if "labkit.checks" in s for n in functions(s)
    }
    solutions: dict[str, str] = {}
    for cell in filter(course.is_solution, lesson["cells"]):
        solutions |= functions(cell["source"])
    assert answers == {name: solutions[name] for name in stubs}


@every_lesson
def test_every_exercise_with_a_check_has_points(path: Path):
    lesson, points = course.read(path), []
    names = [
        n
        for s in sources(course.student(lesson))
        if "labkit.checks" in s
        for n in set(checks_in(s))
    ]
    cells = course.graded(lesson)["cells"]
    marks = [cell["metadata"]["nbgrader"] for cell in cells if "nbgrader" in cell["metadata"]]
    points = [mark["points"] for mark in marks if mark["grade"] and not mark["solution"]]
    words = [mark for mark in marks if mark["grade"] and mark["solution"]]  # graded by hand
    assert len(words) == sum("(open," in source for source in sources(lesson))
    assert len(points) == len(names) and set(points) <= {1, 2, 3}
    assert len({mark["grade_id"] for mark in marks}) == len(marks)


@pytest.fixture(scope="module")
def light_lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lesson of three real exercises and nothing to train."""
    lesson = course.read(ROOT / "notebooks" / "02_lottery_tickets.ipynb")
    cells, taken = lesson["cells"], lesson["cells"][:2]
    for number, cell in enumerate(cells):
        if re.match(r"## Exercise [245]:", cell["source"]):
            taken += cells[number : number + 3]
    path = tmp_path_factory.mktemp("lesson") / "light.ipynb"
    return course.write({**lesson, "cells": taken}, path)


def nbgrader(folder: Path, *words: str) -> None:
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = kernel_environment() | {"PATH": tools}  # it calls alembic
    command = [sys.executable, "-m", "nbgrader", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def gradebook(path: Path) -> dict[str, float]:
    """The automatic score of every student."""
    query = """
        select submitted_assignment.student_id, sum(grade.auto_score) from grade
        join submitted_notebook on grade.notebook_id = submitted_notebook.id
        join submitted_assignment on submitted_notebook.assignment_id = submitted_assignment.id
        group by submitted_assignment.student_id"""
    with closing(sqlite3.connect(path)) as database:
        return dict(database.execute(query).fetchall())


RIGHT = 4.0  # points of the light lesson
EARLY = """\
def early_stop(iterations, losses, accuracies):
    {first}
    at = losses.index(min(losses))
    return iterations[at], accuracies[at]"""
# Students, the code of their answer to early_stop or to another cell, and what they deserve.
SUBMISSIONS = {
    "ada": ({}, RIGHT),
    "bob": (  # on the test set
        {"early_stop": "def early_stop(i, l, a):\n    return max(zip(i, a), key=lambda p: p[1])"},
        RIGHT - 1,
    ),
    "warns": (
        {"early_stop": EARLY.format(first="import warnings; warnings.warn('torch is older now')")},
        RIGHT,
    ),
    "prints": (
        {"early_stop": EARLY.format(first="import sys; print('x' * 10**6, file=sys.stderr)")},
        RIGHT,
    ),
    "floods": ({"early_stop": EARLY.format(first="print('x' * 1_000_000)")}, RIGHT),
    "patches": (
        {
            "early_stop": "from labkit.checks import Verdict\nVerdict.require = lambda self: None\n"
            "def early_stop(*_): return 0"
        },
        RIGHT - 1,
    ),
    "replaces": (
        {
            "early_stop": "import labkit.checks\nlabkit.checks.check_early_stop = lambda *_: True\n"
            "labkit.checks.judging.same = lambda *_: True\ndef early_stop(*_): return 0"
        },
        RIGHT - 1,
    ),
    "loops": ({"early_stop": "def early_stop(*_):\n    while True: pass"}, RIGHT - 1),
}


def cell_of(notebook: Notebook, name: str) -> course.Cell:
    return next(cell for cell in notebook["cells"] if submissions.grade_id(cell) == name)


@pytest.fixture(scope="module")
def graded(light_lesson: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nbgrader's folder after a class of every kind was mended and graded."""
    folder = tmp_path_factory.mktemp("course")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "HONEST_SECONDS", 20)  # enough on a busy machine
        course.write_course([light_lesson], folder)
    folder /= "nbgrader"
    nbgrader(folder, "generate_assignment", "light")

    def submit(student: str, notebook: Notebook) -> None:
        course.write(notebook, folder / "submitted" / student / "light" / "light.ipynb")

    for student, (changes, _) in SUBMISSIONS.items():
        solved = course.read(folder / "source" / "light" / "light.ipynb")
        for name, source in changes.items():
            cell_of(solved, name)["source"] = source
        submit(student, solved)
    solved = course.read(folder / "source" / "light" / "light.ipynb")
    answer = cell_of(solved, "early_stop")
    copied = {**answer, "id": "a-copy", "metadata": dict(answer["metadata"])}
    answer["source"] = (
        "def early_stop(*_):\n    return 0"  # a first try, and its copy, which is right
    )
    submit("copies", {**solved, "cells": with_after(solved["cells"], answer, copied)})
    solved = course.read(folder / "source" / "light" / "light.ipynb")
    stripped = course.read(folder / "release" / "light" / "light.ipynb")
    for cell in stripped["cells"]:
        mark = cell["metadata"].pop("nbgrader", {})
        if mark.get("solution"):
            cell["source"] = cell_of(solved, mark["grade_id"])["source"]
    submit("strips", stripped)
    assert submissions.main([str(folder), "light"]) == 0
    nbgrader(folder, "autograde", "light")
    return folder


def with_after(cells: list, cell: course.Cell, more: course.Cell) -> list:
    at = cells.index(cell) + 1
    return [*cells[:at], more, *cells[at:]]


@pytest.mark.long
def test_nbgrader_grades_every_submission_justly(graded: Path):
    expected = {student: points for student, (_, points) in SUBMISSIONS.items()}
    assert gradebook(graded / "gradebook.db") == expected | {"copies": RIGHT, "strips": RIGHT}


@pytest.mark.long
def test_graded_notebooks_are_short_and_say_why(graded: Path):
    def outputs(student: str) -> str:
        text = (graded / "autograded" / student / "light" / "light.ipynb").read_text("utf-8")
        assert len(text) < 200_000, student
        return text

    assert "said besides, no fault" in outputs("warns") and "torch is older now" in outputs("warns")
    assert "... cut" in outputs("floods") and " ..." in outputs("prints")
    assert "Stopped after 60 s, three times what a right answer takes" in outputs("loops")


@pytest.mark.long
def test_a_release_gives_nothing_away(graded: Path):
    text = "\n".join(sources(course.read(graded / "release" / "light" / "light.ipynb")))
    assert "raise NotImplementedError()" in text and course.BEGIN not in text
    assert '"shuffled-mask", "C"' not in text and "early.items()\n" not in text
    assert "HIDDEN TESTS" not in text and "sys.modules[name]" not in text


# --- Mending submissions --------------------------------------------------------------------------


@pytest.fixture
def released() -> Notebook:
    """A question, its check and a question in words, as nbgrader releases them."""

    def cell(kind: str, source: str, name: str, solution: bool) -> course.Cell:
        mark = course._metadata(name, solution=solution)
        return {"cell_type": kind, "source": source, "metadata": {"nbgrader": mark}}

    return {
        "cells": [
            cell("code", "def double(x):\n    raise NotImplementedError()", "double", True),
            cell("code", "print(check_double(double).require())", "double-check", False),
            cell("markdown", "**Why?**\n\nYOUR ANSWER HERE", "why", True),
        ]
    }


def test_a_sound_submission_is_left_as_it_is(released: Notebook):
    submitted = deepcopy(released)
    assert submissions.mend(submitted, released) == ([], []) and submitted == released


def test_lost_marks_come_back(released: Notebook):
    submitted = deepcopy(released)
    for cell in submitted["cells"]:
        cell["metadata"] = {}
    submitted["cells"][0]["source"] = "def double(x):\n    return 2 * x"
    submitted["cells"][2]["source"] = "**Why?**\n\nIt is so."
    done, lacking = submissions.mend(submitted, released)
    assert [line.split()[0] for line in done] == ["double", "double-check", "why"]
    assert lacking == []
    marks = [[cell["metadata"] for cell in each["cells"]] for each in (submitted, released)]
    assert marks[0] == marks[1]


def test_of_a_copied_cell_the_last_counts(released: Notebook):
    submitted = deepcopy(released)
    submitted["cells"].insert(1, deepcopy(submitted["cells"][0]))
    done, lacking = submissions.mend(submitted, released)
    assert done == ["double is there twice: the last counts"] and lacking == []
    assert [submissions.grade_id(cell) for cell in submitted["cells"]][:2] == ["", "double"]


def test_what_is_missing_is_said(released: Notebook, tmp_path: Path, capsys):
    submitted = {"cells": released["cells"][1:]}
    assert submissions.mend(deepcopy(submitted), released) == ([], ["double"])
    course.write(released, tmp_path / "release" / "l" / "l.ipynb")
    with pytest.raises(SystemExit):
        submissions.main([str(tmp_path), "l"])
    course.write(submitted, tmp_path / "submitted" / "ada" / "l" / "l.ipynb")
    assert submissions.main([str(tmp_path), "l"]) == 1
    out = capsys.readouterr().out
    assert "ada: LACKS double" in out and "1 submissions, 1 incomplete" in out


# --- Static figures and pages ---------------------------------------------------------------------


def executed(data: dict, state: dict) -> Notebook:
    cell = {"cell_type": "code", "metadata": {}, "source": "", "execution_count": 1}
    output = {"output_type": "display_data", "metadata": {}, "data": data}
    widgets = {course._WIDGETS: {"state": state, "version_major": 2, "version_minor": 0}}
    return {"cells": [{**cell, "outputs": [output]}], "metadata": {"widgets": widgets}}


def test_widgets_become_what_they_showed():
    state = {
        "box": {"model_name": "VBoxModel", "state": {"children": ["IPY_MODEL_a", "IPY_MODEL_b"]}},
        "a": {"model_name": "IntSliderModel", "state": {"value": 3}},
        "b": {"model_name": "HTMLModel", "state": {"value": '<img alt="a curve">'}},
    }
    notebook = course.static(executed({course._VIEW: {"model_id": "box"}, "text/plain": ""}, state))
    (output,) = notebook["cells"][0]["outputs"]
    assert output["data"]["text/html"] == '<div><img alt="a curve"></div>'
    assert "widgets" not in notebook["metadata"]
    own = {course._VIEW: {"model_id": "box"}, "text/html": ["<p>without ", "a kernel</p>"]}  # lines
    (output,) = course.static(executed(own, state))["cells"][0]["outputs"]
    assert output["data"]["text/html"] == "<div><p>without a kernel</p></div>"


def test_the_command_builds_the_chosen_lessons(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    course.main(["00_welcome", "--folder", str(tmp_path)])
    assert sorted(os.listdir(tmp_path / "course" / "student")) == ["00_welcome.ipynb"]
    assert str(tmp_path) in capsys.readouterr().out
    with pytest.raises(SystemExit):
        course.main(["99_nothing"])
    assert "must be among 00_welcome" in capsys.readouterr().err
