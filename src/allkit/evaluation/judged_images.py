"""The answers behind an evaluation, one row an image: as a table, and as pictures with the reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from allkit.data.dataset import Dataset
from allkit.data.labels import display_name
from allkit.errors import AllkitError
from allkit.shown.answer import share_text
from allkit.shown.html import card, fragment, grid, paragraph, thumbnail
from allkit.shown.text import how_many
from allkit.trust.decision import Decision
from allkit.types import Ints, Singles

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["JudgedImage", "JudgedImages"]

SHOWN = 24
"""Images that a notebook shows of a longer list."""
REASONS = 3
"""Reasons that are said of one image; the record has all."""


class JudgedImage(NamedTuple):
    """The answer on one image (or slide, or case) of an evaluation.

    `label` is the true class and `predicted` the answered one, with its `probability`;
    `probabilities` holds that of each class. `verdict` and `reasons`, in words, are `None` and empty
    where verdicts were not judged. `group`, `case`, `slide` and `fold` are `None` where not known.
    """

    name: str
    label: str
    predicted: str
    probability: float
    probabilities: dict[str, float]
    verdict: str | None
    reasons: tuple[str, ...]
    group: str | None
    case: str | None
    slide: str | None
    fold: int | None

    @property
    def right(self) -> bool:
        """Whether the answered class is the true one."""
        return self.label == self.predicted

    @property
    def why(self) -> str:
        """What was to be done with the answer and why, in words."""
        if self.verdict is None:
            return ""
        if self.verdict == "accepted":
            return "accepted" if self.right else "accepted: a silent error"
        what = "for review" if self.verdict == "review" else self.verdict
        if not self.reasons:
            return what
        more = len(self.reasons) - REASONS
        return (
            f"{what}: {', '.join(self.reasons[:REASONS])}{f' and {more} more' if more > 0 else ''}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class JudgedImages:
    """The answers on N images (or slides, or cases: `by`), a sequence of `JudgedImage`.

    `truth` `(N,)` are positions in `classes`, `probabilities` `(N, K)` float32. Images for pictures
    are read from `dataset` when they are shown; they may have gone by then. `decisions` is `None`
    where verdicts were not judged. A slice is such a list again; `to_frame` makes a table of it.
    """

    dataset: Dataset
    classes: tuple[str, ...]
    truth: Ints
    probabilities: Singles
    decisions: tuple[Decision, ...] | None = None
    by: str = "image"
    names: tuple[str, ...] | None = None
    """Those of slides or cases; images have theirs in the set."""

    def __len__(self) -> int:
        return len(self.truth)

    def __iter__(self) -> Iterator[JudgedImage]:
        return (self._row(index) for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> JudgedImage: ...

    @overload
    def __getitem__(self, index: slice) -> JudgedImages: ...

    def __getitem__(self, index: int | slice) -> JudgedImage | JudgedImages:
        if isinstance(index, slice):
            return self.at(np.arange(len(self))[index])
        return self._row(range(len(self))[index])

    def __repr__(self) -> str:
        wrong = int(self.wrong.sum())
        return f"<{how_many(len(self), f'judged {self.by}')}, {wrong} wrong>"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was measured on the images, which may be large and is measured again."""
        data = self.dataset
        plain = Dataset(data.samples, data.classes, name=data.name, split_by=data.split_by)
        return vars(self) | {"dataset": plain}

    @property
    def predicted(self) -> Ints:
        """`(N,)` position of the most probable class."""
        best: Ints = self.probabilities.argmax(axis=1)
        return best

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """`(N,)` whether it is not the true class."""
        result: npt.NDArray[np.bool_] = self.predicted != self.truth
        return result

    def verdict_is(self, verdict: str) -> npt.NDArray[np.bool_]:
        """Return `(N,)` which answers have a verdict; none where verdicts were not judged."""
        if self.decisions is None:
            return np.zeros(len(self), dtype=bool)
        return np.array([decision.verdict == verdict for decision in self.decisions], dtype=bool)

    def at(self, indices: Sequence[int] | Ints) -> JudgedImages:
        """Return the rows at `indices`, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            dataset=self.dataset.subset(chosen),
            truth=self.truth[chosen],
            probabilities=self.probabilities[chosen],
            decisions=self.decisions and tuple(self.decisions[i] for i in chosen),
            names=self.names and tuple(self.names[i] for i in chosen),
        )

    def worst(self, n: int) -> JudgedImages:
        """Return the `n` worst: silent errors first, then other errors, then right answers.

        Within each, the lower the probability of the true class, the worse.
        """
        return self.at(self.worst_first()[: max(0, n)])

    def worst_first(self) -> Ints:
        """Return the positions `(N,)` in the order of `worst`."""
        of_truth = self.probabilities[np.arange(len(self)), self.truth]
        silent = self.wrong & self.verdict_is("accepted")
        return np.lexsort((of_truth, ~self.wrong, ~silent)).astype(np.int64)

    def _row(self, index: int) -> JudgedImage:
        sample = self.dataset.samples[index]
        decision = None if self.decisions is None else self.decisions[index]
        row = [float(value) for value in self.probabilities[index]]
        best = int(self.predicted[index])
        return JudgedImage(
            name=sample.image if self.names is None else self.names[index],
            label=self.classes[self.truth[index]],
            predicted=self.classes[best],
            probability=row[best],
            probabilities=dict(zip(self.classes, row, strict=True)),
            verdict=None if decision is None else decision.verdict,
            reasons=() if decision is None else decision.reasons,
            group=sample.group,
            case=sample.case,
            slide=sample.slide,
            fold=sample.fold,
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame with a row an image.

        Columns: `image` (or `slide`, `case`), `true`, `label` (the answered class), `probability`,
        `right`, `verdict`, `reasons`, `group`, `case`, `slide` and `fold` where any is known, and
        `p_CLASS` for each class, as `allkit predict` names them.
        """
        import pandas as pd

        rows = []
        for image in self:
            values: dict[str, Any] = {self.by: image.name}
            values |= {
                "true": image.label,
                "label": image.predicted,
                "probability": image.probability,
                "right": image.right,
                "verdict": image.verdict,
                "reasons": "; ".join(image.reasons),
            }
            origin = {key: getattr(image, key) for key in ("group", "case", "slide", "fold")}
            values |= {key: value for key, value in origin.items() if key != self.by}
            values |= {f"p_{name}": value for name, value in image.probabilities.items()}
            rows.append(values)
        frame = pd.DataFrame(rows)
        empty = [
            name
            for name in ("group", "case", "slide", "fold", "verdict", "reasons")
            if name in frame and (frame[name].isna() | (frame[name] == "")).all()
        ]
        return frame.drop(columns=empty)

    def cards(self, *, why: bool = True) -> list[str]:
        """Return each image with its truth, its answer, the verdict and, if wanted, why, as HTML."""
        return [self._card(index, why=why) for index in range(len(self))]

    def _card(self, index: int, *, why: bool) -> str:
        row = self._row(index)
        try:
            data = thumbnail(self.dataset.read(index), 240)
        except (AllkitError, OSError):  # it was there when it was judged
            data = None
        mark = "✓" if row.right else "✗"
        answer = f"answered {display_name(row.predicted)} ({share_text(row.probability)}) {mark}"
        origin = next(
            (f"{what} {v}" for what in ("slide", "group", "case") if (v := getattr(row, what))), ""
        )
        lines = [answer, row.why if why else "", row.name.rpartition("/")[2], origin]
        silent = row.verdict == "accepted" and not row.right
        return card(data, f"is {display_name(row.label)}", lines, strong=silent)

    def _repr_html_(self) -> str:
        text = repr(self).strip("<>")
        if len(self) > SHOWN:
            text += f"; the first {SHOWN} are shown, `to_frame()` has all"
        return fragment(paragraph(text, "muted"), grid(*self[:SHOWN].cards()))
