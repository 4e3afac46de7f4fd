"""References: labelled images of a model's training, to look at beside a field."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from allkit.clinic.access import READERS, User
from allkit.clinic.erasure import sweep, unused
from allkit.clinic.intake.incoming import take_image
from allkit.clinic.store import tables as t
from allkit.clinic.store.derived import references_hash
from allkit.clinic.store.store import Change, new_id
from allkit.data.dataset import Dataset
from allkit.data.rows import Sample
from allkit.errors import ClinicError
from allkit.images.decode import read_image
from allkit.records import Predictor
from allkit.types import Pixels, Singles

__all__ = [
    "MOST",
    "NEAREST",
    "Reference",
    "add_references",
    "features_of",
    "nearest",
    "reference_picture",
    "references_of",
]

MOST = 500
"""References that a model has at most, evenly over its classes."""
NEAREST = 3
"""References that are named beside a field, the nearest first."""
BATCH = 8


@dataclass(frozen=True)
class Reference:
    """A labelled image of a model's training.

    `typical` says that of its class it lies nearest to the mean of the features; where the model gives
    no features nobody measured that.
    """

    id: str
    label: str
    sha256: str
    typical: bool


@dataclass
class _Chosen:
    sample: Sample
    label: str
    sha256: str
    size: int
    media: str
    features: Singles | None = None
    shown: bool = False


def add_references(
    user: User,
    model: str,
    predictor: Predictor,
    data: Dataset | Sequence[Sample],
    *,
    per_class: int | None = None,
) -> int:
    """Keep labelled images of a model's training, in place of those that it had; return how many.

    `model` is its id and `predictor` the same model, opened. Of each class the same number is taken, evenly
    over its slides or groups: `per_class`, and `MOST` in all at most. What a file holds besides pixels is
    not kept. Where the model says which images it was trained on, only those are taken. Needs an admin.

    Raises `ClinicError` where a label is no class of the model, or no image could be taken, and
    `DatasetError` or `ImageError` for images that cannot be read.
    """
    with user.read("admin") as connection:
        _require_model(connection, model)
    if per_class is not None and per_class < 1:
        raise ClinicError(f"{per_class} references of each class are asked for. Give 1 or more.")
    samples = _learnt(predictor, list(data), _hashes(data))
    most = MOST // max(1, len(predictor.classes))
    wanted = most if per_class is None else min(per_class, most)
    chosen = _kept(user, _evenly(samples, predictor.classes, wanted))
    _measure(predictor, chosen, user)
    with user.change("admin") as change:
        _require_model(change.connection, model)
        before = set(
            change.connection.scalars(
                sa.select(t.references.c.sha256).where(t.references.c.model_id == model)
            )
        )
        change.connection.execute(t.references.delete().where(t.references.c.model_id == model))
        for one in chosen:
            _insert(change, model, one)
        gone = unused(change, before)
        change.log(
            "references.added",
            model,
            references=len(chosen),
            classes=dict(Counter(one.label for one in chosen)),
            sha256=references_hash(change.connection, model),
        )
    sweep(user, gone)
    return len(chosen)


def _require_model(connection: sa.Connection, model: str) -> None:
    if connection.scalar(sa.select(t.models.c.id).where(t.models.c.id == model)) is None:
        raise ClinicError(
            f"There is no model {model[:40]!r}. Add it with: allkit clinic model PATH"
        )


def _hashes(data: Dataset | Sequence[Sample]) -> Sequence[str]:
    return data.hashes if isinstance(data, Dataset) else Dataset(data).hashes


def _learnt(predictor: Predictor, samples: Sequence[Sample], hashes: Sequence[str]) -> list[Sample]:
    """Return the images that a model was trained on, each once; all where it does not say which."""
    info = getattr(predictor, "info", None)
    trained = set(getattr(getattr(info, "data", None), "images_sha256", ()) or ())
    once = dict(zip(reversed(hashes), reversed(samples), strict=True))
    found = [one for sha256, one in once.items() if not trained or sha256 in trained]
    if samples and not found:
        raise ClinicError(
            f"The model was trained on none of these {len(samples)} images. Give the images of its training."
        )
    return found[::-1]


def _evenly(samples: Sequence[Sample], classes: Sequence[str], wanted: int) -> list[Sample]:
    """Return so many images of each class, evenly over its slides or groups."""
    labelled = [one for one in samples if one.label is not None]
    unknown = sorted({str(one.label) for one in labelled} - set(classes))
    if unknown:
        raise ClinicError(
            f"{unknown[0][:40]!r} is no class of this model. Its classes are {', '.join(classes)}; take out "
            "or rename what is of others."
        )
    if not labelled:
        raise ClinicError("None of these images has a label. References need one.")
    found: list[Sample] = []
    for name in classes:
        of_class = [one for one in labelled if one.label == name]
        of_class.sort(key=lambda one: (one.slide or one.group or one.case or "", one.image))
        count = min(wanted, len(of_class))
        places = np.linspace(0, len(of_class) - 1, count).round().astype(int) if count else ()
        found += [of_class[place] for place in places]
    return found


def _kept(user: User, samples: Iterable[Sample]) -> list[_Chosen]:
    """Write the images to the disk, without what identifies a patient; the same pixels come once."""
    chosen: dict[str, _Chosen] = {}
    for sample in samples:
        image = take_image(sample.source.read(), sample.image)
        user.store.blobs.put(image.data)
        size = len(image.data)
        one = _Chosen(sample, str(sample.label), image.sha256, size=size, media=image.media)
        chosen.setdefault(image.sha256, one)
    return list(chosen.values())


def _measure(predictor: Predictor, chosen: Sequence[_Chosen], user: User) -> None:
    """Note the features of the images, and which of each class is shown."""
    for start in range(0, len(chosen), BATCH):
        part = chosen[start : start + BATCH]
        pixels = [read_image(user.store.blobs.get(one.sha256)) for one in part]
        rows = features_of(predictor, pixels)
        for one, row in zip(part, [] if rows is None else rows, strict=False):
            one.features = row
    for label in {one.label for one in chosen}:
        of_class = [one for one in chosen if one.label == label]
        table = [one.features for one in of_class if one.features is not None]
        place = 0  # without features any is as good as another
        if len(table) == len(of_class):
            directions = _directions(np.stack(table))
            place = int(np.argmin(_distances(directions.mean(axis=0), directions)))
        of_class[place].shown = True


def _insert(change: Change, model: str, one: _Chosen) -> None:
    keep_blob(change, one.sha256, one.size, one.media)
    if not change.store.blobs.path(one.sha256).exists():  # a sweep came in between
        change.store.blobs.put(take_image(one.sample.source.read(), one.sample.image).data)
    text = None
    if one.features is not None:
        text = base64.b64encode(one.features.astype("<f4").tobytes()).decode("ascii")
    change.insert(
        t.references,
        id=new_id(),
        model_id=model,
        sha256=one.sha256,
        label=one.label,
        shown=one.shown,
        features=text,
    )


def keep_blob(change: Change, sha256: str, size: int, media: str) -> None:
    """Write the row of a file that is on the disk, once."""
    if change.first(sa.select(t.blobs.c.sha256).where(t.blobs.c.sha256 == sha256)) is None:
        change.insert(t.blobs, sha256=sha256, size=size, media=media, created=change.now)


def features_of(predictor: Predictor, images: Sequence[Pixels]) -> Singles | None:
    """Return the features `(N, D)` that a model has of images; `None` where it gives none."""
    outputs = getattr(predictor, "outputs", None)
    if outputs is None:
        return None
    features: Singles = np.asarray(outputs(images).features, np.float32)
    usable = features.ndim == 2 and features.shape[1] > 0 and bool(np.isfinite(features).all())
    return features if usable else None


def _directions(features: Singles) -> Singles:
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    directions: Singles = features / np.maximum(lengths, 1e-12)
    return directions


def _distances(one: Singles, others: Singles) -> Singles:
    """Return the cosine distances `(N,)`, 0 to 2, of features `(D,)` from others `(N, D)`."""
    distances: Singles = 1 - _directions(others) @ _directions(one)
    return distances


def nearest(
    connection: sa.Connection, model: str, features: Singles, image: str
) -> list[Mapping[str, Any]]:
    """Return the references that are nearest by the cosine distance of their features, the nearest first.

    `image` is the hash of the field; a reference that is the same image is named as `same`.
    """
    rows = connection.execute(
        sa.select(t.references)
        .where(t.references.c.model_id == model, t.references.c.features.is_not(None))
        .order_by(t.references.c.id)
    ).all()
    table = [np.frombuffer(base64.b64decode(row.features), "<f4") for row in rows]
    if not table or any(len(row) != len(features) for row in table):
        return []
    distances = _distances(features, np.stack(table))
    return [
        {
            "reference": rows[place].id,
            "label": rows[place].label,
            "distance": round(max(0.0, float(distances[place])), 4),
            "same": rows[place].sha256 == image,
        }
        for place in np.argsort(distances, kind="stable")[:NEAREST].tolist()
    ]


def references_of(user: User, model: str, *, polling: bool = False) -> list[Reference]:
    """Return the reference of each class of a model that is shown, in the order of its classes."""
    r = t.references.c
    with user.read(*READERS, "admin", polling=polling) as connection:
        rows = connection.execute(sa.select(t.references).where(r.model_id == model, r.shown)).all()
        classes = connection.scalar(sa.select(t.models.c.classes).where(t.models.c.id == model))
    order = json.loads(str(classes)) if rows else []
    return [
        Reference(row.id, row.label, row.sha256, typical=row.features is not None)
        for row in sorted(rows, key=lambda row: order.index(row.label))
    ]


def reference_picture(user: User, reference: str) -> bytes:
    """Return the image file of a reference. Raises `StoreError` where it is gone or was altered."""
    with user.read(*READERS, "admin") as connection:
        sha256 = connection.scalar(
            sa.select(t.references.c.sha256).where(t.references.c.id == reference)
        )
    if sha256 is None:
        raise ClinicError(
            f"There is no reference {reference[:40]!r}; they were replaced. Open the case again."
        )
    return user.store.blobs.get(sha256)
