"""The page for contributors and the front page say what is so."""

import re
from pathlib import Path

import pandas as pd
import pytest

from labkit.base.store import Store
from labkit.papers.cells import evidence
from labkit.papers.claims import claims_table
from labkit.papers.register import register
from tests.notebooks import NOTEBOOKS
from tools import gallery
from tools.course import EXERCISE, read


def images(text: str) -> list[tuple[str, str]]:
    return re.findall(r"!\[(.*?)\]\(([^)\s]+)\)", text)  # an interval in words has brackets too


def test_every_page_that_it_names_is_there(root: Path):
    page = (root / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"\]\((docs/[^)#]+)", page)
    assert len(named) >= 7 and all((root / name).is_file() for name in named)


def test_the_map_of_the_house_is_as_the_code_says(root: Path):
    table = gallery.floors_table(root / "labkit")
    assert re.search(r"^\| \| `networks` \| .{20}", table, re.M)
    page = (root / "CONTRIBUTING.md").read_text("utf-8")
    assert table in page, "run `make figures`"


def test_the_figures_of_the_front_page_exist_and_have_alternative_text(root: Path):
    found = images((root / "README.md").read_text("utf-8"))
    shown = [(words, target) for words, target in found if "://" not in target]  # no badges
    for alternative, target in shown:
        assert len(alternative) > 40, target
        assert "</svg>" in (root / target).read_text("utf-8")
    drawn = {target for _, target in shown if target.startswith("docs/figures/")}
    assert {f"docs/figures/{path.name}" for path in root.glob("docs/figures/*.svg")} == drawn


def test_figures_are_light(root: Path):
    for path in root.glob("docs/figures/*.svg"):
        assert re.search(r"fill: ?(#ffffff|white)", path.read_text("utf-8")), path


def test_the_front_page_lists_the_lessons_with_their_minutes_and_the_claims(root: Path):
    readme = (root / "README.md").read_text("utf-8")
    table = gallery.lessons_table(root / "notebooks")
    assert table in readme, "run `make figures`"
    assert table.count("\n") == len(NOTEBOOKS) + 1


def test_the_claims_are_those_of_the_register_and_of_the_shipped_results(root: Path):
    """Front page and page of claims hold what the results say now."""
    tickets = evidence(Store(root / "build" / "no-store"))
    found = claims_table(tickets)
    readme = (root / "README.md").read_text("utf-8")
    assert gallery.claims_of_the_front_page(found) in readme, "run `make figures`"
    page = (root / "docs" / "claims.md").read_text("utf-8")
    assert page == gallery.claims_page(found, tickets), "run `make figures`"
    for claim in register():
        assert claim.says in page and claim.published in page
    assert {claim.claim for claim in register()} > set(gallery.FRONT)


def test_the_front_page_leads_to_everything(root: Path):
    readme = (root / "README.md").read_text("utf-8")
    for heading in ("What the lab shows", "What the papers say", "Start", "Lessons", "How to cite"):
        assert re.search(f"^## .*{heading}", readme, re.M), heading
    for page in ("labkit/plain.py", "docs/claims.md", "docs/registration.md", "docs/using.md",
                 "docs/how-to/own-network.md", "docs/cluster.md", "docs/terms.md",
                 "docs/teaching/index.md", "docs/deviations.md", "docs/article.md",
                 "CONTRIBUTING.md"):  # fmt: skip
        assert f"]({page})" in readme and (root / page).is_file(), page
    teaching = (root / "docs" / "teaching" / "index.md").read_text("utf-8")
    assert "90 minutes" in teaching and "four weeks" in teaching


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "data/README.md", "docs/using.md",
                                  "docs/teaching/index.md", "docs/teaching/grading.md",
                                  "docs/teaching/answers.md", "docs/teaching/plan-b.md",
                                  "docs/claims.md", "docs/deviations.md", "docs/registration.md",
                                  "docs/article.md"])  # fmt: skip
def test_links_within_the_repository_lead_somewhere(root: Path, name: str):
    page = root / name
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name} links to {target}"


def test_the_same_results_give_the_same_figure(tmp_path: Path):
    first, second = tmp_path / "a", tmp_path / "b"
    assert gallery.draw(first) == gallery.draw(second)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_tickets_of_several_rewinds_stand_beside_the_dense_network():
    rows = [
        {"dataset": "mnist", "network": "lenet-30", "learning_rate": 0.1, "kind": "unstructured",
         "early_stop": 100, "rewind": k, "round": n, "treatment": "rewind" if n else "dense",
         "seed": seed, "density": 0.5**n, "final_test_accuracy": 0.9 - 0.02 * n * (k == 0)}
        for k in (0, 300) for n in range(4) for seed in (0, 1)
    ]  # fmt: skip
    picture = gallery.accuracy_by_rewind(pd.DataFrame(rows))
    assert (
        "dense 90.0%. At 12% density: 84.0% rewound to 0, 90.0% rewound to 300." in picture.summary
    )
    level, *_ = picture.figure.axes[0].lines
    assert set(level.get_ydata()) == {90.0}


@pytest.mark.parametrize(
    ("lead", "words"),
    [(0.02, "ahead of"), (-0.02, "behind"), (0.0, "not told apart from")],
)
def test_a_heading_says_ahead_only_where_the_interval_leaves_out_zero(lead: float, words: str):
    other = pd.DataFrame({"seed": range(4), "accuracy": [0.90, 0.91, 0.92, 0.93]})
    noise = [0.001, -0.001, 0.002, -0.002]
    one = other.assign(accuracy=other["accuracy"] + lead + noise)
    assert gallery.comparison(one, other, "accuracy").startswith(f"{words} {{other}}, ")
    assert f"{100 * lead:+.1f} points" in gallery.comparison(one, other, "accuracy")


def test_results_that_are_missing_leave_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gallery, "shipped", lambda name: pd.DataFrame())
    assert gallery.draw(tmp_path) == {} and not list(tmp_path.iterdir())
    nothing = claims_table(pd.DataFrame())
    assert nothing.counts() == {"not measured": len(nothing.rows) - 1, "not attempted": 1}
    page = gallery.claims_page(nothing, pd.DataFrame())
    assert page.count("not measured") >= len(nothing.rows) - 1


def test_text_between_markers_is_replaced_and_the_rest_kept():
    text = "before\n<!-- a -->\nold\n<!-- end of a -->\nafter"
    filled = gallery.fill(text, {"a": "new \\1"})
    assert filled == "before\n<!-- a -->\n\nnew \\1\n\n<!-- end of a -->\nafter"
    assert gallery.fill(filled, {"a": "new \\1"}) == filled
    with pytest.raises(ValueError, match="must have a part between"):
        gallery.fill(text, {"b": ""})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_exercises_tell_difficulty_and_minutes_and_have_two_hints(path: Path):
    for cell in read(path)["cells"]:
        titles = re.findall(r"^#+ Exercise \d.*$", cell["source"], re.M)
        assert len(EXERCISE.findall(cell["source"])) == len(titles), titles
        if titles:
            assert cell["source"].count("<details><summary>Hint") == 2, titles
