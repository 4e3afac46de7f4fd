"""The tutorial for authors of plugins, word for word: its files, its commands, what they print."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from allkit.data.drawn import write_smears

PAGE = (Path(__file__).parents[1] / "docs" / "tutorials" / "plugin.md").read_text(encoding="utf-8")
FENCE = re.compile(
    r"(?P<before>[^\n]*\n(?:\n|<!-- run -->\n)*)^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
FILE = re.compile(r"^`(allkit-[\w/.-]+)` (?:names|holds)", re.M)


def steps():
    """Yield ("file", path, text), ("run", command, printed) in their order."""
    start = 0
    for block in FENCE.finditer(PAGE):
        prose, text = PAGE[start : block.start("language")], block["text"]
        start = block.end()
        if re.search(r"<!-- not run: [^>]+ -->\s*$", prose.removesuffix("```")):
            continue
        named = FILE.findall(prose)
        if named and block["language"]:
            yield "file", named[-1], text
        elif not block["language"]:
            if not text.startswith("$ "):
                yield from (("run", line, None) for line in text.splitlines())
            for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
                command, _, printed = part.partition("\n")
                yield "run", command, printed


TELLING = re.compile(
    r"^.*(?:: about .* on this machine|, about .* left)\.\n|^Features are computed by .*\n", re.M
)
"""What is told of work that takes longer than five seconds, as on a slow machine it does."""


def pattern(printed):
    """What the page says is printed, as a pattern: `…` is anything, and times vary."""
    text = re.escape(printed.strip())
    text = re.sub(r"(?:\\\n)?…(?:\\\n)?", r"[\\s\\S]*", text)
    text = re.sub(r"\d+(?=\\ ms)|\d+\\\.\d+(?=\\ s)", r"[\\d.]+", text)
    # Other processors round differently.
    return re.sub(r"(?<=accuracy\\ ).*?(?=,\\ n\\ =)", ".*", re.sub(r"1e\\-\d+", r"\\S+", text))


@pytest.fixture
def shell(tmp_path):
    """A shell with an environment of its own, in which what is installed here is there too."""
    home = tmp_path / "environment"
    venv.EnvBuilder(with_pip=False).create(home)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    here = [sysconfig.get_path("purelib"), str(Path(__file__).parents[1] / "src")]
    site.joinpath("here.pth").write_text(
        "".join(f"import site; site.addsitedir({p!r})\n" for p in here)
    )
    programs = home / "bin"
    for name, module in (("pip", "pip"), ("allkit", "allkit")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{programs}/python" -m {module} "$@"\n')
        program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "ALLKIT_CACHE": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0",
        "PYTHONPATH": "", "COLUMNS": "200",
    }  # fmt: skip

    def run(command):
        return subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, text=True, timeout=600,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    return run


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the tutorial is for a POSIX shell")
def test_the_tutorial_for_authors_works_word_for_word(shell, tmp_path):
    pytest.importorskip("hatchling", reason="pip install hatchling")
    pytest.importorskip("editables", reason="pip install editables")
    pytest.importorskip("jinja2", reason="pip install jinja2")
    write_smears(tmp_path / "smears", 240, groups=24, seed=0)
    assert shell("allkit split smears/index.csv --out split.csv --test 0.3").returncode == 0
    ran = 0
    for kind, subject, text in steps():
        if kind == "file":
            (tmp_path / subject).write_text(text)
            continue
        done = shell(subject)
        ran += 1
        assert "Traceback" not in done.stdout
        if text is not None:
            printed = TELLING.sub("", done.stdout)
            assert re.search(pattern(text), printed), f"$ {subject}\n{printed}\nnot as in the page"
        assert done.returncode == (2 if "--out wrong" in subject else 0), done.stdout
    assert ran >= 6
    done = shell("cd allkit-vignette && python -m pytest -q -p no:cacheprovider")
    assert done.returncode == 0, done.stdout
