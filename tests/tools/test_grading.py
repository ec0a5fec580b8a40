"""What the page on grading says of files that are handed in is what nbgrader does with them."""

import re
from pathlib import Path

import pytest

collecting = pytest.importorskip("nbgrader.plugins.zipcollect")

MOODLE, CANVAS = 0, 1


@pytest.mark.parametrize(
    ("system", "path", "student"),
    [
        (MOODLE, "Ada Lovelace_4711_assignsubmission_file/01_pruning.ipynb", "Ada Lovelace_4711"),
        (MOODLE, "A. M. Turing_12_assignsubmission_file_/01_pruning.ipynb", "A. M. Turing_12"),
        (CANVAS, "lovelaceada_123_4567_01_pruning.ipynb", "lovelaceada"),
        (CANVAS, "turingalan_LATE_124_4568_01_pruning-1.ipynb", "turingalan"),
    ],
)
def test_names_of_moodle_and_canvas_are_read(
    system: int, path: str, student: str, root: Path
) -> None:
    page = (root / "docs" / "teaching" / "grading.md").read_text("utf-8")
    patterns = re.findall(r"named_regexp='(.+)'$", page, re.MULTILINE)
    plugin = collecting.FileNameCollectorPlugin(named_regexp=patterns[system])
    found = plugin.collect(f"/course/downloaded/01_pruning/extracted/all/{path}")
    assert (found["student_id"], found["file_id"]) == (student, "01_pruning")
