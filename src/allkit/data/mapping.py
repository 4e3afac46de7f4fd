"""From the labels of one set to the classes of a model that was trained on another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from allkit.data.dataset import Dataset
from allkit.data.labels import ALL_CLASSES, canonical_label
from allkit.data.tables import text_rows
from allkit.data.values import Form
from allkit.errors import ConfigError, did_you_mean

__all__ = ["LabelMap", "Mapped"]

MALIGNANT = "malignant"
NOTHING = ("", "~", "null")  # how YAML spells that there is no value
FORM = (
    "Wanted is a YAML file of lines such as `hem: Benign`, `all: malignant` and "
    "`malignant: [Early, Pre, Pro]`, or a CSV with the columns label and class."
)


class Mapped(NamedTuple):
    """A set under the classes that it can be judged by.

    `classes` are the C mapped classes; `members` `(K, C)` says in which of these each of the model's
    K classes is (in exactly one). `notes` say which label was read as which class.
    """

    dataset: Dataset
    classes: tuple[str, ...]
    members: npt.NDArray[np.bool_]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class LabelMap:
    """What the labels of a set mean to a model that was trained on another.

    `labels` maps a label to a class of the model, to a group, or to `None` (its images are left
    out). `groups` are named sets of the model's classes, such as `malignant`. A label that
    is the name of a class or of a group needs no line.
    """

    labels: Mapping[str, str | None]
    groups: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, values: Mapping[str, Any], source: str = "the label map") -> LabelMap:
        """Take `{label: class}` and `{group: [class, …]}`, in one; raise `ConfigError`."""
        labels: dict[str, str | None] = {}
        groups: dict[str, tuple[str, ...]] = {}
        for key, value in values.items():
            name = str(key).strip()
            if isinstance(value, list) and value and all(_plain(v) for v in value):
                groups[name] = tuple(canonical_label(str(v)) for v in value)
            elif value is None or _plain(value):
                text = "" if value is None else str(value).strip()
                labels[name] = None if text in NOTHING else text
            else:
                raise ConfigError(
                    f"{source} maps {name!r} to {value!r}, which names no class. {FORM}"
                )
        if not labels and not groups:
            raise ConfigError(f"{source} is empty. {FORM}")
        return cls(labels, groups)

    @classmethod
    def read(cls, path: str | Path) -> LabelMap:
        """Read a YAML or CSV file; raise `ConfigError` when it holds no map."""
        path = Path(path)
        if not path.is_file():
            raise ConfigError(f"The label map {path} does not exist. {FORM}")
        if path.suffix.lower() in (".csv", ".tsv"):
            return cls.of(_table(path), str(path))
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Once)
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{path} cannot be read as YAML: {reason}. {FORM}") from None
        if not isinstance(values, dict):
            raise ConfigError(f"{path} holds no label map. {FORM}")
        return cls.of(values, str(path))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, in the form that `of` takes."""
        return {**self.labels, **{name: list(members) for name, members in self.groups.items()}}

    def apply(self, dataset: Dataset, classes: Sequence[str]) -> Mapped:
        """Return the set under classes made of the model's `classes`.

        Raises `ConfigError` for a name that is no class of the model, for classes in two groups,
        for a label without a line, and when fewer than two classes are left to tell apart.
        """
        groups = self._groups(classes)
        target = {label: self._target(label, classes, groups, dataset) for label in dataset.counts}
        used = {name for name in target.values() if name is not None}
        joined = {c: name for name in groups if name in used for c in groups[name]}
        self._require_apart(used, groups, joined)
        mapped = tuple(dict.fromkeys(joined.get(c, c) for c in classes))
        if len(mapped) < 2:
            raise ConfigError(
                f"The label map puts every class of the model into {mapped[0]!r}; at least two "
                f"classes are needed."
            )
        members = np.array([[joined.get(c, c) == name for name in mapped] for c in classes])
        named = [target[label] for label in dataset.label_names]
        part = dataset.subset([i for i, name in enumerate(named) if name is not None])
        labels = [name for name in named if name is not None]
        samples = [replace(s, label=name) for s, name in zip(part, labels, strict=True)]
        relabelled = Dataset(
            samples,
            mapped,
            name=part.name,
            split_by=part.split_by,
            measured=part.passes.measured.same(),
        )
        return Mapped(relabelled, mapped, members, tuple(self._told(dataset, target, groups, used)))

    def _groups(self, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
        groups = dict(self.groups)
        if (
            MALIGNANT not in groups
            and MALIGNANT not in classes
            and set(classes) <= set(ALL_CLASSES)
        ):
            groups[MALIGNANT] = tuple(c for c in classes if c != "Benign")
        for name, members in groups.items():
            if name in classes:
                raise ConfigError(
                    f"The label map gives the name {name!r} to a group; it is a class of the "
                    f"model. Choose another name."
                )
            for member in members:
                if member not in classes:
                    raise _unknown(f"The group {name!r} of the label map", member, classes)
        return groups

    def _target(
        self,
        label: str,
        classes: Sequence[str],
        groups: Mapping[str, tuple[str, ...]],
        dataset: Dataset,
    ) -> str | None:
        lines = {canonical_label(key): value for key, value in self.labels.items()} | dict(
            self.labels
        )
        if label not in lines:
            if label in classes or label in groups:
                return label
            raise ConfigError(
                f"The label map has no line for the label {label!r}, which {dataset.counts[label]} "
                f"images of {dataset.name} have. Add one; `{label}:` without a class leaves them out."
            )
        value = lines[label]
        if value is None:
            return None
        for name in (value, canonical_label(value)):
            if name in classes or name in groups:
                return name
        raise _unknown(f"The label map takes {label!r} for", value, [*classes, *groups])

    @staticmethod
    def _require_apart(
        used: set[str], groups: Mapping[str, tuple[str, ...]], joined: Mapping[str, str]
    ) -> None:
        for name in sorted(used):
            for member in groups.get(name, (name,)):
                other = joined.get(member, name)
                if other != name:
                    raise ConfigError(
                        f"The label map puts the class {member!r} into {name!r} and into {other!r}; "
                        f"an image has one of them only. Take it out of one."
                    )

    @staticmethod
    def _told(
        dataset: Dataset,
        target: Mapping[str, str | None],
        groups: Mapping[str, tuple[str, ...]],
        used: set[str],
    ) -> list[str]:
        taken = ", ".join(f"{label} as {name}" for label, name in sorted(target.items()) if name)
        made = "".join(
            f" {name} is {', '.join(groups[name])}: its probability is their sum."
            for name in sorted(used & set(groups))
        )
        notes = [f"Labels by a map: {taken}.{made}"]
        left = {label: dataset.counts[label] for label, name in target.items() if name is None}
        if left:
            what = ", ".join(f"{label} ({count})" for label, count in sorted(left.items()))
            notes.append(f"Left out, as the label map says: {what}.")
        return notes


def _plain(value: object) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _unknown(where: str, name: str, known: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"{where} {name!r}, which is no class of the model.{did_you_mean(name, list(known))} "
        f"Known: {', '.join(known)}."
    )


def _table(path: Path) -> dict[str, Any]:
    columns, rows = text_rows(path, ("label", "class"))
    if not {"label", "class"} <= set(columns):
        raise ConfigError(f"{path} has the columns {', '.join(columns) or 'none'}. {FORM}")
    values: dict[str, Any] = {}
    form = Form.of(row["label"] for row in rows)
    for row in rows:
        label, text = form.read(row["label"]), row["class"]
        if label in values:
            raise ConfigError(f"{path} has two lines for {label!r}. Keep one.")
        parts = [part.strip() for part in text.split(";") if part.strip()]
        values[label] = parts if len(parts) > 1 else (parts[0] if parts else None)
    return values


class _Once(yaml.BaseLoader):
    """YAML without types, so that the label `no` stays text; a repeated key is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping; raise `yaml.YAMLError` for a repeated key."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for number, key in enumerate(keys) if key in keys[:number]]
        if twice:
            raise yaml.YAMLError(f"two lines for {twice[0]!r}")
        return super().construct_mapping(node, deep=deep)
