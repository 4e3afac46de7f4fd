"""A process that reads what it is told to, and says how long that took and how much memory."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path

from attacks import Counts

SECONDS, MEGABYTES, PATIENCE = 5.0, 500, 40.0
PROGRAM = """
import json, resource, sys, time, warnings
sys.path[:0] = json.loads(sys.argv[1])
from allkit.errors import AllkitError
from allkit.images.decode import read_image
warnings.simplefilter("error")
def spent():
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (0, -1)))
def peak():
    with open("/proc/self/status") as status:
        own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return max(own, resource.getrusage(-1).ru_maxrss) / 1000
read_image(bytes(54)) if False else print("ready", flush=True)
for line in sys.stdin:
    path = json.loads(line)
    try:
        open("/proc/self/clear_refs", "w").write("5")
    except OSError:
        pass
    before = spent()
    try:
        outcome = "read" if read_image(path).shape[2] == 3 else "escaped: a strange shape"
    except AllkitError as error:
        outcome = "refused " + getattr(error, "code", "")
    except BaseException as error:
        outcome = f"escaped: {type(error).__name__}: {error}"
    print(json.dumps([outcome, spent() - before, peak()]), flush=True)
"""


class Reader:
    """Files are given to it one by one; it is replaced when it dies or hangs."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _answer(self) -> str:
        assert self.process is not None
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            return ""
        return self.process.stdout.readline()

    def read(self, path: Path, counts: Counts, what: str) -> None:
        """Read a file, and count what came of it under the name `what`."""
        if self.process is None:
            command = [sys.executable, "-P", "-c", PROGRAM, json.dumps(sys.path)]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
            )
            self._answer()
        self.process.stdin.write(json.dumps(str(path)) + "\n")
        self.process.stdin.flush()
        line = self._answer()
        if not line:
            ended = self.process.poll()
            counts.failed.append(f"{what}: {'hung' if ended is None else f'died with {ended}'}")
            self.__exit__()
            return
        outcome, seconds, megabytes = json.loads(line)
        most = counts.measured
        most["most seconds of the processor"] = max(
            most.get("most seconds of the processor", 0), seconds
        )
        most["most MB"] = max(most.get("most MB", 0), megabytes)
        if outcome.startswith("escaped"):
            counts.failed.append(f"{what}: {outcome}")
        elif seconds > SECONDS or megabytes > MEGABYTES:
            counts.failed.append(f"{what}: {outcome}, {seconds:.1f} s, {megabytes:.0f} MB")
        elif outcome == "read":
            counts.right += 1
        else:
            counts.refused += 1
