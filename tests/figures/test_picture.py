"""A picture is seen, read aloud, and checked against its numbers."""

import base64
import re

import pandas as pd

from labkit.figures.picture import Picture, empty_axes, figure_of


def drawn(table: pd.DataFrame) -> Picture:
    axes = empty_axes(2, 1)
    axes.plot(table.iloc[:, -1])
    return Picture(figure_of(axes), "A line <through> two points.", table)


def test_the_image_carries_its_summary_and_stands_on_white():
    page = drawn(pd.DataFrame({"density": [1.0, 0.5]})).to_html()
    ((source, words),) = re.findall(r'src="data:image/svg\+xml;base64,(.*?)" alt="(.*?)"', page)
    assert b"<svg" in base64.b64decode(source)
    assert words == "A line &lt;through&gt; two points." and f">{words}</figcaption>" in page
    assert "background:white" in page


def test_the_numbers_are_there_on_request_with_the_names_of_their_rows():
    page = drawn(pd.DataFrame({"density": [0.123456789, 0.5]})).to_html()
    assert "<details>" in page and "<td>0.123457</td>" in page and "<th>0</th>" not in page
    named = pd.DataFrame({"density": [1.0, 0.5]}, index=pd.Index(["dense", "ticket"]))
    assert "<th>ticket</th>" in drawn(named).to_html()


def test_the_same_picture_is_the_same_text():
    table = pd.DataFrame({"density": [1.0, 0.5]})
    assert drawn(table).svg() == drawn(table).svg()


def test_counts_are_whole_numbers_even_where_one_is_missing():
    table = pd.DataFrame({"weights": [1_389_216.0, None], "share": [0.5, 1.0], 0.1: ["a", "b"]})
    shown = Picture(figure_of(empty_axes()), "words", table).to_html()
    assert "<td>1389216</td>" in shown and "<td>0.5</td>" in shown
    assert "e+06" not in shown and "NA" not in shown
