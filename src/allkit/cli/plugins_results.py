"""What came of the checks of a package, as a file that lists and pages show."""

from __future__ import annotations

import contextlib
import json
import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit import __version__
from allkit.errors import AllkitError, ConfigError

if TYPE_CHECKING:
    from allkit.plugins import Plugin
    from allkit.testing.checks import Outcome

__all__ = ["in_words", "keep_result", "kept_result", "read_results", "result_of", "write_results"]

FORMAT = 1
STATES = ("passed", "failed", "skipped", "expected")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_NEEDED = ("package", "version", "allkit", "python", "date")
_OF_CHECK = ("check", "subject", "message")
_LARGEST = 10_000_000


def result_of(
    plugin: Plugin, outcomes: Sequence[Outcome], *, upcoming: bool = False
) -> dict[str, Any]:
    """Return what came of the checks of a package, as values of JSON.

    `upcoming` says that it was checked against the next version of the contract too.
    """
    checks = [
        {
            "check": outcome.check,
            "subject": outcome.subject,
            "state": outcome.state,
            "message": outcome.message,
            "seconds": round(outcome.seconds, 3),
        }
        for outcome in outcomes
    ]
    return {
        "package": plugin.distribution,
        "version": plugin.version,
        "mark": plugin.mark,
        "contract": plugin.api_version,
        "allkit": __version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "next": upcoming,
        "checks": checks,
    }


def in_words(result: Mapping[str, Any]) -> str:
    """Return what came of it: how many passed, failed, were skipped, with what and when."""
    count = Counter(check["state"] for check in result["checks"])
    words = {"failed": "FAILED", "skipped": "SKIPPED", "expected": "failed as announced"}
    told = [f"{count[s]} {words.get(s, s)}" for s in STATES if count[s] or s == "passed"]
    return f"{', '.join(told)} ({result['date']}, allkit {result['allkit']})"


def write_results(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write what came of the checks of one package or several."""
    from allkit.files import write_whole

    text = json.dumps({"format": FORMAT, "packages": list(results)}, indent=1, ensure_ascii=False)
    write_whole(path, text + "\n")


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read what `write_results` wrote; raise `ConfigError` for anything else."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError
        held = json.loads(path.read_text(encoding="utf-8"))
        results = held["packages"]
        whole = held["format"] == FORMAT and all(
            all(isinstance(result[name], str) for name in _NEEDED)
            and isinstance(result["checks"], list)
            and all(
                check["state"] in STATES and all(isinstance(check[n], str) for n in _OF_CHECK)
                for check in result["checks"]
            )
            for result in results
        )
        if not whole:
            raise ValueError
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(
            f"{path} is no file of results. `allkit plugins check NAME --out FILE` writes one."
        ) from None
    return list(results)


def keep_result(result: Mapping[str, Any]) -> None:
    """Keep what came of it in the cache, where `kept_result` finds it."""
    from allkit.files import private_folder

    file = _kept(str(result["package"]))
    with contextlib.suppress(OSError, AllkitError):  # without a cache the list says: not checked
        if file is not None:
            private_folder(file.parent.parent)
            file.parent.mkdir(exist_ok=True)
            write_results(file, [result])


def kept_result(plugin: Plugin) -> dict[str, Any] | None:
    """Return what came of the last checks of exactly this package, where they were run here.

    `None` where none are kept, where what is kept is damaged, and where nothing was checked.
    """
    file = _kept(plugin.distribution)
    if file is None:
        return None
    try:
        (result,) = read_results(file)
    except (AllkitError, ValueError):
        return None
    same = result["version"] == plugin.version and result.get("mark") == plugin.mark
    return result if same and result["checks"] else None


def _kept(package: str) -> Path | None:
    from allkit.files import cache_folder
    from allkit.plugins.catalogue import plain

    name = plain(package)
    # A damaged package may be called anything.
    return cache_folder() / "plugin-checks" / f"{name}.json" if _NAME.fullmatch(name) else None
