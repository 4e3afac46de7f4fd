"""A classifier of smears in the form of scikit-learn: `clone`, `cross_val_score`, `GridSearchCV`."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d

from allkit.config import TrainConfig
from allkit.config.elsewhere import nearest
from allkit.data.dataset import Dataset, Sample
from allkit.data.sources import FileSource
from allkit.errors import AllkitError, ConfigError, DatasetError
from allkit.evaluation.judged import Judged
from allkit.features import FeatureCache
from allkit.model.classifier import Classifier
from allkit.training.trainer import Trainer

__all__ = ["InputError", "ParameterError", "SmearClassifier"]

OF_TRAINER = ("cache", "progress", "callbacks")
"""Parameters that are arguments of `Trainer`, and no settings."""


class InputError(DatasetError, ValueError):
    """Images, labels or groups cannot be used as they are; scikit-learn expects a `ValueError`."""


class ParameterError(ConfigError, ValueError):
    """There is no parameter of that name; scikit-learn expects a `ValueError`."""


class SmearClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Trains a classifier on images and labels, as `Trainer` does, and answers as scikit-learn expects.

        model = SmearClassifier(backbone="vgg16").fit(paths, labels, groups=slides)

    The parameters are the settings of `TrainConfig`; `None` is what allkit takes where nothing is given.
    Beside them `cache` is a `FeatureCache`, `"default"` for the user's or `None` for none, and
    `progress` and `callbacks` are those of `Trainer`. An unknown parameter is a `ParameterError` (a
    `ConfigError` and a `ValueError`) that names the nearest right one.

    Images `X` are a list or array of paths, an `(N, H, W, 3)` uint8 array, a list of `(H, W, 3)` uint8 arrays
    of any size, or an `allkit.Dataset` (then `y` and `groups` may be left out). Labels may be of any kind
    that has a hash. `groups` says which images were taken together (of one slide, of one patient): the part
    on which `fit` judges and calibrates is divided by them. Without groups only copies of a field are kept
    together, and what `fit` finds of itself is too good.

    After `fit`, `model_` is the `allkit.Classifier`, `classes_` `(K,)` are the labels in the order of the
    probabilities, and `n_classes_` is K.
    """

    def __init__(self, **settings: Any) -> None:
        _require_known(settings)
        for name in _PARAMETERS:
            setattr(self, name, settings.get(name, _PARAMETERS[name].default))

    # ── parameters ─────────────────────────────────────────────────────────────────────────

    def set_params(self, **params: Any) -> Self:
        """Set parameters and return the estimator. Raises `ParameterError` for an unknown one."""
        _require_known(params)
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn may expect: images, which are no table of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = False
        return tags

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that were given, as `Trainer` takes them."""
        given = {name: getattr(self, name) for name in _PARAMETERS if name not in OF_TRAINER}
        return {name: value for name, value in given.items() if value is not None}

    # ── scikit-learn ───────────────────────────────────────────────────────────────────────

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:
        """Train on images `X` with labels `y`; `groups` are those of `X`, one for each image.

        Raises `InputError` where images, labels or groups cannot be used or differ in number, and what
        else `Trainer.fit` raises.
        """
        dataset, classes = labelled(X, y, groups)
        trainer = Trainer(
            cache=self.cache,
            progress=self.progress,
            callbacks=self.callbacks or (),
            **self.settings,
        )
        with _of_both_houses(), _remedy_for_groups():
            self.model_: Classifier = trainer.fit(dataset)
        self.classes_ = classes
        self.n_classes_ = len(classes)
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the label `(N,)` of each image, whatever its verdict: `verdicts` says which hold.

        Raises `InputError` that names every image that cannot be read.
        """
        judged = self._judged(X)
        labels: npt.NDArray[Any] = self.classes_[judged.probabilities.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:
        """Return calibrated probabilities `(N, K)`, in the order of `classes_`. Raises as `predict` does."""
        return self._judged(X).probabilities

    def verdicts(self, X: Any) -> npt.NDArray[np.str_]:
        """Return the verdict `(N,)` on each answer: `accepted`, `review` or `refused`.

        Raises as `predict` does.
        """
        return np.array([decision.verdict for decision in self._judged(X).decisions], dtype=np.str_)

    def _judged(self, images: Any) -> Judged:
        check_is_fitted(self, "model_")
        dataset = unlabelled(images)
        cache = FeatureCache() if isinstance(self.cache, str) else self.cache
        with _of_both_houses():
            return self.model_.judge(dataset, cache=cache)


NO_GROUPS = (
    "`fit` was given no groups: allkit's own validation, and the verdicts that rest on it, will be too "
    "favourable. `cross_val_score(..., groups=g)` keeps them for its splitter: write "
    "`sklearn.set_config(enable_metadata_routing=True)`, `model.set_fit_request(groups=True)` and "
    '`cross_val_score(..., params={"groups": g})`; outside of it `model.fit(X, y, groups=g)`. '
    "This is said once."
)
WITHOUT = " has no groups: "
"""By this the warning of a division without groups is known."""
_said: list[str] = []


@contextlib.contextmanager
def _remedy_for_groups() -> Iterator[None]:
    """Have the warning that a set has no groups say what helps here, once in a process.

    A search fits many times. Other warnings are shown as they are.
    """
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, *rest: Any, **more: Any) -> None:
            if WITHOUT not in str(message):
                shown(message, *rest, **more)
            elif not _said:
                _said.append(NO_GROUPS)
                shown(UserWarning(NO_GROUPS), *rest, **more)

        warnings.showwarning = show
        yield


def _parameters() -> dict[str, inspect.Parameter]:
    names = [*TrainConfig.model_fields, *OF_TRAINER]
    kind = inspect.Parameter.KEYWORD_ONLY
    given = {"cache": "default"}
    return {n: inspect.Parameter(n, kind, default=given.get(n)) for n in names}


_PARAMETERS = _parameters()
_SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
# scikit-learn reads the parameters of an estimator from here, and so does an editor.
SmearClassifier.__init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # of a function
    [_SELF, *_PARAMETERS.values()]
)


@contextlib.contextmanager
def _of_both_houses() -> Iterator[None]:
    """Raise `InputError` in place of another `DatasetError`."""
    try:
        yield
    except InputError:
        raise
    except DatasetError as error:
        raise InputError(str(error)) from error


def _require_known(names: Mapping[str, Any]) -> None:
    """Raise `ParameterError` for a name that is no parameter."""
    for name in names:
        if name not in _PARAMETERS:
            raise ParameterError(
                f"SmearClassifier has no parameter {name!r}.{nearest(name, _PARAMETERS)} "
                f"`SmearClassifier().get_params()` shows all."
            )


# ── images and labels ──────────────────────────────────────────────────────────────────────


def labelled(images: Any, labels: Any, groups: Any) -> tuple[Dataset, npt.NDArray[Any]]:
    """Return a set of labelled images, and the labels in the order of its classes."""
    samples = samples_of(images)
    if labels is None:
        labels = [sample.label for sample in samples]
        if None in labels:
            raise InputError(
                "Labels are missing. Give them as `y`, or an allkit.Dataset that has them."
            )
    classes, positions = _classes_of(_as_list(labels, "y", len(samples)))
    if len(classes) < 2:
        raise InputError(f"y holds one class only ({classes[0]!r}); a classifier needs two.")
    names = _names_of(classes)
    own = [None] * len(samples) if groups is None else _as_list(groups, "groups", len(samples))
    rows = [
        _relabelled(sample, names[position], sample.group if group is None else str(group))
        for sample, position, group in zip(samples, positions, own, strict=True)
    ]
    return Dataset(rows, names, name="X"), classes


def unlabelled(images: Any) -> Dataset:
    """Return a set of images without labels."""
    rows = [_relabelled(sample, None, sample.group) for sample in samples_of(images)]
    return Dataset(rows, (), name="X")


def samples_of(images: Any) -> list[Sample]:
    """Return one sample for each image. Raises `InputError` for what holds no images."""
    if isinstance(images, Dataset):
        return list(images.samples)
    if isinstance(images, (str, bytes, Path)) or not hasattr(images, "__len__"):
        raise InputError(
            f"X is {images!r:.80}. Give a list of paths, an (N, H, W, 3) uint8 array, or an allkit.Dataset: "
            f"allkit.Dataset.open(path) opens a folder or table."
        )
    if getattr(images, "ndim", 1) not in (1, 4):
        raise InputError(
            f"X has the shape {tuple(images.shape)}. Images are an (N, H, W, 3) uint8 array, or a list; for "
            f"one image give [image]."
        )
    if not len(images):
        raise InputError("X holds no images.")
    listed = list(images)
    kept = (Sample, str, os.PathLike)
    given = [number for number, image in enumerate(listed) if not isinstance(image, kept)]
    samples = _in_memory(listed, given) if given else {}
    return [samples.get(number) or _sample(image) for number, image in enumerate(listed)]


def _in_memory(images: Sequence[Any], places: Sequence[int]) -> dict[int, Sample]:
    """Return the samples of those images that are arrays, pictures of Pillow or bytes, by their places."""
    names = [f"image {place}" for place in places]
    for place in places:
        image = images[place]
        if isinstance(image, (list, int, float, np.number)) or (
            isinstance(image, np.ndarray) and (image.dtype != np.uint8 or image.ndim != 3)
        ):
            shape = getattr(image, "shape", None)
            what = type(image).__name__ if shape is None else f"{np.asarray(image).dtype} {shape}"
            raise InputError(
                f"Image {place} of X is {what}. Give paths, or (H, W, 3) uint8 arrays of red, green and blue."
            )
    try:
        made = Dataset.from_arrays([images[place] for place in places], None, names=names)
    except AllkitError as error:
        raise InputError(f"X cannot be used: {error}") from error
    return dict(zip(places, made.samples, strict=True))


def _sample(image: Sample | str | os.PathLike[str]) -> Sample:
    """Return a sample as it is, or that of a path; a path may be there several times."""
    if isinstance(image, Sample):
        return image
    return Sample(os.fspath(image), FileSource(os.fspath(image)), None)


def _relabelled(sample: Sample, label: str | None, group: str | None) -> Sample:
    return Sample(
        sample.image,
        sample.source,
        label,
        group=group,
        case=sample.case,
        columns=sample.columns,
        slide=sample.slide,
    )


def _as_list(values: Any, name: str, count: int) -> list[Any]:
    """Return labels or groups as plain values, one for each image."""
    values = np.asarray(values) if hasattr(values, "__array__") else values
    if getattr(values, "ndim", 1) > 1:
        values = column_or_1d(values, warn=True)
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    if len(listed) != count:
        raise InputError(f"{name} has {len(listed)} values for {count} images. Give one for each.")
    return listed


def _classes_of(labels: Sequence[Hashable]) -> tuple[npt.NDArray[Any], list[int]]:
    """Return the distinct labels, sorted where they can be, and the position of each label in them."""
    try:
        distinct = list(dict.fromkeys(labels))
    except TypeError:
        raise InputError("A label of y has no hash. Give strings, numbers or tuples.") from None
    for label in distinct:
        if label is None or (isinstance(label, float) and not math.isfinite(label)):
            raise InputError(
                f"A label of y is {label} (missing, NaN or inf). Take the image out, or label it."
            )
        if isinstance(label, float) and not label.is_integer():
            raise InputError(
                f"Unknown label type: y holds {label:g}, a continuous value. A classifier needs classes."
            )
    try:
        ordered = sorted(distinct)  # type: ignore[type-var]  # where they cannot be, the order of y holds
    except TypeError:
        ordered = distinct
    plain = all(isinstance(label, (str, int, float, bool)) for label in ordered)
    one_kind = len({type(label) for label in ordered}) == 1
    if plain and one_kind:
        classes = np.array(ordered)
    else:
        classes = np.empty(len(ordered), dtype=object)
        classes[:] = ordered
    places = {label: place for place, label in enumerate(ordered)}
    return classes, [places[label] for label in labels]


def _names_of(classes: npt.NDArray[Any]) -> list[str]:
    """Return names for classes as a model keeps them: the labels as text, numbered where two look alike."""
    texts = [" ".join(str(label).split()) or "blank" for label in classes.tolist()]
    if len(set(texts)) == len(texts):
        return texts
    return [f"{number}: {text}" for number, text in enumerate(texts)]
