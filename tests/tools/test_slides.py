"""The deck: pictures and findings are the lab's own, everything fits, and no network is asked."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tools import gallery, slides

# What sticks out of the slide that is shown, by its tag and first words.
_STICKING_OUT = """
() => {
    const slide = Reveal.getCurrentSlide(), frame = slide.getBoundingClientRect();
    return [...slide.querySelectorAll(':scope > :not(aside), :scope > :not(aside) *')]
        .filter(e => {
            const box = e.getBoundingClientRect();
            return box.bottom > frame.bottom + 1 || box.right > frame.right + 1
                || box.left < frame.left - 1 || box.top < frame.top - 1;
        })
        .map(e => `${e.tagName}: ${e.textContent.slice(0, 40)}`);
}
"""


@pytest.fixture(scope="module")
def deck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return slides.write_slides(tmp_path_factory.mktemp("slides"))


def test_findings_on_slides_are_those_of_the_front_page(deck: Path):
    shown = deck.read_text("utf-8")
    known = slides.findings()
    assert set(known) == set(gallery.PICTURES), "README.md has a finding for each figure"
    for told, where, alternative, path in known.values():
        assert told.replace("'", "&#39;") in shown or told in shown, told
        assert where in shown and alternative[:40] in shown and (deck.parent / path).is_file()


def test_a_lecture_has_some_25_slides_with_notes_and_minutes(deck: Path):
    page = deck.read_text("utf-8")
    notes = re.findall(r'<aside class="notes">(?:(\d+) minutes?\. )?', page)
    assert 20 <= page.count("<section") == len(notes) <= 26
    assert 45 <= sum(int(minutes) for minutes in notes if minutes) <= 60
    assert "{" not in re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S), "all is filled in"


def test_every_slide_fits_and_nothing_is_asked_of_the_network(deck: Path, browser: BrowserContext):
    page = browser.new_page()
    page.set_viewport_size({"width": 1280, "height": 720})
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(deck.as_uri())
    page.wait_for_function("Reveal.isReady()")
    for number in range(page.evaluate("Reveal.getTotalSlides()")):
        page.evaluate(f"Reveal.slide({number})")
        assert page.evaluate(_STICKING_OUT) == [], number
        picture = page.locator("section.present img")
        if picture.count():
            assert picture.evaluate("e => e.naturalWidth && e.clientHeight") > 300, number
            assert len(picture.get_attribute("alt") or "") > 40, number
    page.close()
    assert wrong == []
    assert {address.split(":")[0] for address in asked} <= {"file", "data", "blob"}


def test_arrows_turn_the_slides(deck: Path, browser: BrowserContext):
    page = browser.new_page()
    page.goto(deck.as_uri())
    page.wait_for_function("Reveal.isReady()")
    assert page.locator("section.present h1").inner_text() == "The Lottery Ticket Lab"
    page.keyboard.press("ArrowRight")
    page.locator("section.present h2").wait_for()
    assert page.locator("section.present h2").inner_text().startswith("Predict")
    page.close()


def test_a_printed_deck_has_a_page_for_each_slide(deck: Path, browser: BrowserContext):
    page = browser.new_page()
    page.goto(f"{deck.as_uri()}?print-pdf")
    page.locator(".pdf-page").first.wait_for()
    slide = page.locator(".pdf-page section").first.evaluate("e => getComputedStyle(e).paddingLeft")
    heights = page.locator(".pdf-page").evaluate_all("all => all.map(e => e.offsetHeight)")
    assert slide == "64px" and len(heights) == deck.read_text("utf-8").count("<section")
    assert max(heights) <= 720, "a slide runs over its page"
    page.close()
