"""Run a command and tell what it sent or wrote elsewhere: python tracer.py [--allow DIR] -- COMMAND.

Every process that the command starts is watched by strace: each connection, each look-up of a name,
and each file or folder that is made or written outside the folders that `--allow` names. Prints one
line for each, as JSON with `--json`, and ends with status 1 when there was one. Linux only.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

STEP = "/:step:/"
"""A command that does several things opens `/:step:/NAME`, which does not exist, before each."""

NETWORK = ("connect", "sendto", "sendmsg", "sendmmsg", "io_uring_setup")
OPENING = ("open", "openat", "openat2", "creat")
MAKING = (
    "mkdir", "mkdirat", "mknod", "mknodat", "rename", "renameat", "renameat2", "link", "linkat",
    "symlink", "symlinkat", "truncate", "unlink", "unlinkat", "rmdir",
)  # fmt: skip
STANDING = ("chdir", "fchdir")
WRITES = re.compile(r"O_(?:WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)")
# What stands there is the kernel's, not a disk's: its own tables, memory and terminals.
NO_DISK = ("/proc/", "/dev/null", "/dev/tty", "/dev/pts/", "/dev/ptmx", "/dev/shm/", "/memfd:")
RESOLVERS = re.compile(r"nscd|resolve|avahi|sssd|unscd|dnsmasq")
LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)")
DONE = re.compile(r"(.*)\) += (-?\d+|\?)(?:<(.*)>)?")
ADDRESS = re.compile(
    r"sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)\""
)
UNIX = re.compile(r"sa_family=AF_UNIX, sun_path=@?\"([^\"]*)\"")
QUOTED = re.compile(r"(?:(AT_FDCWD|\d+)<((?:\\.|[^>])*)>, )?\"((?:\\.|[^\"\\])*)\"")


@dataclass(frozen=True)
class Seen:
    """One thing that left the command, or was written where nothing was named."""

    step: str
    kind: str  # connection, look-up, file
    what: str


def trace(command: list[str], allowed: Iterable[Path], **options: object) -> tuple[int, list[Seen]]:
    """Run `command` and return its status and what was seen, in order and without repetition."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        calls = ",".join(f"?{name}" for name in (*NETWORK, *OPENING, *MAKING, *STANDING))
        done = subprocess.run(
            [
                "strace",
                "-f",
                "--seccomp-bpf",
                "-qq",
                "-y",
                "-e",
                "signal=none",
                "-e",
                f"trace={calls}",
                "-o",
                str(log),
                "--",
                *command,
            ],
            **options,
        )  # type: ignore[call-overload]  # whatever subprocess.run takes
        with log.open(encoding="utf-8", errors="replace") as lines:
            return done.returncode, read(lines, allowed)


def read(lines: Iterable[str], allowed: Iterable[Path]) -> list[Seen]:
    """Return what the lines of strace tell of the world outside the folders `allowed`."""
    roots = tuple(os.path.realpath(folder) for folder in allowed)
    step, seen = "", {}
    standing: dict[str, str] = {}  # the folder that each process stands in, as far as it tells
    for process, name, arguments, result, path in _calls(lines):
        found = QUOTED.search(arguments)
        if found and found[1] == "AT_FDCWD":
            standing[process] = _plain(found[2])
        if name in STANDING:
            to = _plain(found[3] if found else arguments.partition("<")[2].rpartition(">")[0])
            if result == "0":
                standing[process] = os.path.join(standing.get(process, "."), to)
            continue
        if name in OPENING and found and found[3].startswith(STEP):
            step = found[3][len(STEP) :]
            continue
        if name in NETWORK:
            found_here = _network(name, arguments, result)
        else:
            found_here = _files(name, arguments, result, path, standing.get(process, "."), roots)
        for kind, what in found_here:
            seen[Seen(step, kind, what)] = None
    return list(seen)


def _calls(lines: Iterable[str]) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield process, name, arguments, result and path of the result, also of calls that were interrupted."""
    begun: dict[str, tuple[str, str]] = {}
    for line in lines:
        match = LINE.match(line)
        if match is None:
            continue
        process, name, rest = match.groups()
        rest = begun.pop(process, ("", ""))[1] + rest
        if rest.endswith("<unfinished ...>"):
            begun[process] = name, rest.removesuffix("<unfinished ...>")
            continue
        done = DONE.match(rest)
        if done:
            yield process, name, done[1], done[2], _plain(done[3] or "")
    for process, (name, rest) in begun.items():  # a process was ended in the middle of it
        yield process, name, rest, "?", ""


def _network(name: str, arguments: str, result: str) -> Iterator[tuple[str, str]]:
    if name == "io_uring_setup" and not result.startswith("-"):
        yield "connection", "io_uring, in which nothing can be seen"
    for port, host in ADDRESS.findall(arguments):
        if port == "53":
            yield "look-up", f"{host}:53"
        elif not ipaddress.ip_address(host.removeprefix("::ffff:")).is_loopback:
            yield "connection", f"{host}:{port}"
    for socket in UNIX.findall(arguments):  # other programs of this machine
        # nscd is asked for users too. Where it does not run, the name is looked up otherwise: in
        # /etc/hosts, or at a port 53, which is seen.
        if RESOLVERS.search(socket) and not ("/nscd/" in socket and result.startswith("-")):
            yield "look-up", socket


def _files(
    name: str, arguments: str, result: str, path: str, standing: str, roots: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    if result.startswith("-") or result == "?":
        return
    if name in OPENING:
        if name != "creat" and not WRITES.search(arguments):
            return
        paths = [path.removesuffix(" (deleted)")] if path else _paths(arguments, standing)
    elif name.startswith("symlink"):
        paths = _paths(arguments, standing)[-1:]  # what it points to may be anything
    else:
        paths = _paths(arguments, standing)
    for path in paths:
        if not _inside(path, roots) and not path.startswith(NO_DISK):
            yield "file", path


def _paths(arguments: str, standing: str) -> list[str]:
    return [
        os.path.normpath(os.path.join(_plain(folder) or standing, _plain(name)))
        for _, folder, name in QUOTED.findall(arguments)
    ]


def _plain(text: str) -> str:
    """Undo the escapes of strace, which writes bytes beyond ASCII as octal numbers."""
    raw = re.sub(r"\\([0-7]{1,3})", lambda m: chr(int(m[1], 8)), text)
    return re.sub(r"\\(.)", r"\1", raw).encode("latin-1", "replace").decode("utf-8", "replace")


def _inside(path: str, roots: tuple[str, ...]) -> bool:
    folder = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return any(folder == root or folder.startswith(f"{root}/") for root in roots)


def main() -> int:
    """Run the command of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--allow", action="append", default=[], type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    status, seen = trace([word for word in asked.command if word != "--"], asked.allow)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(one) for one in seen]), encoding="utf-8")
    for one in seen:
        sys.stderr.write(f"{one.step:<12} {one.kind:<10} {one.what}\n")
    sys.stderr.write(f"{len(seen)} sent or written elsewhere; the command ended with {status}\n")
    return 1 if seen or status else 0


if __name__ == "__main__":
    sys.exit(main())
