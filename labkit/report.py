"""One HTML file with the claims, the figures, the numbers behind them, and how they were made."""

import html
import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from labkit import figures
from labkit.experiment import Experiment
from labkit.results import Tables
from labkit.store import StoreError

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


def write_report(
    path: Path | str,
    experiment: Experiment,
    run: Tables,
    reference: Tables | None,
    claims: pd.DataFrame,
) -> Path:
    """Write a report that needs no other file, and return its path.

    run, reference: what this machine and what the shipped results measured; claims: the table of
    `labkit.claims.table`. Raises StoreError where the file cannot be written.
    """
    behind = None if reference is None else reference.tickets
    words = ["paper", "claim", "published", "reference", "reference_verdict"]
    words += ["this_run", "this_run_verdict"]
    last = int(run.tickets["round"].max())
    pictures = [
        figures.accuracy_against_density(run.tickets, behind),
        figures.early_stop_against_density(run.tickets, behind),
        figures.learning_curves(run.curves, last),
    ]
    settings = html.escape(json.dumps(asdict(experiment), indent=2))
    body = [
        "<h2>What the paper says, what was measured</h2>",
        _table(claims[words].rename(columns=lambda name: name.replace("_", " "))),
        "<p>Values are means over seeds, paired by seed, with 95% intervals (Student's t).</p>",
        "<h2>Figures</h2>",
        *(picture.to_html() for picture in pictures),
        "<h2>Every network of this run</h2>",
        _table(run.tickets.round(4)),
        f"<h2>Settings of this run</h2><pre>{settings}</pre>",
    ]
    path = Path(path).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        page = _PAGE.format(title="The Lottery Ticket Lab: report", body="\n".join(body))
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write the report {path} ({error})") from error
    return path


def _table(rows: pd.DataFrame) -> str:
    return rows.to_html(index=False, border=0, na_rep="")
