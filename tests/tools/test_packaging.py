"""The files that install the lab agree with each other and with what the code imports."""

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib: Any = pytest.importorskip("tomllib", reason="needs Python 3.11 or newer")

# Where conda-forge has another name for a package, or offers a leaner build of it.
CONDA_NAMES = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}
# In environment.yml alone: the interpreter, the installer, and Binder's too old ipykernel.
CONDA_ONLY = {"python", "pip", "ipykernel"}
IMPORT_NAMES = {
    "axe-playwright-python": "axe_playwright_python",
    "beautifulsoup4": "bs4",
    "ipython": "IPython",
    "jupyter-client": "jupyter_client",
    "lazy-loader": "lazy_loader",
    "pillow": "PIL",
    "pyyaml": "yaml",
}
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def environment(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "environment.yml").read_text("utf-8"))


@pytest.fixture(scope="module")
def constraints(root: Path) -> list[Requirement]:
    return [
        Requirement(line) for line in (root / "constraints.txt").read_text("utf-8").splitlines()
    ]


def requirements(project: dict[str, Any]) -> list[Requirement]:
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for line in chain.from_iterable(lists)]


def imported_by(sources: list[Path]) -> set[str]:
    """The top-level modules that these files import, wherever in the file."""
    found = set()
    for node in (node for path in sources for node in ast.walk(ast.parse(path.read_text("utf-8")))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names)


def tracked_files(root: Path) -> list[Path]:
    """The files that git has or would take; of a plain download, those not in hidden folders."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
        paths = [root / name for name in names.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [p for p in root.rglob("*") if not any(q.startswith(".") for q in p.parts)]
    return [path for path in paths if path.is_file()]


def test_dependencies_have_lower_bounds_only(project: dict[str, Any]):
    for requirement in requirements(project):
        assert {bound.operator for bound in requirement.specifier} == {">="}, requirement


def test_everything_imported_is_a_declared_dependency(root: Path, project: dict[str, Any]):
    declared = {IMPORT_NAMES.get(r.name, r.name) for r in requirements(project)}
    needed = {IMPORT_NAMES.get(r.name, r.name) for r in map(Requirement, project["dependencies"])}
    rooms = set(root.glob("labkit/**/*.py"))
    clusters = {root / "labkit" / "experiments" / f"{name}.py" for name in ("cluster", "running")}
    extra = {Requirement(line).name for line in project["optional-dependencies"]["cluster"]}
    assert imported_by(list(rooms - clusters)) <= needed | {"labkit"}
    assert imported_by(list(clusters)) <= needed | extra | {"labkit"}
    assert imported_by(list(root.glob("tests/**/*.py"))) <= declared | {"labkit", "tests", "tools"}


def test_environment_asks_for_the_dependencies_of_the_project(
    project: dict[str, Any], environment: dict[str, Any]
):
    asked = [*project["dependencies"], *project["optional-dependencies"]["lab"]]
    wanted = {
        CONDA_NAMES.get(requirement.name, requirement.name): str(requirement.specifier)
        for requirement in map(Requirement, asked)
        if requirement.name not in CONDA_ONLY
    }
    listed = dict(re.fullmatch(r"([\w-]+)(.*)", d).groups() for d in environment["dependencies"])
    assert {name: bound for name, bound in listed.items() if name not in CONDA_ONLY} == wanted


def test_environment_is_one_that_binder_reads(project: dict[str, Any], environment: dict[str, Any]):
    assert [c for c in environment["channels"] if c != "nodefaults"] == ["conda-forge"]
    (python,) = (d for d in environment["dependencies"] if d.startswith("python="))
    # With a single = and two numbers; repo2docker takes its default for any other form.
    version = re.fullmatch(r"python=(\d+\.\d+)", python)
    assert version and version[1] in Requirement(f"python{project['requires-python']}").specifier
    assert "pip" in environment["dependencies"]


def test_post_build_is_an_executable_script_that_stops_at_errors(root: Path):
    script = root / "postBuild"
    assert os.access(script, os.X_OK)
    assert script.read_text("utf-8").startswith("#!/bin/bash\n")
    assert {"set -e", "pip install --no-deps -e ."} <= set(script.read_text("utf-8").splitlines())


def test_constraints_fix_one_admissible_version_of_every_dependency(
    project: dict[str, Any], constraints: list[Requirement]
):
    fixed: dict[str, str] = {}
    for constraint in constraints:
        (bound,) = constraint.specifier
        assert bound.operator == "==" and "+" not in bound.version, constraint
        if constraint.marker is None or constraint.marker.evaluate():
            assert fixed.setdefault(canonicalize_name(constraint.name), bound.version)
    for requirement in requirements(project):
        assert fixed[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_constraints_hold_no_addresses(constraints: list[Requirement]):
    assert all(constraint.url is None for constraint in constraints)


def test_licence_and_citation_agree_with_the_project(root: Path, project: dict[str, Any]):
    licence = (root / "LICENSE").read_text("utf-8")
    citation = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    assert (
        licence.startswith("MIT License\n") and citation["license"] == project["license"] == "MIT"
    )
    assert citation["version"] == project["version"]
    assert citation["authors"] == project["authors"]
    assert {"cff-version", "message", "title", "type"} <= citation.keys()
    for (author,) in (citation["authors"], project["authors"]):
        assert author["name"] in licence


def test_the_installed_command_exists(project: dict[str, Any]):
    module, function = project["scripts"]["labkit"].split(":")
    assert callable(getattr(import_module(module), function))


def test_every_make_target_that_the_readme_names_exists(root: Path):
    readme, makefile = root / "README.md", (root / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):(?!=)", makefile, flags=re.MULTILINE))
    assert {"reproduce", "test", "lab", "lint", "clean"} <= targets
    named = re.findall(r"(?<![\w-])make ([a-z][\w-]*)(?=[`\s])", code_of(readme.read_text("utf-8")))
    assert {"reproduce", "test", "lab", "lint"} <= set(named) <= targets


def code_of(markdown: str) -> str:
    """The code of a markdown text, where `make sense of` is no target."""
    blocks = re.findall(r"```.*?```", markdown, flags=re.DOTALL)
    spans = re.findall(r"`[^`\n]+`", re.sub(r"```.*?```", "", markdown, flags=re.DOTALL))
    return "\n".join(blocks + spans)


def test_no_file_is_too_large_for_a_repository(root: Path):
    large = {path.name for path in tracked_files(root) if path.stat().st_size > 12 * MEGABYTE}
    assert large == set()


def test_no_text_file_names_a_place_on_one_machine(root: Path):
    homes = re.compile("/" + r"(?:work|root|home/\w+|Users/\w+)/")
    suffixes = {".py", ".md", ".toml", ".yml", ".txt", ".cff", ".ipynb", ".json", ""}
    for path in tracked_files(root):
        if path.suffix in suffixes and path.stat().st_size < MEGABYTE:
            assert not homes.search(path.read_text("utf-8")), path
