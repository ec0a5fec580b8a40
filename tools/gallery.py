"""The front page's figures and numbers, made anew from the shipped results by one command:

python -m tools.gallery

It writes a figure per paper to docs/figures and fills the parts of README.md that stand between
`<!-- NAME -->` and `<!-- end of NAME -->`. A paper without shipped results gets neither a figure
nor a line.
"""

import argparse
import ast
import html
import re
from collections.abc import Callable, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pandas as pd

from labkit.base.store import Store
from labkit.experiments.presets import study
from labkit.experiments.results import tables
from labkit.figures import arms as figures, costs, origins, pairs
from labkit.figures.picture import SERIES, Picture, empty_axes, figure_of, legend_below
from labkit.papers import claims
from labkit.papers.claims import ClaimsTable
from tools import course

# Each may import those before it.
FLOORS = ("base", "engine", "experiments", "figures", "papers", "panel", "checks", "command")
# Shown on the front page, chosen before they were measured: the main sentences of each paper.
FRONT = (
    *("stop-earlier-21", "above-dense-21", "above-fresh-21"),
    *("filters-e-fine-tuned", "fresh-large-rate", "fresh-small-rate"),
    *("ticket-not-matching", "ticket-matching-later"),
)
_HEAD = """\
| the paper says | its number | measured here, 95% interval | verdict |
|---|---|---|---|"""
_CLAIMS = """# What the papers say, what was measured

Made by `make figures` from `labkit/papers/register.csv` and the results in `data/results/`. The
rules of every verdict were [fixed before the deciding studies ran](registration.md);
`labkit claims` prints the same with your own runs beside it, `labkit claims --cells` every cell
as CSV. Arms are compared within each seed; intervals are 95% of Student's t; "inside" and
"outside" say where the paper's own number lies.

{summary}
"""
WELCOME = "00_welcome.ipynb"  # the lesson that lists the lessons


def shipped(name: str) -> pd.DataFrame:
    """The tickets of a preset's reference results as they came with the lab; perhaps no rows."""
    return tables(study(name, "reference"), _nothing_of_ones_own()).tickets


def _nothing_of_ones_own() -> Store:
    return Store(course.ROOT / "build" / "no-store")


def error_by_rewind(tickets: pd.DataFrame) -> Picture:
    """Test error of tickets against density, a line per rewind iteration, with 95% intervals.

    tickets: a table of `labkit.tables`; of several networks the one with most rows is drawn, and of
    several learning rates the largest.
    """
    columns = ["dataset", "network"]
    most = tickets.groupby(columns).size().idxmax()
    own = tickets[(tickets[columns] == list(most)).all(axis=1)]
    rate = own["learning_rate"].max()
    own = own[(own["learning_rate"] == rate) & own["treatment"].isin(["rewind", "dense"])]
    own = own.assign(error=1 - own["final_test_accuracy"])
    axes, rows, handles = empty_axes(), [], {}
    for (rewind, group), look in zip(own.groupby("rewind"), SERIES * len(own), strict=False):
        table = figures.summarise(group, "error", 100).sort_values("density", ascending=False)
        (line,) = axes.plot(table["density"], table["mean"], **look.line)
        band: dict[str, Any] = {"color": look.colour, "alpha": 0.12}
        axes.fill_between(table["density"], table["low"], table["high"], **band)
        handles[f"rewound to iteration {rewind:,}"] = line
        rows.append(table.assign(rewind=rewind))
    axes.set_xscale("log")
    axes.invert_xaxis()
    shares = sorted({round(d, 3) for d in own["density"]}, reverse=True)
    axes.set_xticks(shares, [f"{100 * d:.3g}" for d in shares], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("density: surviving weights (%), sparser to the right")
    axes.set_ylabel("test error (%)")
    legend_below(figure_of(axes), handles, 3)
    table = pd.concat(rows, ignore_index=True)
    sparsest = table[table["density"] < table["density"].min() * 1.05]
    words = ", ".join(f"{row.mean:.1f}% rewound to {row.rewind:,}" for row in sparsest.itertuples())
    summary = (
        f"Test error of {most[1]} on {most[0]}, learning rate {rate:g}, against density. At "
        f"{100 * table['density'].min():.0f}% density: {words}."
    )
    return Picture(figure_of(axes), summary, table)


def _arms_of_structured_pruning(tickets: pd.DataFrame) -> Picture:
    return pairs.compare_treatments(tickets, against="fine-tune")


# Of the front page: name of the file -> preset, what is compared, and who draws it.
PICTURES: dict[str, tuple[str, str, Callable[[pd.DataFrame], Picture]]] = {
    "lottery": (
        "lottery",
        "The lottery ticket hypothesis: tickets against the same masks with new weights",
        figures.accuracy_against_density,
    ),
    "leads": (
        "new-weights",
        "What the first weights of a ticket are worth: by learning rate, length and density",
        pairs.difference_by_density,
    ),
    "rethinking": (
        "rethinking-structured",
        "Rethinking the value of network pruning: half of the filters, and what they start from",
        _arms_of_structured_pruning,
    ),
    "stability": (
        "stability-imp",
        "Linear mode connectivity: tickets rewound to different moments",
        error_by_rewind,
    ),
    "origins": (
        "drawing",
        "Masks from before and after training, shuffled, with new weights and at random",
        origins.sanity_checks,
    ),
    "birds": (
        "early-bird",
        "Early-bird tickets: accuracy against all the arithmetic that it took",
        costs.does_it_pay,
    ),
}


def draw(folder: Path) -> dict[str, str]:
    """Write the figures that have shipped results; their Markdown by name."""
    lines = {}
    for name, (preset, title, picture_of) in PICTURES.items():
        tickets = shipped(preset)
        if tickets.empty:
            continue
        picture = picture_of(tickets)
        folder.mkdir(parents=True, exist_ok=True)
        # Without trailing blanks, which matplotlib leaves and version control marks.
        text = re.sub(r"[ \t]+$", "", picture.svg(), flags=re.M)
        (folder / f"{name}.svg").write_text(text, encoding="utf-8")
        seeds = tickets["seed"].nunique()
        where = f"{tickets['network'].iloc[0]}, {tickets['dataset'].iloc[0]}, {seeds} seeds"
        alt = html.escape(f"{picture.summary} 95% intervals over seeds.", quote=False)
        lines[name] = f"**{title}** ({where})\n\n![{alt}](docs/figures/{name}.svg)"
    return lines


def claims_of_the_front_page(found: ClaimsTable) -> str:
    """The rows of a fixed choice of claims, whatever they say, as a Markdown table."""
    rows = [
        "| the paper says | its number | measured here, 95% interval | verdict |",
        "|---|---|---|---|",
    ]
    for row in found.rows.to_dict("records"):
        if row["claim"] in FRONT:
            rows.append(_row(row))
    return "\n".join([*rows, "", found.summary()])


def _row(row: dict[str, Any]) -> str:
    measured = row["reference"]
    if row["reference_setting"]:
        measured += f"<br><small>{row['reference_setting']}</small>"
    said = f"{row['says']} ({row['paper']}, {row['place']})"
    if isinstance(row["again"], str):
        said += f"<br><small>the same cell as in `{row['again']}`</small>"
    cells = (said, f"{row['published']}<br><small>{row['paper_network']}</small>", measured)
    return f"| {' | '.join(cells)} | {row['reference_verdict']} |"


def claims_page(found: ClaimsTable) -> str:
    """Every row of the register, and behind each claim every trained cell, as a Markdown page."""
    parts = [_CLAIMS.format(summary=found.summary())]
    for paper, of_paper in found.rows.groupby("paper", sort=False):
        parts.append(f"## {paper}\n")
        for claim, rows in of_paper.groupby("claim", sort=False):
            head = ["| the paper says | its number | measured here, 95% interval | verdict |"]
            parts.append(
                "\n".join([*head, "|---|---|---|---|", *map(_row, rows.to_dict("records"))])
            )
            parts.append(_grid(found.cells, str(claim)))
    return "\n".join(parts)


def _grid(cells: pd.DataFrame, claim: str) -> str:
    """All cells of a claim, folded."""
    own = cells[cells["claim"] == claim] if len(cells) else cells
    if own.empty:
        return ""
    lines = [
        f"\n<details><summary>all {len(own)} trained cells of <code>{claim}</code></summary>\n",
        "| network | rate | epochs | pruned | k | density | reading | measured | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in own.to_dict("records"):
        kind = f"{cell['kind']} {cell['scope']} {cell['cut']:.0%}"
        columns = (cell["network"], f"{cell['optimizer']} {cell['learning_rate']:g}",
                   f"{cell['epochs']:.3g}", kind, f"{cell['rewind']:,}", f"{cell['density']:.1%}",
                   cell["reading"], cell["measured"], cell["verdict"])  # fmt: skip
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join([*lines, "\n</details>\n"])


def lessons_table(folder: Path) -> str:
    """The lessons with their questions, as the first lesson lists them, their minutes and their
    exercises, in Markdown.
    """
    welcome = "\n".join(cell["source"] for cell in course.read(folder / WELCOME)["cells"])
    rows = ["| lesson | question | minutes | exercises |", "|---|---|---|---|"]
    for name, question in re.findall(r"\]\((\w+\.ipynb)\) \| (.+?) \|", welcome):
        lesson = course.read(folder / name)
        minutes = re.search(r"\*\*Minutes\.\*\* \D*(\d+)", lesson["cells"][0]["source"])
        link = f"[{course.title(lesson)}](notebooks/{name})"
        exercises = sum(bool(course.EXERCISE.search(c["source"])) for c in lesson["cells"])
        rows.append(f"| {link} | {question} | {minutes[1] if minutes else ''} | {exercises} |")
    return "\n".join(rows)


def floors_table(package: Path) -> str:
    """The floors of the package, each below those that it imports, and on each its rooms, likewise,
    with the first sentence of each, in Markdown. Raises graphlib.CycleError for a circle.
    """
    rows = ["| floor | room | one idea |", "|---|---|---|"]
    rows.append(f"| | `plain` | {_first_sentence(package / 'plain.py')} |")
    for floor in FLOORS:
        folder = package / floor
        rows.append(f"| **`{floor}`** | | {_first_sentence(folder / '__init__.py')} |")
        paths = {path.stem: path for path in sorted(folder.glob("[a-z]*.py"))}
        above = {
            name: set(
                re.findall(rf"^from labkit\.{floor}\.(\w+) import", path.read_text("utf-8"), re.M)
            )
            for name, path in paths.items()
        }
        known = {name: sorted(above[name] & paths.keys() - {name}) for name in paths}
        for name in TopologicalSorter(known).static_order():
            rows.append(f"| | `{name}` | {_first_sentence(paths[name])} |")
    return "\n".join(rows)


def _first_sentence(path: Path) -> str:
    """Of a module's words; where it only names the module, the next one too."""
    text = " ".join(
        (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n\n")[0].split()
    )
    sentence = re.split(r"(?<=[.:]) ", text + " ")
    short = len(sentence[0]) < 25 and len(sentence) > 1
    return text if short else sentence[0].rstrip(".: ")


def fill(text: str, parts: dict[str, str]) -> str:
    """The text with the parts between their markers; raises ValueError where a marker lacks."""
    for name, part in parts.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.S)
        if not pattern.search(text):
            raise ValueError(f"text must have a part between <!-- {name} --> and its end")
        text = pattern.sub(lambda m, part=part: f"{m[1]}\n{part}\n\n{m[2]}", text)  # type: ignore[misc]
    return text


def parts(root: Path) -> dict[str, str]:
    """Draws the figures, and returns the generated parts of README.md by name."""
    shown = draw(root / "docs" / "figures")
    found = claims.claims_table(claims.evidence(_nothing_of_ones_own()))
    (root / "docs" / "claims.md").write_text(claims_page(found), encoding="utf-8")
    return {
        "figures": "\n\n".join(shown.values())
        or "No reference results are shipped with this copy.",
        "claims": claims_of_the_front_page(found),
        "lessons": lessons_table(root / "notebooks"),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Write the figures, README.md, and the map in CONTRIBUTING.md."""
    parser = argparse.ArgumentParser(prog="python -m tools.gallery", description=__doc__)
    parser.add_argument("--root", type=Path, default=course.ROOT, help="of the repository")
    root = parser.parse_args(words).root
    readme = root / "README.md"
    readme.write_text(fill(readme.read_text("utf-8"), parts(root)), encoding="utf-8")
    page = root / "CONTRIBUTING.md"
    house = {"floors": floors_table(root / "labkit")}
    page.write_text(fill(page.read_text("utf-8"), house), encoding="utf-8")
    print(readme, page, sep="\n")


if __name__ == "__main__":
    main()
