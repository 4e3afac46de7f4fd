"""What answers from the file of a format: everything but the engine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from allkit.errors import ExportError
from allkit.exporting.files import read
from allkit.plugins.guard import calling
from allkit.plugins.requirements import missing_module
from allkit.runtime.graph import GraphPredictor
from allkit.trust.arrays import Arrays

__all__ = ["FilePredictor"]


class FilePredictor(GraphPredictor):
    """A classifier in one file that `allkit.exporting.write` wrote; derive a class for your engine from it.

    A subclass says two things: `open_payload` gives the bytes that were written to the engine, and
    `compute` lets it compute. All else is done here: the checks of the file, decoding images, finding
    cells, verdicts and their reasons, copies in other processes. The class itself is the `open` of an
    `Exporter`: `FilePredictor(path)` opens a file, and raises `ExportError` where that cannot be.
    """

    exporter: ClassVar[str] = ""
    """The full name of the exporter, `PACKAGE/NAME`; a file of another one is refused."""

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        payload, info, trust = read(path, exporter=self.exporter)
        super().__init__(path, info, trust)
        by = info.get("exporter") or type(self).__name__

        def failed(words: str) -> ExportError:
            return ExportError(f"{path} cannot be opened by {by}: {words} Export it again.")

        # Who opens it, `Exporter.open`, is named already.
        with calling("", "exporter", str(by), "open_payload", failed=failed):
            try:
                self.open_payload(payload)
            except ImportError as error:
                missing = missing_module(error, str(by).partition("/")[0])
                if missing:
                    raise ExportError(f"{path} cannot be opened by {by}: {missing}") from error
                raise

    @abstractmethod
    def open_payload(self, payload: bytes) -> None:
        """Give the bytes that `write` was given to the engine, and keep the engine in `self`.

        `self.info` is there already: classes, precision, settings. Import the engine here, not at the top
        of the module, and no torch. Whatever it raises becomes an `ExportError` that names the file.
        """

    @abstractmethod
    def compute(self, feed: Arrays, names: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """Return the outputs of these `names`, each `(N, …)` float32, for one feed of the graph.

        `feed` has the inputs by name, in the order of the graph: `pixels`, and for models with cells
        `places` and `shares` (`allkit.exporting.graph`). `names` are some of `probabilities`, `logits` and
        `features`. Several threads call it at once: an engine that cannot do so needs a lock here, and
        arrays that the engine will use again have to be copied.
        """
