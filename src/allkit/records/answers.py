"""What is answered: for one image, for several of one case, and by what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from allkit.shown.answer import answer_html, share_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["CasePrediction", "Cell", "Prediction", "Predictor", "Verdict"]

Verdict = Literal["accepted", "review", "refused", "unreadable"]


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
