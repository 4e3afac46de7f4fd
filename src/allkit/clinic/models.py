"""The models of a clinic: named by the hash of what decides their answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from allkit import __version__
from allkit.clinic.access import READERS, User
from allkit.clinic.cases import MOVES
from allkit.clinic.jobs import enqueue, requeue
from allkit.clinic.records import ModelIdentity, canonical
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change, Store, new_id
from allkit.clinic.text import line
from allkit.clinic.view import identity_of, model_of
from allkit.errors import ClinicError
from allkit.files import model_hash
from allkit.records import CasePrediction, Prediction, Predictor

__all__ = [
    "BENIGN",
    "KNOWN_SLIDES_ONLY",
    "Told",
    "add_model",
    "gone_model",
    "group_of",
    "known_model",
    "knows_no_other_slides",
    "malignant",
    "model_of_case",
    "models",
    "set_default",
    "told_by",
]

BENIGN = "benign"
KNOWN_SLIDES_ONLY = "It has no limits for slides that it was not trained on."
"""The limit of a model whose answers on other slides were never measured; stored with each such model."""
UNSIGNED = tuple(state for state in MOVES if "signed" in MOVES[state] or state == "new")


def add_model(
    user: User, path: Path, predictor: Predictor, *, name: str | None = None, default: bool = True
) -> str:
    """Take up a model, which was opened from a folder or an exported file, and return its id.

    With `default` it answers from now on: each case that is not signed is queued for it. The same model
    again changes its path only, and the cases in which it failed are queued anew. Raises `ClinicError`
    where the path is gone.
    """
    place = path.resolve()
    if not place.exists():
        raise ClinicError(f"{path} does not exist. Give a model folder or an exported file.")
    sha256 = model_hash(place)
    with user.change("admin") as change:
        row = change.first(sa.select(t.models).where(t.models.c.sha256 == sha256))
        if row is None:
            id = new_id()
            change.insert(
                t.models,
                id=id,
                sha256=sha256,
                name=line(name or place.stem, "name of the model"),
                path=str(place),
                added=change.now,
                **_described(predictor),
            )
            change.log("model.added", id, sha256=sha256)
        else:
            id = row.id
            _back(change, row, place)
        if default:
            _make_default(change, id)
        return id


def known_model(user: User, path: Path, *, default: bool) -> bool:
    """Return whether a model was taken up before; if so it need not be opened.

    With `default` it answers from now on. Cases in which it failed are queued anew.
    """
    place = path.resolve()
    sha256 = model_hash(place)
    with user.change("admin") as change:
        row = change.first(sa.select(t.models).where(t.models.c.sha256 == sha256))
        if row is None:
            return False
        _back(change, row, place)
        if default:
            _make_default(change, row.id)
    return True


def _back(change: Change, row: sa.Row[Any], place: Path) -> None:
    """Note where a known model is now, and let it try again where it failed."""
    if row.path != str(place):
        change.update(t.models, row.id, path=str(place))
        change.log("model.moved", row.id)
    requeue(change, row.id)


def _described(predictor: Predictor) -> dict[str, Any]:
    """Return what a row of a model says of it; plugins' files may know less than allkit's own."""
    trust = getattr(predictor, "trust", None)
    calibrated = bool(getattr(trust, "calibrated", False))
    limits = list(_said(predictor, "trust_notes", "limits") or ())
    if not calibrated:
        limits.append("Its probabilities are not calibrated: every answer is for review.")
    if trust is not None and getattr(trust, "slides", None) is None:
        limits.append(KNOWN_SLIDES_ONLY)
    limits.append("Research use; not a diagnosis.")
    return {
        # The day it was made on tells more than a number; a plugin's file may not say it.
        "version": str(_said(predictor, "created", "created") or "")[:10]
        or f"allkit {__version__}",
        "classes": canonical(list(predictor.classes)),
        "groups": canonical({name: group_of(name, trust) for name in predictor.classes}),
        "limits": canonical(limits),
        "calibrated": calibrated,
    }


def knows_no_other_slides(limits: Iterable[str]) -> bool:
    """Whether a model with these limits was never measured on slides that it does not know."""
    return KNOWN_SLIDES_ONLY in limits


def _said(predictor: Predictor, attribute: str, key: str) -> Any:
    """Return what a model says of itself: a classifier in an attribute, an exported file under a key."""
    info = getattr(predictor, "info", None)
    return info.get(key) if isinstance(info, dict) else getattr(info, attribute, None)


def group_of(label: str, trust: Any = None) -> str:
    """Return the group of a class: that of the model, else `benign` for hematogones by name.

    What is not known to be benign is taken for malignant, which is the safe mistake.
    """
    groups = getattr(trust, "groups", None)
    if groups is not None:
        position = list(trust.classes).index(label)
        return str(groups.names[groups.of_class[position]])
    return BENIGN if label.casefold() in ("benign", "hematogones", "hematogone") else "malignant"


def set_default(user: User, model: str) -> None:
    """Let a model answer from now on; each case that is not signed is queued for it."""
    with user.change("admin") as change:
        _make_default(change, model)


def _make_default(change: Change, id: str) -> None:
    if change.first(sa.select(t.models.c.id).where(t.models.c.id == id)) is None:
        raise ClinicError(f"There is no model {id[:40]!r}. Add it with: allkit clinic model PATH")
    if change.store.setting("default_model", change.connection) == id:
        return
    change.set("default_model", id)
    change.log("model.default", id)
    open_cases = change.connection.scalars(
        sa.select(t.cases.c.id).where(t.cases.c.status.in_(UNSIGNED))
    ).all()
    has_fields = set(change.connection.scalars(sa.select(t.fields.c.case_id).distinct()))
    for case in open_cases:
        if case in has_fields:
            enqueue(change, case, id)


def models(user: User) -> list[dict[str, Any]]:
    """Return the models, the newest first, each with whether it is the one that answers."""
    with user.read(*READERS, "admin", "system") as connection:
        default = user.store.setting("default_model", connection)
        rows = connection.execute(sa.select(t.models).order_by(t.models.c.id.desc()))
        return [dict(row._mapping) | {"default": row.id == default} for row in rows]


def gone_model(store: Store) -> str:
    """Return a sentence that says which model answers and is gone from its place; `""` where none is.

    A backup holds no models: a clinic that was restored on another machine may have none.
    """
    with store.read() as connection:
        default = store.setting("default_model", connection)
        row = connection.execute(sa.select(t.models).where(t.models.c.id == default)).first()
    if row is None or Path(row.path).exists():
        return ""
    return (
        f"The model {row.name} is gone from {row.path}, and a backup holds no models: cases get no answer. "
        f"Put it back, or take the same file up from where it is: allkit clinic model PATH"
    )


def model_of_case(user: User, case: str | None) -> ModelIdentity | None:
    """Return the model whose answers a case shows, or the one that answers from now on."""
    with user.read(*READERS, "admin", polling=True) as connection:
        row = None if case is None else model_of(connection, case)
        if row is None:
            default = user.store.setting("default_model", connection)
            row = connection.execute(sa.select(t.models).where(t.models.c.id == default)).first()
    return None if row is None else identity_of(row)


@dataclass(frozen=True)
class Told:
    """What a model folder says of its training and figures; an exported file says less.

    `measured` holds (figure, value, its interval in words) as they were stored, under `protocol`: what was
    measured, on how many images. `counts` are the images of each class that it was trained on, and `drawn`
    says that a program made these: then nothing follows for real smears.
    """

    there: bool
    counts: tuple[tuple[str, int], ...] = ()
    drawn: bool = False
    protocol: str = ""
    images: int = 0
    measured: tuple[tuple[str, float, str], ...] = ()
    notes: tuple[str, ...] = ()


FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_roc_auc",
    "malignant_sensitivity_at_specificity",
    "ece",
    "brier",
    "log_loss",
)
"""The figures of a validation that are shown, by their names in a model folder."""


def told_by(path: Path) -> Told:
    """Return what a model says of its figures, without opening the network. Never raises for a file that
    is gone or says nothing of it."""
    if not path.exists():
        return Told(there=False)
    try:
        said = json.loads((path / "model.json").read_text(encoding="utf-8"))
        data, checked = said["data"], said.get("validation") or {}
        return Told(
            there=True,
            counts=tuple((str(name), int(n)) for name, n in data["counts"].items()),
            drawn=bool(data.get("drawn")),
            protocol=str(checked.get("protocol", "")),
            images=int(checked.get("n", 0)),
            measured=tuple(_measured(checked)),
            notes=tuple(map(str, [*checked.get("notes", ()), *said.get("trust_notes", ())])),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Told(there=True)


def _measured(checked: dict[str, Any]) -> Iterator[tuple[str, float, str]]:
    for name in FIGURES:
        value = checked.get(name)
        if value is None:
            continue
        # Where no error was made, an interval by resampling is a point; words say what is known.
        words = checked.get("exact", {}).get(name)
        bounds = checked.get("intervals", {}).get(name)
        if words is None and bounds is not None:
            words = f"{bounds[0]:.3f}–{bounds[1]:.3f}"
        yield name, float(value), str(words or "")


def malignant(answer: Prediction | CasePrediction, groups: dict[str, str]) -> bool:
    """Whether an answer was accepted that is not benign: by its group of classes, or by its class."""
    coarse = answer.coarse is not None and answer.coarse_verdict == "accepted"
    if coarse and answer.coarse != BENIGN:
        return True
    return answer.verdict == "accepted" and groups.get(str(answer.label), BENIGN) != BENIGN
