"""The template of a package: rendering it, and bringing a newer one into a package made from it."""

from __future__ import annotations

import glob
import hashlib
import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import allkit
from allkit.errors import ConfigError
from allkit.files import write_whole
from allkit.plugins.offers import HOOKS, Kind
from allkit.records import API_VERSION

__all__ = ["MARK", "Answers", "answers_of", "rendered", "update"]

MARK = ".allkit-template.toml"
"""The file of a package that says from which template it was made."""
SUFFIX = ".jinja"
"""The ending of a template's files whose content is filled; others are copied."""
FOLDER = Path(__file__).parents[1] / "plugins" / "template"
_SETTING = {"backbone": "backbone", "augmentation": "augment", "view": "view", "finder": "finder"}
_EXAMPLE: dict[str, dict[str, Any]] = {
    "backbone": {"scales": 4},
    "augmentation": {"strength": 0.2},
    "view": {"colour": "red"},
    "finder": {"contrast": 30},
    "explainer": {"smooth": 5},
    "exporter": {"level": 9},
}
_WHAT = {
    "backbone": "how grainy an image is at several scales",
    "augmentation": "all dye of a smear, weaker or stronger",
    "view": "the light of one colour only",
    "finder": "white cells are the large places that take up green light",
    "reader": "portable pixmaps (PPM)",
    "explainer": "where a small change of an image would change the answer",
    "exporter": "an ONNX graph, compressed",
    "command": "how many images of which class are in a set",
    "health-check": "there is room on the disk for what is computed",
}


@dataclass(frozen=True)
class Answers:
    """What the template is filled with: the name of the package, and its part.

    Without a name of its own the part is called as the package is, but for `allkit-`.
    """

    name: str
    kind: Kind
    part: str = ""

    @property
    def module(self) -> str:
        """The name of the package's module."""
        return self.name.replace("-", "_")

    @property
    def values(self) -> dict[str, Any]:
        """The names that stand in the template."""
        record = self.part or self.name.removeprefix("allkit-")
        part = {f"{self.name}/{record}": _EXAMPLE.get(self.kind, {})}
        setting = _SETTING.get(self.kind, "")
        value = [part] if setting == "augment" else part
        label = self.kind.replace("-", " ")
        return {
            "name": self.name,
            "module": self.module,
            "kind": self.kind,
            "label": label,
            "record": record,
            "hook": HOOKS[self.kind][0],
            "settings": _EXAMPLE.get(self.kind, {}),
            "dumped": _dumped,
            "title": f"The {label} {record}",
            "what": _WHAT[self.kind],
            "setting": setting,
            "yaml": _yaml({setting: value}, flow=False),
            "flow": _yaml(value, flow=True),
            "python": repr(value).replace("'", '"'),
            "allkit_version": allkit.__version__,
            "api_version": API_VERSION,
        }


def _dumped(value: Any) -> str:
    return _yaml(value, flow=True).removesuffix("\n...").strip()


def _yaml(value: Any, *, flow: bool) -> str:
    import yaml

    return yaml.safe_dump(value, default_flow_style=flow, sort_keys=False, width=1000).strip()


def rendered(answers: Answers) -> dict[str, str]:
    """Return the text of every file of the package, by its path with slashes."""
    import jinja2

    # What is written is Python and TOML for this machine, not a page: nothing to escape.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        keep_trailing_newline=False,
        undefined=jinja2.StrictUndefined,
    )
    values = answers.values
    files = {}
    common = FOLDER / "common"
    for source in sorted(path for path in common.rglob("*") if path.is_file()):
        place = source.relative_to(common).as_posix()
        if source.suffix == SUFFIX:
            text = environment.get_template(f"common/{place}").render(values)
        else:
            text = source.read_text(encoding="utf-8")
        name = environment.from_string(place.removesuffix(SUFFIX)).render(values)
        files[name] = text.rstrip("\n") + "\n"
    return files | {MARK: _mark(answers, files)}


def _mark(answers: Answers, files: Mapping[str, str]) -> str:
    """Return the file that says from which template a package was made."""
    lines = [
        "# From which template of allkit this package was made, and how its files were then.",
        "# `allkit plugins new --update .` reads it: what you changed stays as it is.",
        f"template = {json.dumps(allkit.__version__)}",
        f"name = {json.dumps(answers.name)}",
        f"kind = {json.dumps(answers.kind)}",
        *([f"part = {json.dumps(answers.part)}"] if answers.part else []),
        "",
        "[files]",
        *(f"{json.dumps(path)} = {json.dumps(_hash(text))}" for path, text in files.items()),
    ]
    return "".join(f"{line}\n" for line in lines)


def _hash(text: str) -> str:
    # A checkout may have other ends of lines.
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def _made_from(folder: Path) -> dict[str, Any]:
    file = folder / MARK
    try:
        held = tomllib.loads(file.read_text(encoding="utf-8"))
        files = held["files"]
        texts = isinstance(held["name"], str) and isinstance(held.get("part", ""), str)
        if held["kind"] in get_args(Kind) and texts:
            return {**held, "files": {str(path): str(text) for path, text in files.items()}}
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} has no {MARK}, so it was not made by `allkit plugins new`. Make a package beside it, "
            f"and compare the two."
        ) from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ConfigError(f"{file} is damaged. Take it from an earlier version of the package.")


def answers_of(folder: Path) -> Answers:
    """Return what the package in `folder` was made of; raise `ConfigError` where that is not known."""
    held = _made_from(folder)
    return Answers(held["name"], held["kind"], held.get("part", ""))


def update(folder: Path, answers: Answers) -> Iterator[str]:
    """Bring the template of today into a package, and yield a line for everything that is done.

    Files that are as the template made them are renewed. Those that were changed stay; where the
    template has other text for them now, it is written beside them, as FILE.new. What was deleted
    stays deleted.
    """
    held = _made_from(folder)
    files = rendered(answers)
    mark = files.pop(MARK)
    _require_its_own(folder, answers, held["files"])
    yield f"{folder}: made from the template of allkit {held.get('template')}, now {allkit.__version__}."
    changes = 0
    for path, text in files.items():
        earlier = _beside(folder, path)
        for line in _updated(folder, path, held["files"].get(path), text):
            changes += 1
            yield f"  {line}"
        for name in earlier:
            yield f"  {name} is there from an earlier update: take over what you want of it, and delete it."
    for path in held["files"]:
        if path not in files and (folder / path).is_file():
            changes += 1
            yield f"  {path} is no longer part of the template; it stays, and is yours."
    write_whole(folder / MARK, mark)
    if not changes:
        yield "  Nothing is new."


def _require_its_own(folder: Path, answers: Answers, held: Mapping[str, str]) -> None:
    """Raise `ConfigError` where the mark of a package has another name or kind than it was made with."""
    module = f"{answers.module}.py"
    try:
        text = (folder / module).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    other = held.get(module) == _hash(text) and HOOKS[answers.kind][0] not in text
    if module not in held or other:
        raise ConfigError(
            f"{folder / MARK} says {answers.kind} {answers.name}, and the package was made as another one. "
            f"Put back what it said: name and kind stay as they are."
        )


def _updated(folder: Path, path: str, was: str | None, text: str) -> Iterator[str]:
    """Renew one file of a package, `was` being the hash of what the template once made."""
    file = folder / path
    try:
        there = file.read_text(encoding="utf-8") if file.is_file() else None
    except (OSError, UnicodeDecodeError):
        there = ""
    if there is None:
        if was is None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, text)
            yield f"{path} is new."
        elif was != _hash(text):
            yield f"{path} was deleted, and stays so, though the template has changed it."
    elif _hash(there) == _hash(text):
        return
    elif _hash(there) == was:
        write_whole(file, text)
        yield f"{path} is renewed: you had not changed it."
    elif was != _hash(text):
        new = _free(folder, path)
        write_whole(folder / new, text)
        yield (
            f"{path} was changed by you, and stays. What the template has now is in {new}; to compare: "
            f"diff {shlex.quote(str(file))} {shlex.quote(str(folder / new))}"
        )


def _beside(folder: Path, path: str) -> list[str]:
    """Return what lies beside a file with what the template had for it."""
    file = folder / path
    names = sorted(one.name for one in file.parent.glob(f"{glob.escape(file.name)}.new*"))
    return [(Path(path).parent / name).as_posix() for name in names]


def _free(folder: Path, path: str) -> str:
    """Return a path beside a file that is not taken yet: FILE.new, FILE.new2."""
    number = 1
    while True:
        beside = f"{path}.new{number if number > 1 else ''}"
        if not (folder / beside).exists():
            return beside
        number += 1
