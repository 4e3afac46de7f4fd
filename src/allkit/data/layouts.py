"""What the levels of a set's folders are: parts, folds, classes.

A folder that is no class must never become one in silence: what is not certain is refused, with the
ways out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NoReturn

from allkit.data.folders import (
    FOLD,
    FOLD_WORDS,
    MAGNIFICATION,
    ORIGIN,
    PATIENT,
    WITHOUT_LABELS,
    copies_in,
    fold_number,
    is_known,
    is_leftover,
    is_no_class,
    is_numbered,
    is_slide_like,
    likely_part,
    part_name,
    part_word,
    words_of,
)
from allkit.data.labels import canonical_label, spelling
from allkit.data.rows import PARTS
from allkit.errors import DatasetError

__all__ = ["Layout", "layout_of"]

Folders = Collection[tuple[str, ...]]
"""The folders that hold images directly, each as the names of its levels."""

TABLE = "give a table with the columns image and label (and case, slide, split or fold)"


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
        if all(map(is_known, level)):
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
    elif deep and layout.fold is None and all(FOLD.fullmatch(folder) for folder in inner):
        layout = replace(layout, fold=layout.label + 1)
    read.require_no_class_inside(folders, layout)
    read.require_one_division(folders, layout)
    if layout.part is not None and layout.part < layout.label:
        read.require_common_classes(folders, layout)
    return layout


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
        words = {folder: part_word(folder) for folder in level}
        like = {folder for folder in level if words[folder]}
        without = {folder for folder in level if WITHOUT_LABELS & set(words_of(folder))} - like
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
        misspelt = {folder: part for folder in sorted(rest) if (part := likely_part(folder))}
        if misspelt and not without:
            folder, part = next(iter(misspelt.items()))
            self.refuse(
                f"{self.name} has {_listed(like)} beside {_listed(rest)}: a part of a division is no "
                f"class, and {folder} may be a misspelt part",
                f"Rename {folder} to {part} if it is that part, or move it away if it is none",
            )
        if rest or without:
            strange = without if without and not rest else like | without
            self.refuse(
                f"{self.name} has {_listed(strange)} beside {_listed(level - strange) or 'nothing'}: "
                f"a part of a division, or images without labels, is no class",
                f"Move {_listed(strange)} away",
            )
        unclear = {folder for folder in level if part_name(folder) is None}
        if unclear and len(level) == 1:
            self.refuse(f"{self.name} has one folder only, {_listed(level)}", way)
        if unclear:
            self.refuse(
                f"{self.name} has the folders {_listed(level)}, and it is not certain which part "
                f"of a division {_listed(unclear)} is",
                f"Rename them to train, val and test, {way[0].lower()}{way[1:]}",
            )
        return True

    def are_folds(self, level: set[str], direct: set[str], folders: Folders, at: int) -> bool:
        """Return whether a level holds folds, each with the same class folders."""
        like = {folder for folder in level if FOLD_WORDS & set(words_of(folder))}
        if not like:
            return False
        certain = all(FOLD.fullmatch(folder) for folder in level)
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
                f"{self.name} has the folders {_listed(level)}, of which some look like folds, but not "
                f"every one is a fold with the same class folders",
                "Call them fold_0, fold_1 and so on, with the same class folders in each, or put the "
                "classes above them (CLASS/fold_0/image.jpg)",
            )
        return True

    def require_classes(self, level: set[str], direct: set[str], folders: Folders, at: int) -> None:
        """Refuse a level that holds something else than classes."""
        inner = _inner(folders, at)
        known = {folder for folder in level if is_known(folder)}
        self.require_no_leftovers(level - known, level)
        holders = {
            folder
            for folder in level - known
            if sum(map(is_known, inner[folder])) > 1
            or (inner[folder] and folder not in direct and all(map(is_known, inner[folder])))
        }
        example = min(holders or level)
        way = self.instead((*_parent(folders, at, example), example))
        shared = Counter(name for names in inner.values() for name in names)
        below = _listed(shared)
        if holders:
            self.refuse(
                f"{self.name} has the folders {_listed(level)}, and the class folders lie inside "
                f"{'them' if holders == level else _listed(holders)}",
                way.replace("Give for", "Give one of these folders instead, for")
                if holders == level
                else "Move them up, beside the others",
            )
        if any(map(MAGNIFICATION.fullmatch, level)) and level & direct:
            self.refuse(
                f"{self.name} has the folders {_listed(level)}, and magnifications are no classes",
                "Put the images of one magnification into one folder per class",
            )
        if any(map(MAGNIFICATION.fullmatch, level)):
            self.refuse(f"{self.name} has folders of magnifications ({_listed(level)})", way)
        several = len(shared) > 1 and not direct and not known
        if several and len(level) == 1 and not all(map(is_slide_like, shared)):
            self.refuse(
                f"{self.name} has one folder only, {_listed(level)}, with {below} inside", way
            )
        strange = {folder for folder in level - known if is_no_class(folder)}
        if strange:
            self.refuse(
                f"{self.name} has the folders {_listed(level)}, and {_listed(strange)} is no class",
                f"Move {_listed(strange)} away"
                if strange != level
                else "Put the images into one folder per class",
            )
        common = [folder for folder, count in shared.items() if count > 1]
        numbers = all(map(is_numbered, level)) and not any(map(is_numbered, shared))
        if several and (numbers or not all(map(is_slide_like, common))):
            self.refuse(
                f"{self.name} has the folders {_listed(level)} with the folders {below} inside: "
                f"it is not certain which of the two are the classes",
                f"{way} if the classes are {below}",
            )
        if all(map(ORIGIN.fullmatch, level)):
            self.refuse(
                f"{self.name} has the folders {_listed(level)}, which look like slides, patients "
                f"or parts and not like classes",
                "Put them into one folder per class (CLASS/slide-1/image.jpg)",
            )

        origins = {folder for folder in level if PATIENT.fullmatch(folder)}
        if origins:
            self.refuse(
                f"{self.name} has {_listed(origins)} beside {_listed(level - origins)}: a patient or a "
                f"slide is no class",
                f"Put {_listed(origins)} into the class folders (CLASS/slide-1/image.jpg)",
            )

    def require_no_leftovers(self, further: set[str], level: set[str]) -> None:
        """Refuse copies of class folders, and folders of what nobody means as a class, beside others."""
        copies = copies_in(level) & further
        if copies:
            self.refuse(
                f"{self.name} has the folders {_listed(level)}, and {_listed(copies)} "
                f"{'looks like a copy' if len(copies) == 1 else 'look like copies'} of a folder, "
                f"which is no class",
                f"Move {_listed(copies)} away",
            )
        leftovers = {folder for folder in further if is_leftover(folder)}
        if leftovers and leftovers != level:
            self.refuse(
                f"{self.name} has {_listed(leftovers)} beside {_listed(level - leftovers)}, and "
                f"{'that is' if len(leftovers) == 1 else 'those are'} no class by the name",
                f"Move {_listed(leftovers)} away",
            )

    def require_no_class_inside(self, folders: Folders, layout: Layout) -> None:
        """Refuse a class folder inside that of another class: its images would get the wrong label."""
        at = layout.label
        names = {_spelt(folder[at]) for folder in folders if len(folder) > at}
        for folder in sorted(folders):
            for depth in range(at + 1, len(folder)):
                inner = folder[depth]
                other = _spelt(inner) != _spelt(folder[at]) and not inner.isdigit()
                if other and (is_known(inner) or _spelt(inner) in names):
                    holder = "/".join(folder[:depth])
                    self.refuse(
                        f"In {self.name} the class folder {folder[at]} holds the folder {holder}/{inner}, "
                        f"which is called like another class, and its images would count as {folder[at]}",
                        f"Move {inner} out of {holder}, beside {folder[at]}, or rename it if it is no class",
                    )

    def require_one_division(self, folders: Folders, layout: Layout) -> None:
        """Refuse parts inside folds, or folds inside parts: each image is there several times."""
        if layout.part is None or layout.fold is None:
            return
        parts = {f[layout.part] for f in folders if len(f) > max(layout.part, layout.fold)}
        if layout.fold < layout.part or len(parts) > 1:
            self.refuse(
                f"{self.name} has parts ({_listed(parts)}) as well as folds, so it is not certain what "
                f"an image belongs to",
                "Give the folder of one fold",
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


def _spelt(folder: str) -> str:
    """Return what is the same for all spellings of a class's name."""
    return spelling(canonical_label(folder))


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
