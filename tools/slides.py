"""The deck for a lecture of 45 to 60 minutes, from the lab's own pictures and findings:

python -m tools.slides    writes build/slides/index.html; it needs no network, to be built or shown

Text and speaker's notes are in tools/slides.md: a slide between two lines `---`, notes behind
`Note:`. A finding with its figure is `{finding NAME}`, as README.md has it; a number is what
tools/teaching.py makes of words such as `{mean lottery dense test_accuracy}`.

The deck runs on reveal.js, whose release 6.0.2 is in tools/reveal (MIT licence). nbconvert takes
it from a CDN and Quarto is not a Python package, so neither works where there is no network; to
renew it: `npm pack reveal.js`, then dist/reveal.js, dist/reveal.css, dist/plugin/notes.js, LICENSE.
Keys: arrows, S for the notes, Esc for an overview; `index.html?print-pdf` to print.
"""

import argparse
import html
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import mistune

from tools import course, teaching

HERE = Path(__file__).resolve().parent
_FINDING = re.compile(r"^\*\*(.+?)\*\* (\(.+?\))\n\n!\[(.*?)\]\((docs/figures/(\w+)\.svg)\)$", re.M)
_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>The Lottery Ticket Lab: slides</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="reveal/reveal.css"><style>
{style}</style></head><body><div class="reveal"><div class="slides">
{slides}
</div></div>
<script src="reveal/reveal.js"></script><script src="reveal/notes.js"></script>
<script>
Reveal.initialize({{width: 1280, height: 720, margin: 0, center: false, display: "flex", hash: true,
  slideNumber: "c/t", transition: "none", controls: false, pdfMaxPagesPerSlide: 1,
  plugins: [RevealNotes]}});
</script></body></html>
"""
_STYLE = """\
body { background: #fff; color: #1a1a1a }
.reveal { font: 30px/1.4 system-ui, sans-serif }
.reveal .slides { text-align: left }
.reveal .slides section { flex-direction: column; box-sizing: border-box; height: 720px;
  padding: 36px 64px 48px }
h1, h2 { line-height: 1.2; margin: 0 0 18px; color: #0b3d6b }
h1 { font-size: 60px } h2 { font-size: 42px }
.finding h2 { font-size: 34px }
p, ul, ol, table { margin: 8px 0 } li { margin: 6px 0 }
p:has(> img) { flex: 1; min-height: 0; margin: 0 }
img { width: 100%; height: 100%; object-fit: contain }
table { border-collapse: collapse; font-size: 26px }
th, td { text-align: left; padding: 7px 20px 7px 0; border-bottom: 1px solid #c4c7cc }
small { color: #555; font-size: 22px }
html.reveal-print .reveal .slides .pdf-page section { display: flex !important;
  padding: 36px 64px 48px !important; width: 1280px !important; height: 720px !important }
.reveal .slide-number { color: #555; background: none; font-size: 18px }
"""


def findings() -> dict[str, tuple[str, str, str, str]]:
    """Name of a figure -> the finding, where it was measured, the alternative text and the file."""
    readme = (course.ROOT / "README.md").read_text("utf-8")
    return {name: (*told, path) for *told, path, name in _FINDING.findall(readme)}


def slides() -> Iterator[str]:
    """The slides, one by one, as HTML."""
    known = findings()

    def number(match: re.Match[str]) -> str:
        kind, *words = match[1].split()
        value = teaching.KINDS[kind](*words)
        return re.sub(r"\[.*\]", lambda interval: interval[0].replace(" ", "\u00a0"), value)

    for text in (HERE / "slides.md").read_text("utf-8").split("\n---\n"):
        shown, _, notes = text.partition("\nNote: ")
        kind = ""
        if finding := re.search(r"{finding (\w+)}", shown):
            told, where, alternative, path = known[finding[1]]
            kind = ' class="finding"'
            shown = f"## {told}\n\n![{alternative}]({path})\n\n<small>{where}</small>"
        shown = re.sub(r"{(\w+ [^}]+)}", number, shown)
        drawn = mistune.create_markdown(escape=False, plugins=["table"])(shown)
        aside = f'<aside class="notes">{html.escape(notes.strip())}</aside>' if notes else ""
        yield f"<section{kind}>\n{drawn}{aside}</section>"


def write_slides(folder: Path) -> Path:
    """Write the deck with everything that it shows; returns its page."""
    parts = {
        HERE / "reveal": "reveal",
        course.ROOT / "notebooks" / "ideas": "ideas",
        course.ROOT / "docs" / "figures": "docs/figures",
    }
    for source, name in parts.items():
        shutil.copytree(source, folder / name, dirs_exist_ok=True)
    page = folder / "index.html"
    page.write_text(_PAGE.format(style=_STYLE, slides="\n".join(slides())), encoding="utf-8")
    return page


def main(words: Sequence[str] | None = None) -> None:
    """Write the deck."""
    parser = argparse.ArgumentParser(prog="python -m tools.slides", description=__doc__)
    folder = course.ROOT / "build" / "slides"
    parser.add_argument("--folder", type=Path, default=folder, help="where to write")
    print(write_slides(parser.parse_args(words).folder))


if __name__ == "__main__":
    main()
