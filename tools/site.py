"""The lessons as they ran, as pages that any host can publish: no kernel, no network, no set-up.

python -m tools.site [LESSON ...]   runs lessons, all without names, and writes build/site

`make reference` puts the reference beside them.

Formulas become MathML, which browsers draw by themselves, so that a page needs nothing from
elsewhere. explore.html is the panel's scrubber over shipped results: its charts are drawn here once
for every density, and twenty lines of script show one of them.
"""

import argparse
import html
import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_path
from latex2mathml.converter import convert as mathml

from labkit.base.store import Store
from labkit.experiments.experiment import Experiment
from labkit.experiments.presets import study
from labkit.figures.ideas import idea
from labkit.panel.diagrams import loop
from labkit.panel.live import (
    View,
    accuracy_chart,
    curve_chart,
    layer_bars,
    mask_picture,
    verdict_line,
)
from labkit.panel.live_results import LiveResults
from labkit.panel.references import PLAYED
from labkit.panel.stage import side_by_side
from labkit.panel.vocabulary import LABELS, experiment_label, iteration_label, kind_label
from tools import course
from tools.address import project

Named = tuple[str, str]  # the name of a page, and its title
EXPLORE, REFERENCE = "explore.html", "reference/index.html"
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.S)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\w$])", re.S)
_BADGE = re.compile(r'<img(?=[^>]*src="https?://)[^>]*alt="([^"]*)"[^>]*>')  # its words remain
_TITLED = re.compile(  # what a front end folds
    r'(<div class="highlight[^>]*><pre>(?:<span></span>)?)<span class="c1"># @title (.*?)</span>\n'
    r"(.*?</pre></div>)",
    re.S,
)
_LOOK = """\
<style>
:root { /* colours of nbconvert that are too pale to read */
  --jp-content-link-color: #0b57a4; --jp-mirror-editor-comment-color: #2a6464;
  --jp-mirror-editor-operator-color: #7a12c4; --jp-mirror-editor-number-color: #006000;
  --jp-mirror-editor-punctuation-color: #004a99 }
.jp-InputPrompt, .jp-OutputPrompt { color: var(--jp-content-font-color2) !important;
  opacity: 1 !important }
.jp-RenderedHTMLCommon a { text-decoration: underline !important }
summary { cursor: pointer; padding: 0.2rem 0.5rem; font-size: 0.9rem }
nav a { color: var(--jp-content-link-color) }
@media (prefers-color-scheme: dark) {
%s
:root { --jp-content-link-color: #8ab4f8; --jp-mirror-editor-comment-color: #79b8b8;
  --jp-mirror-editor-operator-color: #cf9fff; --jp-content-font-color2: #bbb } }
@media (max-width: 600px) { /* a figure that is shrunk cannot be read: it scrolls, as tables do */
  .jp-OutputArea-output img { max-width: 600px !important } }
</style></head>"""
_ELSEWHERE = re.compile(
    r'<script[^>]*\bsrc="https?://[^>]*>\s*</script>|<script type="module">(?:(?!</script>).)*?'
    r"https?://(?:(?!</script>).)*?</script>",
    re.S,
)
_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto;
       max-width: 76rem; padding: 0 1rem 2rem }
a { color: #0b57a4 } h1 { font-size: 1.6rem }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #161616 } a { color: #8ab4f8 }
  body { --jp-content-font-color1: #eee; --jp-content-font-color2: #bbb;
         --jp-layout-color0: #161616; --jp-border-color2: #444 } }
"""
_HEAD = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
{style}</style></head><body><main>
"""
_INDEX = """\
<h1>The Lottery Ticket Lab</h1>
<p>Three papers about pruning neural networks seem to contradict each other. Here are the lessons
that reproduce them, as they ran, to read without installing anything; the
<a href="{repository}">repository</a> has them to run.</p>
<p>{picture}</p>
<p><a href="{explore}">Explore the results</a>: move through density.
<a href="{reference}">Reference and how-to</a>.</p>
<ol start="0">
{lessons}
</ol></main></body></html>
"""
_EXPLORER = """\
<p><a href="index.html">The lessons</a></p>
<h1>Explore the results</h1>
<p>Results that were trained once and are shipped with the lab. Choose an experiment, then move
through density: accuracy, learning curves, survivors and mask follow.</p>
<p><label for="what">Experiment</label> <select id="what" style="max-width: 100%"></select></p>
<div id="frame"></div>
<p><label for="at">Density shown</label>
<input id="at" type="range" min="0" value="0" style="width: min(30rem, 80%)">
<output id="said" for="at"></output></p>
<script id="frames" type="application/json">{frames}</script>
<script>
const studies = JSON.parse(document.getElementById("frames").textContent);
const what = document.getElementById("what"), at = document.getElementById("at");
const frame = document.getElementById("frame"), said = document.getElementById("said");
for (const study of studies) what.add(new Option(study.title));
function show() {{
  const one = studies[what.selectedIndex].frames[at.value];
  frame.innerHTML = one.html;
  said.textContent = one.density;
  at.setAttribute("aria-valuetext", one.density);
}}
function choose() {{
  at.max = studies[what.selectedIndex].frames.length - 1;
  at.value = at.max;
  show();
}}
what.addEventListener("change", choose);
at.addEventListener("input", show);
choose();
</script>
</main></body></html>
"""


def write_site(executed: Sequence[Path], folder: Path) -> Path:
    """Write a page per executed lesson, the explorer, and a page that lists all; returns the last.

    executed: notebooks that ran, in the order in which they are read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = [(path.stem, course.title(course.read(path))) for path in executed]
    for number, path in enumerate(executed):
        source = folder / path.name
        course.write(with_mathml(course.read(path)), source)
        course.nbconvert("html", source, folder)
        source.unlink()
        page = folder / f"{path.stem}.html"
        beside = [pages[n] if 0 <= n < len(pages) else None for n in (number - 1, number + 1)]
        page.write_text(finished(page.read_text("utf-8"), pages[number][1], *beside), "utf-8")
    head = _HEAD.format(title="Explore the results: The Lottery Ticket Lab", style=_STYLE)
    frames = json.dumps(list(explorable())).replace("</", "<\\/")
    (folder / EXPLORE).write_text(head + _EXPLORER.format(frames=frames), "utf-8")
    lessons = [f'<li><a href="{stem}.html">{html.escape(title)}</a></li>' for stem, title in pages]
    index = folder / "index.html"
    head = _HEAD.format(title="The Lottery Ticket Lab", style=_STYLE)
    words = {"explore": EXPLORE, "reference": REFERENCE}
    words |= {"repository": repository(), "lessons": "\n".join(lessons)}
    words["picture"] = idea("lottery")._repr_html_()
    index.write_text(head + _INDEX.format(**words), "utf-8")
    return index


def with_mathml(lesson: course.Notebook) -> course.Notebook:
    """The lesson with its formulas as MathML; what stands in code stays."""
    cells = []
    for cell in lesson["cells"]:
        if cell["cell_type"] == "markdown":
            parts = _CODE.split(cell["source"])
            parts[::2] = [_FORMULA.sub(_drawn, part) for part in parts[::2]]
            cell = {**cell, "source": "".join(parts)}
        cells.append(cell)
    return {**lesson, "cells": cells}


def _drawn(found: re.Match[str]) -> str:
    block, inline = found.groups()
    if block:
        return f"\n\n{mathml(block.strip(), display='block')}\n\n"
    return mathml(inline)


def finished(page: str, title: str, before: Named | None, after: Named | None) -> str:
    """A page of nbconvert with its language, its neighbours, solutions and code of figures folded,
    and nothing that is fetched.

    before, after: name and title of the neighbours, None at the ends.
    """
    page = _BADGE.sub(r"\1", _ELSEWHERE.sub("", page))
    page = _TITLED.sub(r"<details><summary>\2</summary>\1\3</details>", page)
    page = re.sub(r'href="(\w+)\.ipynb', r'href="\1.html', page)
    page = re.sub(r"<title>.*?</title>", f"<title>{html.escape(title)}</title>", page, flags=re.S)
    page = page.replace("<html>", '<html lang="en">').replace("</head>", _LOOK % dark_theme(), 1)
    links = ['<a href="index.html">All lessons</a>']
    if before:
        links.insert(0, _link("prev", "Previous", *before))
    if after:
        links.append(_link("next", "Next", *after))
    style = "display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; padding: 1rem; font: 15px system-ui"
    bar = f'<nav aria-label="{{}}" style="{style}">{" ".join(links)}</nav>'
    page = re.sub(r"(<body[^>]*>)", lambda m: m[1] + bar.format("Lessons"), page, count=1)
    return page.replace("</body>", bar.format("Lessons, below") + "</body>")


@lru_cache
def dark_theme() -> str:
    """The dark colours of JupyterLab, as nbconvert has them."""
    folders = map(Path, jupyter_path("nbconvert", "templates", "lab", "static"))
    path = next(folder / "theme-dark.css" for folder in folders if folder.is_dir())
    return path.read_text("utf-8")


def _link(rel: str, words: str, stem: str, title: str) -> str:
    return f'<a rel="{rel}" href="{stem}.html">{words}: {html.escape(title)}</a>'


def explorable() -> Iterator[dict[str, Any]]:
    """What the explorer shows: the playground's stored answers, and the lottery."""
    nothing = Store(course.ROOT / "build" / "no-store")
    for e in (*PLAYED, study("lottery", "reference")[0]):
        shown = LiveResults(e, nothing)
        frames = []
        for number in range(shown.latest_round + 1):
            density = shown.density_at(number)
            if density is not None:
                frames.append({"density": f"{density:.3%}", "html": _frame(View(shown, number))})
        yield {"title": _title(e), "frames": frames}


def _title(e: Experiment) -> str:
    kind = kind_label(e.pruning.kind, e.task.network)
    rewind = iteration_label(e.rewind, e.task.recipe.iterations)
    return f"{experiment_label(e)}: {kind}, {LABELS['rewind'].lower()} {rewind}"


def _frame(view: View) -> str:
    """The drawings of one density side by side, and what they say."""
    side = loop("", f"round {view.number} of {view.shown.experiment.rounds}")
    side += layer_bars(view) + mask_picture(view)
    wide, narrow = ("1 1 330px", "520px"), ("1 1 250px", "520px")
    drawn = side_by_side([(wide, accuracy_chart(view)), (wide, curve_chart(view)), (narrow, side)])
    return f'{drawn}<p role="status">{html.escape(verdict_line(view))}</p>'


def repository() -> str:
    """The address of the lab's repository."""
    owner_and_name, _ = project((course.ROOT / "pyproject.toml").read_text("utf-8"))
    return f"https://github.com/{owner_and_name}"


def main(words: Sequence[str] | None = None) -> None:
    """Run the lessons that the command line names, and write the site."""
    parser = argparse.ArgumentParser(prog="python -m tools.site", description=__doc__)
    parser.add_argument("lessons", nargs="*", help="names such as 01_pruning; none means all")
    parser.add_argument("--folder", type=Path, default=course.ROOT / "build", help="where to write")
    arguments = parser.parse_args(words)
    try:
        lessons = course.chosen(arguments.lessons)
    except ValueError as error:
        parser.error(str(error))
    executed = [course.execute(path, arguments.folder / "course" / "executed") for path in lessons]
    print(write_site(executed, arguments.folder / "site"))


if __name__ == "__main__":
    main()
