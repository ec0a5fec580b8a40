"""What is handed out is made from the lessons, keeps in step with them, and can be graded."""

import ast
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import nbformat
import pytest

from tests.notebooks import NOTEBOOKS, ROOT, kernel_environment
from tools import course
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
            answers |= functions(cell["source"])
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
    points = [mark["points"] for mark in marks if mark["grade"]]
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


@pytest.mark.long
def test_nbgrader_releases_a_lesson_and_grades_a_right_and_a_wrong_copy(
    light_lesson: Path, tmp_path: Path
):
    course.write_course([light_lesson], tmp_path)
    folder = tmp_path / "nbgrader"
    nbgrader(folder, "generate_assignment", "light")
    released = course.read(folder / "release" / "light" / "light.ipynb")
    text = "\n".join(sources(released))
    assert "raise NotImplementedError()" in text and course.BEGIN not in text
    assert '"shuffled-mask", "C"' not in text and "early.items()\n" not in text

    solved = course.read(folder / "source" / "light" / "light.ipynb")
    wrong = course.read(folder / "release" / "light" / "light.ipynb")
    answers = {
        cell["metadata"].get("nbgrader", {}).get("grade_id"): cell for cell in wrong["cells"]
    }
    answers["early_stop"]["source"] = (  # on the test set
        "def early_stop(iterations, losses, accuracies):\n"
        "    return max(zip(iterations, accuracies, strict=True), key=lambda pair: pair[1])"
    )
    answers["controls"]["source"] = next(
        cell["source"]
        for cell in solved["cells"]
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "controls"
    )
    for name, copy in (("ada", solved), ("bob", wrong)):
        course.write(copy, folder / "submitted" / name / "light" / "light.ipynb")
    nbgrader(folder, "autograde", "light")
    scores = gradebook(folder / "gradebook.db")
    assert scores["ada"] == 4  # full marks
    assert scores["bob"] == 2  # the controls alone


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
    assert output["data"]["text/html"] == '<img alt="a curve">'
    assert "widgets" not in notebook["metadata"]


def test_a_page_and_a_list_are_made_of_an_executed_lesson(light_lesson: Path, tmp_path: Path):
    index = course.write_site([light_lesson], tmp_path)
    page = (tmp_path / "light.html").read_text("utf-8")
    assert '<a href="light.html">Lottery tickets</a>' in index.read_text("utf-8")
    assert 'href="01_pruning.html"' in page or "01_pruning" not in page
    assert '.ipynb"' not in re.sub(r'href="https?://[^"]*"', "", page)


def test_the_command_builds_the_chosen_lessons(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    course.main(["00_welcome", "--folder", str(tmp_path)])
    assert os.listdir(tmp_path / "course" / "student") == ["00_welcome.ipynb"]
    assert str(tmp_path) in capsys.readouterr().out
    with pytest.raises(SystemExit):
        course.main(["99_nothing"])
    assert "must be among 00_welcome" in capsys.readouterr().err
