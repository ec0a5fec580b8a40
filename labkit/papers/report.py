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
from labkit.figures import arms, comparisons, layers, lines, matching, stability
from labkit.figures.picture import Picture, with_whole_numbers
from labkit.papers.claims import ClaimsTable

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
    results measured; claims: the table of `labkit.papers.claims.claims_table`.
    """

    preset: str
    study: Study
    run: Tables
    reference: Tables | None
    claims: ClaimsTable


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
    settings = json.dumps([asdict(experiment) for experiment in section.study], indent=2)
    yield f"<h2>{section.preset}</h2><h3>What the paper says, what was measured</h3>"
    yield section.claims.to_html()
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
        for _, of_network in paths[paths["treatment"] == "dense"].groupby("network", sort=False):
            if of_network["rewind"].nunique() == 1:
                yield lines.error_along_line(of_network, by="learning_rate")
                continue
            for _, of_rate in of_network.groupby("learning_rate"):
                yield lines.error_along_line(of_rate, by="rewind")
        if dense["rewind"].nunique() > 1:
            yield stability.instability_against_rewind(dense)
    if tickets["rewind"].nunique() > 1 and "rewind" in treatments:
        yield matching.phase_diagram(tickets)
    elif "reinitialise" in treatments and rates > 1 and not paths.empty:
        for _, of_network in tickets.groupby(["network", "length"], sort=False):
            yield stability.contradiction_map(of_network)
    elif "reinitialise" in treatments and rates > 1:
        yield comparisons.difference_by_learning_rate(tickets, behind)
    elif "scratch-e" in treatments:
        yield comparisons.compare_treatments(tickets, behind, against="fine-tune-quarter")
        if "structured" in set(tickets["kind"]):
            yield layers.kept_per_layer(tickets, behind)
    elif "rewind" in treatments:
        yield arms.accuracy_against_density(tickets, behind)
        yield arms.early_stop_against_density(tickets, behind)
        yield arms.learning_curves(run.curves, int(tickets["round"].max()))


def _table(rows: pd.DataFrame) -> str:
    return with_whole_numbers(rows.round(4)).to_html(index=False, border=0, na_rep="")
