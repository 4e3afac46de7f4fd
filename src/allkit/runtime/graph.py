"""Answers from an exported graph, whichever engine computes it."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from allkit.errors import AllkitError, ExportError
from allkit.images.batches import by_shape
from allkit.images.selection import Selection
from allkit.plugins.guard import calling
from allkit.records import Prediction
from allkit.runtime.answers import stream
from allkit.runtime.description import FORMAT, check_description, require_format, trust_of
from allkit.runtime.predictions import Predictions, predicted
from allkit.trust.arrays import Arrays
from allkit.trust.verdict import Outputs, Trust

if TYPE_CHECKING:
    from allkit.images.cells import Cells

__all__ = [
    "FORMAT",
    "OUTPUTS",
    "GraphPredictor",
    "Images",
    "TooMuch",
    "feeds",
    "format_of",
    "require_ends",
    "require_format",
]

KINDS = {"pixels": "uint8", "places": "float", "shares": "float"}
"""The inputs of a graph, with the kinds of their numbers."""

OUTPUTS = ("probabilities", "logits", "features")
"""The outputs of a graph, in their order."""

Images = Sequence[npt.NDArray[np.uint8]]


class TooMuch(Exception):
    """A graph asked for more memory or time than one feed gets; its text says of what."""


class GraphPredictor(ABC):
    """A classifier in one exported file. Subclasses open it and compute.

    `info` is what the file says of itself, `trust` what it knows about how far it can be trusted (text
    is base 64).
    Where the file was made for bags of cells, these are found here and given to the graph.
    """

    outputs_known = True
    """Whether the graph gives logits and features, or, as those of allkit 0.1.0, neither."""

    options: Mapping[str, Any] = {}
    """What it was opened with beside the path; a copy of it is opened with the same."""

    def __init__(self, path: Path, info: Mapping[str, Any], trust: bytes | str | None) -> None:
        self.path, self.info = path, dict(info)
        self._process = os.getpid()
        self._again: GraphPredictor | None = None
        self._place = os.path.abspath(path)  # wherever the program goes afterwards
        check_description(path, info)
        _require_finder(path, info)
        self.trust: Trust = trust_of(path, self.classes, trust)

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened_again, (type(self), self._place, self.info, dict(self.options))

    @abstractmethod
    def compute(self, feed: Arrays, names: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """Return the named outputs, each with one row an image, for one feed of the graph.

        An engine that bounds what a graph takes raises `TooMuch`; the images are then given one by one.
        """

    def opened_here(self) -> Self:
        """Return itself; in a forked process, where no thread of an engine is left, one opened anew."""
        if os.getpid() == self._process:
            return self
        if self._again is None or self._again._process != os.getpid():
            # The first engine stays where it is: to end it would wait for threads that are not here.
            self._again = _opened_again(type(self), self._place, self.info, self.options)
        return self._again  # type: ignore[return-value]  # it is of the type of this one

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return tuple(self.info["classes"])

    @property
    def selection(self) -> Selection:
        """What the graph is shown of fields; files of versions without a choice say nothing of it."""
        return Selection(
            bool(self.info.get("tiles", False)),
            int(self.info.get("max_cells", Selection().most)),
            bool(self.info.get("spread", False)),
        )

    @np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
    def probabilities(self, images: Images) -> npt.NDArray[np.float32]:
        """Return `(N, K)` float32 probabilities for N images, each `(H, W, 3)` uint8."""
        return self._run(images, ["probabilities"], self._find(images))[0]

    @np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
    def outputs(self, images: Images) -> Outputs:
        """Return logits `(N, K)` and features `(N, D)` for N images, each `(H, W, 3)` uint8."""
        if not self.outputs_known:
            return Outputs.of_probabilities(self.probabilities(images))
        cells = self._find(images)
        logits, features = self._run(images, ["logits", "features"], cells)
        if cells is None:
            return Outputs(logits, features)
        from allkit.images.bags import of_tiles

        tiles = of_tiles(
            cells,
            lambda fields: self._run([field.image for field in fields], ["logits"], fields)[0],
            self.selection,
        )
        return Outputs(logits, features, cells, tiles)

    def _find(self, images: Images) -> list[Cells] | None:
        if self.info.get("bag", "field") == "field":
            return None
        from allkit.images.cells import find_cells

        return [find_cells(image, self.info["finder"]) for image in images]

    def _run(
        self, images: Images, names: Sequence[str], cells: Sequence[Cells] | None
    ) -> list[npt.NDArray[np.float32]]:
        here = self.opened_here()
        rows: list[Any] = [None] * len(images)
        for indices, feed in feeds(images, cells, self.selection):
            try:
                columns = here._computed(feed, names, len(indices))
            except TooMuch as error:
                if len(indices) == 1:
                    raise ExportError(
                        f"{self.path} cannot answer: for one image it asks for more than {error}, as no file "
                        f"that allkit wrote does. Export the model again."
                    ) from None
                alone = [
                    here._run([images[i]], names, None if cells is None else [cells[i]])
                    for i in indices
                ]
                columns = [np.concatenate(parts) for parts in zip(*alone, strict=True)]
            for index, values in zip(indices, zip(*columns, strict=True), strict=True):
                rows[index] = values
        return [np.stack(column) for column in zip(*rows, strict=True)]

    def _computed(
        self, feed: Arrays, names: Sequence[str], rows: int
    ) -> list[npt.NDArray[np.float32]]:
        """Return the named outputs; raise `ExportError` where the graph gives none that can be these."""
        columns: list[npt.NDArray[np.float32]] | TooMuch
        with calling("", "exporter", "", "compute", failed=self._failed):
            try:
                columns = list(self.compute(feed, names))
            except TooMuch as error:
                columns = error
        if isinstance(columns, TooMuch):
            raise columns
        if len(columns) != len(names):
            raise ExportError(
                f"{self.path} cannot answer: of {', '.join(names)}, `compute` gave {len(columns)}."
            )
        for name, values in zip(names, columns, strict=True):
            self._require_answers(name, values, rows)
        return columns

    def _failed(self, words: str) -> ExportError:
        by = str(self.info.get("exporter", ""))
        package, _, name = by.rpartition("/")
        if package not in ("", "allkit"):
            from importlib import metadata

            with contextlib.suppress(metadata.PackageNotFoundError):
                package = f"{package} {metadata.version(package)}"
            words = f"the exporter {name!r} of {package} failed in `compute`: {words}"
        return ExportError(f"{self.path} cannot answer: {words} Export it again.")

    def _require_answers(self, name: str, values: Any, rows: int) -> None:
        content = self.trust.content
        wanted = len(self.classes)
        shape = getattr(values, "shape", type(values).__name__)
        if name == "features":
            of_graph = shape[-1] if isinstance(shape, tuple) and shape else 0
            wanted = of_graph if content is None else len(content.mean)
        if shape != (rows, wanted) or values.dtype != np.float32:
            raise ExportError(
                f"{self.path} cannot answer: its {name} have the shape {shape}, and {wanted} "
                f"numbers an image are needed, float32. Export it again."
            )
        if not np.isfinite(values).all():
            raise ExportError(
                f"{self.path} cannot answer: its {name} are not numbers. Export it again."
            )

    def stream(self, images: Any, *, batch_size: int = 16) -> Iterator[Prediction]:
        """Yield one answer per image, in order, in constant memory; takes what `predict` takes."""
        return stream(images, self.outputs, self.trust, batch_size=batch_size)

    @property
    def classes_(self) -> npt.NDArray[np.str_]:
        """`(K,)`: `classes` as an array, by the name that scikit-learn has for it."""
        return np.array(self.classes)

    def predict_proba(self, images: Any, *, batch_size: int = 16) -> npt.NDArray[np.float32]:
        """Return `(N, K)` float32 probabilities, as `Classifier.predict_proba` does."""
        return self.predict(images, batch_size=batch_size).probabilities

    def predict(self, images: Any, *, batch_size: int = 16) -> Predictions:
        """Return one answer per image, in order; it takes what `Classifier.predict` takes."""
        return predicted(images, self.outputs, self.trust, batch_size=batch_size)


def _opened_again(
    kind: type[GraphPredictor], path: str, info: Mapping[str, Any], options: Mapping[str, Any]
) -> GraphPredictor:
    """Return the predictor that a copy, or another process, is given: the file is opened there."""
    opener: Any = kind
    predictor: GraphPredictor = opener(Path(path), **options)
    if predictor.info != dict(info):
        raise ExportError(
            f"{path} is not the file any more that was opened before. Open it again, or put the file back."
        )
    return predictor


def format_of(info: Any) -> int:
    """Return the format of the file that a model is exported to; `info` is that of a `Classifier`.

    It is the lowest that says all, so that versions that know no other open it.
    """
    backbone = info.backbone
    if backbone.input.bag != "field" and backbone.input.of_cells:
        return FORMAT
    return 2 if backbone.tiles else 1


def feeds(
    images: Images, cells: Sequence[Cells] | None, selection: Selection
) -> Iterator[tuple[list[int], Arrays]]:
    """Yield (positions in `images`, the inputs of the graph by name) for each shape there is.

    `cells` are the cells of each image, `None` for a graph that takes whole fields only; `selection`
    is what of them it is given. Where it is given large fields in tiles, each such field comes alone.
    """
    if cells is None:
        for indices, pixels in by_shape(images):
            yield indices, {"pixels": pixels}
        return
    from allkit.images.bags import bags

    for bag in bags(cells, selection):
        feed: Arrays = {"pixels": bag.pixels, "places": bag.places}
        yield bag.indices, feed | ({"shares": bag.shares} if selection.tiles else {})


def require_ends(path: Path, inputs: Mapping[str, str], outputs: Iterable[str], bag: str) -> None:
    """Raise `ExportError` where a graph has other inputs, or lacks an output.

    `inputs` are names with their kinds of numbers, as ONNX Runtime names them.
    """
    given = {name: kind.removeprefix("tensor(").removesuffix(")") for name, kind in inputs.items()}
    known = {name: KINDS[name] for name in given if name in KINDS}
    needed = {"pixels"} if bag == "field" else {"pixels", "places"}
    if given != known or not needed <= set(given) or "probabilities" not in outputs:
        raise ExportError(
            f"{path} is no graph of allkit: it takes {', '.join(map(str, given)) or 'nothing'} and gives "
            f"{', '.join(outputs) or 'nothing'}. Export the model again."
        )


def _require_finder(path: Path, info: Mapping[str, Any]) -> None:
    if info.get("bag", "field") == "field":
        return
    from allkit.images.finders import finder_meant
    from allkit.plugins import registry

    name = str(info.get("finder"))
    meaning = finder_meant(name)
    try:
        registry().get("finder", meaning)
    except AllkitError as error:
        version = str(info.get("finder_version", ""))
        plugin = f"{meaning.package}=={version}" if version else meaning.package
        what = f"allkit {info.get('allkit')}" if meaning.package in ("", "allkit") else plugin
        raise ExportError(
            f"{path} was made with the cell finder {name!r}, and others find other cells. Install {what}, "
            f"or export the model again. ({error})"
        ) from None
