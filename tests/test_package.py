"""The public face: every name is there, and is imported only when asked for."""

import ast
import subprocess
import sys
from importlib import import_module

import pytest

import labkit


def test_every_public_name_is_what_its_module_holds(root):
    tree = ast.parse((root / "labkit/__init__.pyi").read_text())
    found = {}
    for node in ast.walk(tree):  # what an editor and mypy are told
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name: f"labkit.{node.module}" for alias in node.names}
    assert sorted(found) == sorted(labkit.__all__)
    for name, module in found.items():
        assert getattr(labkit, name) is getattr(import_module(module), name)


def test_public_names_are_offered_for_completion():
    assert set(labkit.__all__) <= set(dir(labkit))


def test_an_unknown_name_is_an_error():
    with pytest.raises(AttributeError, match="No labkit attribute lottery"):
        _ = labkit.lottery


def test_the_package_alone_does_not_import_torch(root):
    code = "import sys, labkit; dir(labkit); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
