"""The front page's figures and numbers, made anew from the shipped results by one command:

python -m tools.gallery

It writes figures to docs/figures, the pictures of ideas to notebooks/ideas and into the cells of
the lessons that show them, and fills the parts of README.md that stand between `<!-- NAME -->` and
`<!-- end of NAME -->`. A paper without shipped results gets neither a figure nor a line.
"""

import argparse
import ast
import html
import json
import re
from collections.abc import Callable, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pandas as pd

from labkit.base.store import Store
from labkit.experiments.presets import study
from labkit.experiments.results import tables
from labkit.experiments.statistics import estimate
from labkit.experiments.treatments import TREATMENTS
from labkit.figures import arms as figures, comparisons, leads, matching, origins
from labkit.figures.ideas import Idea
from labkit.figures.picture import ARMS, SERIES, Picture, empty_axes, figure_of, legend_below
from labkit.papers.cells import cells, evidence
from labkit.papers.claims import ClaimsTable, claims_table, rate_label
from labkit.papers.register import register
from tools import course
from tools.drawing import ideas
from tools.drawing.lottery import Round, lottery
from tools.drawing.papers import Cell, papers

# Each may import those before it.
FLOORS = ("base", "engine", "experiments", "figures", "papers", "panel", "checks", "command")
# Shown on the front page, chosen before they were measured: the main sentences of each paper.
FRONT = (
    *("stop-earlier-21", "above-dense-21", "above-fresh-21"),
    *("filters-e-fine-tuned", "fresh-large-rate", "fresh-small-rate"),
    *("ticket-not-matching", "ticket-matching-later"),
)
_ARMS = {  # side by side in the picture of arms
    "rewind": "ticket (rewound)",
    "reinitialise": "new weights",
    "shuffled-mask": "shuffled mask",
    "fine-tune": "fine-tuned",
    "learning-rate-rewind": "learning rate rewound",
}
_MAPPED = ("lenet-300-100", "vgg-small", "resnet-8-w8")
IDEA = re.compile(r'^labkit\.idea\("(\w+)"\)$', re.M)  # of a cell that shows a picture
_ON_THE_MAP = ("fresh-large-rate", "fresh-small-rate", "ticket-not-matching")
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
_TOGETHER = """\
One sentence is about cells and not about seeds: subnetworks "are only matching when they are stable
to SGD noise" (Frankle et al. 2020, section 4), so none should be unstable and match. Cells of
tickets whose instability was analysed, counted as [registered](registration.md), undecided ones
apart:

"""
WELCOME = "00_welcome.ipynb"  # the lesson that lists the lessons


def shipped(name: str) -> pd.DataFrame:
    """The tickets of a preset's reference results as they came with the lab; perhaps no rows."""
    return tables(study(name, "reference"), nothing_of_ones_own()).tickets


def nothing_of_ones_own() -> Store:
    return Store(course.ROOT / "build" / "no-store")


def _at_the_largest_rate(tickets: pd.DataFrame) -> pd.DataFrame:
    """Dense networks and tickets of the network that has most rows, at its largest rate."""
    columns = ["dataset", "network"]
    most = tickets.groupby(columns).size().idxmax()
    own = tickets[(tickets[columns] == list(most)).all(axis=1)]
    own = own[own["learning_rate"] == own["learning_rate"].max()]
    return own[own["treatment"].isin(["rewind", "dense"])]


def accuracy_by_rewind(tickets: pd.DataFrame) -> Picture:
    """Test accuracy of tickets against density, a line per rewind iteration, with 95% intervals,
    and the level of the dense network.

    tickets: a table of `labkit.tables`; of several networks the one with most rows is drawn, and of
    several learning rates the largest.
    """
    own = _at_the_largest_rate(tickets)
    column = "final_test_accuracy"
    axes, rows = empty_axes(), list[pd.DataFrame]()
    handles: dict[str, Any] = {}
    dense = 100 * own.loc[own["treatment"] == "dense", column].mean()
    look = ARMS["dense"]
    handles[look.name] = axes.axhline(dense, color=look.colour, ls=look.dash)
    chain = own[own["treatment"] == "rewind"]
    for (rewind, group), look in zip(chain.groupby("rewind"), SERIES * len(own), strict=False):
        table = figures.summarise(group, column, 100).sort_values("density", ascending=False)
        reach = [table["mean"] - table["low"], table["high"] - table["mean"]]
        place = table["density"] * 1.03 ** (len(rows) - 0.5)  # beside each other
        line = axes.errorbar(place, table["mean"], reach, capsize=3, **look.line)
        handles[f"rewound to iteration {rewind:,}"] = line
        rows.append(table.assign(rewind=rewind))
    axes.set_xscale("log")
    axes.invert_xaxis()
    shares = sorted({round(d, 3) for d in chain["density"]}, reverse=True)
    axes.set_xticks(shares, [f"{100 * d:.3g}" for d in shares], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("density: surviving weights (%), sparser to the right")
    axes.set_ylabel("test accuracy (%)")
    legend_below(figure_of(axes), handles, 3)
    table = pd.concat(rows, ignore_index=True)
    sparsest = table[table["density"] < table["density"].min() * 1.05]
    words = ", ".join(f"{row.mean:.1f}% rewound to {row.rewind:,}" for row in sparsest.itertuples())
    first = own.iloc[0]
    summary = (
        f"Test accuracy of {first['network']} on {first['dataset']}, learning rate "
        f"{first['learning_rate']:g}, against density; dense {dense:.1f}%. At "
        f"{100 * table['density'].min():.0f}% density: {words}."
    )
    return Picture(figure_of(axes), summary, table)


def comparison(one: pd.DataFrame, other: pd.DataFrame, column: str) -> str:
    """How one arm stands to another, paired by seed, as the end of a heading: "are ahead of ..." is
    said only where the 95% interval leaves out zero. one, other: rows of a table of tickets.
    """
    ends = [rows.groupby("seed")[column].mean() for rows in (one, other)]
    found = estimate(100 * (ends[0] - ends[1]).dropna())
    words = "ahead of" if found.low > 0 else "behind" if found.high < 0 else "not told apart from"
    return f"{words} {{other}}, {found.mean:+.1f} points [{found.low:+.1f}, {found.high:+.1f}]"


def tickets_against_new_weights(tickets: pd.DataFrame, picture: Picture) -> str:
    """The lottery's finding, at the density nearest to the paper's fifth of the weights."""
    ticket = tickets[tickets["treatment"] == "rewind"]
    number = ticket.loc[(ticket["density"] - 0.21).abs().idxmin(), "round"]
    ticket = ticket[ticket["round"] == number]
    fresh = tickets[(tickets["treatment"] == "reinitialise") & (tickets["round"] == number)]
    told = comparison(ticket, fresh, "test_accuracy").format(
        other="the same masks with new weights"
    )
    return f"At {ticket['density'].mean():.0%} of the weights, tickets are {told}"


def range_of_leads(_: pd.DataFrame, picture: Picture) -> str:
    """Between which numbers the lead of the first weights lies, over all settings drawn."""
    means = picture.table["difference"]
    return (
        "What a ticket's first weights are worth depends on rate, length and sparsity: between "
        f"{means.min():+.1f} and {means.max():+.1f} points"
    )


def scratch_against_fine_tuning(tickets: pd.DataFrame, picture: Picture) -> str:
    """The second paper's finding: Scratch-B against fine-tuning for as many iterations."""
    longer, tuned = (tickets[tickets["treatment"] == name] for name in ("scratch-b", "fine-tune"))
    told = comparison(longer, tuned, "final_test_accuracy").format(other="fine-tuned ones")
    return f"With half of the filters, networks trained from scratch (Scratch-B) are {told}"


def later_against_first(tickets: pd.DataFrame, picture: Picture) -> str:
    """The third paper's finding: the latest rewind against the first, of the sparsest tickets."""
    chain = _at_the_largest_rate(tickets)
    chain = chain[chain["round"] == chain["round"].max()]
    k = chain["rewind"].max()
    later, first = chain[chain["rewind"] == k], chain[chain["rewind"] == chain["rewind"].min()]
    told = comparison(later, first, "final_test_accuracy").format(other="those rewound to 0")
    left, rate = chain["density"].mean(), chain["learning_rate"].iloc[0]
    return f"Rewound to {k:,}, tickets of {left:.0%} of the weights are {told}, at rate {rate:g}"


def masks_against_their_shuffles(_: pd.DataFrame, picture: Picture) -> str:
    """What shuffling costs masks drawn after training, and those drawn before it."""
    means = picture.table.pivot(index="mask", columns="treatment", values="mean")
    lost = means["rewind"] - means["shuffled-mask"]
    before = lost.index.str.endswith("before training")
    return (
        f"Shuffled within its layers, a mask drawn after training loses {lost[~before].min():.1f} "
        f"to {lost[~before].max():.1f} points, one drawn before training {lost[before].min():+.1f} "
        f"to {lost[before].max():+.1f}"
    )


def _arms_of_structured_pruning(tickets: pd.DataFrame) -> Picture:
    return comparisons.compare_treatments(None, tickets, against="fine-tune")


def _masks_and_their_checks(tickets: pd.DataFrame) -> Picture:
    return origins.sanity_checks(None, tickets)


Drawing = Callable[[pd.DataFrame], Picture]
Finding = Callable[[pd.DataFrame, Picture], str]
# Of the front page: name of the file -> preset, who draws it, and who says what it shows.
PICTURES: dict[str, tuple[str, Drawing, Finding]] = {
    "lottery": ("lottery", figures.accuracy_against_density, tickets_against_new_weights),
    "leads": ("new-weights", leads.difference_by_density, range_of_leads),
    "rethinking": (
        "rethinking-structured",
        _arms_of_structured_pruning,
        scratch_against_fine_tuning,
    ),
    "stability": ("stability-imp", accuracy_by_rewind, later_against_first),
    "origins": ("drawing", _masks_and_their_checks, masks_against_their_shuffles),
}


def draw(folder: Path) -> dict[str, str]:
    """Write the figures that have shipped results; their Markdown by name."""
    lines = {}
    for name, (preset, picture_of, finding) in PICTURES.items():
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
        lines[name] = (
            f"**{finding(tickets, picture)}** ({where})\n\n![{alt}](docs/figures/{name}.svg)"
        )
    return lines


def ideas_as_pictures(docs: Path) -> dict[str, str]:
    """The pictures of ideas, SVG text by name. docs: the folder that holds survivors.json."""
    own = {name: (t.mask, t.weights, t.schedule) for name, t in TREATMENTS.items()}
    return {
        "mask": ideas.mask(),
        "loop": ideas.loop(),
        "arms": ideas.arms([(words, *own[name]) for name, words in _ARMS.items()]),
        "holes": ideas.holes(),
        "copies": ideas.copies(),
        "moments": ideas.moments(),
        "makings": ideas.makings(),
        "papers": papers(_measured()),
        "lottery": lottery(_rounds(docs)),
    }


def show_ideas(folder: Path, drawn: dict[str, str]) -> None:
    """Put the pictures into the outputs of the cells that show them, in all lessons of a folder."""
    for path in sorted(folder.glob("*.ipynb")):
        lesson = json.loads(path.read_text("utf-8"))
        for cell in lesson["cells"]:
            found = IDEA.search("".join(cell["source"]))
            if cell["cell_type"] == "code" and found:
                cell["outputs"] = [_output(Idea(drawn[found[1]]))]
        path.write_text(json.dumps(lesson, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _output(idea: Idea) -> dict[str, Any]:
    data = {"text/html": [idea._repr_html_()], "text/plain": [repr(idea)]}
    return {"data": data, "metadata": {}, "output_type": "display_data"}


def _measured() -> list[Cell]:
    """What the shipped results have at the places between the papers: networks that differ in rate,
    length and sparsity, not in width or in how many images they see.
    """
    known, found = evidence(nothing_of_ones_own()), []
    known = known[known["network"].isin(_MAPPED)]
    known = known[known["images"] == known.groupby("network")["images"].transform("max")]
    for claim in register():
        if claim.claim not in _ON_THE_MAP:
            continue
        about = "dense" if "dense" in (claim.arm, claim.against) else "new weights"
        ticket_first = claim.arm == "rewind"
        for row in cells(claim, known).to_dict("records"):
            ends = (row["low"], row["high"]) if ticket_first else (-row["high"], -row["low"])
            place = (row["network"], row["learning_rate"], row["epochs"], row["density"])
            found.append(Cell(*place, about, *ends))
    return found


def _rounds(docs: Path) -> list[Round]:
    """The lottery's shipped accuracies, with the pixels of a short one (`tools.survivors`)."""
    kept = json.loads((docs / "survivors.json").read_text("utf-8"))
    tickets = shipped("lottery")
    chain = tickets[tickets["treatment"].isin(["dense", "rewind"])].groupby("round")
    accuracy, density = chain["test_accuracy"].mean(), chain["density"].mean()
    if [round(share, 6) for share in density] != kept["densities"]:
        raise ValueError("survivors.json must have the shipped densities: run tools.survivors")
    return [
        Round(share, 100 * right, tuple(map(tuple, counts)))
        for share, right, counts in zip(density, accuracy, kept["maps"], strict=True)
    ]


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
    columns = (said, f"{row['published']}<br><small>{row['paper_network']}</small>", measured)
    return f"| {' | '.join(columns)} | {row['reference_verdict']} |"


def claims_page(found: ClaimsTable, tickets: pd.DataFrame) -> str:
    """Every row of the register, and behind each claim every trained cell, as a Markdown page.

    tickets: all that were shipped, for the one sentence that is about cells and not about seeds.
    """
    parts = [_CLAIMS.format(summary=found.summary()), _together(tickets)]
    for paper, of_paper in found.rows.groupby("paper", sort=False):
        parts.append(f"## {paper}\n")
        for claim, rows in of_paper.groupby("claim", sort=False):
            head = ["| the paper says | its number | measured here, 95% interval | verdict |"]
            parts.append(
                "\n".join([*head, "|---|---|---|---|", *map(_row, rows.to_dict("records"))])
            )
            parts.append(_grid(found.cells, str(claim)))
    return "\n".join(parts)


def _together(tickets: pd.DataFrame) -> str:
    """How stable and matching go together in all shipped tickets, network by network."""
    lines = [
        "| network | the ticket is | matches | falls below | undecided |",
        "|---|---|---|---|---|",
    ]
    for network, of_network in tickets.groupby("network") if len(tickets) else ():
        try:
            counts = matching.matching_by_stability(of_network)
        except ValueError:  # no instability was analysed
            continue
        for row in counts.itertuples():
            lines.append(f"| {network} | {' | '.join(map(str, row))} |")
    return _TOGETHER + "\n".join(lines) + "\n"


def _grid(found: pd.DataFrame, claim: str) -> str:
    """All cells of a claim, folded."""
    own = found[found["claim"] == claim] if len(found) else found
    if own.empty:
        return ""
    lines = [
        f"\n<details><summary>all {len(own)} trained cells of <code>{claim}</code></summary>\n",
        "| network | rate | epochs | pruned | k | density | reading | measured | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in own.to_dict("records"):
        by = "" if cell["criterion"] == "magnitude" else f" by {cell['criterion']}"
        kind = f"{cell['kind']} {cell['scope']} {cell['cut']:.0%}{by}"
        columns = (cell["network"], rate_label(cell), f"{cell['epochs']:.3g}", kind,
                   f"{cell['rewind']:,}", f"{cell['density']:.1%}", cell["reading"],
                   cell["measured"], cell["verdict"])  # fmt: skip
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
    tickets = evidence(nothing_of_ones_own())
    found = claims_table(tickets)
    (root / "docs" / "claims.md").write_text(claims_page(found, tickets), encoding="utf-8")
    folder = root / "notebooks" / "ideas"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = ideas_as_pictures(course.ROOT / "docs")
    for name, text in drawn.items():
        (folder / f"{name}.svg").write_text(text, encoding="utf-8")
    show_ideas(root / "notebooks", drawn)
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
