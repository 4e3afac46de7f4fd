"""What the levels of a set's folders are: parts, folds, classes.

A folder that is no class must never become one in silence: what is not certain is refused, with the
ways out.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NoReturn

from allkit.data.labels import ALL_CLASSES, canonical_label
from allkit.data.rows import PARTS
from allkit.errors import DatasetError

__all__ = ["Layout", "fold_number", "is_role", "layout_of", "part_name"]

Folders = Collection[tuple[str, ...]]
"""The folders that hold images directly, each as the names of its levels."""

TABLE = "give a table with the columns image and label"
_FOLD_WORDS = {"fold", "folds", "kfold", "cv"}
_FOLD = re.compile(r"(?:k[ _-]?)?(?:fold|cv)[ _.#-]*(\d{1,3})", re.IGNORECASE)
_NO_CLASS = re.compile(
    r"(?:split|patient|pat|pt|case|subject|slide|smear|specimen|sample|series|subset|batch|run|field|fov)"
    r"(?:[ _.#-]*id)?[ _.#-]*[a-z]{0,2}\d+",
    re.IGNORECASE,
)
_MAGNIFICATION = re.compile(
    r"(?:mag(?:nification)?[ _-]*)?"
    r"(?:\d{1,4}(?:[.,]\d+)?[ _-]*[x×]|[x×][ _-]*(?:[45]|\d{2,4}))(?:[ _-]*oil)?",
    re.IGNORECASE,
)
_WITHOUT_LABELS = {"unlabelled", "unlabeled", "unlabled", "unannotated", "nolabel", "nolabels"}
_PLAIN = {"data", "set", "dataset", "images", "image", "imgs", "img", "folder", "split", "part"}
_FILLERS = _PLAIN | {
    "prelim", "preliminary", "final", "phase", "pictures", "photos", "smears", "smear", "slides",
    "unlabelled", "unlabeled", "unseen", "labelled", "labeled", "blind", "hidden", "public",
    "private", "internal", "external", "new", "old", "raw", "original", "cropped", "resized",
    "augmented", "c", "nmc", "cnmc", "isbi", "all", "idb", "allidb", "leukemia", "leukaemia",
    "blood", "cell", "cells",
}  # fmt: skip
"""Words that say nothing of a class."""
_SUFFIX = re.compile(r"(?:set|sets|data|dataset|images|imgs)$")


@dataclass(frozen=True)
class Layout:
    """The levels of the folders, from 0: of the class, and of part and fold where there are any."""

    label: int = 0
    part: int | None = None
    fold: int | None = None


def layout_of(name: str, folders: Folders, *, zipped: bool = False) -> Layout:
    """Return the layout of the set `name`; raise `DatasetError` where it is not certain."""
    layout, read = Layout(), _Reader(name, zipped)
    while True:
        at = layout.label
        level = {folder[at] for folder in folders if len(folder) > at}
        direct = {folder[at] for folder in folders if len(folder) == at + 1}
        if not level:
            read.refuse(f"The images of {name} lie in no class folders", "")
        if all(map(_is_known, level)):
            break
        if read.are_parts(level, direct, folders, at):
            read.require_once(layout.part, level)
            layout = replace(layout, label=at + 1, part=at)
        elif read.are_folds(level, direct, folders, at):
            read.require_once(layout.fold, level)
            layout = replace(layout, label=at + 1, fold=at)
        else:
            read.require_classes(level, direct, folders, at)
            break
    inner = {folder[layout.label + 1] for folder in folders if len(folder) > layout.label + 1}
    deep = all(len(folder) > layout.label + 1 for folder in folders)
    if deep and layout.part is None and all(part_name(folder) for folder in inner):
        layout = replace(layout, part=layout.label + 1)
    elif deep and layout.fold is None and all(_FOLD.fullmatch(folder) for folder in inner):
        layout = replace(layout, fold=layout.label + 1)
    if layout.part is not None and layout.part < layout.label:
        read.require_common_classes(folders, layout)
    return layout


def is_role(folder: str) -> bool:
    """Return whether a folder is a class of this task, or a part, a fold or a magnification."""
    return _is_known(folder) or bool(
        _part_word(folder) or _FOLD.fullmatch(folder) or _MAGNIFICATION.fullmatch(folder)
    )


def part_name(folder: str) -> str | None:
    """Return the part (`train`, `val`, `test`) for which a folder certainly stands, if any."""
    word = _part_word(folder)
    return PARTS[word] if word and set(_words(folder)) <= {word, *_PLAIN} else None


def fold_number(folder: str) -> int | None:
    """Return the number of a folder that is a fold; `None` for any other."""
    match = _FOLD.fullmatch(folder)
    return int(match[1]) if match else None


def _words(folder: str) -> list[str]:
    text = unicodedata.normalize("NFKC", folder).casefold()
    return [_SUFFIX.sub("", word) or word for word in re.findall(r"[^\W\d_]+|\d+", text)]


def _part_word(folder: str) -> str | None:
    """Return the one word of a folder's name that is a part, if all others say nothing of a class."""
    words = _words(folder)
    named = {word for word in words if word in PARTS}
    rest = [word for word in words if word not in PARTS]
    if len(named) != 1 or not all(word in _FILLERS or word.isdigit() for word in rest):
        return None
    return named.pop()


def _is_known(folder: str) -> bool:
    return canonical_label(folder) in ALL_CLASSES


def _numbered(folder: str) -> bool:
    return any(character.isdigit() for character in folder)


def _is_slide_like(folder: str) -> bool:
    """Return whether a folder inside a class may be a slide, a patient, a part or a fold."""
    digits = sum(character.isdigit() for character in folder)
    return bool(
        digits > 2
        or (digits and not any(map(str.isalpha, folder)))
        or _NO_CLASS.fullmatch(folder)
        or _FOLD.fullmatch(folder)
        or _MAGNIFICATION.fullmatch(folder)
        or part_name(folder)
    )


def _listed(folders: Collection[str]) -> str:
    shown = sorted(folders)
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


@dataclass(frozen=True)
class _Reader:
    """What is said about the set `name` where a level is not what it has to be."""

    name: str
    zipped: bool

    def refuse(self, fault: str, way: str) -> NoReturn:
        raise DatasetError(f"{fault}. {f'{way}, or {TABLE}' if way else TABLE.capitalize()}.")

    def instead(self, folder: tuple[str, ...]) -> str:
        place = "/".join(folder)
        return (
            f"Give a zip of {place} alone"
            if self.zipped
            else f"Give for example {self.name}/{place}"
        )

    def require_once(self, before: int | None, level: set[str]) -> None:
        if before is not None:
            self.refuse(f"{self.name} has {_listed(level)} on two levels of its folders", "")

    def are_parts(self, level: set[str], direct: set[str], folders: Folders, at: int) -> bool:
        """Return whether a level holds the parts of a division; refuse what is half of one."""
        words = {folder: _part_word(folder) for folder in level}
        like = {folder for folder in level if words[folder]}
        without = {folder for folder in level if _WITHOUT_LABELS & set(_words(folder))} - like
        if not like and not without:
            return False
        rest = level - like - without
        whole = {folder[: at + 1] for folder in folders if len(folder) > at + 1}
        whole = {folder for folder in whole if folder[at] in like}
        train = [folder for folder in whole if PARTS[words[folder[at]] or ""] == "train"]
        way = (
            self.instead(min(train or whole))
            if whole
            else "Make one folder per class in each of them"
        )
        bare = {f for f in like | without if f in direct and not any(w[at] == f for w in whole)}
        if bare and not rest:
            self.refuse(
                f"{self.name} has the folders {_listed(level)}, but the images of {_listed(bare)} "
                f"lie side by side, without class folders",
                way,
            )
        if rest or without:
            strange = without if without and not rest else like | without
            self.refuse(
                f"{self.name} has {_listed(strange)} beside {_listed(level - strange) or 'nothing'}: "
                f"a part of a division, or images without labels, is no class",
                f"Move {_listed(strange)} away",
            )
        unclear = {folder for folder in level if part_name(folder) is None}
        if unclear:
            self.refuse(
                f"{self.name} has the folders {_listed(level)}, and it is not certain which part "
                f"of a division {_listed(unclear)} is",
                f"Rename them to train, val and test; {way[0].lower()}{way[1:]}",
            )
        return True

    def are_folds(self, level: set[str], direct: set[str], folders: Folders, at: int) -> bool:
        """Return whether a level holds folds, each with the same class folders."""
        like = {folder for folder in level if _FOLD_WORDS & set(_words(folder))}
        if not like:
            return False
        certain = all(_FOLD.fullmatch(folder) for folder in level)
        numbers = Counter(fold_number(folder) for folder in level)
        inner = _inner(folders, at)
        shared = set.intersection(*(inner[folder] for folder in level))
        if len(level) == 1 and certain and not direct:
            self.refuse(
                f"{self.name} has only one fold, {_listed(level)}",
                self.instead((*_parent(folders, at, min(level)), min(level))),
            )
        if not certain or direct or max(numbers.values()) > 1 or not shared:
            self.refuse(
                f"{self.name} has the folders {_listed(level)}, which look like folds, but do not "
                f"all hold the same class folders",
                "Put the classes above them (CLASS/fold_0/image.jpg)",
            )
        return True

    def require_classes(self, level: set[str], direct: set[str], folders: Folders, at: int) -> None:
        """Refuse a level that holds something else than classes."""
        inner = _inner(folders, at)
        known = {folder for folder in level if _is_known(folder)}
        holders = {
            folder
            for folder in level - known
            if sum(map(_is_known, inner[folder])) > 1
            or (inner[folder] and folder not in direct and all(map(_is_known, inner[folder])))
        }
        example = min(holders or level)
        way = self.instead((*_parent(folders, at, example), example))
        shared = Counter(name for names in inner.values() for name in names)
        below = _listed(shared)
        if holders:
            self.refuse(
                f"{self.name} has the folders {_listed(level)}, and the class folders lie inside "
                f"{'them' if holders == level else _listed(holders)}",
                way.replace("Give for", "Give one of these folders instead, for"),
            )
        if any(map(_MAGNIFICATION.fullmatch, level)):
            self.refuse(f"{self.name} has folders of magnifications ({_listed(level)})", way)
        several = len(shared) > 1 and not direct and not known
        if several and len(level) == 1 and not all(map(_is_slide_like, shared)):
            self.refuse(
                f"{self.name} has one folder only, {_listed(level)}, with {below} inside", way
            )
        common = [folder for folder, count in shared.items() if count > 1]
        numbers = all(map(_numbered, level)) and not any(map(_numbered, shared))
        if several and (numbers or not all(map(_is_slide_like, common))):
            self.refuse(
                f"{self.name} has the folders {_listed(level)} with the folders {below} inside: "
                f"it is not certain which of the two are the classes",
                f"{way} if the classes are {below}",
            )
        if all(map(_NO_CLASS.fullmatch, level)):
            self.refuse(
                f"{self.name} has the folders {_listed(level)}, which look like slides, patients "
                f"or parts and not like classes",
                "Put them into one folder per class (CLASS/slide-1/image.jpg)",
            )

    def require_common_classes(self, folders: Folders, layout: Layout) -> None:
        """Refuse parts of which two have no class in common."""
        classes: dict[str, set[str]] = {}
        for folder in folders:
            if len(folder) > layout.label and layout.part is not None:
                label = canonical_label(folder[layout.label])
                classes.setdefault(folder[layout.part], set()).add(label)
        for first, of_first in sorted(classes.items()):
            for second, of_second in sorted(classes.items()):
                if not of_first & of_second:
                    self.refuse(
                        f"{self.name}: {first} has the folders {_listed(of_first)} and {second} "
                        f"has {_listed(of_second)}, so they have no class in common",
                        "Put the same class folders into both",
                    )


def _inner(folders: Folders, at: int) -> dict[str, set[str]]:
    """Return the names of the folders in each folder of a level."""
    inner: dict[str, set[str]] = {folder[at]: set() for folder in folders if len(folder) > at}
    for folder in folders:
        if len(folder) > at + 1:
            inner[folder[at]].add(folder[at + 1])
    return inner


def _parent(folders: Folders, at: int, name: str) -> tuple[str, ...]:
    """Return where a folder of a level lies; the first place if there are several."""
    return min(folder[:at] for folder in folders if len(folder) > at and folder[at] == name)
