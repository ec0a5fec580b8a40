"""The folder for lecturers answers what the lessons ask, with the numbers that the results give."""

import re
from pathlib import Path

import pandas as pd
import pytest

from labkit import checks
from tests.notebooks import NOTEBOOKS
from tools import course, teaching

every_lesson = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "teaching" / "answers.md").read_text("utf-8")


def lesson(*cells: str) -> course.Notebook:
    """A lesson of an introduction and these cells, in Markdown."""
    return {"cells": [{"cell_type": "markdown", "source": text} for text in ("# Title", *cells)]}


# --- Questions and answers -----------------------------------------------------------------------


@every_lesson
def test_every_question_of_a_lesson_has_an_answer(page: str, path: Path):
    answered = [teaching.plain(asked) for asked in teaching.answers(page)[path.stem[:2]]]
    for question in teaching.questions(course.read(path)):
        assert any(teaching.plain(question) in asked for asked in answered), question


@every_lesson
def test_every_answer_is_to_a_question_that_the_lesson_asks(page: str, path: Path):
    asked = [teaching.plain(question) for question in teaching.questions(course.read(path))]
    for entry, answer in teaching.answers(page)[path.stem[:2]].items():
        left = teaching.plain(entry)
        for question in sorted(asked, key=len, reverse=True):
            left = left.replace(question, "")
        assert not left.strip(), f"no question of the lesson: {left.strip()}"
        assert len(answer) > 5, entry


@every_lesson
def test_every_field_for_a_guess_follows_a_prediction_that_is_answered(path: Path):
    cells = course.read(path)["cells"]
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code" and re.search(r"= guess\(|: guess\(", cell["source"]):
            before = next(c for c in reversed(cells[:number]) if c["cell_type"] == "markdown")
            asked = list(teaching.questions(lesson(before["source"])))
            assert any("predict" in question.lower() for question in asked), cell["source"]


def test_what_counts_as_a_question():
    text = """## 1. Is it so?

Prose. *Predict:* it has two parts. Which one? Then run. (Why?) **Look back**, and "ask why?" aloud.

*Predict* which rows are decided. A hint:

<details><summary>Hint</summary>

What is a row?

</details>

> A quotation?

| a | table? |
|---|---|

- **A** "A choice?"
- Does an [item](page.md) ask, too?"""
    exercise = "## Exercise 2: is it right? (easy, 5 minutes)\n\nWrite it. *Predict* first: is it?"
    found = list(teaching.questions(lesson(text, exercise, "## References\n\n*Is it?* 2019.")))
    assert [teaching.plain(question) for question in found] == [
        "is it so",
        "predict it has two parts which one",
        "why",
        "predict which rows are decided",
        "does an item ask too",
        "exercise 2 is it right",
        "predict first is it",
    ]


def test_a_question_that_is_new_or_gone_is_found_out(page: str):
    asked = list(teaching.questions(lesson("Does a fish swim?")))
    entries = [teaching.plain(entry) for entry in teaching.answers(page)["02"]]
    assert len(asked) == 1 and not any(teaching.plain(asked[0]) in entry for entry in entries)


# --- Numbers -------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_shipped_results(page: str):
    assert len(teaching.NUMBER.findall(page)) > 120
    for path in teaching.NUMBERED:
        text = path.read_text("utf-8")
        assert teaching.NUMBER.search(text), path
        assert teaching.with_numbers(text) == text, "run `make figures`"


def test_numbers_of_the_answers_are_those_of_the_table_of_claims(root: Path):
    """Two ways to one number: the claim, and the difference of its arms."""
    told = teaching.lead("lottery", "rewind", "reinitialise", "test_accuracy", "round=7")
    assert teaching.claim("above-fresh-21") == f"{told}, 5 seeds (agrees)"
    assert told in (root / "README.md").read_text("utf-8")


def test_a_number_without_results_is_refused():
    with pytest.raises(ValueError, match="lottery has no rewind with round=99"):
        teaching.mean("lottery", "rewind", "test_accuracy", "round=99")
    with pytest.raises(ValueError, match="rewind-controls must have shipped results"):
        teaching.mean("rewind-controls", "rewind", "test_accuracy")
    with pytest.raises(ValueError, match="lesson 01 must have said 'a fish'"):
        teaching.live("01", "a fish")


def test_what_lessons_said_is_read_behind_words_and_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    table = pd.DataFrame({"bug": ["a"], "shift": ["+1.46 [+0.77, +2.15]"], "n": [5_000]})
    picture = '<img alt="not 99" src=""><p>The worst makes 7.5% errors.</p><svg>88</svg>'
    outputs = [{"data": {"text/html": text}} for text in (picture, table.to_html(index=False))]
    cell = {"cell_type": "code", "source": "", "metadata": {}, "outputs": outputs}
    course.write({"cells": [cell]}, tmp_path / "copies" / "01_pruning.ipynb")
    monkeypatch.setattr(teaching, "FOLDER", tmp_path)
    teaching.remember(tmp_path / "copies")
    assert teaching.live("01", "The worst makes") == "7.5%"
    assert teaching.live("01", "a |") == "+1.46 [+0.77, +2.15]"
    assert teaching.live("01", "a | # 2") == "5000"
    assert teaching.live("01", "errors # -1") == "7.5%"


# --- Mistakes and the rubric ---------------------------------------------------------------------


def test_the_table_of_mistakes_is_what_the_checks_say(root: Path):
    page = (root / "docs" / "teaching" / "mistakes.md").read_text("utf-8")
    assert page == teaching.mistakes_page(), "run `make figures`"


def test_every_mistake_that_a_check_carries_is_in_the_table():
    table = {check: faults for _, check, faults in teaching.mistakes()}
    assert set(table) == {name for name in checks.__all__ if name.startswith("check_")}
    for name, faults in table.items():
        assert set(getattr(checks, name).mistakes) <= set(faults), name
    assert sum(map(len, table.values())) > 120


def test_what_the_table_says_of_a_mistake_is_what_its_student_reads():
    faults = {fault.name: fault for _, check, faults in teaching.mistakes() for fault in faults
              if check == "check_density_after"}  # fmt: skip
    verdict = checks.check_density_after(lambda rate, rounds: 1 - rate * rounds, hint=1)
    fault = faults[verdict.fault]
    assert fault.says in verdict.text and fault.look in verdict.text


def test_the_rubric_of_the_graded_copy_is_the_page_s(root: Path):
    page = (root / "docs" / "teaching" / "rubric.md").read_text("utf-8")
    open_exercise = course.graded(course.read(root / "notebooks" / "05_rewinding.ipynb"))
    cells = [c["source"] for c in open_exercise["cells"] if course.rubric() in c["source"]]
    assert len(cells) == 1 and course.rubric() in page
    points = re.findall(r"^\| \*\*", course.rubric(), re.M)
    assert len(points) == course.POINTS["open"]
    before = cells[0].partition(course.BEGIN)[0]
    assert "interval" in before and "|" not in before, "students do not get the rubric"
