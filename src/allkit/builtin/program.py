"""Answers from a program of `torch.export` that allkit wrote."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from allkit.errors import AllkitError, ExportError
from allkit.network.around import ordinary
from allkit.runtime.description import read_description
from allkit.runtime.graph import OUTPUTS, GraphPredictor
from allkit.runtime.reading import parse_json
from allkit.runtime.seal import read_sealed

__all__ = ["ProgramPredictor"]

TRUST = "trust"
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

TARGET = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file)\w+(\.\w+)?"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|neg|pos|eq|ne|lt|le|gt|ge|getitem|and_|or_|not_)"
    r"|math\.(ceil|floor|sqrt|trunc)|torch\.sym_(max|min|int|float|not|ite|sum|sqrt)"
)
"""The operators that a step may call: those that compute on arrays and sizes."""
EXPRESSION = re.compile(
    r"(Mul|Add|Integer|Rational|Symbol|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|Eq|Ne|Lt|Le|Gt|Ge"
    r"|Float|ToFloat|IntTrueDiv|FloatTrueDiv|FloorToInt|CeilToInt|RoundToInt|TruncToInt|TruncToFloat"
    r"|OpaqueUnaryFn_sqrt|Identity|precision|'-?\d{1,25}(\.\d{1,25})?(e-?\d{1,3})?'"
    r"|positive|integer|nonnegative|nonzero|True|False|inf|oo|[suz]\d{1,6}|'[suz]\d{1,6}'|\d{1,18}"
    r"|[ (),=+\-*/<>])*"
)
"""What an expression of sizes may be made of; torch evaluates it."""
GUARD = re.compile(
    r"(L\['\w{1,40}'\]\.(size|stride)\(\)\[\d{1,2}\]|Max|Min|Mod|Eq|Ne|and|or|not|\d{1,18}"
    r"|==|!=|<=|>=|//|[<>+\-*%(), ])*"
)
"""What a condition on the sizes of the inputs may be made of; torch makes code of it."""
PLAIN = re.compile(r"[\w.:+/ -]*")
"""Names: torch makes the text of a program of them."""
TRACE = re.compile(r"[\w.,;:+/<>@() -]*")
"""Notes on where a step comes from, which are not evaluated."""
NODES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}
DEEPEST = 60


class ProgramPredictor(GraphPredictor):
    """A classifier in one `.pt2` file. Safe to share between threads; needs torch.

    Raises `ExportError` when the file is missing, damaged, altered, not written by allkit, or holds
    pickled objects, calls of anything that does not compute on arrays, or expressions that are none.
    """

    @ordinary()
    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        data = read_sealed(path)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                info: dict[str, Any] = read_description(path, file.comment)
                _refuse_bombs(file, len(data))
                _refuse_code(file)
                trust = file.read(next(n for n in file.namelist() if n.endswith(f"extra/{TRUST}")))
            self._program = torch.export.load(io.BytesIO(data)).module()
        except (AllkitError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - torch raises whatever a damaged program leads to
            reason = (str(error).splitlines() or [repr(error)])[0][:200]
            raise ExportError(
                f"{path} is not a program that can be opened: {reason} Export it again."
            ) from None
        super().__init__(path, info, trust.decode("ascii", "replace"))

    @ordinary()
    def compute(
        self, feed: dict[str, npt.NDArray[Any]], names: Sequence[str]
    ) -> list[npt.NDArray[np.float32]]:
        """Return the named outputs for one feed of the program."""
        with torch.inference_mode():
            outputs = self._program(*(torch.from_numpy(values) for values in feed.values()))
        return [outputs[OUTPUTS.index(name)].numpy() for name in names]


def _refuse_bombs(file: zipfile.ZipFile, size: int) -> None:
    """Raise `ValueError` where the zip holds a name twice, or more than its own bytes."""
    names = file.namelist()
    if len(set(names)) < len(names):
        raise ValueError("it holds a file twice.")
    packed = [
        entry.filename for entry in file.infolist() if entry.compress_type != zipfile.ZIP_STORED
    ]
    if packed or sum(entry.file_size for entry in file.infolist()) > size:
        raise ValueError("it is packed, and allkit packs nothing.")


def _refuse_code(file: zipfile.ZipFile) -> None:
    """Raise `ValueError` where torch would load pickled objects or evaluate what is no size."""
    for name in file.namelist():
        inner = name.partition("/")[2]
        if not inner.startswith(KNOWN) and inner not in MARKS:
            raise ValueError(f"it holds {inner!r}, which allkit does not write.")
        if inner.endswith("_config.json"):
            for entry in parse_json(file.read(name)).get("config", {}).values():
                if entry.get("use_pickle"):
                    raise ValueError(f"it holds a pickled object in {inner!r}.")
        if inner == "models/model.json":
            _refuse_text("", parse_json(file.read(name)))
        if inner.startswith("data/sample_inputs/"):
            # torch falls back to running code when this fails.
            torch.load(io.BytesIO(file.read(name)), weights_only=True)  # noqa: TID251 - as the rule asks


def _refuse_text(key: str, value: Any, depth: int = 0) -> None:
    """Raise `ValueError` for a text in a program that torch might evaluate or call."""
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply.")
    if isinstance(value, dict):
        for name, one in value.items():
            _require(PLAIN, name, "name")
            _refuse_text(name, one, depth + 1)
    elif isinstance(value, list):
        for one in value:
            _refuse_text(key, one, depth + 1)
    elif isinstance(value, str):
        _refuse_string(key, value)


def _refuse_string(key: str, value: str) -> None:
    if key == "target":
        _require(TARGET, value, "operator")
    elif key == "expr_str":
        _require(EXPRESSION, value, "expression")
        _require_short(value, "expression")
    elif key == "guards_code":
        _require(GUARD, value, "condition")
        _require_short(value, "condition")
    elif key in ("in_spec", "out_spec"):
        _refuse_nodes(parse_json(value))
    elif key in ("nn_module_stack", "torch_fn"):
        _require(TRACE, value, "note")
    else:
        _require(PLAIN, value, "name")


def _require_short(text: str, what: str) -> None:
    if len(text) > 1000 or "**" in text.replace(" ", ""):
        raise ValueError(f"it holds the {what} {text[:80]!r}, which allkit does not write.")


def _refuse_nodes(spec: Any) -> None:
    """Raise `ValueError` where inputs or outputs are to be packed into other things than tuples."""
    nodes: Iterable[Any] = spec[1:] if isinstance(spec, list) else [None]
    for node in nodes:
        if not isinstance(node, dict) or node.get("type") not in NODES:
            raise ValueError(
                "its inputs or outputs are packed in a way that allkit does not write."
            )
        context = node.get("context")
        keys = parse_json(context) if isinstance(context, str) else None
        if keys is not None and (node["type"] != "builtins.dict" or not isinstance(keys, list)):
            raise ValueError(
                "its inputs or outputs are packed in a way that allkit does not write."
            )
        for key in keys or []:
            _require(PLAIN, str(key), "name")
        _refuse_nodes([1, *node.get("children_spec", [])])


def _require(pattern: re.Pattern[str], text: str, what: str) -> None:
    if not pattern.fullmatch(text):
        raise ValueError(f"it holds the {what} {text[:80]!r}, which allkit does not write.")
