"""The panel in a real browser, by keyboard alone, in JupyterLab, Notebook 7 and Voila.

A student answers a question, and asks what happens at 10% density with neurons, rewound to 60
instead of 0: makes three choices, presses Run, sees progress and a picture that changes, presses
Stop, sees what is stored, and goes on to the answer. Screenshots are left in tests/screenshots.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import nbformat
import pytest
from playwright.sync_api import BrowserContext, Locator, Page

from tests.browser import (
    barriers,
    errors,
    jupyter,
    open_in_notebook_7,
    open_notebook,
    photograph,
    run_all,
    voila,
)
from tests.notebooks import ROOT, SECONDS

PLAYGROUND = ROOT / "notebooks" / "06_playground.ipynb"
DENSITY = re.compile(r"(9\.9|10|10\.\d)\d?% density")


@pytest.fixture
def page(browser: BrowserContext, monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[Page]:
    monkeypatch.setenv("LABKIT_STORE", str(tmp_path / "store"))  # nothing is stored yet
    page = browser.new_page()
    yield page
    page.close()


def wait(condition: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def choose(page: Page, label: str, text: str) -> None:
    """Choose from a list by keys: Space opens it, arrows move, Enter chooses. Of a closed list
    JupyterLab keeps arrows and letters to itself (ipywidgets issue 3912).
    """
    control = page.get_by_label(label, exact=True).and_(page.locator("select"))
    options = control.locator("option").all_text_contents()
    wanted = [option.replace("\xa0", " ").startswith(text) for option in options].index(True)
    control.focus()
    for key in ("Space", "Home", *["ArrowDown"] * wanted, "Enter"):
        page.keyboard.press(key)
        page.wait_for_timeout(50)
    wait(lambda: control.evaluate("e => e.selectedIndex") == wanted, f"no {text} chosen", 10)


def press(page: Page, name: str) -> None:
    button = page.get_by_role("button", name=name, exact=True).and_(page.locator(".jupyter-button"))
    button.focus()
    button.press("Space")


def state(page: Page) -> str:
    return page.locator("p[role=status] strong").last.text_content() or ""


def pictures(page: Page) -> Locator:
    return page.locator(".widget-html-content svg[role=img]")


def fill(page: Page, label: str, text: str) -> None:
    field = page.get_by_label(label, exact=True).and_(page.locator("input"))
    field.fill(text)
    field.press("Enter")


def in_view(page: Page, locator: Locator) -> bool:
    """Whether all of it is in the window."""
    box, window = locator.bounding_box(), page.viewport_size
    return bool(box and window and box["y"] >= 0 and box["y"] + box["height"] <= window["height"])


def charts_and_controls_are_in_view(page: Page, name: str) -> None:
    """A window of 1280 x 800, scrolled to the top of the panel, is enough to see and to choose."""
    page.set_viewport_size({"width": 1280, "height": 800})
    page.evaluate("document.querySelector('.lk-panel').scrollIntoView({block: 'start'})")
    page.wait_for_timeout(500)
    for number in range(2):
        assert in_view(page, pictures(page).nth(number)), "a chart is not in view"
    for label in ("What is removed", "How much is left", "Rewind to", "Learning rate"):
        assert in_view(page, page.get_by_label(label, exact=True).first), label
    photograph(page, f"{name}-opened")


def answer_a_question(page: Page, name: str) -> None:
    press(page, "Next question")
    wait(lambda: page.get_by_text("Guess first").count(), "not asked")
    choose(page, "My guess", "the same")
    answer = page.locator("p[role=status]", has_text="Stored answer, 5 seeds")
    wait(lambda: answer.count(), "not answered")
    assert page.locator("svg", has_text="your guess").count()
    photograph(page, f"{name}-answered")
    press(page, "Reset")
    question = page.get_by_label("Question", exact=True)
    wait(lambda: question.evaluate("e => e.selectedIndex") == 0, "not left")


def scrub(page: Page) -> None:
    """Move through density by the list beside the slider: charts and mask follow."""
    before = [picture.evaluate("e => e.outerHTML") for picture in pictures(page).all()]
    choose(page, "Density shown", "25%")
    now = [picture.evaluate("e => e.outerHTML") for picture in pictures(page).all()]
    assert len(now) == len(before) >= 5 and not set(now) & set(before)
    page.locator(".lk-p").first.focus()  # a point says its value
    assert page.locator(".lk-p:focus .l").evaluate("e => getComputedStyle(e).opacity") == "1"


def use_the_panel(page: Page, name: str) -> None:
    wait(lambda: pictures(page).count() >= 2, "no pictures")
    left = page.locator(".widget-html-content", has_text="% density: ").last
    before = left.text_content()
    choose(page, "What is removed", "whole neurons")
    wait(lambda: left.text_content() != before, "the kernel does not follow", 60)
    # On a machine that four busy processes shared, what was typed here was lost in 2 of 7 runs, and
    # why is not known. So, as a student would, type it again.
    for spelling in ("10", "10.0", "10", "10.0"):
        fill(page, "How much is left", spelling)
        with suppress(AssertionError):
            wait(lambda: DENSITY.search(left.text_content() or ""), "no density", 15)
            break
    assert DENSITY.search(left.text_content() or ""), left.text_content()
    choose(page, "Rewind to", "60")
    forecast = page.locator(".widget-html-content", has_text="networks to train: about").last
    wait(lambda: forecast.count(), "no forecast")
    photograph(page, f"{name}-chosen")

    before = pictures(page).nth(1).evaluate("e => e.outerHTML")
    press(page, "Run")
    wait(lambda: state(page).startswith("Running"), "not running")
    wait(lambda: pictures(page).nth(1).evaluate("e => e.outerHTML") != before, "no new picture")
    wait(lambda: "dense network" in (pictures(page).nth(1).text_content() or ""), "no curve")
    photograph(page, f"{name}-running")

    press(page, "Stop")
    wait(lambda: state(page).startswith("Stopped"), "not stopped", 60)
    photograph(page, f"{name}-stopped")


def run_to_the_end(page: Page, name: str) -> None:
    """Go on with a run that was stopped, and see its answer."""
    press(page, "Run")
    wait(lambda: state(page).startswith("Done"), "not done")
    verdict = page.locator("p[role=status]", has_text="density the ticket (rewound) is right on")
    wait(lambda: verdict.count(), "no answer")
    # "Done" is said before the last networks are drawn.
    compared = "the same rewound to 0"
    wait(lambda: compared in (verdict.first.text_content() or ""), f"not {compared}", 60)
    photograph(page, f"{name}-done")


@pytest.mark.long
def test_the_question_of_the_playground_in_jupyterlab(page: Page, tmp_path):
    with jupyter(tmp_path / "lab", [PLAYGROUND]) as address:
        open_notebook(page, address, PLAYGROUND.stem)
        run_all(page)
        assert errors(page) == []
        charts_and_controls_are_in_view(page, "panel-lab")
        scrub(page)
        answer_a_question(page, "panel-lab")
        use_the_panel(page, "panel-lab")
        run_to_the_end(page, "panel-lab")
        press(page, "Reset")
        wait(lambda: state(page) == "Ready.", "not reset")
        # A preset whose results are shipped shows them at once.
        page.locator(".lk-panel").get_by_text("More settings", exact=True).click()
        choose(page, "Start from", "Lottery tickets")
        choose(page, "Size", "reference")
        stored = page.locator(".widget-html-content", has_text="part of the preset lottery").last
        wait(lambda: stored.count() == 1, "no stored result", 60)
        photograph(page, "panel-lab-stored")
        assert errors(page) == []


@pytest.mark.long
def test_a_running_panel_that_is_shown_again_goes_on(page: Page, tmp_path):
    """In a real front end: the clock of the second showing ticks, and the first is gone."""
    path = tmp_path / "twice.ipynb"
    show = ["from labkit import Panel\npanel = Panel()\npanel.run()\npanel", "panel"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    cells = [nbformat.v4.new_code_cell(source) for source in show]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, path)
    with jupyter(tmp_path / "lab", [path]) as address:
        open_notebook(page, address, path.stem)
        run_all(page)
        wait(lambda: state(page).startswith("Done"), f"not done: {state(page)}", 120)
        assert "does not tick" not in state(page)
        assert errors(page) == []


@pytest.mark.long
def test_the_panel_in_notebook_7(page: Page, tmp_path):
    pytest.importorskip("notebook", reason="Jupyter Notebook 7 is not installed")
    with jupyter(tmp_path / "lab", [PLAYGROUND]) as address:
        open_in_notebook_7(page, address, PLAYGROUND.stem)
        run_all(page)
        assert errors(page) == []
        use_the_panel(page, "panel-notebook-7")
        assert errors(page) == []


@pytest.mark.long
def test_the_panel_in_voila(page: Page, tmp_path):
    pytest.importorskip("voila", reason="Voila is not installed")
    with voila(tmp_path / "voila", [PLAYGROUND]) as address:
        page.goto(f"{address}/voila/render/{PLAYGROUND.name}", timeout=SECONDS * 1_000)
        wait(lambda: pictures(page).count() >= 2, "no pictures")
        charts_and_controls_are_in_view(page, "panel-voila")
        assert barriers(page) == []
        page.set_viewport_size({"width": 400, "height": 800})
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width == 400  # nothing sticks out of a phone
        page.set_viewport_size({"width": 1280, "height": 1000})
        use_the_panel(page, "panel-voila")
        page.goto(f"{address}/voila/render/{PLAYGROUND.name}?setting=playground~rewind=30")
        chosen = page.get_by_label("Rewind to", exact=True)
        wait(lambda: chosen.count() and chosen.evaluate("e => e.value").startswith("30"), "no code")
