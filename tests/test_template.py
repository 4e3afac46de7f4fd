"""`allkit plugins new`: packages of every kind that are complete, and their update."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import typing

import pytest

from allkit.plugins.offers import Kind

pytest.importorskip("jinja2", reason="pip install 'allkit[author]'")
KINDS = typing.get_args(Kind)
FILES = {
    "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore", ".allkit-template.toml",
    "allkit_mine.py", "tests/test_allkit_mine.py", ".github/workflows/test.yml",
    ".github/workflows/release.yml",
}  # fmt: skip


@pytest.fixture
def new(cli, tmp_path):
    """Write a package and return its folder: `new("view")`."""

    def run(kind, name="allkit-mine"):
        folder = tmp_path / f"{kind}-{name}"
        status, _, err = cli("plugins", "new", name, "--kind", kind, "--out", folder)
        assert status == 0, err
        return folder

    return run


def run(folder, *words):
    """Run a Python program in the folder of a package, which is there as if it were installed."""
    site = folder.parent / f"{folder.name}-site"
    info = site / "allkit_mine-0.1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: allkit-mine\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[allkit]\nmine = allkit_mine\n")
    path = os.pathsep.join([str(folder), str(site), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_is_complete_and_brings_no_more_than_its_kind_needs(kind, new):
    folder = new(kind)
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert names == FILES
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".yml":
            assert "{{" not in path.read_text()
            assert "{%" not in path.read_text()
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    light = kind in ("augmentation", "finder", "reader", "exporter", "command", "health-check")
    assert any("[train]" in text for text in project["dependencies"]) != light
    assert "torch" not in "".join(project["dependencies"])
    release = (folder / ".github/workflows/release.yml").read_text()
    assert "id-token: write" in release
    assert "pypa/gh-action-pypi-publish" in release
    assert "secrets" not in release
    tests = (folder / ".github/workflows/test.yml").read_text()
    for words in ("oldest", "newest", '"3.11"', "allkit plugins check allkit-mine --next"):
        assert words in tests


@pytest.mark.slow
def test_new_packages_of_every_kind_are_in_form_whatever_their_names(new, tmp_path):
    for kind in KINDS:
        for name in ("allkit-q", f"allkit-of-a-long-name-that-somebody-gave-{kind}"):
            new(kind, name)
    for words in (("format", "--check"), ("check",)):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--no-cache", tmp_path], capture_output=True, text=True
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


def whole(folder):
    """What the author of a package runs."""
    done = run(folder, "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-3000:]
    done = run(folder, "allkit", "plugins", "check", "allkit-mine")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "FAILED" not in done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["augmentation", "health-check"])
def test_a_new_package_passes_its_tests_and_all_checks(kind, new):
    assert "skipped" not in whole(new(kind))


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_of_every_kind_passes_its_tests_its_types_and_all_checks(kind, new):
    folder = new(kind)
    whole(folder)
    done = run(folder, "mypy", "--no-incremental")
    assert done.returncode == 0, done.stdout


def test_the_readme_of_a_package_shows_settings_that_a_training_takes(new):
    from allkit.config import TrainConfig
    from allkit.config.files import parse_yaml

    for kind in ("backbone", "augmentation", "view", "finder"):
        text = (new(kind) / "README.md").read_text()
        settings = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]
        assert TrainConfig.parse(parse_yaml(settings), source="the README")


def test_a_part_may_be_called_otherwise_than_its_package_everywhere(new, cli, tmp_path):
    folder = tmp_path / "here"
    words = ("plugins", "new", "allkit-mine", "--kind", "exporter", "--out", folder)
    status, _, err = cli(*words, "--part", "packed")
    assert status == 0, err
    readme = (folder / "README.md").read_text()
    given = "--format allkit-mine/packed --set level=9"
    assert f"allkit export MODEL --out model.packed {given}\n" in readme
    assert (
        'model.export("model.packed", format="allkit-mine/packed", settings={"level": 9})' in readme
    )
    test = "test_the_readme_names_what_the_package_offers"
    assert run(folder, "pytest", "-q", "-p", "no:cacheprovider", "-k", test).returncode == 0
    module = folder / "allkit_mine.py"
    module.write_text(module.read_text().replace('"packed"', '"other"'))
    done = run(folder, "pytest", "-q", "-p", "no:cacheprovider", "-k", test)
    assert (done.returncode, "'other' in" in done.stdout) == (1, True)
    assert "no name for a part" in cli(*words[:-1], tmp_path / "x", "--part", "My part")[2]
    before = contents(folder)
    assert cli("plugins", "new", "--update", folder)[0] == 0
    assert contents(folder) == before


def test_a_new_package_is_refused_where_it_cannot_be(cli, tmp_path):
    assert "no name for a package" in cli("plugins", "new", "My Plugin")[2]
    assert "is not one of 'backbone'" in cli("plugins", "new", "allkit-x", "--kind", "hook")[2]
    for taken in ("json", "numpy", "test", "plugin", "allkit", "pytest"):
        assert "taken by another module" in cli("plugins", "new", taken)[2]
    for own in ("allkit-doctor", "train"):
        err = cli("plugins", "new", own, "--kind", "command", "--out", tmp_path / own)[2]
        assert (
            f"is a command of allkit's own, and stays so. Choose another name, as in {own}-mine"
            in err
        )
    assert "Name the package" in cli("plugins", "new")[2]
    (tmp_path / "allkit-x").mkdir()
    status, _, err = cli("plugins", "new", "allkit-x", "--out", tmp_path / "allkit-x")
    assert status == 2
    assert "exists already" in err


# ── what is new in the template ───────────────────────────────────────────────────────────────


@pytest.fixture
def later(monkeypatch, tmp_path):
    """A template that has changed since: the README and the workflow of the tests."""
    from allkit.cli import plugins_template

    folder = tmp_path / "template"
    shutil.copytree(plugins_template.FOLDER, folder)
    for name in ("README.md.jinja", "CHANGELOG.md.jinja"):
        with (folder / "common" / name).open("a") as file:
            file.write("\nNew in the template.\n")
    (folder / "common" / "SECURITY.md.jinja").write_text("Write to {{ name }}.\n")
    (folder / "common" / ".gitignore.jinja").unlink()
    monkeypatch.setattr(plugins_template, "FOLDER", folder)


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()
    }


def test_an_update_renews_what_was_never_changed_and_loses_nothing(new, cli, request):
    folder = new("augmentation")
    (folder / "CHANGELOG.md").write_text("# Mine\n")
    (folder / "LICENSE").unlink()
    before = contents(folder)
    request.getfixturevalue("later")
    status, _, err = cli("plugins", "new", "--update", folder)
    assert status == 0, err
    after = contents(folder)
    assert "New in the template." in after["README.md"]
    assert "README.md is renewed: you had not changed it." in err
    assert after["CHANGELOG.md"] == "# Mine\n"
    assert "New in the template." in after["CHANGELOG.md.new"]
    assert "CHANGELOG.md was changed by you, and stays. What the template has now is in " in err
    assert after["SECURITY.md"] == "Write to allkit-mine.\n"
    assert "LICENSE" not in after
    assert after[".gitignore"] == before[".gitignore"]
    assert ".gitignore is no longer part of the template; it stays" in err
    assert after["allkit_mine.py"] == before["allkit_mine.py"]
    # Once more: nothing is new, and nothing is written.
    status, _, err = cli("plugins", "new", "--update", folder)
    assert (status, "Nothing is new." in err) == (0, True)
    assert contents(folder) == after


def test_new_text_never_takes_the_place_of_a_file_that_is_there(new, cli, request):
    folder = new("augmentation")
    (folder / "CHANGELOG.md").write_text("# Mine\n")
    (folder / "CHANGELOG.md.new").write_text("notes of mine\n")
    (folder / ".github/workflows/test.yml.new").write_text("of an earlier update\n")
    request.getfixturevalue("later")
    status, _, err = cli("plugins", "new", "--update", folder)
    assert status == 0
    assert f"to compare: diff {folder}/CHANGELOG.md {folder}/CHANGELOG.md.new2" in err
    assert ".github/workflows/test.yml.new is there from an earlier update" in err
    assert (folder / "CHANGELOG.md.new").read_text() == "notes of mine\n"
    assert "New in the template." in (folder / "CHANGELOG.md.new2").read_text()


def test_ends_of_lines_of_another_system_are_no_change(new, cli, request):
    folder = new("augmentation")
    readme = folder / "README.md"
    readme.write_bytes(readme.read_bytes().replace(b"\n", b"\r\n"))
    request.getfixturevalue("later")
    assert "README.md is renewed" in cli("plugins", "new", "--update", folder)[2]


@pytest.mark.parametrize(
    ("was", "now"), [("allkit-mine", "allkit-other"), ('kind = "view"', 'kind = "finder"')]
)
def test_an_update_makes_no_other_package_of_one(was, now, new, cli):
    folder = new("view")
    mark = folder / ".allkit-template.toml"
    mark.write_text(mark.read_text().replace(was, now, 1))
    before = contents(folder)
    status, _, err = cli("plugins", "new", "--update", folder)
    assert (status, "name and kind stay as they are" in err) == (2, True)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "was not made by `allkit plugins new`"),
        ("{", "is damaged"),
        ("name = 'allkit-x'\nkind = 'nothing'\n[files]\n", "is damaged"),
        ("name = '../../up'\nkind = 'view'\n[files]\n", "no name for a package"),
    ],
)
def test_a_folder_that_cannot_be_updated_is_left_alone(content, said, cli, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    if content is not None:
        (folder / ".allkit-template.toml").write_text(content)
    status, _, err = cli("plugins", "new", "--update", folder)
    assert (status, said in err) == (2, True)
    assert len(list(folder.iterdir())) == (content is not None)
