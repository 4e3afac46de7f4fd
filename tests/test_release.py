"""A release: what names a version agrees, the wheels hold what they must, a wheelhouse suffices."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The folder of the scripts, which can be imported while these tests run."""
    sys.path.insert(0, str(ROOT / "release"))
    yield
    sys.path.remove(str(ROOT / "release"))
    for name in ("agreement", "packages", "environments", "wheelhouse"):
        sys.modules.pop(name, None)


@pytest.fixture
def copy(tmp_path):
    """A copy of the files that name a version, as they are in a release."""
    for path in [
        *ROOT.glob("plugins/*/pyproject.toml"),
        ROOT / "pyproject.toml",
        ROOT / "src/allkit/__init__.py",
        ROOT / "CITATION.cff",
    ]:
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [0.3.0] - 2026-11-30\n")
    return tmp_path


# ── versions ───────────────────────────────────────────────────────────────────────────────────


def test_everything_here_that_names_a_version_agrees():
    from agreement import disagreements

    assert disagreements(ROOT, released=False) == []


def test_a_release_needs_a_dated_heading(copy):
    from agreement import disagreements

    assert disagreements(copy, released=True) == []
    (copy / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n")
    assert disagreements(copy, released=False) == []
    [said] = disagreements(copy, released=True)
    assert "'[Unreleased]'; '[0.3.0] - 2026-11-30' is needed" in said


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("src/allkit/__init__.py", '"0.3.0"', '"0.2.1"', "says 0.2.1, pyproject.toml 0.3.0"),
        ("CITATION.cff", "version: 0.3.0", "version: 0.1.0", "CITATION.cff says 0.1.0"),
        ("CHANGELOG.md", "0.3.0", "0.1.0", "'[0.1.0] - 2026-11-30'"),
        (
            "CITATION.cff",
            "date-released: ",
            "date-released: 1",
            "'[0.3.0] - 12026-11-30' is needed",
        ),
        (
            "plugins/allkit-stain/pyproject.toml",
            "allkit>=0.3.0",
            "allkit>=0.1.0",
            "allkit-stain demands allkit>=0.1.0; allkit>=0.3.0 is needed.",
        ),
        (
            "plugins/allkit-stain/pyproject.toml",
            'version = "0.3.0"',
            'version = "0.1.0"',
            "allkit-stain has the version 0.1.0, allkit 0.3.0.",
        ),
        (
            "pyproject.toml",
            "lite>=0.3.0",
            "lite>=0.1.0",
            "allkit demands allkit-efficientnet-lite>=",
        ),
    ],
)
def test_a_version_that_differs_is_named(copy, file, before, after, said):
    from agreement import disagreements

    text = (copy / file).read_text()
    assert before in text
    (copy / file).write_text(text.replace(before, after, 1))
    assert any(said in sentence for sentence in disagreements(copy, released=True))


def test_the_citation_has_what_its_form_demands():
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation.keys() >= {"message", "title", "authors", "version", "license", "date-released"}
    assert citation["type"] == "software"


# ── the README ─────────────────────────────────────────────────────────────────────────────────


def test_the_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) > 20
    for target in targets:
        path, _, anchor = target.partition("#")
        assert (ROOT / path).exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(encoding="utf-8"), re.M)
            slugs = [
                re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings
            ]
            assert anchor in slugs, target


@pytest.mark.parametrize(
    ("told", "source"),
    [
        ("97.7 % (96.1–99.2)", "0.977 (0.961–0.992)"),
        ("95.1 % of benign and 93.6 % of malignant", "Benign 0.951, malignant 0.936"),
        ("60.8 and 55.4 %", "Benign 60.8 %, malignant 55.4 %"),
        ("98.7 % (96.1–99.9)", "0.987 (0.961–0.999)"),
        ("22 % on series left out", "gets 0.223 (0.077–0.493)"),
        ("0.3 % (0.0–0.8)", "0.3 % (0.0–0.8); worst slide 1.1"),
        ("5 of 1,648 malignant", "5 of 1648 fields, all of E1"),
    ],
)
def test_a_figure_of_the_readme_is_one_of_the_page_of_figures(told, source):
    assert told in (ROOT / "README.md").read_text(encoding="utf-8")
    assert source in (ROOT / "docs/figures.md").read_text(encoding="utf-8")


def test_the_picture_of_the_readme_is_small_and_says_what_it_is():
    text = (ROOT / "docs/result.svg").read_text(encoding="utf-8")
    assert text.startswith("<?xml")
    assert len(text.encode()) < 120_000
    assert "Synthetic smears" in text
    assert 'href="http' not in text, "it asks nothing of another machine"


# ── wheels ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Source archive and wheel of allkit, built here."""
    from packages import build

    archive, wheel = sorted(
        build(ROOT, tmp_path_factory.mktemp("dist"), "sdist", "wheel"), key=lambda p: p.suffix
    )
    return archive, wheel


@pytest.mark.slow
def test_the_wheel_holds_what_it_must_and_nothing_else(built):
    from packages import content, faults

    assert faults(built[1], ROOT) == []
    assert content(built[1]) >= {
        "allkit/py.typed",
        "allkit/config/recipes/quick.yaml",
        "allkit/plugins/template/common/pyproject.toml.jinja",
        "allkit/clinic/reports/fonts/DejaVuSans.ttf",
        "allkit/clinic/store/migrations/versions/m0001_first.py",
        "allkit/streamlit_app/app.py",
        "allkit/streamlit_app/workplace/texts/bench-sheet.md",
    }


@pytest.mark.slow
def test_the_source_archive_gives_the_same_wheel(built, tmp_path):
    from packages import wheel_from_archive

    assert wheel_from_archive(built[0], tmp_path).read_bytes() == built[1].read_bytes()


@pytest.mark.slow
def test_a_file_that_is_lost_or_too_much_in_a_wheel_is_named(built, tmp_path):
    from packages import faults

    changed = tmp_path / built[1].name
    with zipfile.ZipFile(built[1]) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            if name != "allkit/py.typed":
                new.writestr(name, old.read(name))
        new.writestr("tests/test_secret.py", "")
    assert faults(changed, ROOT) == [
        f"{changed.name} lacks allkit/py.typed.",
        f"{changed.name} holds tests/test_secret.py, which is not wanted.",
    ]


@pytest.mark.parametrize("folder", sorted(ROOT.glob("plugins/*/")), ids=lambda path: path.name)
def test_the_wheel_of_a_plugin_is_whole(folder, tmp_path):
    from packages import build, faults

    [wheel] = build(folder, tmp_path, "wheel")
    assert faults(wheel, folder) == []


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["light"])
def test_a_clean_environment_works(name, tmp_path):
    """It fetches the dependencies, so it runs with a package index only."""
    done = subprocess.run(
        [sys.executable, ROOT / "release/make.py", "--draft", "--only", name, "--out", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"\n{name}: " in done.stdout


# ── the wheelhouse ─────────────────────────────────────────────────────────────────────────────


PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.0"
dependencies = {needs}
optional-dependencies = {{ more = ["needle"] }}

[tool.hatch.build.targets.wheel]
only-include = ["{name}.py"]
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A repository whose package `haystack` needs `straw` and, with an extra, `needle`; and these."""
    from packages import build

    place = tmp_path_factory.mktemp("index")
    for name, needs in (("haystack", '["straw"]'), ("straw", "[]"), ("needle", "[]")):
        folder = place / name
        folder.mkdir()
        (folder / "pyproject.toml").write_text(PROJECT.format(name=name, needs=needs))
        (folder / f"{name}.py").write_text(f"NAME = {name!r}\n")
        if name != "haystack":
            build(folder, place, "wheel")
    return place


def nothing_else(index):
    """The options of pip that let it see these packages only."""
    return ["--no-index", "--find-links", str(index)]


@pytest.mark.slow
def test_a_wheelhouse_is_all_that_an_installation_needs(index, tmp_path):
    from wheelhouse import fill

    out = tmp_path / "wheelhouse"
    fill(out, index / "haystack", ["haystack[more]"], nothing_else(index))
    names = sorted(path.name.split("-")[0] for path in out.glob("*.whl"))
    assert names == ["haystack", "needle", "straw"]
    for line in (out / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest


@pytest.mark.nightly
def test_from_a_wheelhouse_pip_installs_without_an_index(index, tmp_path):
    from wheelhouse import fill

    out = tmp_path / "wheelhouse"
    fill(out, index / "haystack", ["haystack[more]"], nothing_else(index))
    there = tmp_path / "there"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-index",
            "--find-links",
            out,
            "--target",
            there,
            "haystack[more]",
        ],
        check=True,
        cwd=tmp_path,
    )
    code = "import haystack, straw, needle; print(haystack.NAME, straw.NAME, needle.NAME)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=there, capture_output=True, text=True
    )
    assert done.stdout.split() == ["haystack", "straw", "needle"]


@pytest.mark.slow
def test_a_wheelhouse_that_would_not_suffice_is_an_error(index, tmp_path):
    from wheelhouse import Incomplete, fill

    lacking = tmp_path / "lacking"
    lacking.mkdir()
    shutil.copy(next(index.glob("straw-*.whl")), lacking)
    with pytest.raises(Incomplete, match="needle"):
        fill(tmp_path / "out", index / "haystack", ["haystack[more]"], nothing_else(lacking))
