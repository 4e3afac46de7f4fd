"""Fill a folder with everything that pip needs to install allkit on a computer without a network.

    python release/wheelhouse.py --out wheelhouse                       the core
    python release/wheelhouse.py --out wheelhouse --extra train         with PyTorch, to train
    python release/wheelhouse.py --out wheelhouse --extra demo --package allkit-efficientnet-lite
    python release/wheelhouse.py --out wheelhouse --platform win_amd64 --python 3.12

There: pip install --no-index --find-links wheelhouse 'allkit[train]'
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agreement import ROOT, folders, project_of
from packages import build

__all__ = ["Incomplete", "fill", "sums_of"]


class Incomplete(Exception):
    """pip could not bring everything, or what it brought does not suffice; the text is pip's."""


def main(arguments: list[str] | None = None) -> int:
    """Fill the folder; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("wheelhouse"))
    parser.add_argument("--extra", action="append", default=[], help="of allkit; repeatable")
    parser.add_argument("--package", action="append", default=[], help="a plugin; repeatable")
    parser.add_argument("--platform", help="of the other computer, for example win_amd64")
    parser.add_argument("--python", help="its Python, for example 3.12")
    parser.add_argument(
        "--pip",
        action="append",
        default=[],
        metavar="OPTION",
        help="for pip, for example --pip=--index-url=ADDRESS",
    )
    asked = parser.parse_args(arguments)
    extras = f"[{','.join(asked.extra)}]" if asked.extra else ""
    wanted = [f"allkit{extras}", *asked.package]
    other = []
    if asked.platform or asked.python:
        other = ["--only-binary", ":all:"]
        other += ["--platform", asked.platform] if asked.platform else []
        other += ["--python-version", asked.python] if asked.python else []
    try:
        fill(asked.out, ROOT, wanted, [*asked.pip], other)
    except Incomplete as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    wheels = list(asked.out.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels) / 2**20
    words = " ".join(f"'{word}'" for word in wanted)
    print(
        f"{asked.out}: {len(wheels)} wheels, {size:,.0f} MB, hashes in SHA256SUMS. Copy it, and type there:"
    )
    print(f"  pip install --no-index --find-links {asked.out.name} {words}")
    return 0


def fill(
    out: Path, root: Path, wanted: Sequence[str], pip: Sequence[str], other: Sequence[str] = ()
) -> None:
    """Put the wheels of `wanted` and of all they need into `out`, and look whether they suffice.

    `wanted` are requirements; those of packages in `root` are built there. `pip` are options of
    pip; `other` are those that describe another computer than this one, for which wheels are only
    downloaded. Raises `Incomplete`. A folder that is there is added to.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        own = {}
        for folder in folders(root):
            name = project_of(folder)["name"]
            if any(_name(one) == name for one in wanted):
                [own[name]] = build(folder, Path(place), "wheel")
        # By their paths: a package of the same name on an index must not take their place.
        exact = [_with_extras(own[_name(one)], one) if _name(one) in own else one for one in wanted]
        fetch = ["download", "--dest"] if other else ["wheel", "--wheel-dir"]
        _pip([*fetch, str(out), "--find-links", place, *pip, *other, *exact])
    told = [*other, "--ignore-requires-python"] if other else []
    with tempfile.TemporaryDirectory() as nowhere:
        _pip(
            [
                "install",
                "--dry-run",
                "--ignore-installed",
                "--no-index",
                "--find-links",
                str(out),
                *told,
                *(["--target", nowhere] if other else []),
                *wanted,
            ]
        )
    (out / "SHA256SUMS").write_text(sums_of(out), encoding="utf-8")


def sums_of(folder: Path) -> str:
    """Return the lines that `sha256sum --check` reads, of the wheels in a folder."""
    lines = []
    for path in sorted(folder.glob("*.whl")):
        with path.open("rb") as stream:
            lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {path.name}\n")
    return "".join(lines)


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]


def _with_extras(wheel: Path, requirement: str) -> str:
    extras = re.search(r"\[[^\]]*\]", requirement)
    return f"{wheel}{extras[0] if extras else ''}"


def _pip(words: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", *words, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Incomplete(f"pip {words[0]} failed: {done.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main())
