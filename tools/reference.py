"""The pages of the reference that come from the code: a hook of mkdocs, see mkdocs.yml.

It adds a page for every room of the house with all its public docstrings, and the front page with
every public name; and it leads links that leave docs/ to the repository.
"""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from tools.address import project
from tools.gallery import FLOORS

ROOT = Path(__file__).resolve().parent.parent
LAB = ROOT / "labkit"
FRONT = """# The Lottery Ticket Lab

{about}

These pages are made from the docstrings of the lab and from its `docs`, and need no network to be
read and searched. The [repository]({repository}) has the lessons, and says how to start;
[terms](terms.md) says what words mean here.

## Every public name

Each is imported from `labkit`.

| name | what it is |
|---|---|
{names}
"""
PAGE = """# `{module}`

::: {module}
"""


def rooms() -> Iterator[str]:
    """The modules of the lab, "labkit.plain" first and then floor by floor."""
    yield "labkit.plain"
    for floor in FLOORS:
        for path in sorted((LAB / floor).glob("*.py")):
            if path.stem != "__init__" or floor == "checks":
                yield f"labkit.{floor}.{path.stem}".removesuffix(".__init__")


def public_names() -> dict[str, str]:
    """Name -> the module that it lives in, as the face of the lab has them."""
    tree = ast.parse((LAB / "__init__.pyi").read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"labkit.{node.module}" for node in imports for alias in node.names}


def page_of(module: str) -> str:
    """The source of a module's page, in docs."""
    return f"code/{module.removeprefix('labkit.')}.md"


def front_page() -> str:
    """The page that names everything public, with the first paragraph that is said of it."""
    lines = []
    for name, module in sorted(public_names().items(), key=lambda pair: pair[0].lower()):
        said = " ".join(first_paragraph(module, name).split()).replace("|", "\\|")
        lines.append(f"| [`{name}`]({page_of(module)}#{module}.{name}) | {said} |")
    about = ast.get_docstring(ast.parse((LAB / "__init__.py").read_text("utf-8"))) or ""
    about = about.split("\n\n")[0]
    return FRONT.format(about=about, repository=_repository(), names="\n".join(lines))


def first_paragraph(module: str, name: str) -> str:
    """Of a docstring: that of a class or function, or what stands below an assignment."""
    path = ROOT / (module.replace(".", "/") + ".py")
    body = ast.parse(path.read_text("utf-8")).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return (ast.get_docstring(node) or "").split("\n\n")[0]
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        assigned = any(getattr(target, "id", None) == name for target in targets)
        if assigned and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            return str(after.value.value).split("\n\n")[0]
    raise ValueError(f"{name} has no docstring in {path}")


def on_config(config: Any) -> Any:
    """The pages of the code, floor by floor, at the end of the contents."""
    floors: dict[str, list[Any]] = {}
    for module in rooms():
        floor, _, room = module.removeprefix("labkit.").partition(".")
        floors.setdefault(floor, []).append({room or floor: page_of(module)})
    code = [pages[0] if len(pages) == 1 else {floor: pages} for floor, pages in floors.items()]
    config["nav"] = [*config["nav"], {"Code": code}]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add what comes from the code."""
    files.append(File.generated(config, "index.md", content=front_page()))
    for module in rooms():
        text = PAGE.format(module=module)
        files.append(File.generated(config, page_of(module), content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to files that are not in docs, as links to the repository."""
    docs = Path(config["docs_dir"])

    def lead(match: re.Match[str]) -> str:
        target, _, anchor = match[1].partition("#")
        path = Path(os.path.normpath(docs / Path(page.file.src_uri).parent / target))
        if not target or ":" in target or path.is_relative_to(docs) or not path.exists():
            return match[0]
        address = f"{_repository()}/blob/main/{path.relative_to(ROOT).as_posix()}"
        return f"]({address}{'#' + anchor if anchor else ''})"

    return re.sub(r"\]\(([^)\s]+)\)", lead, markdown)


def _repository() -> str:
    return f"https://github.com/{project((ROOT / 'pyproject.toml').read_text('utf-8'))[0]}"
