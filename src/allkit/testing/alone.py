"""What a record does in a process of its own: what its module imports, and what it imports when called."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from typing import Any

from allkit.testing.checks import Skipped, require
from allkit.testing.examples import function_of

__all__ = ["called_alone", "imports_quickly", "own_function"]

IMPORT_SECONDS = 1.0
HEAVY = {"torch", "torchvision", "timm", "albumentations", "tensorflow", "jax", "pandas"}
HEAVY |= {"matplotlib", "onnxruntime", "scipy", "sklearn"}


def own_function(function: Any) -> Any:
    """Return a function as its author wrote it: without allkit's guard, and without what is bound to it."""
    while hasattr(function, "func"):
        function = function.func
    return function


def imports_quickly(record: Any) -> None:
    """Its module is imported within a second, and leaves heavy libraries for when it is called.

    The second is of a processor, and the best of three counts: whatever else the machine does is no fault
    of the module.
    """
    step, function = function_of(record)
    module = getattr(own_function(function), "__module__", "")
    if not module or module == "__main__":
        raise Skipped("it is not in a module that can be imported")
    taken = []
    for _ in range(3):
        done = _run(
            "import time, importlib, numpy, pydantic, allkit.records\n"
            "from allkit import hookimpl\nbefore, start = set(sys.modules), time.process_time()\n"
            f"importlib.import_module({module!r})\n"
            f"print(time.process_time() - start, *({HEAVY!r} & set(sys.modules) - before))"
        )
        if done.returncode:
            raise Skipped(f"{module} cannot be imported by its name")
        seconds, *heavy = done.stdout.decode().splitlines()[-1].split()
        names = ", ".join(sorted(heavy))
        require(not heavy, f"Importing {module} imports {names}. Import them inside `{step}`.")
        taken.append(float(seconds))
        if taken[-1] <= IMPORT_SECONDS:
            return
    require(
        False,
        f"Importing {module} takes {min(taken):.1f} s of a processor, at best of three times; at most "
        f"{IMPORT_SECONDS:g} s is allowed. Import what is slow inside `{step}`.",
    )


def called_alone(function: Any, given: Any, use: str) -> str:
    """Return the last line that the code `use` prints in a process of its own.

    There `function` is the function of a record, with its settings, and `given` what is sent with it.
    NumPy is imported, and little else. Raises `ConformanceError` where it cannot be sent, or fails there.
    """
    try:
        sent = bytes(ForkingPickler.dumps((function, given)))
    except Exception as error:  # noqa: BLE001 - pickling raises whatever the object raises
        require(
            False, f"It cannot be sent to a process: {error}. Make it a function of the module."
        )
    done = _run(
        "import numpy\nfrom multiprocessing.reduction import ForkingPickler\n"
        f"function, given = ForkingPickler.loads(sys.stdin.buffer.read())\n{use}",
        sent,
    )
    require(
        done.returncode == 0, f"It failed in a process of its own: {done.stderr.decode()[-300:]}"
    )
    return done.stdout.decode().strip().splitlines()[-1]


def _run(code: str, sent: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    path = f"import sys; sys.path[:] = {sys.path!r}\n"
    return subprocess.run(
        [sys.executable, "-P", "-c", path + code], input=sent, capture_output=True
    )
