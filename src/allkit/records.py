"""The records that travel between allkit's parts, and between allkit and its plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from allkit.errors import PluginError
from allkit.shown.answer import answer_html, share_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

__all__ = [
    "Augmentation",
    "Backbone",
    "BackboneFamily",
    "CasePrediction",
    "Cell",
    "Exporter",
    "InputSpec",
    "Prediction",
    "Predictor",
    "Verdict",
]

API_VERSION = 1
"""Version of the extension contract (the hooks and the records they return)."""
OLDEST_API_VERSION = 1
"""The oldest version of the contract whose plugins still load."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Verdict = Literal["accepted", "review", "refused", "unreadable"]
Weights = Path | Literal["default", "none"]


def _require_name(kind: str, name: object) -> None:
    if (
        not isinstance(name, str)
        or not name
        or name != name.strip()
        or any(c.isspace() for c in name)
    ):
        raise PluginError(
            f"A {kind} record has the name {name!r}. Give it a non-empty name without spaces."
        )


def _require_callable(kind: str, name: str, field_name: str, value: object) -> None:
    if not callable(value):
        raise PluginError(
            f"The {kind} {name!r} has a {field_name!r} that is not callable: {value!r}."
        )


SCALE_BAR = (0.86, 0.81)
"""Share of the rows and columns from which on microscopes burn in a scale bar."""

RED_CELL = 15.0
"""Pixels across a red cell at the scale at which white cells are sought and shown."""
CELL_SPAN = 40.0
"""Pixels a side, at that scale, of the square about a white cell that a network is shown."""

View = Literal["rgb", "masked", "normalised", "haematoxylin", "eosin", "saturation"]
"""What a network is shown of an image: its colours, or how much stain is where."""
Bag = Literal["field", "cells", "both"]
"""What an answer is made of: the whole field, its white cells, or both."""


@dataclass(frozen=True)
class InputSpec:
    """What a backbone wants to be given: the side of its square input and its normalisation.

    An image is resized to `size` × `size` pixels, scaled to 0–1, and each channel (red, green,
    blue) becomes `(value - mean) / std`. `view` says what the network is shown in place of the
    colours, and `bag` of what inputs an image is made: the field, its white cells, or both. Of a cell
    the network is shown a picture of `cell_size` × `cell_size` pixels, of at most `max_cells` in a
    tile of the field: the largest ones, or, with `spread`, evenly from the largest to the smallest.
    A backbone says `size`, `mean`, `std`, and `cell_size` if it is slow; the rest is chosen by the
    settings of a training.
    """

    size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    view: View = "rgb"
    bag: Bag = "field"
    # What models were shown before there was a choice; their hashes are made of the other fields.
    cell_size: int = field(default=96, repr=False)
    max_cells: int = field(default=24, repr=False)
    spread: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 2048:
            raise PluginError(
                f"InputSpec.size is {self.size}; it must be between 8 and 2048 pixels."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise PluginError(
                f"InputSpec needs three means and three positive deviations, "
                f"not {self.mean!r} and {self.std!r}."
            )

    @property
    def of_cells(self) -> tuple[int, int, bool] | tuple[()]:
        """What the network is shown of cells; empty where that is what models always were shown."""
        chosen = (self.cell_size, self.max_cells, self.spread)
        return () if chosen == (96, 24, False) else chosen


@dataclass(frozen=True)
class Backbone:
    """A network that turns images into features, offered by a plugin.

    `build(weights)` returns an `nn.Module` that maps `(N, 3, S, S)` float32 to `(N, D)` float32;
    D is measured, not declared. `weights` is `"default"` (the pretrained ones), `"none"`
    (random: the weights are about to be loaded) or the `Path` of a local file. A tensor that is
    missing in that file is an error. Heavy imports belong inside `build`.

    `cam_layer` names the module whose output explains an answer (explanation maps). `stages`
    names, in order, the children of the returned `nn.Sequential` at which it may be cut for
    caching and unfreezing; empty when it cannot be cut. `license` is that of the weights.
    """

    name: str
    build: Callable[[Weights], torch.nn.Module]
    input: InputSpec = field(default_factory=InputSpec)
    cam_layer: str | None = None
    stages: tuple[str, ...] = ()
    license: str = "unknown"
    summary: str = ""

    def __post_init__(self) -> None:
        _require_name("backbone", self.name)
        _require_callable("backbone", self.name, "build", self.build)


@dataclass(frozen=True)
class BackboneFamily:
    """Many backbones behind one prefix, made when they are asked for: `PREFIX:NAME`.

    `get(name)` returns the `Backbone` for the part behind the colon, whose own name is the whole
    `PREFIX:NAME`, or raises `PluginError` with the nearest known name. `names()` lists what is
    there; it may import heavy libraries and is only called to show a list. `example` is the name
    of a small member, on which the conformance checks are run.
    """

    prefix: str
    get: Callable[[str], Backbone]
    names: Callable[[], Iterable[str]]
    license: str = "unknown"
    summary: str = ""
    example: str = ""

    def __post_init__(self) -> None:
        _require_name("backbone family", self.prefix)
        _require_callable("backbone family", self.prefix, "get", self.get)
        _require_callable("backbone family", self.prefix, "names", self.names)

    @property
    def name(self) -> str:
        """The name it is listed under: the prefix with a placeholder."""
        return f"{self.prefix}:NAME"


@dataclass(frozen=True)
class Augmentation:
    """A random change of a training image, offered by a plugin.

    `apply(image, rng)` takes `(H, W, 3)` uint8 RGB and a `numpy.random.Generator`, leaves the
    image untouched and returns a new one of the same shape and type. It keeps no state: the same
    image and the same generator state give the same result, so that the feature cache and a
    resumed training can repeat it.
    """

    name: str
    apply: Callable[[npt.NDArray[np.uint8], np.random.Generator], npt.NDArray[np.uint8]]
    summary: str = ""

    def __post_init__(self) -> None:
        _require_name("augmentation", self.name)
        _require_callable("augmentation", self.name, "apply", self.apply)


@runtime_checkable
class Predictor(Protocol):
    """Whatever answers for images: a trained `Classifier`, or an exported file that was opened.

    What one image is, is the same for all: a path, the bytes of a file, a binary file object, a
    Pillow image, or an `(H, W, 3)` uint8 array. What can be no image raises `ImageError`.
    `allkit.runtime.answers.stream` keeps these rules.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""

    def probabilities(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Return `(N, K)` probabilities for N images, each `(H, W, 3)` uint8 RGB of any size."""

    def predict(self, images: Any, *, batch_size: int = 16) -> Sequence[Prediction]:
        """Return one `Prediction` per image, in order; `images` is one image or an iterable."""

    def stream(self, images: Any, *, batch_size: int = 16) -> Iterator[Prediction]:
        """Yield one `Prediction` per image, in order, in constant memory; takes what `predict` takes."""


@dataclass(frozen=True)
class Exporter:
    """A file format for trained models, offered by a plugin.

    `write(model, path, *, precision, calibration)` writes the whole way from uint8 RGB pixels to
    probabilities: `model` is a `Classifier`, `precision` is `"float32"` or `"int8"`, and
    `calibration` holds training images (`(H, W, 3)` uint8 arrays) for int8, else `None`.
    `open(path)` returns a `Predictor` and imports no torch, unless `needs_torch` says that it
    does. `suffix` is that of the file (`.onnx`). `precisions` are those that `write` can write: others
    are refused before any work is done.
    """

    name: str
    suffix: str
    write: Callable[..., None]
    open: Callable[[Path], Predictor]
    summary: str = ""
    needs_torch: bool = False
    precisions: tuple[str, ...] = ("float32", "int8")

    def __post_init__(self) -> None:
        _require_name("exporter", self.name)
        _require_callable("exporter", self.name, "write", self.write)
        _require_callable("exporter", self.name, "open", self.open)
        if not self.suffix.startswith("."):
            raise PluginError(
                f"The exporter {self.name!r} has the suffix {self.suffix!r}; it must start with a dot."
            )
        if not self.precisions or not set(self.precisions) <= {"float32", "int8"}:
            raise PluginError(
                f"The exporter {self.name!r} has the precisions {self.precisions!r}; they must be "
                "float32, int8 or both."
            )


@dataclass(frozen=True)
class Cell:
    """A white cell in an image: its centre and the diameter of its nucleus, in pixels."""

    x: float
    y: float
    diameter: float


@dataclass(frozen=True)
class Prediction:
    """One answer.

    `label` is the class with the highest probability and `probability` that value; both, and
    `probabilities` (class → probability, summing to 1, in the order of the model's classes), are
    filled for every readable image, whatever the verdict. `verdict` says what may be done with
    the answer: `accepted`, `review` or `refused`, with `reasons` in words and, in the same order,
    `reason_codes` that stay what they are from version to version; `unreadable` means that there
    is no answer and `error` says why. `prediction_set` holds the classes that the
    calibrated model cannot rule out; it is empty for a model without calibration. `cells` are the
    white cells that the answer rests on, where the model looks at cells.

    `coarse` is the group of classes (such as malignant) that was answered, with its probability and
    a verdict of its own, `coarse_evidence` the log-odds of every group against the others, and
    `ood_score` how unlike the training images the content is (higher: more unlike); they are
    `None` and empty where the classes are in no groups, and for an image that cannot be read.
    Where the model looks at cells, `red_cell` is the diameter of the red cells in pixels,
    `nucleus_ratio` the median diameter of the nuclei over it (both `None` where it cannot be
    measured), and `white_cells` the number of white cells: plain measurements, by no network.
    """

    image: str
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    # By name only: what was written for 0.1.0 gives the label here.
    reason_codes: tuple[str, ...] = field(default=(), kw_only=True)
    label: str | None = None
    probability: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    prediction_set: tuple[str, ...] = ()
    error: str | None = None
    cells: tuple[Cell, ...] = ()
    coarse: str | None = field(default=None, kw_only=True)
    coarse_probability: float | None = field(default=None, kw_only=True)
    coarse_verdict: Verdict | None = field(default=None, kw_only=True)
    coarse_evidence: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    ood_score: float | None = field(default=None, kw_only=True)
    red_cell: float | None = field(default=None, kw_only=True)
    nucleus_ratio: float | None = field(default=None, kw_only=True)
    white_cells: int | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        return f"<Prediction {self.image!r}: {_briefly(self)}>"

    def _repr_html_(self) -> str:
        """Return the answer for the end of a notebook's cell."""
        return answer_html(self.to_dict())

    def to_row(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the answer as one flat row: a column `p_<class>` for every class of the model."""
        return {"image": self.image} | _answer_columns(self, classes)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain values, ready for JSON."""
        lists = ("reasons", "reason_codes", "prediction_set")
        values = asdict(self)
        return values | {name: list(values[name]) for name in lists}


def _briefly(answer: Prediction | CasePrediction) -> str:
    """Return an answer in a few words: its verdict, and what is most probable."""
    found = "" if answer.label is None else f", {answer.label} {share_text(answer.probability)}"
    return f"{answer.verdict}{found}"


def _answer_columns(answer: Prediction | CasePrediction, classes: Sequence[str]) -> dict[str, Any]:
    """Return the columns that a row of a field and one of a slide or case share, in order."""
    return {
        "label": answer.label,
        "probability": answer.probability,
        "verdict": answer.verdict,
        "reasons": list(answer.reasons),
        "reason_codes": list(answer.reason_codes),
        "prediction_set": list(answer.prediction_set),
        **{f"p_{name}": answer.probabilities.get(name) for name in classes},
        "coarse": answer.coarse,
        "coarse_probability": answer.coarse_probability,
        "coarse_verdict": answer.coarse_verdict,
        "error": answer.error,
    }


@dataclass(frozen=True)
class CasePrediction:
    """One answer for several fields of one patient, slide or folder.

    `label`, `probability` and `probabilities` rest on `used` of `fields` images; they are empty
    when there was none to use. `votes` counts the classes that these gave, `agreement` is the
    share that gave `label`, and `spread` the standard deviation of its probability over them.
    `refused` and `unreadable` name the fields that took no part. `reasons`, `reason_codes` and
    `prediction_set` are those of a `Prediction`. `coarse` is the group of classes (such as malignant)
    that was answered, with its probability and a verdict of its own, and `fields_needed` says how
    many more fields would settle it, 0 where it is settled; each is `None` where it is not known.
    """

    case: str
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    reason_codes: tuple[str, ...] = field(default=(), kw_only=True)
    label: str | None = None
    probability: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    votes: Mapping[str, int] = field(default_factory=dict)
    agreement: float | None = None
    spread: float | None = None
    fields: int = 0
    used: int = 0
    refused: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    prediction_set: tuple[str, ...] = field(default=(), kw_only=True)
    fields_needed: int | None = field(default=None, kw_only=True)
    coarse: str | None = field(default=None, kw_only=True)
    coarse_probability: float | None = field(default=None, kw_only=True)
    coarse_verdict: Verdict | None = field(default=None, kw_only=True)

    @property
    def error(self) -> str | None:
        """Which fields could not be read, in words; `None` where all could."""
        if not self.unreadable:
            return None
        names = ", ".join(self.unreadable)
        return f"{len(self.unreadable)} of {self.fields} images cannot be read: {names}"

    def __repr__(self) -> str:
        return (
            f"<CasePrediction {self.case!r}: {_briefly(self)}, {self.used} of {self.fields} fields>"
        )

    def _repr_html_(self) -> str:
        """Return the answer for the end of a notebook's cell."""
        return answer_html(self.to_dict())

    def to_row(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the answer as one flat row: a column `p_<class>` for every class of the model."""
        return {
            "unit": self.case,
            "fields": self.fields,
            "used": self.used,
            "fields_needed": self.fields_needed,
        } | _answer_columns(self, classes)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain values, ready for JSON."""
        lists = ("reasons", "reason_codes", "refused", "unreadable", "prediction_set")
        values = asdict(self)
        return values | {name: list(values[name]) for name in lists}
