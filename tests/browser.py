"""A real JupyterLab in a real browser, used as a student would: open, Run All, move a control."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Locator, Page, sync_playwright

from tests.notebooks import ROOT, SECONDS, kernel_environment

SCREENSHOTS = Path(os.environ.get("LABKIT_SCREENSHOTS", ROOT / "tests" / "screenshots"))

_TOKEN = "test"
# A traceback is shown as stderr is; an error without one has a type of its own. In labkit's own
# widgets an error is an alert.
_ERRORS = """
() => [
    ...document.querySelectorAll('[data-mime-type="application/vnd.jupyter.error"]'),
    ...document.querySelectorAll('.jp-OutputArea [role="alert"]'),
    ...[...document.querySelectorAll('[data-mime-type="application/vnd.jupyter.stderr"]')]
        .filter(e => /Traceback|Exception in thread|Error|Warning/.test(e.textContent)),
].map(e => e.textContent)
"""
_CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_BEGUN = r"""
() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
    .some(e => /[\d*]/.test(e.textContent))
"""
# A folded cell has no number to show.
_FINISHED = r"""
() => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
        .filter(e => e.textContent.trim());
    return prompts.length > 0 && prompts.every(e => /\d/.test(e.textContent));
}
"""
# Everything that shows a result, and nothing that moves with the control itself.
_PICTURES = """
area => [...area.querySelectorAll('.jp-OutputArea-output')]
    .flatMap(output => [...output.querySelectorAll('img, svg, canvas, .widget-html-content')])
    .map(e => e.tagName === 'IMG' ? e.src : e.tagName === 'CANVAS' ? e.toDataURL() : e.outerHTML)
"""


def barriers(page: Page) -> list[tuple[str, str]]:
    """What axe-core calls serious or critical on a page: the rule, and the element."""
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    return [(one["id"], node["html"][:120]) for one in serious for node in one["nodes"]]


def find_browser() -> str | None:
    """The path of an installed Chromium or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def jupyter(folder: Path, notebooks: Iterable[Path]) -> Iterator[str]:
    """The address of a JupyterLab that serves copies of the notebooks, until the block ends.

    folder takes the copies and all settings of the server; the user's own are not read.
    """
    pages, settings = folder / "pages", folder / "settings"
    for directory in (pages, settings / "config" / "labconfig"):
        directory.mkdir(parents=True)
    for notebook in notebooks:
        shutil.copy(notebook, pages)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    overrides = {"@jupyterlab/apputils-extension:notification": quiet}
    overrides_file = settings / "config" / "labconfig" / "default_setting_overrides.json"
    overrides_file.write_text(json.dumps(overrides))
    environment = kernel_environment() | {
        "JUPYTER_CONFIG_DIR": str(settings / "config"),
        "JUPYTER_DATA_DIR": str(settings / "data"),
        "JUPYTER_RUNTIME_DIR": str(settings / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings / "lab"),
        "JUPYTERLAB_WORKSPACES_DIR": str(settings / "workspaces"),
        "IPYTHONDIR": str(settings / "ipython"),
    }
    port = _free_port()
    command = ["jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={_TOKEN}", f"--ServerApp.root_dir={pages}"]
    with _served(command, f"http://127.0.0.1:{port}", environment, folder):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def voila(folder: Path, notebooks: Iterable[Path]) -> Iterator[str]:
    """The address of a Voila that serves copies of the notebooks, until the block ends."""
    pages = folder / "pages"
    pages.mkdir(parents=True)
    for notebook in notebooks:
        shutil.copy(notebook, pages)
    port = _free_port()
    command = ["voila", str(pages), "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    command += ["--ServerApp.allow_root=True"]
    with _served(command, f"http://127.0.0.1:{port}", kernel_environment(), folder):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _served(
    command: list[str], address: str, environment: dict[str, str], folder: Path
) -> Iterator[None]:
    """Run a server, a Python module and its arguments, until the block ends."""
    log = folder / "server.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            cwd=folder / "pages",
            stdout=stream,
            stderr=stream,
        )
    try:
        probe = f"{address}/api?token={_TOKEN}" if command[0] == "jupyterlab" else address
        _wait_for(probe, server, log)
        yield
    finally:
        server.terminate()  # Jupyter then ends its kernels.
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextmanager
def chromium(folder: Path, executable: str) -> Iterator[BrowserContext]:
    """A headless browser with a fresh profile in folder."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder,
            executable_path=executable,
            headless=True,
            args=_CHROMIUM_ARGUMENTS,
            viewport={"width": 1280, "height": 1000},
        )
        yield context
        context.close()


def open_notebook(page: Page, address: str, name: str) -> None:
    """Open NAME.ipynb as a single document and wait until its kernel is idle."""
    page.goto(f"{address}/doc/tree/{name}.ipynb?token={_TOKEN}")
    page.locator(".jp-Notebook").wait_for(timeout=60_000)
    # Before this text is there, Run All is dropped silently.
    page.get_by_text("| Idle").first.wait_for(timeout=60_000)


def open_in_notebook_7(page: Page, address: str, name: str) -> None:
    """The same in Jupyter Notebook 7, which a JupyterLab serves too where it is installed."""
    page.goto(f"{address}/notebooks/{name}.ipynb?token={_TOKEN}")
    page.locator(".jp-Notebook").wait_for(timeout=60_000)
    page.wait_for_timeout(5_000)  # nothing there tells that it has a kernel


def run_all(page: Page, seconds: float = SECONDS) -> None:
    """Choose Run, Run All Cells, and wait until the last code cell has run, or one has failed."""
    deadline = time.monotonic() + seconds
    while True:  # until there is a kernel, Run All is dropped silently
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(2_000)
        if page.evaluate(_BEGUN) or time.monotonic() > deadline:
            break
    while not (errors(page) or page.evaluate(_FINISHED)):
        if time.monotonic() > deadline:
            prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()
            raise AssertionError(f"not finished within {seconds} s: {prompts}")
        page.wait_for_timeout(200)
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(timeout=60_000)


def errors(page: Page) -> list[str]:
    """The text of every error and complaint on stderr on the page, in and outside widgets."""
    return page.evaluate(_ERRORS)


def controls(page: Page) -> list[Locator]:
    """The page's controls, sliders first, then number fields, then drop-down lists."""
    kinds = (
        '.widget-slider [role="slider"]',
        '.widget-text input[type="number"]',
        ".widget-dropdown select",
    )
    return [control for kind in kinds for control in page.locator(f".jp-OutputArea {kind}").all()]


def output_of(control: Locator) -> Locator:
    """The output area of the cell that shows the control."""
    cells = control.locator("xpath=ancestor::*[contains(@class, 'jp-Cell-outputArea')]")
    return cells.first


def pictures(area: Locator) -> list[str]:
    """What the images, drawings and texts in an output area show, as comparable strings."""
    return area.evaluate(_PICTURES)


def move(control: Locator) -> None:
    """Change a control's value with the keyboard, by one step, up or else down."""
    control.scroll_into_view_if_needed()
    before = _value(control)
    if control.evaluate("e => e.tagName") == "SELECT":
        options = control.locator("option").all()
        control.select_option(index=(control.evaluate("e => e.selectedIndex") + 1) % len(options))
        return
    control.focus()
    for key in ("ArrowUp", "ArrowDown"):
        control.press(key)
        if _value(control) != before:
            if control.evaluate("e => e.tagName") == "INPUT":
                control.press("Enter")
            return
    raise AssertionError(f"no arrow key changes the control from {before}")


def wait_for_change(area: Locator, before: list[str], seconds: float = 120) -> list[str]:
    """The pictures in the area once they differ from before."""
    deadline = time.monotonic() + seconds
    while (now := pictures(area)) == before:
        if time.monotonic() > deadline:
            raise AssertionError(f"the pictures did not change within {seconds} s")
        area.page.wait_for_timeout(100)
    return now


def photograph(page: Page, name: str) -> Path:
    """Save what the window shows as NAME.png in the screenshots folder."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path)
    return path


def photograph_all(page: Page, name: str) -> list[Path]:
    """Save the whole notebook, one picture per window height, as NAME-01.png and so on."""
    scroller = page.locator(".jp-WindowedPanel-outer").first
    scroller.evaluate("e => e.scrollTo(0, 0)")
    paths = []
    for number in range(1, 100):
        page.wait_for_timeout(300)
        paths.append(photograph(page, f"{name}-{number:02d}"))
        if scroller.evaluate(
            """e => { const old = e.scrollTop; e.scrollBy(0, 0.9 * e.clientHeight);
                      return e.scrollTop - old < 2; }"""
        ):
            break
    return paths


def _value(control: Locator) -> str:
    return control.evaluate("e => e.getAttribute('aria-valuenow') ?? e.value")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS  # a busy machine takes minutes
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    server.kill()
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")
