"""Model folders, exported files, settings and saved states that were made to harm, with right hashes."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attacks import Counts, Scale

TITLE = "Model folders, exported files and settings made to harm, with right hashes"
SAVED = Path(__file__).parents[1] / "saved" / "0.1.0"
DEEP = 100_000

Change = Callable[[Path], None]


def run(scale: Scale, folder: Path) -> dict[str, Counts]:
    """Open everything that was made to harm: each must be refused with one error of allkit."""
    canary = folder / "canary"
    lines = {
        "model folders": _tried(_folders(folder), _load),
        "values of a description, refused by name": _described(folder),
        "every key of a description, left out or replaced": _fuzzed(
            step=1 if scale == "long" else 31
        ),
        "arrays of a model": _tried(_arrays(folder), _load),
        "exported files": _tried(_exports(folder, canary, long=scale == "long"), _open),
        "files that are something else": _tried(_others(folder), _open),
        "settings": _tried(_settings(folder), _configure),
    }
    if canary.exists():
        lines["exported files"].failed.append("a file ran code")
    return lines


def _tried(attempts: Iterator[tuple[str, Path]], use: Callable[[Path], Any]) -> Counts:
    from allkit.errors import AllkitError

    counts = Counts()
    for what, path in attempts:
        try:
            use(path)
        except AllkitError as error:
            if len(str(error)) > 1500 or "\x1b" in str(error):
                counts.failed.append(f"{what}: an error that nobody can read")
            counts.refused += 1
        except BaseException as error:  # noqa: BLE001 - which is what is counted
            counts.failed.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
        else:
            counts.failed.append(f"{what}: it was taken")
    return counts


def _load(path: Path) -> None:
    import warnings

    import numpy as np

    import allkit

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # What only shows when it computes, such as a width for another bag, is one error then.
        allkit.Classifier.load(path).predict(np.full((64, 64, 3), 255, np.uint8))


def _open(path: Path) -> None:
    import numpy as np

    from allkit.cli.models import open_model

    open_model(path).predict(np.full((64, 64, 3), 200, np.uint8))


def _configure(path: Path) -> None:
    from allkit.config import TrainConfig, load_config

    TrainConfig.parse(load_config(path), source=str(path))


def seal_folder(folder: Path) -> None:
    """Write the right hashes of whatever lies in a model folder now."""
    names = ["model.safetensors", "model.json", "README.md"]
    names += [f"plots/{path.name}" for path in sorted((folder / "plots").glob("*"))]
    sums = [(hashlib.sha256((folder / n).read_bytes()).hexdigest(), n) for n in names]
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for digest, name in sums))


def new_model(folder: Path, name: str = "model") -> Path:
    """Return a copy of a small model with a picture."""
    place = folder / name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(SAVED / "model", place)
    (place / "plots").mkdir()
    (place / "plots" / "confusion.png").write_bytes(b"\x89PNG" + bytes(range(256)))
    seal_folder(place)
    return place


# ── model folders ──────────────────────────────────────────────────────────────────────────────


def _folders(folder: Path) -> Iterator[tuple[str, Path]]:
    elsewhere = folder / "elsewhere"
    shutil.copytree(SAVED / "model", elsewhere)

    def link(name: str) -> Change:
        def change(model: Path) -> None:
            (model / name).unlink()
            (model / name).symlink_to(elsewhere / name)

        return change

    def text(name: str, content: bytes) -> Change:
        def change(model: Path) -> None:
            (model / name).write_bytes(content)
            if name != "SHA256SUMS":
                seal_folder(model)

        return change

    def add(line: str) -> Change:
        def change(model: Path) -> None:
            with (model / "SHA256SUMS").open("a") as stream:
                stream.write(line)

        return change

    def sparse(model: Path) -> None:
        with (model / "model.safetensors").open("r+b") as stream:
            stream.truncate(2**42)

    def pipe(model: Path) -> None:
        (model / "model.json").unlink()
        os.mkfifo(model / "model.json")

    nine = "0" * 64
    good = json.loads((SAVED / "model" / "model.json").read_text())
    twice = json.dumps(good).replace('"format":', '"format": 1, "format":', 1)
    huge = json.dumps(good).replace('"format": 1', f'"format": {"9" * 5000}')
    header = (2**40).to_bytes(8, "little")
    bombs = [
        ("a deep model.json", text("model.json", b"[" * DEEP + b"]" * DEEP)),
        ("a deep value", text("model.json", json.dumps(good)[:-1].encode() + b', "validation": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}")),
        ("a list as model.json", text("model.json", b"[1]")),
        ("an empty model.json", text("model.json", b"")),
        ("bytes that are no text", text("model.json", b'{"format": 1, "a": "\xff"}')),
        ("UTF-16", text("model.json", json.dumps(good).encode("utf-16"))),
        ("a key twice", text("model.json", twice.encode())),
        ("a key twice among 60,000", text("model.json", json.dumps({f"k{i}": 0 for i in range(60_000)} | {"x": 0}).replace('"x"', '"k0"').encode())),
        ("a number of 5,000 digits", text("model.json", huge.encode())),
        ("NaN", text("model.json", json.dumps(good | {"validation": {"accuracy": float("nan")}}).encode())),
        ("no arrays", text("model.safetensors", b"")),
        ("noise as arrays", text("model.safetensors", bytes(range(256)) * 40)),
        ("a huge header", text("model.safetensors", header + b"{}" * 100)),
        ("a deep header", text("model.safetensors", (2 * DEEP).to_bytes(8, "little") + b"[" * DEEP + b"]" * DEEP)),
        ("a header of other types", text("model.safetensors", (20).to_bytes(8, "little") + b'{"a":{"dtype":"F8"}}')),
        ("a pickle as arrays", text("model.safetensors", b"\x80\x04cos\nsystem\n(S'touch canary'\ntR.")),
        ("another folder in the hashes", add(f"{nine}  ../secret\n")),
        ("a path in the hashes", add(f"{nine}  /etc/passwd\n")),
        ("a name twice in the hashes", add(f"{nine}  model.json\n")),
        ("empty hashes", text("SHA256SUMS", b"")),
        ("hashes that are no text", text("SHA256SUMS", b"\xff" * 100)),
        ("millions of hashes", text("SHA256SUMS", b"0" * (2**21))),
        ("a sparse file", sparse),
        *((f"{name} is a link", link(name)) for name in ("model.safetensors", "model.json", "SHA256SUMS")),
    ]  # fmt: skip
    if hasattr(os, "mkfifo"):
        bombs.append(("a pipe", pipe))
    for number, (what, change) in enumerate(bombs):
        model = new_model(folder, f"folder-{number}")
        change(model)
        yield what, model
        shutil.rmtree(model)


# ── the description ────────────────────────────────────────────────────────────────────────────

NAN, INF = float("nan"), float("inf")
NONSENSE: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("format", (-5, 0, True, "1", 1.0, None, [], {}, 10**30)),
    ("allkit", (None, 1, "", "a\x1b[2Jb", "x" * 10**6)),
    ("created", (None, 5, "\x00", ["2026"])),
    ("classes", ([], ["A"], ["A", "A"], ["Pre"] * 4, ["", "Pre", "Pro", "Early"], ["A\x1b[31m", "Pre", "Pro", "Early"], ["A\nB", "Pre", "Pro", "Early"], [1, 2, 3, 4], {"a": 1}, "Pre", [f"c{i}" for i in range(5000)], ["\u202egnorw", "Pre", "Pro", "Early"], [" Benign", "Early", "Pre", "Pro"])),
    ("display_names", ([], {"Benign": 5}, {"Other": "x"}, {"Benign": "\x07"}, None)),
    ("backbone.name", ("", "os", "../../etc", "no_such", 5, None, "builtins:exec", "timm:../x", "timm:hf-hub:a/b", "a b", "x" * 10**5)),
    ("backbone.width", (0, -1, 10**12, True, "798", 798.5, 2**20 + 1, 799, None)),
    ("backbone.members", (0, -1, 10**9, True, "1", 2, None, 1.5)),
    ("backbone.size", (0, -224, 7, 10**12, True, "224", 224.5, None)),
    ("backbone.mean", ([NAN, 0.5, 0.5], [-0.1, 0.5, 0.5], [INF, 0, 0], [0.5], [0.5] * 4, "0.5", [True, 0.5, 0.5], [2.0, 0.5, 0.5], None)),
    ("backbone.std", ([0, 0.5, 0.5], [NAN, 0.5, 0.5], [-1, 0.5, 0.5], [INF, 1, 1], [], ["1", "1", "1"], None)),
    ("backbone.view", ("x-ray", 5, None, ["rgb"])),
    ("backbone.bag", ("sack", True, None, "field")),
    ("backbone.cut", (-1, 10**9, "1", True, 1.5)),
    ("backbone.orientations", ("yes", 1, None, [])),
    ("backbone.tiles", ("no", 2, None)),
    ("backbone.finder", (5, None, "no_such", ["a"])),
    ("backbone.fingerprint", ([NAN] * 9, [1.0], [1.0] * 10**4, "abc", [INF] * 9, [[1.0]] * 9)),
    ("backbone.trained", ("stage", [1], [""], {})),
    ("backbone.weights_sha256", ("xyz", 5, None, "0" * 65, "AB")),
    ("backbone.license", (5, None, "\x1b[0m")),
    ("backbone.distribution", ("", 5, None)),
    ("plugins", ([], {"a": 1}, {"": "1"}, None)),
    ("config", ([], {"epochs": -1}, {"no_such": 1}, {"epochs": 10**30}, {"val": NAN}, None, "vgg16")),
    ("data.counts", ({"Benign": -1}, {"Benign": 12}, {"Other": 12}, [], {"Benign": 10**12, "Early": 0, "Pre": 0, "Pro": 0}, {"Benign": True, "Early": 1, "Pre": 1, "Pro": 1}, dict.fromkeys(("Benign", "Early", "Pre", "Pro"), 0), dict.fromkeys(("Benign", "Early", "Pre", "Pro"), 1), None)),
    ("data.images_sha256", ("abc", ["xyz"], [5], None, [])),
    ("data.groups_sha256", (["not hex"], 5, None)),
    ("data.drawn", ("yes", 1, None)),
    ("data.split_by", (5, "\x00", [])),
    ("data.fingerprint", (5, "zz", None)),
    ("validation.accuracy", (NAN, -0.1, 1.1, "0.9", True, [1], INF)),
    ("validation.ece", (-1, 2, "x", NAN)),
    ("validation.n", (-1, "16", 1.5, True)),
    ("validation", ([], "good", 5)),
    ("validation.classes", (None, [], ["Early", "Benign", "Pre", "Pro"], "x", 5)),
    ("validation.confusion", (None, [], [[1]], [[1, 2, 3]] * 4, [["1"] * 4] * 4, "x", [[0] * 4] * 4)),
    ("validation.per_class", (None, {}, [], {"Benign": 5}, "x")),
    ("validation.intervals", (None, [], {"accuracy": [1]}, {"accuracy": ["a", "b"]}, "x")),
    ("validation.curves", ("x", [], {}, {"reliability": {}}, {"reliability": {"confidence": [], "accuracy": []}})),
    ("validation.notes", (None, "x", [5], ["\x1b[0m"])),
    ("validation.protocol", (None, 5, "x" * 100_000)),
    ("validation.interval_unit", (None, 5, "", "a\nb")),
    ("validation.folds", (5, [{}], [5])),
    ("validation.coarse", (5, {}, [])),
    ("validation.shortcut_probe", (5, {"name": "x"})),
    ("trust_notes", ("x", [5], ["\x1b]0;x\x07"], None)),
    ("history", ([[{"epoch": NAN}]], [[{"epoch": "1"}]], "x", [{"epoch": 1}], [[5]], None)),
    ("versions", ([], {"torch": 5}, None)),
    ("passport.seed", (-1, "0", True, 10**12, None)),
    ("passport.threads", (-1, "2", NAN, None)),
    ("passport.engine", ("torch", [5], None)),
    ("adaptations", ([5], "x", [{"created": "now"}], None)),
    ("distillation", (5, {"teacher": 5}, {"teacher": "a", "backbone": "b", "known": [{"name": "A", "images": 1, "teacher": [1], "student": [1]}]}, {"teacher": "a", "backbone": "b", "known": [{"name": "A", "images": 1, "teacher": [9] * 6, "student": [0] * 6}]})),
)  # fmt: skip
"""Fields of a description, and values that none may have."""


def _described(folder: Path) -> Counts:
    """Give each field each value that makes no sense; the one error must name the field."""
    from allkit.errors import AllkitError

    good = json.loads((SAVED / "model" / "model.json").read_text())
    model, counts = new_model(folder, "described"), Counts()
    for name, values in NONSENSE:
        for value in values:
            changed = copy.deepcopy(good)
            *above, last = name.split(".")
            place = changed
            for part in above:
                place = place[part]
            place[last] = value
            (model / "model.json").write_text(json.dumps(changed))
            seal_folder(model)
            what = f"{name} = {str(value)[:60]}"
            try:
                _load(model)
            except AllkitError as error:
                named = last in str(error) or str(value)[:40] in str(error)
                counts.refused += named
                if not named:
                    counts.failed.append(f"{what}: the field is not named: {str(error)[:200]}")
            except BaseException as error:  # noqa: BLE001 - which is what is counted
                counts.failed.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
            else:
                counts.failed.append(f"{what}: it was taken")
    shutil.rmtree(model)
    return counts


REPLACEMENTS = (
    None,
    True,
    -1,
    0,
    0.5,
    10**30,
    "",
    "x",
    "\x1b[31mX",
    [],
    {},
    [None],
    {"x": 1},
    "A" * 10_000,
)


def _fuzzed(step: int) -> Counts:
    """Leave out or replace every key at every depth: refused, or of use in whatever shows it."""
    from allkit.errors import AllkitError, CheckpointError
    from allkit.evaluation.text import accuracy_sentence
    from allkit.model.info import ModelInfo
    from allkit.report.card import model_card
    from allkit.runtime.fields import checked
    from allkit.trust.verdict import Trust

    good, counts = json.loads((SAVED / "model" / "model.json").read_text()), Counts()
    trust = Trust(tuple(good["classes"])).summary()
    for path in list(_paths(good))[::step]:
        for value in (..., *REPLACEMENTS):
            changed = copy.deepcopy(good)
            place: Any = changed
            for part in path[:-1]:
                place = place[part]
            if value is ...:
                del place[path[-1]]
            else:
                place[path[-1]] = value
            what = f"{'.'.join(map(str, path))} = {str(value)[:40]}"
            try:
                info = checked(ModelInfo, changed, Path("model.json"), CheckpointError)
                model_card(info.model_dump(mode="json"), trust)
                assert repr(info)
                assert accuracy_sentence(info.validation) if info.validation is not None else True
                counts.right += 1
            except AllkitError as error:
                counts.refused += 1
                if len(str(error)) > 1000 or not str(error).isprintable():
                    counts.failed.append(f"{what}: an error that nobody can read")
            except Exception as error:  # noqa: BLE001 - which is what is counted
                counts.failed.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
    return counts


def _paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if above:
        yield above
    if isinstance(value, dict):
        for key in value:
            yield from _paths(value[key], (*above, key))
    elif isinstance(value, list) and value:
        yield from _paths(value[0], (*above, 0))


def _arrays(folder: Path) -> Iterator[tuple[str, Path]]:
    import torch
    from safetensors.torch import load, save

    good = load((SAVED / "model" / "model.safetensors").read_bytes())
    head = "network.heads.0.linear.weight"

    def filled(name: str, value: float) -> dict[str, torch.Tensor]:
        return good | {name: torch.full_like(good[name], value)}

    def without(name: str) -> dict[str, torch.Tensor]:
        return {key: array for key, array in good.items() if key != name}

    changes = {
        **{f"without {name}": without(name) for name in good if not name.endswith(".seen")},
        **{
            f"{name} of another shape": good | {name: torch.zeros((3, 3, 3), dtype=array.dtype)}
            for name, array in good.items()
        },
        **{
            f"{name} is NaN": filled(name, NAN)
            for name, array in good.items()
            if array.dtype.is_floating_point
        },
        **{
            f"{name} of another kind": good | {name: array.to(torch.int8)}
            for name, array in good.items()
        },
        "an array more": good | {"more": torch.zeros(1)},
        "an array more of the network": good | {"network.more": torch.zeros(1)},
        "an array more of the limits": good | {"calibration.more": torch.zeros(1)},
        "one more head": good | {head.replace(".0.", ".1."): good[head]},
        "a temperature of zero": filled("calibration.temperature", 0.0),
        "a negative temperature": filled("calibration.temperature", -1.0),
        "an infinite temperature": filled("calibration.temperature", INF),
        "a coverage of 2": filled("calibration.coverage", 2.0),
        "a confidence of -1": filled("calibration.confidence", -1.0),
        "thresholds of 2": filled("calibration.thresholds", 2.0),
        "thresholds below 0": filled("calibration.thresholds", -0.5),
        "infinite weights": filled(head, INF),
    }
    owners = "familiarity.content.owners"
    if owners in good:
        changes["a class that is none"] = good | {owners: torch.full_like(good[owners], 99)}
    if "groups.of_class" in good:
        changes["a group that is none"] = good | {"groups.of_class": torch.tensor([0, 1, 1, 7])}
    names = json.dumps(["a", "a"]).encode()
    changes["two groups of one name"] = good | {
        "groups.names": torch.frombuffer(bytearray(names), dtype=torch.uint8),
        "groups.of_class": torch.tensor([0, 1, 1, 1]),
    }
    for number, (what, arrays) in enumerate(changes.items()):
        model = new_model(folder, f"arrays-{number}")
        data = save({name: array.clone().contiguous() for name, array in arrays.items()})
        (model / "model.safetensors").write_bytes(data)
        seal_folder(model)
        yield what, model
        shutil.rmtree(model)


# ── exported files ─────────────────────────────────────────────────────────────────────────────


def _exports(folder: Path, canary: Path, *, long: bool) -> Iterator[tuple[str, Path]]:
    import onnx

    path = folder / "model.onnx"
    for what, proto in _graphs(onnx.load(SAVED / "model.onnx")):
        path.write_bytes(_sealed(proto))
        yield what, path
    if long:
        yield from _programs(folder, canary)


def _graphs(good: Any) -> Iterator[tuple[str, Any]]:
    import onnx
    from onnx import TensorProto, helper

    def copied() -> Any:
        proto = onnx.ModelProto()
        proto.CopyFrom(good)
        return proto

    said = json.loads(next(e.value for e in good.metadata_props if e.key == "allkit"))
    for name, values in {
        "format": (-1, 0, True, "1", None, [], NAN),
        "classes": (
            [],
            ["A"],
            ["A", "A", "B", "C"],
            [1, 2],
            None,
            "abc",
            ["", "a", "b", "c"],
            ["a", "b"],
        ),
        "display_names": ([], {"x": 1}, 5),
        "precision": ("float8", 5, None),
        "bag": ("sack", 5, None),
        "finder": (5, "none such", None),
        "tiles": ("yes", 5, None),
        "max_cells": (0, -1, 1000, 10**12, "8", True, None),
        "limits": (5, "x", [5], ["=cmd|x"], ["\x1b[0m"], None),
        "spread": ("x", 3),
        "trust": (5, "", "***", "AAAA", None),
        "proof": (5, [], None, "", "x" * 10, {"images": -1}, {"precision": "float32"}),
    }.items():
        for value in values:
            proto = copied()
            entry = next(e for e in proto.metadata_props if e.key == "allkit")
            entry.value = json.dumps(said | {name: value})
            yield f"{name} = {value!r}", proto
    for text in ("", "[]", "5", "{", "[" * DEEP, '{"format": 1}'):
        proto = copied()
        entry = next(e for e in proto.metadata_props if e.key == "allkit")
        entry.value = text + ' "sha256": "' + "0" * 64 + '"'
        yield f"the description {text[:20]!r}", proto
    proto = copied()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    yield "arrays in another file", proto
    proto = copied()
    proto.graph.initializer[0].dims[:] = [2**40]
    yield "an array of 2^40 numbers", proto
    proto = copied()
    proto.graph.initializer[0].dims[:] = [-1]
    yield "an array of -1 numbers", proto
    proto = copied()
    proto.graph.node.append(helper.make_node("Evil", ["pixels"], ["evil"], domain="evil.corp"))
    yield "an operator of another library", proto
    proto = copied()
    body = helper.make_graph([], "body", [], [])
    proto.graph.node.append(helper.make_node("Loop", ["", ""], ["evil"], body=body))
    yield "a loop", proto
    proto = copied()
    proto.functions.add(name="f", domain="f")
    yield "functions", proto
    proto = copied()
    proto.graph.output[0].name = "other"
    yield "other outputs", proto
    proto = copied()
    proto.graph.input[0].name = "other"
    yield "other inputs", proto
    proto = copied()
    del proto.graph.node[:]
    yield "no operators", proto
    proto = copied()
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) > 4:
            tensor.raw_data = b"\xff\xff\xff\x7f" * (len(tensor.raw_data) // 4)
    yield "weights that are no numbers", proto
    yield from _greedy(copied)


def _greedy(copied: Callable[[], Any]) -> Iterator[tuple[str, Any]]:
    """Yield graphs of a few bytes more that ask for more memory than a machine has."""
    import numpy as np
    from onnx import helper, numpy_helper

    side = 40_000
    given = {
        "shape": np.array([side, side], np.int64),
        "row": np.zeros((1, side), np.float32),
        "column": np.zeros((side, 1), np.float32),
        "one": np.zeros((1, 1), np.float32),
        "zero": np.array(0, np.int64),
        "many": np.array(side**2, np.int64),
        "step": np.array(1, np.int64),
        "around": np.array([0, 0, side, side], np.int64),
        "times": np.array([1.0, side], np.float32),
    }
    steps: dict[str, list[Any]] = {
        "ConstantOfShape": [helper.make_node("ConstantOfShape", ["shape"], ["big"])],
        "Expand": [helper.make_node("Expand", ["one", "shape"], ["big"])],
        "Tile": [helper.make_node("Tile", ["one", "shape"], ["big"])],
        "Range": [
            helper.make_node("Range", ["zero", "many", "step"], ["numbers"]),
            helper.make_node("Cast", ["numbers"], ["big"], to=1),
        ],
        "Pad": [helper.make_node("Pad", ["one", "around"], ["big"])],
        "Resize": [helper.make_node("Resize", ["column", "", "times"], ["big"])],
        "Add": [helper.make_node("Add", ["row", "column"], ["big"])],
        "MatMul": [helper.make_node("MatMul", ["column", "row"], ["big"])],
    }
    for name, nodes in steps.items():
        proto = copied()
        for node in proto.graph.node:
            for place, output in enumerate(node.output):
                if output == "logits":
                    node.output[place] = "before"
            for place, taken in enumerate(node.input):
                if taken == "logits":
                    node.input[place] = "before"
        used = {taken for node in nodes for taken in node.input}
        proto.graph.initializer.extend(
            numpy_helper.from_array(array, key) for key, array in given.items() if key in used
        )
        proto.graph.node.extend(
            [
                *nodes,
                helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
                helper.make_node("Add", ["before", "sum"], ["logits"]),
            ]
        )
        yield f"gigabytes by {name}", proto


def _sealed(proto: Any) -> bytes:
    from allkit.runtime.seal import SEAL_BLANK, seal

    data = proto.SerializeToString()
    import re

    blank = f'"sha256": "{SEAL_BLANK}"'.encode()
    return seal(re.sub(rb'"sha256": "[0-9a-f]{64}"', blank, data, count=1))


def _programs(folder: Path, canary: Path) -> Iterator[tuple[str, Path]]:
    """Yield programs of torch.export and OpenVINO files."""
    import allkit

    model = allkit.Trainer(
        backbone="timm:test_resnet", weights="none", epochs=2, cache=None, view="rgb", bag="field",
        calibration_folds=0,
    ).fit(allkit.Dataset.sample(24, groups=12, seed=0))  # fmt: skip
    model.export(folder / "good.pt2", format="pt2")
    code = f"__import__('os').system('touch {canary}')"
    graph = "archive/models/model.json"

    def replaced(old: str, new: str) -> Callable[[bytes], bytes]:
        return lambda data: data.replace(old.encode(), new.encode())

    steps = {
        "code as an expression": replaced("Symbol('", f"{code} or Symbol('"),
        "code as a size": replaced("Mul(Integer(3)", f"Mul({code}"),
        "a call of the system": replaced("torch.ops.aten.abs.default", "torch.os.system"),
        "a call of anything": replaced("torch.ops.aten.abs.default", "_operator.call"),
        "a file that is read": replaced("torch.ops.aten.abs.default", "torch.ops.aten.from_file.default"),
        "code as a name": replaced('"pixels"', f'"x={code}"'),
        "outputs that import": replaced("builtins.tuple", "collections.defaultdict"),
        "a deep graph": lambda _: b"[" * DEEP + b"]" * DEEP,
        "no graph": lambda _: b"{}",
        "an empty graph": lambda _: b"",
    }  # fmt: skip
    for what, change in steps.items():
        yield f"pt2: {what}", _changed(folder / "good.pt2", graph, change)
    pickled = b"\x80\x04cposix\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    yield (
        "pt2: a pickle",
        _changed(folder / "good.pt2", "archive/data/sample_inputs/model.pt", lambda _: pickled),
    )
    yield "pt2: a member more", _changed(folder / "good.pt2", "archive/evil.py", lambda _: b"1")
    yield "pt2: no limits", _changed(folder / "good.pt2", "archive/extra/trust", lambda _: b"***")
    if "openvino" not in allkit.plugins.registry().names("exporter"):
        return
    model.export(folder / "good.openvino", format="openvino")
    xml = {
        "entities": replaced('<?xml version="1.0"?>', '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>'),
        "a loop": replaced('type="ReLU"', 'type="Loop"'),
        "an unknown operator": replaced('type="ReLU"', 'type="Evil"'),
        "no graph": lambda _: b"",
        "a deep graph": lambda _: b"<a>" * DEEP,
        "other names": replaced("probabilities", "other"),
    }  # fmt: skip
    for what, change in xml.items():
        yield f"openvino: {what}", _changed(folder / "good.openvino", "model.xml", change)
    yield "openvino: no weights", _changed(folder / "good.openvino", "model.bin", lambda _: b"")
    yield (
        "openvino: noise as limits",
        _changed(folder / "good.openvino", "trust.safetensors", lambda _: b"x" * 50),
    )
    yield "openvino: a member more", _changed(folder / "good.openvino", "../evil", lambda _: b"1")


def _changed(path: Path, member: str, change: Callable[[bytes], bytes]) -> Path:
    """Return an exported file in a zip with one member changed, sealed again."""
    import re

    from allkit.runtime.seal import SEAL_BLANK, seal

    out = path.with_name(f"changed{path.suffix}")
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        names = file.namelist()
        for name in [*names, *([] if member in names else [member])]:
            data = file.read(name) if name in names else b""
            new.writestr(name, change(data) if name == member else data)
        blank = f'"sha256": "{SEAL_BLANK}"'.encode()
        new.comment = re.sub(rb'"sha256": "[0-9a-f]{64}"', blank, file.comment)
    out.write_bytes(seal(out.read_bytes()))
    return out


def _others(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield what is given for a model by mistake."""
    pointer = (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:"
        + b"0" * 64
        + b"\nsize 14553612\n"
    )
    contents = {"a pointer of Git LFS": pointer, "a web page": b"<!DOCTYPE html><html>Sign in</html>", "nothing": b"", "zeros": bytes(5000), "a pickle": b"\x80\x02}q\x00."}  # fmt: skip
    for what, data in contents.items():
        for name in (
            "m.onnx",
            "m.pt2",
            "m.openvino",
            "m.pt",
            "m.xml",
            "m.bin",
            "m.onnx.part",
            "m.zip",
        ):
            (folder / name).write_bytes(data)
            yield f"{what} as {name}", folder / name
        model = new_model(folder, "other")
        (model / "model.safetensors").write_bytes(data)
        yield f"{what} as model.safetensors", model
    yield "the folder above", folder
    yield "a file of the folder", model / "model.json"
    with zipfile.ZipFile(folder / "model.zip", "w") as file:
        for path in sorted(model.rglob("*")):
            file.write(path, path.relative_to(folder))
    yield "a zip of the folder", folder / "model.zip"
    os.symlink("/dev/zero", folder / "zero.onnx")
    yield "a link to a device", folder / "zero.onnx"
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.onnx")
        yield "a pipe", folder / "pipe.onnx"
    with (folder / "sparse.onnx").open("wb") as stream:
        stream.truncate(2**42)
    yield "a sparse file", folder / "sparse.onnx"


# ── settings ───────────────────────────────────────────────────────────────────────────────────

SETTINGS = {
    "references to references": "a: &a [x]\n"
    + "\n".join(f"b{i}: &b{i} [*a, *a]" for i in range(9)),
    "a reference to itself": "a: &a [*a]",
    "an object of Python": "a: !!python/object/apply:os.system ['true']",
    "a name of Python": "epochs: !!python/name:os.system",
    "an unknown tag": "epochs: !evil 5",
    "a deep list": "a: " + "[" * DEEP + "]" * DEEP,
    "a deep map": "a: " + "{a: " * 5000 + "1" + "}" * 5000,
    "a huge number": "epochs: " + "9" * 100_000,
    "a huge hexadecimal number": "epochs: 0x" + "f" * 100_000,
    "NaN": "val: .nan",
    "infinity": "learning_rate: .inf",
    "a key twice": "epochs: 5\nepochs: 6",
    "a list": "- epochs",
    "a number": "5",
    "keys that are numbers": "5: 6",
    "keys that are lists": "? [a]\n: b",
    "no date": "seed: 2026-99-99",
    "a control character": "epochs: \x00",
    "bytes": "backbone: !!binary AAAA",
    "an unknown key": "epoch: 5",
    "two documents": "epochs: 5\n---\nepochs: 6",
    "a long text": "device: " + "x" * 2_000_000,
}


def _settings(folder: Path) -> Iterator[tuple[str, Path]]:
    path = folder / "settings.yaml"
    for what, text in SETTINGS.items():
        path.write_text(text)
        yield what, path
    path.write_bytes(b"\xff\xfe\xff")
    yield "bytes that are no text", path
    path.unlink()
    yield "no file", path
    path.mkdir()
    yield "a folder", path
    path.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        yield "a pipe", path
