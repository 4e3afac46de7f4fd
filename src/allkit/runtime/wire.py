"""Reading an ONNX file's structure as it lies in the file, to refuse what allkit never writes.

ONNX is a protocol buffer: fields with numbers, some of which hold further fields. ONNX Runtime would
load data from other files, and run loops for as long as a file says; neither is needed for a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["foreign_parts"]

DOMAINS = {b"", b"ai.onnx", b"ai.onnx.ml", b"com.microsoft"}
LOOPS = {b"Loop", b"Scan", b"If", b"SequenceMap"}
EXTERNAL = 1
DEEPEST = 12
BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16}
"""Bits of an element, by the number of its kind."""
MOST_ELEMENTS = 2**33


class _Field(NamedTuple):
    number: int
    value: int
    data: memoryview
    """Empty where the field is a number."""


def foreign_parts(data: bytes) -> str:
    """Return what an ONNX file holds that allkit never writes, or an empty string.

    Raises `ValueError` where the bytes are no ONNX file.
    """
    graphs = 0
    for field in _fields(memoryview(data)):
        if field.number == 7:  # graph
            graphs += 1
            found = _in_graph(field.data, 0)
            if found:
                return found
        elif field.number == 20:  # training_info
            return "steps of a training"
        elif field.number == 25:  # functions
            return "functions of its own"
    return "" if graphs == 1 else f"{graphs} graphs, not one"


def _in_graph(graph: memoryview, depth: int) -> str:
    if depth > DEEPEST:
        return "graphs within graphs"
    found = ""
    for field in _fields(graph):
        if field.number == 1:
            found = _in_node(field.data, depth)
        elif field.number == 5:
            found = _in_tensor(field.data)
        elif field.number == 15:
            found = "sparse arrays"
        if found:
            return found
    return ""


def _in_node(node: memoryview, depth: int) -> str:
    for field in _fields(node):
        if field.number == 4 and bytes(field.data) in LOOPS:
            return f"the operator {bytes(field.data).decode()}, which repeats or chooses"
        if field.number == 7 and bytes(field.data) not in DOMAINS:
            name = bytes(field.data[:60]).decode("utf-8", "replace")
            return f"an operator of {name!r}, which ONNX Runtime does not have"
        if field.number == 5:
            found = _in_attribute(field.data, depth)
            if found:
                return found
    return ""


def _in_attribute(attribute: memoryview, depth: int) -> str:
    for field in _fields(attribute):
        found = ""
        if field.number in (5, 10):  # t, tensors
            found = _in_tensor(field.data)
        elif field.number in (6, 11):  # g, graphs
            found = _in_graph(field.data, depth + 1) or "a graph within an operator"
        elif field.number in (22, 23):
            found = "sparse arrays"
        if found:
            return found
    return ""


def _in_tensor(tensor: memoryview) -> str:
    count, kind, raw, dims = 1, 0, -1, False
    for field in _fields(tensor):
        if field.number == 13 or (field.number == 14 and field.value == EXTERNAL):
            return "arrays that lie in another file (external data)"
        if field.number == 1:
            dims = True
            for size in _packed(field.data) if len(field.data) else [field.value]:
                count *= size
                if not 0 <= size < MOST_ELEMENTS or count >= MOST_ELEMENTS:
                    return f"an array of {size:,} elements a side"
        elif field.number == 2:
            kind = field.value
        elif field.number == 9:
            raw = len(field.data)
    if raw >= 0 and kind in BITS and raw * 8 != count * BITS[kind]:
        return f"an array of {count:,} elements in {raw:,} bytes"
    if raw < 0 and dims and count > 4 * len(tensor):
        return f"an array of {count:,} elements in {len(tensor):,} bytes"
    return ""


def _packed(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _number(data, at)
        yield value


def _fields(data: memoryview) -> Iterator[_Field]:
    at, empty = 0, data[:0]
    while at < len(data):
        key, at = _number(data, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise ValueError("it is no ONNX file")
        if kind == 0:
            value, at = _number(data, at)
            yield _Field(number, value, empty)
            continue
        if kind == 2:
            size, at = _number(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("it is no ONNX file")
        if size > len(data) - at:
            raise ValueError("its end is missing")
        yield _Field(number, 0, data[at : at + size])
        at += size


def _number(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("it is no ONNX file")
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
