"""The Open Inference Protocol, version 2: tensors in JSON or binary, to images and from answers.

https://github.com/kserve/open-inference-protocol, with Triton's extension for binary tensors: a
JSON head of `Inference-Header-Content-Length` bytes, then the tensors one after the other,
little-endian, each text led by its length in four bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import reprlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.records import Prediction
from allkit.types import Pixels

__all__ = ["HEADER", "InferRequest", "ProtocolError", "model_metadata", "parse", "respond"]

HEADER = "Inference-Header-Content-Length"
MOST_VALUES = 4_000_000
"""Of the JSON of a request: the pixels of an image of a megapixel, or any number of files."""
MOST_ID = 1000
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 60
shown = _SHORT.repr


class ProtocolError(Exception):
    """A request that is not in the protocol; its text is written for the client."""


@dataclass(frozen=True)
class InferRequest:
    """What is asked: encoded images or `(H, W, 3)` uint8 arrays, and the wanted outputs.

    `outputs` maps a name to whether it is wanted in binary.
    """

    id: str | None
    images: list[bytes | Pixels]
    outputs: dict[str, bool]


@dataclass(frozen=True)
class _Output:
    datatype: str
    per_class: bool
    value: Callable[[Prediction], Any]


OUTPUTS = {
    "label": _Output("BYTES", False, lambda a: a.label or ""),
    "probability": _Output("FP32", False, lambda a: a.probability),
    "probabilities": _Output("FP32", True, lambda a: list(a.probabilities.values())),
    "verdict": _Output("BYTES", False, lambda a: a.verdict),
    "reasons": _Output("BYTES", False, lambda a: ";".join(a.reasons)),
    "reason_codes": _Output("BYTES", False, lambda a: ";".join(a.reason_codes)),
    "prediction_set": _Output("BYTES", False, lambda a: ";".join(a.prediction_set)),
    "prediction": _Output("BYTES", False, lambda a: json.dumps(a.to_dict(), ensure_ascii=False)),
}


def model_metadata(name: str, version: str, classes: Sequence[str]) -> dict[str, Any]:
    """Return the metadata of the model. A request gives one of the two inputs."""
    return {
        "name": name,
        "versions": [version],
        "platform": "allkit",
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
        ],
        "outputs": [
            {
                "name": key,
                "datatype": output.datatype,
                "shape": [-1, len(classes)] if output.per_class else [-1],
            }
            for key, output in OUTPUTS.items()
        ],
    }


def parse(body: bytes, header_length: str | None) -> InferRequest:
    """Read a request; raise `ProtocolError` that says what is wrong with it."""
    length = len(body) if header_length is None else _length(header_length, len(body))
    head, rest = body[:length], body[length:]
    # Each value of JSON becomes an object of its own, up to thirty times as large as its text.
    if sum(map(head.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise ProtocolError(
            f"The JSON holds more than {MOST_VALUES:,} values. Send pixels as binary tensors."
        )
    try:
        request = json.loads(head)
    except (ValueError, RecursionError):
        request = None
    inputs = request.get("inputs") if isinstance(request, dict) else None
    if not isinstance(inputs, list) or not all(isinstance(tensor, dict) for tensor in inputs):
        raise ProtocolError("The body is no JSON object with a list 'inputs' of objects.")
    if len(inputs) != 1:
        raise ProtocolError(f"There are {len(inputs)} inputs; give one: 'image' or 'pixels'.")
    asked = request.get("id")
    if asked is not None and not (isinstance(asked, str) and len(asked) <= MOST_ID):
        raise ProtocolError(f"The id is {shown(asked)}; it must be text, {MOST_ID} at most.")
    return InferRequest(asked, _images(inputs[0], rest), _wanted(request))


def _length(given: str, most: int) -> int:
    """Return the length of the head. Python itself refuses to read numbers of thousands of digits."""
    digits = given.strip().lstrip("0") or "0"
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 15 and int(digits) <= most):
        raise ProtocolError(f"{HEADER} is {shown(given)}; the body has {most} bytes.")
    return int(digits)


def _parameters(of: dict[str, Any], what: str) -> dict[str, Any]:
    found = of.get("parameters")
    if found is not None and not isinstance(found, dict):
        raise ProtocolError(f"The parameters of {what} are {shown(found)}; they must be an object.")
    return found or {}


def _flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    found = parameters.get(name)
    if found is not None and not isinstance(found, bool):
        raise ProtocolError(f"{name} is {shown(found)}; it must be true or false.")
    return default if found is None else found


def _images(tensor: dict[str, Any], rest: bytes) -> list[bytes | Pixels]:
    name, kind, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if (name, kind) not in (("image", "BYTES"), ("pixels", "UINT8")):
        raise ProtocolError(
            f"The input is {shown(name)} of type {shown(kind)}; known are 'image' (BYTES, encoded files) "
            f"and 'pixels' (UINT8, RGB)."
        )
    if not isinstance(shape, list) or not all(type(n) is int and n >= 1 for n in shape):
        raise ProtocolError(
            f"The shape of {name!r} is {shown(shape)}; it must be a list of numbers."
        )
    if len(shape) > 4 or max(shape, default=1) >= 2**31:
        raise ProtocolError(f"The shape of {name!r} is {shown(shape)}; no tensor is so large.")
    size = _parameters(tensor, repr(name)).get("binary_data_size")
    if size is not None and (type(size) is not int or size != len(rest)):
        raise ProtocolError(
            f"The binary_data_size of {name!r} is {shown(size)}, but {len(rest)} bytes follow the head."
        )
    count = math.prod(shape)
    if name == "image":
        files = _texts(rest) if size is not None else _base64(tensor.get("data"))
        if len(files) != count:
            raise ProtocolError(
                f"The shape of 'image' is {shape}, but it holds {len(files)} files."
            )
        return list(files)
    if len(shape) not in (3, 4) or shape[-1] != 3:
        raise ProtocolError(f"The shape of 'pixels' is {shape}; wanted: [N, H, W, 3] or [H, W, 3].")
    flat = np.frombuffer(rest, np.uint8) if size is not None else _levels(tensor.get("data"))
    if flat.size != count:
        raise ProtocolError(f"The shape of 'pixels' is {shape}, but it holds {flat.size} values.")
    return list(flat.reshape(-1, *shape[-3:]))


def _texts(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise ProtocolError("The binary data of 'image' ends within a length.")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        if at > len(data):
            raise ProtocolError("The binary data of 'image' ends within a file.")
        found.append(data[at - length : at])
    return found


def _base64(data: Any) -> list[bytes]:
    texts = _flat(data)
    try:
        return [base64.b64decode(text, validate=True) for text in texts]
    except (binascii.Error, ValueError, TypeError):
        raise ProtocolError(
            "'image' holds something else than base64. JSON carries no bytes: encode files as "
            "base64, or send them as binary tensors."
        ) from None


def _levels(data: Any) -> npt.NDArray[np.uint8]:
    values = _flat(data)
    if not all(type(value) is int and 0 <= value <= 255 for value in values):
        raise ProtocolError("'pixels' holds something else than whole numbers from 0 to 255.")
    return np.array(values, np.uint8)


def _flat(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise ProtocolError("The input has neither 'data' nor a 'binary_data_size'.")
    values: list[Any] = data
    while values and isinstance(values[0], list):
        if not all(isinstance(item, list) for item in values):
            raise ProtocolError("The 'data' of the input is unevenly nested.")
        values = [value for item in values for value in item]
    return values


def _wanted(request: dict[str, Any]) -> dict[str, bool]:
    binary = _flag(_parameters(request, "the request"), "binary_data_output", default=False)
    asked = request.get("outputs")
    if asked is None or asked == []:
        return dict.fromkeys(OUTPUTS, binary)
    if not isinstance(asked, list) or not all(
        isinstance(output, dict) and isinstance(output.get("name"), str) for output in asked
    ):
        raise ProtocolError("'outputs' must be a list of objects with a 'name'.")
    unknown = sorted({output["name"] for output in asked} - set(OUTPUTS))
    if unknown:
        raise ProtocolError(f"Unknown output {shown(unknown[0])}. Known: {', '.join(OUTPUTS)}.")
    return {
        output["name"]: _flag(_parameters(output, output["name"]), "binary_data", default=binary)
        for output in asked
    }


def respond(
    request: InferRequest, answers: Sequence[Prediction], name: str, version: str
) -> tuple[bytes, int | None]:
    """Return the body of the response, and the length of its JSON head when tensors follow it."""
    outputs, tensors = [], []
    for key, binary in request.outputs.items():
        output = OUTPUTS[key]
        values = [output.value(answer) for answer in answers]
        shape = [len(values), *([len(values[0])] if output.per_class else [])]
        tensor: dict[str, Any] = {"name": key, "datatype": output.datatype, "shape": shape}
        if binary:
            data = _binary(values, output.datatype)
            tensors.append(data)
            tensor["parameters"] = {"binary_data_size": len(data)}
        else:
            flat = [v for row in values for v in row] if output.per_class else values
            tensor["data"] = flat
        outputs.append(tensor)
    whole = {"model_name": name, "model_version": version, "outputs": outputs}
    head = json.dumps(whole | ({} if request.id is None else {"id": request.id})).encode()
    return head + b"".join(tensors), len(head) if tensors else None


def _binary(values: list[Any], datatype: str) -> bytes:
    if datatype == "FP32":
        return np.asarray(values, "<f4").tobytes()
    texts = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
