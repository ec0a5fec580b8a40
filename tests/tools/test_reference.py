"""The reference: every public name has its place, nothing comes from elsewhere, the code runs."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import labkit
from labkit.engine.pruning import CRITERIA, KINDS, SCOPES
from labkit.experiments.treatments import BUDGETS, TREATMENTS, WEIGHTS, Treatment
from tests.conftest import ROOT
from tests.notebooks import kernel_environment
from tools import reference

RUN = [*sorted((ROOT / "docs" / "how-to").glob("*.md")), ROOT / "docs" / "cluster.md"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built pages; a broken link among them is an error."""
    folder = tmp_path_factory.mktemp("reference")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_public_name_has_its_place(pages: Path) -> None:
    names = reference.public_names()
    assert sorted(names) == sorted(labkit.__all__)
    front = (pages / "index.html").read_text("utf-8")
    for name, module in names.items():
        page = reference.page_of(module).replace(".md", ".html")
        assert f'href="{page}#{module}.{name}"' in front, name
        assert f'id="{module}.{name}"' in (pages / page).read_text("utf-8"), name


def test_every_room_has_a_page_with_what_its_docstrings_say(pages: Path) -> None:
    for module in reference.rooms():
        page = (pages / reference.page_of(module)).with_suffix(".html").read_text("utf-8")
        assert f"<code>{module}</code>" in page
    pruning = (pages / "code" / "engine.pruning.html").read_text("utf-8")
    assert "so masks never grow back" in pruning
    assert "share of the survivors removed per round, in (0, 1)" in pruning


def test_a_reader_needs_no_network(pages: Path) -> None:
    """Only links lead elsewhere: scripts, styles, fonts and pictures are beside the pages."""
    for path in pages.rglob("*.html"):
        text = path.read_text("utf-8")
        assert not re.findall(r'src="(?:https?:)?//[^"]*', text), path
        sheets = re.findall(r'<link [^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*>', text)
        assert sheets and not any("//" in sheet for sheet in sheets), path
    for path in pages.rglob("*.css"):
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", path.read_text("utf-8"))


def test_links_that_leave_the_pages_lead_to_the_repository(pages: Path) -> None:
    own = (pages / "how-to" / "own-network.html").read_text("utf-8")
    assert re.search(r'href="https://github\.com/[^/"]+/[^/"]+/blob/main/labkit/plain\.py"', own)
    assert 'href="network.html"' in own


def test_what_is_searched_for_is_found_without_a_server(pages: Path, browser) -> None:
    page = browser.new_page()
    page.goto((pages / "terms.html").as_uri())
    page.get_by_placeholder("Search").first.fill("remove_lowest")
    found = page.locator(".md-search-result__link").first
    found.wait_for(timeout=30_000)
    hrefs = page.locator(".md-search-result__link").evaluate_all("links => links.map(a => a.href)")
    assert any("engine.pruning.html" in href for href in hrefs)
    page.close()


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_the_code_of_a_page_runs(path: Path, tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
    assert snippets
    (tmp_path / "page.py").write_text("\n".join(snippets), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "page.py"],
        cwd=tmp_path,
        env=kernel_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    said = {
        "claim": "51.3%: ",
        "cluster": "final_test_accuracy",
        "criterion": "density 0.50",
        "data": "tensor([",
        "lesson": "Density is the share that is left.",
        "network": "vgg-13",
        "own-network": "density 0.25",
        "treatment": "signs from the start",
    }
    assert said[path.stem] in done.stdout


def contents() -> Iterator[str]:
    yield from re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8"))


def test_every_page_is_in_the_contents() -> None:
    written = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert set(contents()) == written | {"index.md"}


def test_the_terms_name_every_choice() -> None:
    terms = (ROOT / "docs" / "terms.md").read_text("utf-8")
    choices = {*TREATMENTS, *WEIGHTS, *BUDGETS, *KINDS, *SCOPES}
    choices |= {word for words in CRITERIA.values() for word in words}
    choices |= {field.name for field in fields(Treatment)} - {"name"}
    assert len(choices) > 40
    for choice in choices:
        assert f"`{choice}`" in terms, choice
