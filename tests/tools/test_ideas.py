"""The pictures of ideas are what their code makes, say what they show, and hold what was found."""

import base64
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

from labkit.figures.ideas import idea
from tools import course, gallery, survivors
from tools.drawing import ideas
from tools.drawing.lottery import Round, lottery
from tools.drawing.papers import Cell, papers

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pictures(root: Path) -> dict[str, str]:
    return gallery.ideas_as_pictures(root / "docs")


def test_the_files_are_what_the_code_makes(root: Path, pictures: dict[str, str]):
    found = {p.stem: p.read_text("utf-8") for p in (root / "notebooks" / "ideas").glob("*.svg")}
    assert found == pictures, "run python -m tools.gallery"


def test_every_picture_has_a_title_words_and_two_kinds_of_paper(pictures: dict[str, str]):
    for name, text in pictures.items():
        tree = ElementTree.fromstring(text)
        title, told = tree.find(f"{SVG}title"), tree.find(f"{SVG}desc")
        assert title is not None and title.text and told is not None and len(told.text or "") > 60
        assert "prefers-color-scheme:dark" in text, name
        assert "<script" not in text and not re.search(r'href="(?!data:)', text), name


def test_every_picture_is_shown_by_a_lesson(root: Path, pictures: dict[str, str]):
    cells = [c for p in (root / "notebooks").glob("*.ipynb") for c in course.read(p)["cells"]]
    found = [shown[1] for cell in cells if (shown := gallery.IDEA.search(cell["source"]))]
    assert set(found) == set(pictures)


def test_a_picture_is_an_image_with_its_own_words(pictures: dict[str, str]):
    for name, text in pictures.items():
        shown = idea(name)
        image = BeautifulSoup(shown._repr_html_(), "html.parser").img
        kind, _, content = str(image["src"]).partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert base64.b64decode(content).decode() == text
        assert image["alt"] == shown.words and len(shown.words) > 60


def test_a_picture_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of arms, copies, .*, not 'cat'"):
        idea("cat")


@pytest.mark.parametrize(
    ("low", "high", "side"), [(0.1, 2.0, "ahead"), (-1.0, 1.0, "undecided"), (-2.0, -0.1, "behind")]
)
def test_the_map_says_on_which_side_of_zero_an_interval_lies(low: float, high: float, side: str):
    text = papers([Cell("lenet-5", 0.1, 2.0, 0.2, "dense", low, high)])
    assert f"lenet-5 at rate 0.1, 2 epochs, 20% left, ticket against dense: {side}" in text
    assert f"{low:+.2f} to {high:+.2f} points" in text


def test_the_moving_picture_tells_the_rounds_it_was_given():
    maps = (((4, 4), (4, 4)), ((0, 4), (4, 0)), ((0, 0), (1, 0)))
    rounds = [Round(d, a, m) for d, a, m in zip((1.0, 0.5, 0.05), (98, 99, 96), maps, strict=True)]
    text = lottery(rounds)
    assert "round 1: 99.0% of the digits read" in text and "5.0% of the weights are left" in text
    assert len(set(re.findall(r"data:image/png;base64,[^\"]+", text))) == 3
    assert "prefers-reduced-motion" in text


def test_an_arm_without_a_picture_is_refused():
    with pytest.raises(ValueError, match="must have one of ticket, shuffled, not 'random'"):
        ideas.arms([("random mask", "random", "rewound", "rewound")])


def test_survivors_shrink_from_all_weights_as_the_densities_say():
    found = survivors.survivors(iterations=3, rounds=2)
    first, *later = found["maps"]
    assert {count for row in first for count in row} == {300}
    for earlier, after in zip(found["maps"], later, strict=False):
        assert all(
            b >= a for x, y in zip(earlier, after, strict=True) for b, a in zip(x, y, strict=True)
        )
    assert found["densities"][0] == 1 and found["densities"][2] == pytest.approx(0.6406, abs=1e-3)
