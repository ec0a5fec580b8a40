"""The list of the article's statements points to sections, rows, studies and files that exist."""

import re
from pathlib import Path

import pytest

from labkit.experiments.presets import NAMES
from labkit.papers.register import register
from tests.notebooks import NOTEBOOKS, read


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "article.md").read_text("utf-8")


def test_every_statement_has_a_place_and_none_is_missing(page: str):
    rows = re.findall(r"^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", page, re.M)
    assert [int(number) for number, *_ in rows] == list(range(1, 33))
    for number, _, where, verdict in rows:
        assert len(where) > 10 and not verdict.startswith("missing"), number


def test_its_sections_and_exercises_are_in_the_lessons(page: str):
    titles = {
        path.name[:2]: "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
        for path in NOTEBOOKS
    }
    sections = re.findall(r"\b(\d\d)\.(\d+)", page)
    assert len(sections) > 30
    for lesson, section in sections:
        assert re.search(rf"^## {section}\. ", titles[lesson], re.M), f"{lesson}.{section}"
    for lesson, exercise in re.findall(r"lesson (\d\d)[.\d]*, exercises? (\d)", page):
        assert f"## Exercise {exercise}: " in titles[lesson], (lesson, exercise)


def test_its_rows_studies_and_files_exist(page: str, root: Path):
    claims = {claim.claim for claim in register()}
    assert set(re.findall(r"row `([\w-]+)`", page)) <= claims
    for named in re.findall(r"(?:rows?|study|studies) ((?:`[\w-]+`(?:, | and )?)+)", page):
        assert set(re.findall(r"`([\w-]+)`", named)) <= claims | set(NAMES), named
    papers = {claim.paper for claim in register()}
    for paper in re.findall(r"rows of ([A-Z][\w& .]+? \d{4})", page):
        assert paper in papers
    for file in re.findall(r"`(tests/[\w/]+\.py)`", page):
        assert (root / file).is_file()
