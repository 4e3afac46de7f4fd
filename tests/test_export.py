"""Exported files: they answer alike, and notice damage."""

import copy
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import onnx
import pytest

import allkit
from allkit.errors import ConfigError, ExportError
from allkit.runtime.onnx import OnnxPredictor
from allkit.telemetry import import_silent
from allkit.trust.space import Space

onnxruntime = import_silent("onnxruntime")


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    assert tiny.export(path).difference < 1e-5
    return path


def images():
    rng = np.random.default_rng(0)
    sizes = [(224, 224), (300, 400), (64, 50), (224, 224), (1000, 40)]
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def test_the_file_answers_like_the_model_on_any_size_and_batch(tiny, exported):
    theirs = OnnxPredictor(exported)
    np.testing.assert_allclose(
        theirs.probabilities(images()), tiny.probabilities(images()), atol=1e-5
    )
    assert theirs.classes == tiny.classes
    ours, others = tiny.predict(images()), theirs.predict(images())
    assert [(a.label, a.verdict, a.reasons, a.reason_codes) for a in ours] == [
        (b.label, b.verdict, b.reasons, b.reason_codes) for b in others
    ]


def test_nothing_has_to_be_implemented_again_around_the_file(exported):
    """Stock ONNX Runtime, raw pixels in, probabilities out; one file, no external data."""
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (given,), taken = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type) == ("pixels", "tensor(uint8)")
    assert [output.name for output in taken] == ["probabilities", "logits", "features"]
    (answer,) = session.run(["probabilities"], {"pixels": images()[1][None]})
    assert answer.sum() == pytest.approx(1, abs=1e-5)
    assert [p.name for p in exported.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load(exported))


def test_one_flipped_bit_is_noticed_before_the_file_is_parsed(exported, tmp_path):
    original = exported.read_bytes()
    rng = np.random.default_rng(1)
    for position in rng.integers(len(original), size=40):
        data = bytearray(original)
        data[position] ^= 1 << int(rng.integers(8))
        (tmp_path / "m.onnx").write_bytes(data)
        with pytest.raises(ExportError):
            OnnxPredictor(tmp_path / "m.onnx")


def test_files_that_allkit_did_not_write_are_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ExportError, match="not written by allkit"):
        OnnxPredictor(tmp_path / "text.onnx")
    with pytest.raises(ExportError, match="does not exist"):
        OnnxPredictor(tmp_path / "none.onnx")


def test_a_file_of_a_newer_allkit_is_refused(exported, tmp_path):
    from allkit.runtime.seal import SEAL_BLANK, seal

    model = onnx.load(exported)
    for entry in model.metadata_props:
        if entry.key == "allkit":
            import json

            info = json.loads(entry.value) | {"format": 99, "sha256": SEAL_BLANK}
            entry.value = json.dumps(info)
    (tmp_path / "new.onnx").write_bytes(seal(model.SerializeToString()))
    with pytest.raises(ExportError, match="format 99; this allkit reads up to 3"):
        OnnxPredictor(tmp_path / "new.onnx")


@pytest.mark.slow
def test_an_export_that_disagrees_is_not_kept(tiny, tmp_path, monkeypatch):
    from allkit.builtin import exporters

    class Liar(OnnxPredictor):
        def outputs(self, pictures):
            found = super().outputs(pictures)
            return found._replace(logits=np.roll(found.logits, 1, axis=1))

    monkeypatch.setattr(exporters, "OnnxPredictor", Liar)
    with pytest.raises(ExportError, match="get another class"):
        tiny.export(tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_wrong_suffix_existing_file_and_unknown_format_are_told(tiny, exported, tmp_path):
    with pytest.raises(ExportError, match=r"ends in \.onnx"):
        tiny.export(tmp_path / "m.bin")
    with pytest.raises(ConfigError, match="exists already"):
        tiny.export(exported)
    with pytest.raises(allkit.AllkitError, match="Did you mean 'onnx'"):
        tiny.export(tmp_path / "m.onnx", format="onxx")


def test_threads_sharing_one_file_get_the_answers_of_one_alone(exported):
    model = OnnxPredictor(exported)
    alone = [model.probabilities([image]) for image in images()]
    together = [None] * 5

    def run(i):
        together[i] = model.probabilities([images()[i]])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(5)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_command_line_predicts_from_the_file(exported, drawn, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "allkit", "predict", str(exported), str(drawn.parent / "images")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 48


@pytest.mark.slow
@pytest.mark.parametrize("density_slope", [0.0, 0.5])
def test_unusual_images_are_answered_less_surely_in_the_file_too(tiny, tmp_path, density_slope):
    """The rise of the temperature is inside the graph, not in the code around it."""
    model = copy.copy(tiny)
    outputs = model.outputs(images())
    space = Space(
        mean=np.zeros(outputs.features.shape[1], np.float32),
        projection=np.eye(outputs.features.shape[1], 4, dtype=np.float32),
        references=np.arange(48, dtype=np.float32).reshape(12, 4) / 48,
        owners=np.arange(12) % 3,  # the last class has no references
        centre=-2.0, scale=0.5, foreign=np.inf,
    )  # fmt: skip
    model.trust = replace(
        tiny.trust,
        temperature=1.5,
        density_slope=density_slope,
        content=space,
        thresholds=np.ones(4),
    )
    model.export(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for image, wanted in zip(images(), model.probabilities(images()), strict=True):
        (answer,) = session.run(["probabilities"], {"pixels": image[None]})
        np.testing.assert_allclose(answer[0], wanted, atol=1e-4)
    if density_slope:
        assert (
            model.trust.probabilities_at(outputs.logits, np.zeros(5)).max(1) > wanted.max()
        ).any()


def test_what_rounding_does_to_all_images_is_taken_back_where_that_helps():
    from allkit.exporting.quantise import _lines

    rng = np.random.default_rng(0)
    wanted = rng.uniform(1, 3, (64, 3))
    found = np.stack(
        [
            0.8 * wanted[:, 0] + 0.4,  # shifted alike
            wanted[:, 1] + rng.normal(0, 0.01, 64),  # noise only
            np.zeros(64),  # dead
        ],
        axis=1,
    )
    wanted[:, 2] = 0.0
    slope, shift = _lines(wanted, found)
    assert slope[0] == pytest.approx(1.25)
    assert shift[0] == pytest.approx(-0.5)
    assert slope[1] == pytest.approx(1.0, abs=0.05)
    assert (slope[2], shift[2]) == (1.0, 0.0)
