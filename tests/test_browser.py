"""Each lesson in a real browser: it opens, Run All succeeds, and its first control does something.

Screenshots are left in tests/screenshots (LABKIT_SCREENSHOTS overrides).
"""

from collections.abc import Iterator

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from playwright.sync_api import BrowserContext, Page

from tests.browser import (
    controls,
    errors,
    jupyter,
    move,
    open_notebook,
    output_of,
    photograph,
    photograph_all,
    pictures,
    run_all,
    wait_for_change,
)
from tests.notebooks import NOTEBOOKS

SLIDER = """
import ipywidgets
slider = ipywidgets.IntSlider(value=3, max=9, continuous_update=False, description="radius")
drawing = ipywidgets.HTML()
def draw(*_):
    circle = f'<circle cx="50" cy="50" r="{5 * slider.value}"/>'
    drawing.value = f'<svg width="100" height="100" role="img">{circle}</svg>'
slider.observe(draw, "value")
draw()
ipywidgets.VBox([slider, drawing])
"""

SWITCHES = """
from labkit import Shift, Switchboard
shifts = [("frozen by value", -2.6), ("masked gradients", 75.4), ("last batch dropped", 0.01)]
board = [Shift(bug, "test accuracy (%)", 90, 90 + d, d, d - 0.5, d + 0.5, 5) for bug, d in shifts]
Switchboard(board)
"""


@pytest.fixture(scope="module")
def server(browser: BrowserContext, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    examples = tmp_path_factory.mktemp("examples")
    filler = [new_code_cell(f"print({number})") for number in range(40)]
    for name, cells in {
        "moves": [new_markdown_cell("# A circle"), new_code_cell(SLIDER), *filler],
        "switches": [new_code_cell(SWITCHES)],
        "fails": [*filler[:20], new_code_cell("raise ValueError('no mask')"), *filler[20:]],
    }.items():
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        nbformat.write(new_notebook(cells=cells, metadata=metadata), examples / f"{name}.ipynb")
    folder = tmp_path_factory.mktemp("jupyter")
    with jupyter(folder, [*NOTEBOOKS, *sorted(examples.glob("*.ipynb"))]) as address:
        yield address


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


# All lessons run headless in test_notebooks.py, and the panel has a browser test of its own; here
# the front end is tested, with one lesson that computes at once and one that trains.
@pytest.mark.long
@pytest.mark.parametrize("name", ["moves", "00_welcome", "02_lottery_tickets"])
def test_lesson_runs_and_its_first_control_changes_the_picture(server: str, page: Page, name: str):
    open_notebook(page, server, name)
    photograph(page, f"{name}-opened")
    run_all(page)
    photograph_all(page, name)
    assert errors(page) == []

    assert page.locator(".jp-OutputArea .jupyter-widgets").first.is_visible()
    assert controls(page), "no slider, number field or drop-down list"
    control = controls(page)[0]
    area = output_of(control)
    before = pictures(area)
    assert before, "no picture beside the first control"
    move(control)
    wait_for_change(area, before)
    photograph(page, f"{name}-moved")
    assert errors(page) == []


def test_a_lesson_opened_alone_shows_its_pictures_before_it_is_run(server: str, page: Page):
    """The server has the notebooks and nothing beside them, and does not trust them."""
    open_notebook(page, server, "04_stability")
    picture = page.get_by_role("img", name="Two copies and the line between them")
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("e => e.complete && e.naturalWidth") > 300
    photograph(page, "04_stability-alone")


def test_a_forest_plot_grows_as_bugs_are_switched_on(server: str, page: Page):
    open_notebook(page, server, "switches")
    run_all(page)
    rows = page.locator(".widget-html-content g.lk-p")
    assert rows.count() == 0
    for number, bug in enumerate(("last batch dropped", "frozen by value"), start=1):
        switch = page.get_by_label(bug, exact=True)
        switch.focus()
        switch.press("Space")
        rows.nth(number - 1).wait_for()
        assert bug in (rows.nth(number - 1).get_attribute("aria-label") or "")
    photograph(page, "switches-two")
    page.get_by_role("button", name="All of them").click()
    rows.nth(2).wait_for()
    photograph(page, "switches-all")
    assert errors(page) == []


def test_an_error_in_the_middle_of_a_long_notebook_is_seen(server: str, page: Page):
    open_notebook(page, server, "fails")
    run_all(page)
    (error,) = errors(page)
    assert "no mask" in error
