"""The site: lessons as pages that need no network, and an explorer that needs no kernel."""

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import BrowserContext

from tests.browser import barriers
from tests.notebooks import ROOT
from tools import course, site

LESSONS = ("03_rethinking", "04_stability", "05_rewinding")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of three lessons, as they would be executed."""
    folder = tmp_path_factory.mktemp("site")
    site.write_site([ROOT / "notebooks" / f"{name}.ipynb" for name in LESSONS], folder)
    return folder


def test_lessons_have_neighbours_and_links_between_pages(pages: Path):
    page = (pages / "04_stability.html").read_text("utf-8")
    assert '<html lang="en">' in page and "<title>Stability</title>" in page
    assert re.search(r'rel="prev" href="03_rethinking.html">Previous: Rethinking', page)
    assert re.search(r'rel="next" href="05_rewinding.html">Next: Rewinding', page)
    assert 'rel="prev"' not in (pages / "03_rethinking.html").read_text("utf-8")
    assert '.ipynb"' not in re.sub(r'href="https?://[^"]*"', "", page)
    front = (pages / "index.html").read_text("utf-8")
    assert all(f'href="{name}.html"' in front for name in LESSONS)


def test_a_reader_needs_no_network(pages: Path, browser: BrowserContext):
    """Nothing is fetched from elsewhere, and every picture beside the pages is there."""
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path in pages.glob("*.html"):
        page.goto(path.as_uri())
        broken = "all => all.filter(one => !one.naturalWidth).map(one => one.src)"
        assert page.locator("img").evaluate_all(broken) == [], path
    page.close()
    assert {address.split(":")[0] for address in asked} <= {"file", "data"}


def test_formulas_are_drawn_by_the_browser_and_code_stays(pages: Path):
    lesson = {
        "cells": [
            {"cell_type": "markdown", "source": "$a_i$ costs `$5$`, $$\\frac12$$ and 5 $ or 6 $."},
            {"cell_type": "code", "source": "# $a$"},
        ]
    }
    prose, code = site.with_mathml(lesson)["cells"]
    assert prose["source"].count("<math") == 2 and "<mfrac>" in prose["source"]
    assert "`$5$`" in prose["source"] and "5 $ or 6 $." in prose["source"]
    assert code["source"] == "# $a$"
    assert "<mfrac>" in (pages / "04_stability.html").read_text("utf-8")


def test_solutions_and_code_of_figures_are_folded(pages: Path):
    page = BeautifulSoup((pages / "04_stability.html").read_text("utf-8"), "html.parser")
    lesson = course.read(ROOT / "notebooks" / "04_stability.ipynb")
    titled = [c["source"] for c in lesson["cells"] if c["source"].startswith("# @title")]
    folds = page.select("details:has(div.highlight)")
    assert len(folds) == len(titled) > 4
    for fold, source in zip(folds, titled, strict=True):
        title, _, code = source.partition("\n")
        assert fold.summary.text == title.removeprefix("# @title ")
        assert fold.pre.text.strip() == code.strip()


def test_the_explorer_moves_through_density_without_a_kernel(pages: Path, browser: BrowserContext):
    page = browser.new_page()
    page.goto((pages / site.EXPLORE).as_uri())
    studies = page.locator("#what option").all_text_contents()
    assert len(studies) == len(set(studies)) >= 4
    for number in range(len(studies)):
        page.get_by_label("Experiment").select_option(index=number)
        density = page.get_by_label("Density shown")
        before = page.locator("#frame").inner_html()
        said = page.locator("#said").text_content()
        density.press("ArrowLeft")
        assert page.locator("#frame").inner_html() != before
        assert page.locator("#said").text_content() != said
        assert "nan" not in page.locator("#frame").inner_html()
        assert page.locator("#frame svg[role=img]").count() >= 4
    page.screenshot(path=ROOT / "tests" / "screenshots" / "site-explore.png", full_page=True)
    page.close()


def test_a_lesson_is_as_dark_as_the_reader_s_system(pages: Path, browser: BrowserContext):
    page = browser.new_page()
    paper = "getComputedStyle(document.body).backgroundColor"
    shades = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto((pages / "04_stability.html").as_uri())
        shades[scheme] = sum(map(int, re.findall(r"\d+", page.evaluate(paper))[:3]))
    page.close()
    assert shades["light"] > 700 and shades["dark"] < 100


def test_nothing_sticks_out_of_a_phone(pages: Path, browser: BrowserContext):
    page = browser.new_page()
    page.set_viewport_size({"width": 400, "height": 800})
    for path in pages.glob("*.html"):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 400, path
    page.close()


@pytest.mark.parametrize("name", ["index", "explore", *LESSONS])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_bars_anybody(pages: Path, browser: BrowserContext, name: str, scheme: str):
    page = browser.new_page()
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto((pages / f"{name}.html").as_uri())
    found = barriers(page)
    page.close()
    assert found == []


def test_the_command_refuses_lessons_that_there_are_not(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        site.main(["99_nothing"])
    assert "lessons must be among 00_welcome" in capsys.readouterr().err
    assert course.chosen(["01_pruning"]) == [ROOT / "notebooks" / "01_pruning.ipynb"]
