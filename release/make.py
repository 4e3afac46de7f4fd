"""Build a release into dist/ and check it.

    python release/make.py                 build, and check in clean environments: light, train, demo
    python release/make.py --only light    only in that one; --only none builds
    python release/make.py --draft         while the changelog still says Unreleased

It ends with 0 only when everything that was asked for was done and agrees. Nothing is published.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

from agreement import ROOT, disagreements, folders, project_of
from environments import CHECKS, Failed, material
from packages import build, faults, wheel_from_archive


def main(arguments: list[str] | None = None) -> int:
    """Build and check; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder; it is made anew")
    parser.add_argument("--only", choices=[*CHECKS, "none"], action="append")
    parser.add_argument("--draft", action="store_true", help="the changelog may say Unreleased")
    asked = parser.parse_args(arguments)
    found = disagreements(ROOT, released=not asked.draft)
    if found:
        return _failed(found)
    wheels, found = built(asked.out)
    if found:
        return _failed(found)
    wanted = [name for name in asked.only or CHECKS if name != "none"]
    version = project_of(ROOT)["version"]
    with tempfile.TemporaryDirectory() as place:
        given = material(Path(place) / "given") if wanted else Path(place)
        for name in wanted:
            started = time.monotonic()
            folder = Path(place) / name
            folder.mkdir()
            try:
                lines = CHECKS[name](folder, wheels, given, version)
            except Failed as error:
                return _failed([f"{name}: {error}"])
            finally:
                shutil.rmtree(folder)  # one with PyTorch takes several gigabytes
            print(f"{name}: {'; '.join(lines)} ({time.monotonic() - started:.0f} s)")
    left = [name for name in CHECKS if name not in wanted]
    if left:
        print(f"NOT checked in a clean environment: {', '.join(left)}.")
    return 0


def built(out: Path) -> tuple[dict[str, Path], list[str]]:
    """Build every package into `out`; return the wheels by name, and what is wrong with them.

    Each wheel is built a second time from its source archive, and must have the same bytes.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    wheels, found = {}, []
    for folder in folders(ROOT):
        files = {path.suffix: path for path in build(folder, out, "sdist", "wheel")}
        wheel = files[".whl"]
        found += faults(wheel, folder)
        with tempfile.TemporaryDirectory() as place:
            again = wheel_from_archive(files[".gz"], Path(place))
            if again.read_bytes() != wheel.read_bytes():
                found.append(f"{files['.gz'].name} does not give the same wheel as the folder.")
        wheels[wheel.name.split("-")[0]] = wheel
        print(f"{wheel.name}  {wheel.stat().st_size:,} bytes")
    sums = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}" for p in sorted(out.iterdir())
    ]
    (out / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")
    return wheels, found


def _failed(sentences: list[str]) -> int:
    for sentence in sentences:
        print(f"Error: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
