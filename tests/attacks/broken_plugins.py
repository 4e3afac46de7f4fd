"""Broken plugins, over a hundred of them beside good ones: each is named, and nobody else is blamed."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from attacks import Counts, Scale

TITLE = "Broken plugins"
VERSION = "1.2"
HEAD = """
from allkit import (
    Augmentation, Backbone, BackboneFamily, Command, Explainer, Exporter, Finder, Finding, HealthCheck,
    Reader, View, hookimpl,
)
from pydantic import BaseModel, Field, field_validator
api_version = 2
def run(*a, **k): raise ArithmeticError("as it was to be")
"""
FAILS = r"failed in `{step}`: ArithmeticError: as it was to be"


@dataclass(frozen=True)
class Broken:
    """One broken package: its module, and what is to be said of it.

    `says` is a pattern in its error; with `use`, in the error of doing that with a registry; with
    `noted`, in its notes. `short` is part of the short form.
    """

    source: str
    says: str
    use: Callable[[Any], object] | None = None
    noted: bool = False
    value: str | None = None
    requires: str = ""
    short: bool = False


def hook(body: str, kind: str = "backbones", head: str = HEAD) -> str:
    """The source of a plugin with one hook, which does `body`."""
    return f"{head}\n@hookimpl\ndef allkit_{kind}():\n    {body}\n"


def of(kind: str, record: str, head: str = HEAD) -> str:
    """The source of a plugin that offers one record."""
    return hook(f"return [{record}]", kind, head)


def old(source: str) -> str:
    """The source for version 1 of the contract."""
    return source.replace("api_version = 2", "api_version = 1")


CRASHED, ENDED, HANGS = "crashed the Python process", "ended the Python process", "took longer than"
NAMELESS = "letters, digits and"
AT_IMPORT = {
    "module-missing": Broken("import no_such_module", "ModuleNotFoundError: No module named", short=True),
    "requirement-missing": Broken(
        "import no_such_module",
        r"ModuleNotFoundError.* It requires no-such-package>=9 \(not installed\)",
        requires="no-such-package>=9",
        short=True,
    ),
    "requirement-old": Broken(
        "from numpy import no_such_name",
        r"ImportError.* It requires numpy>=99 \(\d[\d.]* is installed\)",
        requires="numpy>=99",
    ),
    "raises": Broken("raise RuntimeError('at import')", "RuntimeError: at import"),
    "exits": Broken("raise SystemExit(3)", "it tried to end the program", short=True),
    "exits-well": Broken("import sys; sys.exit(0)", "it tried to end the program"),
    "interrupts": Broken("raise KeyboardInterrupt", r"^KeyboardInterrupt", short=True),
    "interrupts-itself": Broken("import os, time; os.kill(os.getpid(), 2); time.sleep(5)", "^KeyboardInterrupt"),
    "ends": Broken("import os; os._exit(0)", rf"{ENDED} \(status 0\)"),
    "ends-badly": Broken("import os; os._exit(3)", rf"{ENDED} \(status 3\)", short=True),
    "crashes": Broken("import ctypes; ctypes.string_at(0)", rf"{CRASHED} \(signal 11\), in .*line 1", short=True),
    "aborts": Broken("import os; os.abort()", rf"{CRASHED} \(signal 6\)"),
    "is-killed": Broken("import os; os.kill(os.getpid(), 9)", rf"{CRASHED} \(signal 9\)"),
    "loops": Broken("while True: pass", rf"{HANGS} 1 seconds, in .*line 1"),
    "sleeps": Broken("import time\ntime.sleep(99)", rf"{HANGS} 1 seconds, in .*line 2", short=True),
    "sleeps-on": Broken(
        "import faulthandler, time\nfaulthandler.cancel_dump_traceback_later()\ntime.sleep(99)", HANGS
    ),
    "no-python": Broken("this is no python", "SyntaxError"),
    "half-written": Broken("def build(:\n", "SyntaxError"),
    "null-bytes": Broken("x = 1\0", "SyntaxError|ValueError"),
    "latin-1": Broken("x = '\udce4'", "SyntaxError|UnicodeDecodeError"),
    "recurses": Broken("def f(): f()\nf()", "RecursionError"),
    "no-memory": Broken("raise MemoryError", "MemoryError"),
    "generator-exit": Broken("raise GeneratorExit", "GeneratorExit"),
    "cancelled": Broken("import asyncio; raise asyncio.CancelledError", "CancelledError"),
    "own-base": Broken("class Odd(BaseException): pass\nraise Odd('odd')", "Odd: odd"),
    "speechless": Broken("class Odd(Exception):\n def __str__(self): 1 / 0\nraise Odd", "^Odd"),
    "colourful": Broken(r"raise ValueError('\x1b[31m\u202ered')", r"ValueError: \\u001b\[31m\\u202ered"),
    "wordy": Broken("raise ValueError('x' * 100_000)", r"^ValueError: x{200}"),
    "chdir": Broken("import os; os.chdir('/')", "changes the working folder", short=True),
    "no-path": Broken("import sys; sys.path.clear()", "takes folders off sys.path", short=True),
    "strict": Broken("import warnings; warnings.simplefilter('error')", "an error of every warning", short=True),
    "no-open": Broken("import builtins; builtins.open = None", "replaces the built-in open"),
    "no-import": Broken("import builtins; builtins.__import__ = lambda *a: 1 / 0", "replaces the built-in|ZeroDiv"),
    "no-output": Broken("import sys; sys.stdout.close()", "closes standard input, output or error", short=True),
    "no-handle": Broken("import os; os.close(1)", "closes standard input, output or error"),
    "no-errors": Broken("import sys; sys.stderr = None", "closes standard input, output or error"),
    "no-handles": Broken("import os; os.closerange(0, 256)", "closes files that others have opened"),
    "no-modules": Broken("import sys; [sys.modules.pop(n) for n in ('json', 'ast')]", "removes modules"),
    "deaf": Broken("import signal; signal.signal(2, signal.SIG_IGN)", "takes over Ctrl-C"),
    "exact": Broken("import numpy; numpy.seterr(all='raise')", "what NumPy does with numbers"),
    "never-ends": Broken(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()",
        "starts a thread that keeps the program from ending",
    ),
    "becomes-another": Broken("import os; os.execv('/bin/true', ['true'])", rf"{ENDED} \(status 0\)"),
    "becomes-a-sleeper": Broken("import os; os.execv('/bin/sleep', ['sleep', '99'])", HANGS),
    "daemon": Broken("import os\nif os.fork(): os._exit(0)", rf"{ENDED} \(status 0\)"),
    "kills-the-asker": Broken("import os, time; os.kill(os.getppid(), 9); time.sleep(5)", "ended the process that asks"),
    "another-contract": Broken("from allkit import Segmenter\napi_version = 9", "version 9 of the plugin contract", short=True),
    "annotated-contract": Broken("from allkit import Segmenter\napi_version: int = 9", "version 9 of the plugin contract"),
    "no-such-part": Broken("from allkit import Segmenter", "ImportError: cannot import name 'Segmenter'"),
    "newer": Broken("api_version = 3", "version 3 of the plugin contract"),
    "older": Broken("api_version = 0", "no longer takes"),
    "below": Broken("api_version = -1", "no longer takes"),
    "text-version": Broken("api_version = '2'", "must be a whole number"),
    "true-version": Broken("api_version = True", "must be a whole number"),
    "float-version": Broken("api_version = 2.0", "must be a whole number"),
    "no-version": Broken("api_version = None", "must be a whole number"),
    "no-such-target": Broken("", "ModuleNotFoundError: No module named 'no_such_module'", value="no_such_module"),
    "no-attribute": Broken("", "AttributeError", value="MODULE:plugin"),
    "garbage-value": Broken("", "names no module", value="not a module!", short=True),
    "no-value": Broken("", "names no module", value=""),
    "path-value": Broken("", "names no module", value="../../evil.py"),
}  # fmt: skip
AT_HOOK = {
    "no-records": Broken(hook("return ['not a record']"), "must return Backbone", short=True),
    "no-list": Broken(hook("return 7"), "must return a list of records"),
    "nothing": Broken(hook("return None"), "must return a list of records"),
    "hook-raises": Broken(hook("return 1 / 0"), "ZeroDivisionError"),
    "hook-exits": Broken(hook("raise SystemExit(0)"), "it tried to end the program", short=True),
    "hook-crashes": Broken(hook("import os; os.kill(os.getpid(), 11)"), CRASHED),
    "hook-loops": Broken(hook("while True: pass"), HANGS),
    "hook-moves": Broken(hook("import os; os.chdir('/'); return [Backbone('moved', run)]"), "working folder"),
    "hook-misspelt": Broken(hook("return []", "backbone"), "Did you mean 'allkit_backbones'", short=True),
    "hook-unmarked": Broken(HEAD + "def allkit_backbones(): return []", "not marked as one", short=True),
    "hook-unknown": Broken(hook("return []", "segmenters"), "there is no such hook"),
    "hook-argument": Broken(hook("return []").replace("()", "(extra)"), "extra"),
    "hook-of-two": Broken(old(of("views", "View('v', run)")), "came with version 2"),
    "endless": Broken(hook("import itertools; return itertools.count()"), "more than 1000 records", short=True),
    "too-many": Broken(hook("return [Backbone(f'b{i}', run) for i in range(2000)]"), "more than 1000 records"),
    "half-way": Broken(hook("yield Backbone('half', run); 1 / 0"), "ZeroDivisionError"),
    "a-class": Broken(hook("return [Backbone]"), "must return Backbone"),
    "other-kind": Broken(of("backbones", "Augmentation('a', run)"), "must return Backbone"),
    "not-awaited": Broken(hook("return []").replace("def allkit", "async def allkit"), "must return a list of records"),
    "offers-nothing": Broken(hook("return []"), "offers nothing", noted=True, short=True),
    "no-hooks": Broken("api_version = 2", "offers nothing", noted=True),
    "other-word": Broken(HEAD + "def allkit_backbone(): return []", "Did you mean 'allkit_backbones'", noted=True),
    "old-contract": Broken(old(of("backbones", "Backbone('old-one', run)")), "Deprecated: .* version 1", noted=True),
}  # fmt: skip
NAMES = {
    "blank": "two words", "up": "../../up", "escape": "\x1b[31mred", "long": "x" * 300, "empty": "",
    "none": None, "slash": "a/b", "capital": "Vgg", "line": "a\nb", "colon": "a:b", "bytes": b"a", "dot": ".a",
    "reversed": "a\u202eb", "brace": "a{b}", "letters": "größe",
}  # fmt: skip
RECORDS = {
    f"name-{key}": Broken(of("augmentations", f"Augmentation({name!r}, run)"), f"{NAMELESS}|not taken since")
    for key, name in NAMES.items()
} | {
    "name-old": Broken(old(of("backbones", "Backbone('../up', run)")), NAMELESS),
    "name-family": Broken(of("backbones", "BackboneFamily('a:b', run, run)"), f"{NAMELESS}|not taken since"),
    "twice": Broken(of("backbones", "Backbone('x', run), Backbone('x', run)"), "'x' twice", short=True),
    "twice-family": Broken(of("backbones", "BackboneFamily('f', run, run), BackboneFamily('f', run, run)"), "twice"),
    "not-callable": Broken(of("backbones", "Backbone('x', 'no')"), "not callable", short=True),
    "no-build": Broken(of("backbones", "Backbone('x')"), "TypeError: .*build"),
    "later-field": Broken(of("backbones", "Backbone('x', run, depth=3)"), "TypeError: .*depth"),
    "suffix": Broken(of("exporters", "Exporter('x', 'x', run, run)"), "must start with a dot"),
    "precision": Broken(of("exporters", "Exporter('x', '.x', run, run, precisions=('int4',))"), "precisions"),
    "no-class": Broken(of("views", "View('x', run, settings={'a': 1})"), "derived from pydantic.BaseModel"),
    "an-instance": Broken(of("views", "View('x', run, settings=Finding('note', 'x'))"), "derived from pydantic.BaseModel"),
    "a-factory": Broken(
        of("views", "View('x', run, settings=S)", HEAD + "class S(BaseModel):\n a: int = Field(default_factory=run)"),
        "ArithmeticError: as it was to be",
    ),
    "a-state": Broken(HEAD + "Finding('bad', 'it is')", "problem or note"),
}  # fmt: skip
STRICT = """
class Chosen(BaseModel):
    sigma: float = 0.1
    needed: int
    @field_validator("sigma")
    @classmethod
    def check(cls, value):
        if value == 3: raise ArithmeticError("as it was to be")
        return value
"""
CHOSEN = of("augmentations", "Augmentation('NAME', run, settings=Chosen)", HEAD + STRICT)


def asked(kind: str, name: Any, step: str = "", *arguments: Any) -> Callable[[Any], object]:
    """Ask a registry for a record, and call its function."""

    def use(host: Any) -> object:
        record = host.get(kind, name)
        result = getattr(record, step)(*arguments) if step else record
        return list(result) if hasattr(result, "__next__") else result

    return use


def used(kind: str, record: str, name: str, step: str) -> Broken:
    """A record whose function raises when it is called."""
    says = FAILS.format(step=step)
    return Broken(of(f"{kind}s", record), says, asked(kind.replace("_", "-"), name, step))


WHEN_USED = {
    "build": used("backbone", "Backbone('u-build', run)", "u-build", "build"),
    "build-exits": Broken(
        of("backbones", "Backbone('u-exits', lambda weights: exit(0))"), "tried to end the program",
        asked("backbone", "u-exits", "build", "none"), short=True,
    ),
    "build-cancels": Broken(
        of("backbones", "Backbone('u-cancels', build)", HEAD + "def build(w):\n import asyncio\n raise asyncio.CancelledError"),
        "CancelledError", asked("backbone", "u-cancels", "build", "none"),
    ),
    "apply": used("augmentation", "Augmentation('u-apply', run)", "u-apply", "apply"),
    "view": used("view", "View('u-view', run)", "u-view", "build"),
    "find": used("finder", "Finder('u-find', run)", "u-find", "find"),
    "read": used("reader", "Reader('u-read', ('.uread',), run)", "u-read", "read"),
    "explain": used("explainer", "Explainer('u-explain', run)", "u-explain", "explain"),
    "write": used("exporter", "Exporter('u-write', '.uwrite', run, run)", "u-write", "write"),
    "open": used("exporter", "Exporter('u-open', '.uopen', run, run)", "u-open", "open"),
    "health": used("health_check", "HealthCheck('u-health', run)", "u-health", "run"),
    "health-half": Broken(
        of("health_checks", "HealthCheck('u-half', half)", HEAD + "def half():\n yield Finding('note', 'so far')\n run()"),
        FAILS.format(step="run"), asked("health-check", "u-half", "run"),
    ),
    "command": used("command", "Command('u-command', run)", "u-command", "build"),
    "family-fails": Broken(
        of("backbones", "BackboneFamily('u-fails', run, run)"), FAILS.format(step="get"), asked("backbone", "u-fails:x")
    ),
    "family-lies": Broken(
        of("backbones", "BackboneFamily('u-lies', lambda name: 42, run)"), "returned 42 for u-lies:x",
        asked("backbone", "u-lies:x"), short=True,
    ),
    "family-names": Broken(
        of("backbones", "BackboneFamily('u-names', run, run)"), FAILS.format(step="names"),
        lambda host: host.family("u-names").names(),
    ),
    "setting-unknown": Broken(
        CHOSEN.replace("NAME", "u-s1"), "Unknown setting 'sgima'.*Did you mean 'sigma'",
        asked("augmentation", {"u-s1": {"sgima": 1}}),
    ),
    "setting-wrong": Broken(
        CHOSEN.replace("NAME", "u-s2"), "sigma = 'much' in the settings",
        asked("augmentation", {"u-s2": {"sigma": "much", "needed": 1}}),
    ),
    "setting-missing": Broken(CHOSEN.replace("NAME", "u-s3"), "needed is missing", asked("augmentation", "u-s3")),
    "setting-raises": Broken(
        CHOSEN.replace("NAME", "u-s4"), FAILS.format(step="settings"),
        asked("augmentation", {"u-s4": {"sigma": 3, "needed": 1}}), short=True,
    ),
    "setting-of-none": Broken(
        of("augmentations", "Augmentation('u-s5', run)"), "has no settings", asked("augmentation", {"u-s5": {"a": 1}})
    ),
    "only-here": Broken(
        "import os\nif os.environ.get('HERE'): raise OSError('not here')\n" + of("views", "View('u-here', run)"),
        "offers the view 'u-here', but fails: OSError: not here", asked("view", "u-here"), short=True,
    ),
    "other-here": Broken(
        of("views", "View('u-now' if os.environ.get('HERE') else 'u-then', run)", HEAD + "import os"),
        "Unknown view 'u-then'", asked("view", "u-then"),
    ),
}  # fmt: skip
ODD = {
    "loud": "import os, sys\nprint('x' * 10**6)\nsys.stderr.write('y' * 10**6)\nos.write(1, b'{}')",
    "garbage": "import os\nfor fd in range(3, 20):\n try: os.write(fd, b'\\0garbage {}\\n' * 99)\n except OSError: pass",
    "forked": "import os\nos.fork()",
    "leaves-a-process": "import os, time\nif not os.fork(): time.sleep(99)",
    "leaves-a-thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
    "leaves-an-exit": "import atexit\natexit.register(lambda: 1 / 0)",
    "quick-alarm": "import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)",
}
"""Modules that do something odd, and harm nobody: they work, and nothing is said of them."""
GOOD = {
    "good-backbone": (of("backbones", "Backbone('g-backbone', lambda weights: 'built')"), "backbone", "build"),
    "good-change": (of("augmentations", "Augmentation('g-change', lambda image: image)"), "augmentation", "apply"),
    "good-view": (of("views", "View('g-view', lambda size: size)"), "view", "build"),
    "good-reader": (of("readers", "Reader('g-reader', ('.good',), lambda data: data)"), "reader", "read"),
}  # fmt: skip


# ── installing ────────────────────────────────────────────────────────────────────────────────


def install(site: Path, name: str, broken: Broken) -> str:
    """Write a package as an installer does; return what messages call it."""
    module = "attacked_" + name.replace("-", "_")
    source = broken.source.encode("utf-8", "surrogateescape")
    (site / f"{module}.py").write_bytes(source)
    info = site / f"{module}-{VERSION}.dist-info"
    info.mkdir()
    requires = f"Requires-Dist: {broken.requires}\n" if broken.requires else ""
    head = f"Metadata-Version: 2.1\nName: attacked-{name}\nVersion: {VERSION}\n{requires}"
    (info / "METADATA").write_text(head)
    value = module if broken.value is None else broken.value.replace("MODULE", module)
    (info / "entry_points.txt").write_text(f"[allkit]\nplugin = {value}\n")
    (info / "RECORD").write_text(f"{module}.py,,\n")
    return f"attacked-{name} {VERSION}"


def damage(site: Path) -> dict[str, str]:
    """Write damaged installations; return what is to be said of each, by its folder."""

    def folder(name: str, version: str = "1.0", **files: str | bytes) -> Path:
        made = site / f"damaged_{name}-{version}.dist-info"
        made.mkdir()
        for file, text in files.items():
            path = made / file.replace("entry_points", "entry_points.txt")
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return made

    entries = "[allkit]\nplugin = json\n"
    head = "Name: damaged-{}\nVersion: {}\n"
    said = {
        folder("bare", entry_points=entries): "has no METADATA with a name and a version",
        folder("nameless", METADATA="Version: 1\n", entry_points=entries): "has no METADATA with a name",
        folder("binary", METADATA=b"\xff\xfe\x00", entry_points=entries): "has no METADATA with a name",
        folder("entries", METADATA=head.format("entries", "1.0"), entry_points=b"\xff\xfe"): "cannot be read",
        folder("line", METADATA=head.format("line", "1.0"), entry_points="[allkit]\nplugin\n"): "names no module",
    }  # fmt: skip
    for version in ("1.0", "2.0"):
        twice = folder(
            "twice", version, METADATA=head.format("twice", version), entry_points=entries
        )
        said[twice] = "Two versions of it are installed"
    (folder("folders", METADATA=head.format("folders", "1.0")) / "entry_points.txt").mkdir()
    said[site / "damaged_folders-1.0.dist-info"] = "cannot be read"
    for path in ("empty", "without"):
        folder(path)  # leftovers of another package, which concern nobody
    (site / "damaged_file-1.0.dist-info").write_text("no folder")
    return {str(path): words for path, words in said.items()}


@contextlib.contextmanager
def installed(folder: Path, broken: dict[str, Broken]) -> Iterator[tuple[Any, dict[str, str]]]:
    """Install all of them beside the good ones; yield a new registry, and what is damaged."""
    from allkit.plugins import Registry

    site = folder / "site"
    site.mkdir()
    for name, (source, _, _) in GOOD.items():
        install(site, name, Broken(source, ""))
    for name, source in ODD.items():
        install(
            site, name, Broken(source + of("views", f"View('o-{name}', lambda size: size)"), "")
        )
    for name, one in broken.items():
        install(site, name, one)
    damaged = damage(site)
    variables = {"ALLKIT_CACHE": str(folder / "cache"), "ALLKIT_PLUGIN_SECONDS": "1"}
    with (
        mock.patch.object(sys, "path", [str(site), *sys.path]),
        mock.patch.dict(os.environ, variables),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        importlib.invalidate_caches()
        host = Registry()
        assert host.plugins
        with mock.patch.dict(os.environ, {"HERE": "1"}):
            yield host, damaged


# ── looking ───────────────────────────────────────────────────────────────────────────────────


def run(scale: Scale, folder: Path) -> dict[str, Counts]:
    """Install the broken ones beside the good ones, and see what is said of each."""
    groups = {
        "at import": AT_IMPORT,
        "in a hook": AT_HOOK,
        "of records": RECORDS,
        "when used": WHEN_USED,
    }
    chosen = {
        line: {name: one for name, one in group.items() if one.short or scale == "long"}
        for line, group in groups.items()
    }
    lines: dict[str, Counts] = {}
    everything = {name: one for group in chosen.values() for name, one in group.items()}
    with installed(folder, everything) as (host, damaged):
        plugins = {plugin.distribution: plugin for plugin in host.plugins}
        problems = host.problems()
        for line, group in chosen.items():
            counts = lines[line] = Counts()
            for name, one in group.items():
                what = _wrong(host, plugins[f"attacked-{name}"], one, problems)
                _count(counts, name, what)
        lines["damaged installations"] = Counts()
        for path, words in damaged.items():
            told = [str(p) for p in problems if path in str(p) and words in str(p)]
            _count(lines["damaged installations"], path, "" if told else "nobody tells of it")
        counts = lines["good ones beside them"] = Counts()
        for name, (_, kind, step) in GOOD.items():
            record = host.get(kind, f"g-{name.removeprefix('good-')}")
            answer = getattr(record, step)("given")
            blamed = [str(p) for p in problems if f"attacked-{name} " in p.where]
            _right(counts, name, blamed or ([] if answer in ("given", "built") else [answer]))
        for name in ODD:
            blamed = [str(p) for p in problems if f"attacked-{name} " in p.where]
            _right(counts, name, blamed)
            assert plugins[f"attacked-{name}"].offers, name
    return lines


def _wrong(host: Any, plugin: Any, one: Broken, problems: list[Any]) -> str:
    """Return what is wrong with what is said of a broken plugin; an empty text where all is right."""
    from allkit.errors import ConfigError, PluginError

    if one.use is None:
        told = [p.what for p in problems if p.where == plugin.origin]
        text = " ".join(plugin.notes) if one.noted else plugin.error or ""
        if not re.search(one.says, text):
            return f"it says {text!r}, and not {one.says!r}"
        if not any(re.search(one.says, what) for what in told):
            return "doctor does not tell of it"
        return "" if one.noted or not plugin.offers else "it offers something all the same"
    if plugin.error and "HERE" not in one.source:
        return f"it is called broken: {plugin.error}"
    try:
        one.use(host)
    except (PluginError, ConfigError) as error:
        text = str(error)
        named = plugin.origin in text or "Unknown view" in text
        return "" if named and re.search(one.says, text) else f"it ends with {text!r}"
    except BaseException as error:  # noqa: BLE001 - whatever gets past the guard
        return f"it ends with {type(error).__name__}: {error}"
    return "it succeeds"


def _count(counts: Counts, name: str, wrong: str) -> None:
    if wrong:
        counts.failed.append(f"{name}: {wrong}")
    else:
        counts.refused += 1


def _right(counts: Counts, name: str, blamed: list[str]) -> None:
    if blamed:
        counts.failed.append(f"{name}: {blamed[0]}")
    else:
        counts.right += 1
