"""The report of a reproduction: one HTML page with the claims, the figures, the numbers behind
them, and how they were made.
"""

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from labkit.base.store import StoreError
from labkit.experiments.experiment import Study
from labkit.experiments.results import Tables
from labkit.figures import arms as figures, lines as landscapes, pairs, stability as phases
from labkit.figures.layers import kept_per_layer
from labkit.figures.picture import Picture

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 60rem;
       margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; font-size: 0.9rem }}
th, td {{ border: 1px solid #bbb; padding: 0.3rem 0.5rem; text-align: left; vertical-align: top }}
figcaption {{ color: #333; margin: 0.3rem 0 1.5rem }}
</style></head><body><h1>{title}</h1>
{body}
</body></html>
"""


@dataclass
class Section:
    """What a report says of one preset. run, reference: what this machine and what the shipped
    results measured; claims: the table of `labkit.papers.claims.table`.
    """

    preset: str
    study: Study
    run: Tables
    reference: Tables | None
    claims: pd.DataFrame


def write_report(path: Path, sections: Sequence[Section]) -> Path:
    """Write a report that needs no other file, and return its path.

    Raises StoreError where the file cannot be written.
    """
    body = "\n".join(part for section in sections for part in _section(section))
    try:
        page = _PAGE.format(title="The Lottery Ticket Lab: report", body=body)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write the report {path} ({error})") from error
    return path


def _section(section: Section) -> Iterator[str]:
    words = ["paper", "claim", "published", "reference", "reference_verdict"]
    words += ["this_run", "this_run_verdict"]
    settings = json.dumps([asdict(experiment) for experiment in section.study], indent=2)
    yield f"<h2>{section.preset}</h2><h3>What the paper says, what was measured</h3>"
    yield _table(section.claims[words].rename(columns=lambda name: name.replace("_", " ")))
    yield "<p>Values are means over seeds, paired by seed, with 95% intervals (Student's t).</p>"
    for picture in _pictures(section.run, section.reference):
        yield picture.to_html()
    yield f"<details><summary>Every network of this run</summary>{_table(section.run.tickets)}"
    yield "</details><details><summary>Settings of this run</summary>"
    yield f"<pre>{html.escape(settings)}</pre></details>"


def _pictures(run: Tables, reference: Tables | None) -> Iterator[Picture]:
    """The figures that these tables have the columns and the rows for."""
    tickets, paths = run.tickets, run.paths
    behind = None if reference is None else reference.tickets
    treatments = set(tickets["treatment"])
    rates = tickets["learning_rate"].nunique()
    if not paths.empty:
        dense = tickets[tickets["treatment"] == "dense"]
        for _, lines in paths[paths["treatment"] == "dense"].groupby("network", sort=False):
            if lines["rewind"].nunique() == 1:
                yield landscapes.error_along_line(lines, by="learning_rate")
                continue
            for _, own in lines.groupby("learning_rate"):
                yield landscapes.error_along_line(own, by="rewind")
        if dense["rewind"].nunique() > 1:
            yield phases.instability_against_rewind(dense)
    if tickets["rewind"].nunique() > 1 and "rewind" in treatments:
        yield phases.phase_diagram(tickets)
    elif "reinitialise" in treatments and rates > 1 and not paths.empty:
        for _, own in tickets.groupby("network", sort=False):
            yield phases.contradiction_map(own)
    elif "reinitialise" in treatments and rates > 1:
        yield pairs.difference_by_learning_rate(tickets, behind)
    elif "scratch-e" in treatments:
        yield pairs.compare_treatments(tickets, behind, against="fine-tune-quarter")
        if "structured" in set(tickets["kind"]):
            yield kept_per_layer(tickets, behind)
    elif "rewind" in treatments:
        yield figures.accuracy_against_density(tickets, behind)
        yield figures.early_stop_against_density(tickets, behind)
        yield figures.learning_curves(run.curves, int(tickets["round"].max()))


def _table(rows: pd.DataFrame) -> str:
    return rows.round(4).to_html(index=False, border=0, na_rep="")
