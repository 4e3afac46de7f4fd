"""The packages in plugins/: what each says of itself."""

import ast
import tomllib
from pathlib import Path

import pytest

from allkit.hookspecs import __all__ as HOOKS

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request):
    return request.param


def test_a_package_is_named_like_its_folder_and_says_its_licence_and_what_it_needs(folder):
    about = project(folder)["project"]
    assert about["name"] == folder.name
    assert about["license"] == "Apache-2.0"
    assert any(d.startswith("allkit") for d in about["dependencies"])
    assert all(">=" in dependency for dependency in about["dependencies"])


def test_its_entry_point_is_a_module_of_its_wheel_with_a_hook_for_the_newest_contract(folder):
    settings = project(folder)
    modules = settings["project"]["entry-points"]["allkit"].values()
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    packed = [*wheel.get("only-include", ()), *wheel.get("packages", ())]
    assert sorted(packed) == sorted(
        path.name for path in folder.glob("allkit_*") if path.suffix in ("", ".py")
    )
    for module in modules:
        file = folder / f"{module}.py"
        file = file if file.exists() else folder / module / "__init__.py"
        tree = ast.parse(file.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert functions & set(HOOKS)
        versions = [
            node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "api_version"
        ]
        assert versions == [2]


def test_its_page_tells_how_it_is_installed(folder):
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "pip install " in page
    assert page.startswith(f"# {folder.name}\n")
