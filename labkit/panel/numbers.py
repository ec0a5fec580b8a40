"""Numbers of a picture: a table to unfold, and a file to download."""

import base64
import csv
import html
import io
from collections.abc import Sequence

Row = dict[str, str | int | float | None]  # of a table: column -> value


def table(caption: str, rows: Sequence[Row]) -> str:
    """Rows as an HTML table to unfold, its columns those of the first row."""
    if not rows:
        return ""
    cell = 'style="border: 1px solid #bbb; padding: 2px 8px; text-align: right"'
    head = "".join(f'<th scope="col" {cell}>{html.escape(name)}</th>' for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td {cell}>{_number(value)}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    words = html.escape(caption)
    return (
        f"<details><summary>{words}: the numbers</summary>"
        f'<table style="border-collapse: collapse; ">'
        f"<caption>{words}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</details>"
    )


def download(name: str, rows: Sequence[Row]) -> str:
    """A link that saves rows as a CSV file of this name."""
    if not rows:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    content = base64.b64encode(file.getvalue().encode()).decode()
    words = html.escape(name)
    return f'<a download="{words}" href="data:text/csv;base64,{content}">Download {words}</a>'


def _number(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return html.escape(value) if isinstance(value, str) else f"{value:.6g}"
