"""The house has floors: a module imports only from its own floor and from those before it."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

from tools.gallery import FLOORS

OF_CHECKS = {"base", "engine", "experiments", "checks"}


def imports(path: Path) -> set[str]:
    """The modules of labkit that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("labkit")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("labkit"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms(root: Path) -> dict[str, set[str]]:
    """Every room, as "floor.room", and the rooms that it imports from."""
    paths = {
        f"{floor}.{path.stem}": path
        for floor in FLOORS
        for path in (root / "labkit" / floor).glob("*.py")
    }
    return {
        room: {".".join(name.split(".")[1:3]) for name in imports(path)} & paths.keys() - {room}
        for room, path in paths.items()
    }


def test_every_folder_is_a_floor(root: Path):
    assert {p.parent.name for p in (root / "labkit").glob("*/*.py")} == set(FLOORS)


def test_a_floor_imports_only_floors_before_it(root: Path):
    for room, others in rooms(root).items():
        floor = room.split(".")[0]
        allowed = OF_CHECKS if floor == "checks" else set(FLOORS[: FLOORS.index(floor) + 1])
        for other in others:
            assert other.split(".")[0] in allowed - {"checks"} | {floor}, f"{room} imports {other}"


def test_no_room_imports_itself_in_a_circle(root: Path):
    list(TopologicalSorter(rooms(root)).static_order())


def test_only_the_plain_loops_use_the_face(root: Path):
    for path in (root / "labkit").glob("*/*.py"):
        faced = {name for name in imports(path) if name.count(".") == 1}
        assert {name.split(".")[1] for name in faced} <= set(FLOORS) | {"__version__"}, path


def test_the_package_needs_nothing_of_the_tools(root: Path):
    for path in (root / "labkit").glob("**/*.py"):
        assert not re.search(r"^\s*(from|import) tools\b", path.read_text("utf-8"), re.M), path


def test_the_table_of_contents_names_what_is_there(root: Path):
    page = (root / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"([^|\]]*)\[`(labkit/[\w/]+\.py)`\]\(\2\)", page)
    assert len(named) >= 8
    for before, path in named:
        code = (root / path).read_text("utf-8")
        for name in set(re.findall(r"`(\w+)`", before)) - {"Look"}:
            defined = rf"^(def|class) {name}\b|^{name}\b.* = "
            assert re.search(defined, code, re.M), f"{name} is not in {path}"
    for room in re.findall(r"`(panel|experiments|engine|command|base)/(\w+)`", page):
        assert (root / "labkit" / room[0] / f"{room[1]}.py").is_file(), room
