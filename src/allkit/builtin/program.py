"""Answers from a program of `torch.export` that allkit wrote."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from allkit.errors import ExportError
from allkit.network.around import ordinary
from allkit.runtime.graph import FORMAT, GraphPredictor, require_format
from allkit.runtime.seal import read_sealed

__all__ = ["ProgramPredictor"]

TRUST = "trust"
OUTPUTS = ("probabilities", "logits", "features")
KNOWN = (
    "data/weights/weight_",
    "data/weights/model_weights_config.json",
    "data/constants/tensor_",
    "data/constants/model_constants_config.json",
    "data/sample_inputs/",
    "models/model.json",
    f"extra/{TRUST}",
    ".data/",
)
"""How the names of the files begin that `torch.export` writes into a program."""
MARKS = ("archive_format", "archive_version", "byteorder")


class ProgramPredictor(GraphPredictor):
    """A classifier in one `.pt2` file. Safe to share between threads; needs torch.

    Raises `ExportError` when the file is missing, damaged, altered, not written by allkit, or
    holds pickled objects. That alone does not make a stranger's file safe: torch evaluates the
    expressions in it that describe shapes.
    """

    @ordinary()
    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        data = read_sealed(path)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                info: dict[str, Any] = json.loads(file.comment)
                require_format(path, int(info["format"]), FORMAT)
                _refuse_code(file)
                trust = file.read(next(n for n in file.namelist() if n.endswith(f"extra/{TRUST}")))
            self._program = torch.export.load(io.BytesIO(data)).module()
        except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError, StopIteration) as error:
            raise ExportError(
                f"{path} is not a program that can be opened: {str(error)[:200]} Export it again."
            ) from None
        super().__init__(path, info, base64.b64decode(trust))

    @ordinary()
    def compute(
        self, feed: dict[str, npt.NDArray[Any]], names: Sequence[str]
    ) -> list[npt.NDArray[np.float32]]:
        """Return the named outputs for one feed of the program."""
        with torch.inference_mode():
            outputs = self._program(*(torch.from_numpy(values) for values in feed.values()))
        return [outputs[OUTPUTS.index(name)].numpy() for name in names]


def _refuse_code(file: zipfile.ZipFile) -> None:
    """Raise `ValueError` where torch would load pickled objects, which may run code."""
    for name in file.namelist():
        inner = name.partition("/")[2]
        if not inner.startswith(KNOWN) and inner not in MARKS:
            raise ValueError(f"it holds {inner!r}, which allkit does not write.")
        if inner.endswith("_config.json"):
            for entry in json.loads(file.read(name)).get("config", {}).values():
                if entry.get("use_pickle"):
                    raise ValueError(f"it holds a pickled object in {inner!r}.")
        if inner.startswith("data/sample_inputs/"):
            # torch falls back to running code when this fails.
            torch.load(io.BytesIO(file.read(name)), weights_only=True)  # noqa: TID251 - as the rule asks
