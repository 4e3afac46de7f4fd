"""The documentation is true: signatures, commands, names. Its blocks of code: test_blocks.py."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import allkit
from allkit import hookspecs

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HOOKS = [name for name in hookspecs.__all__ if name.startswith("allkit_")]


def read(*parts):
    return DOCS.joinpath(*parts).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_documented_under_its_exact_signature(name):
    # The quotes are those of a postponed annotation.
    signature = str(inspect.signature(getattr(hookspecs, name))).replace("'", "")
    assert f"\n## `{name}{signature}`\n" in read("reference", "hooks.md")


def test_the_page_of_commands_is_current():
    spec = importlib.util.spec_from_file_location("generate_cli", DOCS / "generate_cli.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.main(["--check"]) == 0, "run: python docs/generate_cli.py"


def test_the_page_of_commands_does_not_depend_on_the_terminal(monkeypatch):
    for width in ("30", "200"):
        monkeypatch.setenv("COLUMNS", width)
        monkeypatch.setenv("TERMINAL_WIDTH", width)
        test_the_page_of_commands_is_current()


def reference():
    """The text of the pages that describe what is public in Python."""
    return "\n".join(path.read_text("utf-8") for path in (DOCS / "reference").glob("python-*.md"))


@pytest.mark.parametrize("name", allkit.__all__)
def test_a_public_name_is_in_the_reference_by_its_import_path(name):
    assert f"`allkit.{name}`" in read("reference", "api.md")
    if name != "__version__":
        assert re.search(
            rf"^::: allkit\.[\w.]*\b{name}\n    options:\n      heading: allkit\.{name}$",
            reference(),
            re.MULTILINE,
        )


@pytest.mark.parametrize("name", [n for n in allkit.__all__ if n != "__version__"])
def test_the_reference_points_at_what_is_there(name):
    value = getattr(allkit, name)
    text = reference()
    line = re.search(rf"^::: (allkit\.[\w.]*)\.{name}$", text, re.MULTILINE)
    assert getattr(importlib.import_module(line[1]), name) is value


def test_the_changelog_knows_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[(Unreleased|{re.escape(project['version'])})\]", text, re.MULTILINE)
    assert project["version"] == allkit.__version__


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert [page for page in pages if f" {page}\n" not in navigation] == []


def test_no_file_names_a_registry_or_this_checkout():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout, so which files belong to it is not known")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    # Put together here, so that this file does not name them either.
    banned = ["pypi" + ".org", "files.python" + "hosted", "registry." + "npmjs"]
    banned.append(f"{ROOT}/")
    found = []
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        data = path.read_bytes() if path.is_file() else b""
        found += [f"{name}: {text}" for text in banned if text.encode() in data]
    assert found == []


PLACEHOLDER = "…"


def texts_of_messages():
    """The texts in the sources, with `…` in place of what is put in."""
    for path in (ROOT / "src" / "allkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (
                    p.value if isinstance(p, ast.Constant) else PLACEHOLDER for p in node.values
                )
                yield "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_messages_that_are_explained_are_those_of_the_code():
    rows = re.findall(r"^\| (`.+?) \|", read("how-to", "troubleshooting.md"), re.MULTILINE)
    quoted = [text for row in rows for text in re.findall(r"`([^`]+)`", row) if " " in text]
    pieces = {piece.strip(" .,:()") for text in quoted for piece in text.split(PLACEHOLDER)}
    pieces = {piece for piece in pieces if len(piece) > 11}
    assert len(pieces) > 40
    texts = "\n".join(texts_of_messages())
    assert sorted(piece for piece in pieces if piece not in texts) == []
