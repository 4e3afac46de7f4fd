"""Files that are no files: pipes, devices, sockets, links, sparse files, through every command."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from attacks import Counts, Scale
from attacks._hostile import valid

TITLE = "Odd files"
SECONDS = 60
"""A command that takes so long hangs; on an idle machine each takes less than one."""


class _Hangs(BaseException):
    """No command catches it."""


def run(scale: Scale, folder: Path) -> dict[str, Counts]:
    """Give every odd file to the commands, as an image, a table, a zip, settings and a model."""

    odd = _odd_files(folder)
    images = folder / "set"
    for label in ("ALL", "HEM"):
        (images / label).mkdir(parents=True)
        for number, data in enumerate(valid()[9:11]):
            (images / label / f"field {number}.tif").write_bytes(data)
    good = images / "ALL" / "field 0.tif"
    lines: dict[str, Counts] = {}
    counts = lines["reader"] = Counts()
    for name, path in odd.items():
        _read(path, counts, name)
    for command in ("check", "split", "audit") if scale == "long" else ("check",):
        counts = lines[f"`{command}`, an image among others"] = Counts()
        for name, path in odd.items():
            link = images / "HEM" / "odd.png"
            link.symlink_to(path)
            extra = ["--out", str(folder / "out.csv")] if command == "split" else []
            _ran([command, str(images), *extra], counts, name)
            link.unlink()
            (folder / "out.csv").unlink(missing_ok=True)
    counts = lines["tables, zips and folders"] = Counts()
    for name, path in odd.items():
        for suffix in (".csv", ".zip", "") if scale == "long" else (".csv", ".zip"):
            link = folder / f"odd{suffix}"
            link.symlink_to(path)
            _ran(["check", str(link)], counts, f"{name} as {suffix or 'a folder'}")
            link.unlink()
    counts = lines["settings and models"] = Counts()
    for name, path in odd.items():
        for suffix, arguments in (
            (".yaml", ["train", str(images), "--out", str(folder / "model"), "--config"]),
            (".yaml", ["check", str(images), "--map"]),
            (".onnx", ["predict"]),
            ("", ["predict"]),
            ("", ["verify"]),
            ("", ["explain"]),
        )[:: 1 if scale == "long" else 2]:
            link = folder / f"odd{suffix}"
            link.symlink_to(path)
            rest = {
                "predict": [str(good)],
                "explain": [str(good), "--out", str(folder / "map.png")],
            }
            _ran(
                [*arguments, str(link), *rest.get(arguments[0], [])],
                counts,
                f"{name} for {arguments[0]}",
            )
            link.unlink()
    return lines


def _odd_files(folder: Path) -> dict[str, Path]:
    place = folder / "odd files"
    place.mkdir()
    os.mkfifo(place / "pipe")
    (place / "folder").mkdir()
    (place / "loop").symlink_to(place / "loop")
    (place / "empty").touch()
    with (place / "sparse").open("wb") as stream, contextlib.suppress(OSError):
        stream.truncate(2**40)
    found = {path.name: path for path in sorted(place.iterdir())}
    with contextlib.suppress(OSError):
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(place / "socket"))
        found["socket"] = place / "socket"
    for device in ("/dev/zero", "/dev/null", "/dev/urandom", "/proc/self/maps", "/proc/self/mem"):
        if Path(device).exists():
            found[device] = Path(device)
    return found | {"nothing": place / "nothing"}


@contextlib.contextmanager
def _alarmed() -> Iterator[None]:
    def end(*_: object) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _read(path: Path, counts: Counts, what: str) -> None:
    from allkit.errors import ImageError
    from allkit.images.decode import read_image

    try:
        with _alarmed():
            read_image(path)
        counts.failed.append(f"{what}: it was read")
    except ImageError:
        counts.refused += 1
    except BaseException as error:  # noqa: BLE001 - counting these is the purpose
        counts.failed.append(f"{what}: {type(error).__name__}: {error}")


def _ran(arguments: list[str], counts: Counts, what: str) -> None:
    """Run a command: it must end with status 1 or 2, and with one error or a finding."""
    from allkit.cli import main

    out, err, status = io.StringIO(), io.StringIO(), 0
    began = time.perf_counter()
    try:
        with (
            _alarmed(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "argv", ["allkit", *arguments]),
        ):
            warnings.simplefilter("ignore")
            main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 2
    except BaseException as error:  # noqa: BLE001 - counting these is the purpose
        counts.failed.append(f"{what}: {type(error).__name__}: {error}")
        return
    seconds = time.perf_counter() - began
    counts.measured["most seconds"] = max(counts.measured.get("most seconds", 0), seconds)
    said = err.getvalue()
    if status in (1, 2) and "Traceback" not in said and (said or out.getvalue()):
        counts.refused += 1
    else:
        counts.failed.append(f"{what}: {' '.join(arguments)}: status {status}, {said[-200:]!r}")
