"""The generated parts of docs/teaching, and the numbers in README's prose, anew by one command:

python -m tools.teaching          numbers of the answers and of README, and the table of mistakes
python -m tools.teaching --executed FOLDER   first takes what the lessons said in executed copies

In both pages a number stands between two comments, and the first one says where it comes from:
`<!-- mean lottery dense test_accuracy -->97.94%<!-- / -->`. Kinds of numbers are the functions of
`KINDS`; all read the shipped results, but for `live`, which reads live.json: what the cells of the
lessons said in one run, that of `make course`.
"""

import argparse
import ast
import html
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from labkit import checks, figures
from labkit.checks.judging import Fault
from labkit.experiments.statistics import estimate
from labkit.papers.cells import evidence
from labkit.papers.claims import claims_table
from tools import course
from tools.gallery import nothing_of_ones_own, shipped

FOLDER = course.ROOT / "docs" / "teaching"
NUMBERED = (FOLDER / "answers.md", course.ROOT / "README.md")  # pages whose prose has numbers
NUMBER = re.compile(r"<!-- (\w+) (.+?) -->.*?<!-- / -->")
ANSWER = re.compile(r"^- \*\*(.+?)\*\* (.+)$", re.M)
LONGEST = 1_500  # characters of an output that are kept
_FIGURE = r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?%?(?: \[[^]]+\])?"
_MISTAKES = """\
# Typical mistakes

Made by `make figures` from the checks themselves: every fault that a check of `labkit.checks` can
name, what it says to the student, and what to ask who made it (`hint=1` prints the same). Of a
wrong choice it asks what that would mean. The names are those in brackets in a verdict, and in
`Verdict.fault`. From any check may also come `raises`, `argument changed`, `another kind of answer`
and `another value`.
"""


# --- Questions and answers -----------------------------------------------------------------------


def plain(words: str) -> str:
    """The words alone, in small letters: what is compared, whatever the markup."""
    return " ".join(re.findall(r"[^\W_]+", words.lower()))


def questions(lesson: course.Notebook) -> Iterator[str]:
    """What a lesson asks its reader, in its own words: every sentence that ends in a question mark,
    every *Predict* to the end of its question, if it has one, and the title of every exercise.

    Left out are the first cell, which introduces; hints, which the exercise answers; the choices of
    an exercise; tables and code; and the references.
    """
    for cell in lesson["cells"][1:]:
        if cell["cell_type"] != "markdown":
            continue
        text = re.sub(r"(?s:<details>.*?</details>|```.*?```)|(?m:^> .*)", "", cell["source"])
        for part in re.split(r"\n\s*\n|\n(?=- |\d\. )", text.partition("## References")[0]):
            if not re.match(r"\s*(\||!\[|- \*\*[A-Z]\*\*)", part):
                yield from _asked(" ".join(re.sub(r"\]\([^)]*\)", "]", part).split()))


def _asked(paragraph: str) -> Iterator[str]:
    if exercise := course.EXERCISE.search(paragraph):
        yield re.sub(r" \(\w+, \d+ minutes\)$", "", exercise[0]).lstrip("# ")
        return
    waiting: list[str] = []  # a prediction that has not come to its question yet
    for sentence in re.split(r"(?<=[.!?])[*)]*\s+(?![a-z])", paragraph):
        asks = sentence.rstrip("*)").endswith("?")
        if asks or waiting or re.search(r"(?<!\*)\*(predict|look back:)", sentence, re.I):
            waiting.append(sentence)
        if asks:
            yield " ".join(waiting)
            waiting = []
    if waiting and "predict" in waiting[0].lower():
        yield waiting[0]


def answers(page: str) -> dict[str, dict[str, str]]:
    """Lesson -> what is asked -> the answer, as the page has them."""
    lessons = re.split(r"^## \S+ (\d\d): .*$", page, flags=re.M)[1:]
    return dict(zip(lessons[::2], map(dict, map(ANSWER.findall, lessons[1::2])), strict=True))


# --- Numbers -------------------------------------------------------------------------------------


@cache
def _study(name: str) -> pd.DataFrame:
    tickets = shipped(name)
    if tickets.empty:
        raise ValueError(f"{name} must have shipped results")
    return tickets


def _arm(study: str, treatment: str, settings: Sequence[str]) -> pd.DataFrame:
    """The rows of an arm; settings are words such as round=7, of which dense networks have none."""
    tickets = _study(study)
    kept = tickets[tickets["treatment"] == treatment]
    for name, value in (setting.split("=") for setting in settings):
        if treatment == "dense" and name == "round":
            continue
        column = kept[name]
        number = pd.api.types.is_numeric_dtype(column)
        kept = kept[np.isclose(column, float(value), rtol=5e-3) if number else column == value]
    if kept.empty:
        raise ValueError(f"{study} has no {treatment} with {', '.join(settings)}")
    return kept


def mean(study: str, treatment: str, column: str, *settings: str) -> str:
    """The mean of an arm, in the column's unit."""
    rows = _arm(study, treatment, settings)
    value = rows[column].mean()
    if column.endswith("instability"):
        return f"{100 * value:.{1 if value >= 0.01 else 2}f} points"
    if column.endswith("accuracy"):
        return f"{100 * value:.{2 if set(rows['dataset']) == {'mnist'} else 1}f}%"
    return f"{100 * value:.3g}%" if column == "density" else f"{value:,.0f}"


def lead(study: str, one: str, other: str, column: str, *settings: str) -> str:
    """How far one arm is ahead of another, paired by seed, with its 95% interval."""
    return _difference(_arm(study, one, settings), _arm(study, other, settings), column)


def gain(rate: str, number: str) -> str:
    """What rewinding to the later k gains in the study stability-imp, paired by seed."""
    later, first = (
        _arm("stability-imp", "rewind", (f"learning_rate={rate}", f"round={number}", f"rewind={k}"))
        for k in (300, 0)
    )
    return _difference(later, first, "final_test_accuracy")


def _difference(one: pd.DataFrame, other: pd.DataFrame, column: str) -> str:
    ends = [rows.groupby("seed")[column].mean() for rows in (one, other)]
    found = estimate(100 * (ends[0] - ends[1]).dropna())
    middle, low, high = (round(x, 2) + 0.0 for x in (found.mean, found.low, found.high))  # no -0.00
    return f"{middle:+.2f} points [{low:+.2f}, {high:+.2f}]"


@cache
def _claims() -> pd.DataFrame:
    return claims_table(evidence(nothing_of_ones_own())).rows


def claim(name: str, number: str = "1") -> str:
    """A row of the table of claims: what was measured, and the verdict; number: of its rows."""
    row = _claims()[_claims()["claim"] == name].iloc[int(number) - 1]
    return f"{row['reference'].partition(';')[0]} ({row['reference_verdict']})"


def cost(column: str, setting: str) -> str:
    """What a ticket of the lottery costs, in trainings of the dense network."""
    table = figures.cost_of_tickets(_study("lottery")).table
    return f"{table.loc[table['round'] == int(setting.removeprefix('round=')), column].item():.2g}"


def kept(layer: str) -> str:
    """The share of a layer that slimming keeps."""
    table = figures.kept_per_layer(_study("rethinking-slimming")).table
    return f"{table.loc[table['layer'] == int(layer), 'share'].item():.0%}"


def live(lesson: str, words: str) -> str:
    """A number of live.json: the first behind some words, or with `# n` at their end the n-th, or
    the last before them with `# -1`.
    """
    said = "\n".join(json.loads((FOLDER / "live.json").read_text("utf-8"))["said"][lesson])
    place, _, number = words.partition(" # ")
    before, found, after = said.partition(place)
    if not found:
        raise ValueError(f"lesson {lesson} must have said {place!r}")
    at = int(number or 1)
    return re.findall(_FIGURE, after)[at - 1] if at > 0 else re.findall(_FIGURE, before)[at]


KINDS: dict[str, Callable[..., str]] = {
    "mean": mean,
    "lead": lead,
    "gain": gain,
    "claim": claim,
    "cost": cost,
    "kept": kept,
}


def with_numbers(page: str) -> str:
    """The page with every number anew."""
    lesson = ""

    def anew(match: re.Match[str]) -> str:
        kind, words = match.groups()
        value = live(lesson, words) if kind == "live" else KINDS[kind](*words.split())
        return f"<!-- {kind} {words} -->{value}<!-- / -->"

    lines = []
    for line in page.splitlines():
        if heading := re.match(r"## \S+ (\d\d): ", line):
            lesson = heading[1]
        lines.append(NUMBER.sub(anew, line))
    return "\n".join(lines) + "\n"


def said(executed: course.Notebook) -> list[str]:
    """What the cells of an executed lesson printed and showed, as text: what stands beside
    pictures, and tables with a bar between columns.
    """
    found = []
    for output in (o for cell in executed["cells"] for o in cell.get("outputs", [])):
        data = output.get("data", {})
        text = "".join(data.get("text/html", "")) or "".join(output.get("text", ""))
        text = re.sub(r"<(style|svg|script)\b.*?</\1>", "", text, flags=re.S)
        text = re.sub(r"</t[dh]>\s*<t[dh][^>]*>", " | ", text)
        text = html.unescape(re.sub(r"</tr>", "\n", text))
        text = re.sub(r"\s*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", re.sub(r"<[^>]+>", " ", text)))
        if re.search(r"\d", text):
            found.append(text.strip()[:LONGEST])
    return found


def remember(folder: Path) -> None:
    """Write live.json from executed copies of the lessons; what others said is kept."""
    path = FOLDER / "live.json"
    known = json.loads(path.read_text("utf-8")) if path.exists() else {"said": {}}
    for one in sorted(folder.glob("*.ipynb")):
        known["said"][one.stem[:2]] = said(course.read(one))
    known["torch"] = torch.__version__
    path.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# --- Mistakes ------------------------------------------------------------------------------------


def mistakes() -> Iterator[tuple[str, str, list[Fault]]]:
    """Exercise by exercise in the lessons' order: where it is, the check, and its faults."""
    tables = {name: faults for path in _rooms() for name, faults in _faults(path).items()}
    for path in course.chosen([]):
        title = ""
        for cell in course.read(path)["cells"]:
            title = (course.EXERCISE.search(cell["source"]) or [title])[0]
            check = re.search(r"^from labkit\.checks import (check_\w+)", cell["source"], re.M)
            if check:
                where = f"{path.stem[:2]}, {re.sub(r' [(].*', '', title).lstrip('# ')}"
                yield where, check[1], tables[check[1]]


def _rooms() -> Iterator[Path]:
    yield from sorted(Path(checks.__file__).parent.glob("[a-z]*.py"))


def _faults(path: Path) -> dict[str, list[Fault]]:
    """Of a room of checks: check -> the faults that its code, or what it calls, can name."""
    tree = ast.parse(path.read_text("utf-8"))
    parts = {name: node for node in tree.body for name in _names(node)}
    faults = {n: f for n, node in parts.items() if (f := _fault(getattr(node, "value", None)))}
    found = {}
    for check in (name for name in parts if name.startswith("check_")):
        reached, waiting = dict.fromkeys([check]), [check]
        while waiting:
            for node in ast.walk(parts[waiting.pop()]):
                name = getattr(node, "id", "")
                if name in parts and name not in reached:
                    reached[name] = None
                    waiting.append(name)
        named = [faults[name] for name in parts if name in reached and name in faults]
        own = (_fault(node) for node in ast.walk(parts[check]))
        found[check] = [*named, *filter(None, own), *_of_choices(parts[check])]
    return found


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _fault(node: ast.AST | None) -> Fault | None:
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Fault":
        return Fault(*map(_text, node.args))
    return None


def _text(node: ast.expr) -> str:
    """A string of the code, with dots for what is filled in when it runs."""
    parts = getattr(node, "values", [node])
    return "".join(str(getattr(part, "value", "")) if isinstance(part, ast.Constant) else "..."
                   for part in parts)  # fmt: skip


def _of_choices(check: ast.AST) -> Iterator[Fault]:
    """The wrong choices of an exercise that asks to choose: what each would mean."""
    for node in ast.walk(check):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "because":
            for choice, meaning in ast.literal_eval(node.value).items():
                yield Fault(choice, f"for ..., {choice} is not it", meaning)


def mistakes_page() -> str:
    """The table of typical mistakes, exercise by exercise, as a Markdown page."""
    parts = [_MISTAKES]
    for where, check, faults in mistakes():
        rows = [f"| {f.name} | {f.says} | {f.look} |".replace("\n", " ") for f in faults]
        head = ["| mistake | the check says | ask |", "|---|---|---|"]
        parts.append("\n".join([f"## {where}\n", f"`{check}`\n", *head, *rows, ""]))
    return "\n".join(parts)


# --- The command ---------------------------------------------------------------------------------


def main(words: Sequence[str] | None = None) -> None:
    """Write the numbers of the pages, and the table of mistakes."""
    parser = argparse.ArgumentParser(prog="python -m tools.teaching", description=__doc__)
    parser.add_argument("--executed", type=Path, help="executed copies, as `make course` makes")
    arguments = parser.parse_args(words)
    if arguments.executed:
        remember(arguments.executed)
    for page in NUMBERED:
        page.write_text(with_numbers(page.read_text("utf-8")), encoding="utf-8")
    (FOLDER / "mistakes.md").write_text(mistakes_page(), encoding="utf-8")
    print(*NUMBERED, FOLDER / "mistakes.md", sep="\n")


if __name__ == "__main__":
    main()
