"""The panel in a real browser, by keyboard alone, in JupyterLab, Notebook 7 and Voila.

A student asks what happens at 10% density with filters, rewound to 100 instead of 0: makes three
choices, presses Run, sees progress and a picture that changes, presses Stop, sees what is stored,
and goes on to the answer. Screenshots are left in tests/screenshots.
"""

import re
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Locator, Page

from tests.browser import (
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
    control = page.get_by_label(label, exact=True)
    options = control.locator("option").all_text_contents()
    wanted = [option.strip().startswith(text) for option in options].index(True)
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


def show_pictures(page: Page) -> None:
    """Scroll to them in one step, since a run replaces them all the time."""
    drawn = "document.querySelector('.widget-html-content svg[role=img]')"
    page.evaluate(f"{drawn}.scrollIntoView({{block: 'end'}})")


def use_the_panel(page: Page, name: str) -> None:
    wait(lambda: pictures(page).count() >= 2, "no pictures")
    choose(page, "What is pruned", "filters")
    page.get_by_label("Percent", exact=True).fill("10")
    page.get_by_label("Percent", exact=True).press("Enter")
    choose(page, "Rewind to iteration", "100")
    words = page.locator(".widget-html-content", has_text="Density, the share of weights").last
    wait(lambda: "9.9%" in (words.text_content() or ""), "no density")
    wait(lambda: "networks to train: about" in (words.text_content() or ""), "no forecast")
    photograph(page, f"{name}-chosen")

    before = pictures(page).nth(1).evaluate("e => e.outerHTML")
    press(page, "Run")
    wait(lambda: state(page).startswith("Running"), "not running")
    wait(lambda: pictures(page).nth(1).evaluate("e => e.outerHTML") != before, "no new picture")
    wait(lambda: "dense network" in (pictures(page).nth(1).text_content() or ""), "no curve")
    show_pictures(page)
    photograph(page, f"{name}-running")

    press(page, "Stop")
    wait(lambda: state(page).startswith("Stopped"), "not stopped", 60)
    show_pictures(page)
    photograph(page, f"{name}-stopped")


def run_to_the_end(page: Page, name: str) -> None:
    """Go on with a run that was stopped, and see its answer."""
    press(page, "Run")
    wait(lambda: state(page).startswith("Done"), "not done")
    arms = (r"ticket \(rewound\)", "re-initialised", "ticket, rewound to 0")
    answer = "9.9% density: " + ", ".join(rf"{arm} \d+\.\d%" for arm in arms)
    wait(lambda: re.search(answer, pictures(page).first.text_content() or ""), "no answer")
    show_pictures(page)
    photograph(page, f"{name}-done")


@pytest.mark.long
def test_the_question_of_the_playground_in_jupyterlab(page: Page, tmp_path):
    with jupyter(tmp_path / "lab", [PLAYGROUND]) as address:
        open_notebook(page, address, PLAYGROUND.stem)
        run_all(page)
        assert errors(page) == []
        use_the_panel(page, "panel-lab")
        run_to_the_end(page, "panel-lab")
        press(page, "Reset")
        wait(lambda: state(page) == "Ready.", "not reset")
        # A preset whose results are shipped shows them at once.
        choose(page, "Start from preset", "lottery")
        choose(page, "Size", "reference")
        stored = page.locator(".widget-html-content", has_text="part of the preset lottery").last
        wait(lambda: stored.count() == 1, "no stored result", 60)
        show_pictures(page)
        photograph(page, "panel-lab-stored")
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
        use_the_panel(page, "panel-voila")
