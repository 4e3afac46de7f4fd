"""Arguments in Python: every kind of image, every number out of range, copies and pickles."""

# ruff: noqa: S301, TID251 - what is unpickled is our own

import copy
import io
import pickle

import numpy as np
import pytest
import torch

import allkit
from allkit.errors import ConfigError, ExportError, ImageError
from allkit.runtime.onnx import OnnxPredictor


@pytest.fixture
def pixels(drawn):
    return allkit.read_image(sorted(drawn.parent.rglob("*.png"))[0])


def test_a_tensor_of_torchvision_is_answered_as_its_array(tiny, pixels):
    (expected,) = tiny.predict(pixels)
    tensor = torch.from_numpy(pixels)
    for given in (tensor, tensor.permute(2, 0, 1), [tensor.permute(2, 0, 1)], tensor[None]):
        assert tiny.predict(given) == [expected]


def test_a_tensor_whose_range_is_not_known_is_refused_with_the_way_out(tiny, pixels):
    with pytest.raises(ImageError, match=r"tensor of float32.*\* 255"):
        tiny.predict(torch.from_numpy(pixels).permute(2, 0, 1) / 255)
    with pytest.raises(ImageError, match=r"transpose\(1, 2, 0\)"):
        tiny.predict(pixels.transpose(2, 0, 1))
    with pytest.raises(ImageError, match="first or the last axis"):
        tiny.predict(torch.zeros(3, 9, 3, dtype=torch.uint8))


def test_a_set_has_no_order(tiny, drawn):
    with pytest.raises(ImageError, match="is a set, which has no order"):
        tiny.predict({str(drawn)})


def test_half_a_file_is_one_answer_and_not_one_a_byte(tiny, drawn):
    content = sorted(drawn.parent.rglob("*.png"))[0].read_bytes()
    for half in (bytearray(content[:700]), memoryview(content[:700]), io.BytesIO(content[:700])):
        assert [answer.verdict for answer in tiny.predict(half)] == ["unreadable"]


@pytest.mark.parametrize("number", [0, -1, 1.5, "8", True, None, np.bool_(True), np.float32(2)])
def test_a_batch_size_that_is_none_is_named_with_its_range(tiny, pixels, number):
    with pytest.raises(ConfigError, match=r"batch size is .* whole number from 1"):
        tiny.predict(pixels, batch_size=number)


def test_a_number_of_numpy_is_a_number(tiny, tiny_onnx, pixels):
    assert tiny.predict(pixels, batch_size=np.int64(2)) == tiny.predict(pixels)
    assert len(OnnxPredictor(tiny_onnx, threads=np.uint8(1)).predict(pixels)) == 1
    with pytest.raises(ConfigError, match=r"number of threads is 0; .* from 1 to 1024"):
        OnnxPredictor(tiny_onnx, threads=0)


@pytest.mark.parametrize(
    "way", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copy_gives_the_same_answers(tiny, tiny_onnx, pixels, way):
    for predictor in (tiny, OnnxPredictor(tiny_onnx, threads=1)):
        expected = predictor.predict(pixels)
        again = way(predictor)
        assert again is not predictor
        assert again.predict(pixels) == expected
        assert way(expected) == expected
    assert way(tiny).content_hash() == tiny.content_hash()
    assert way(tiny).info == tiny.info


def test_sets_and_evaluations_are_copied_as_well(drawn, tiny):
    data = allkit.Dataset.open(drawn)
    evaluation = tiny.evaluate(data, probes=False)
    again = pickle.loads(pickle.dumps(data))
    assert [(s.image, s.label, s.group) for s in again] == [
        (s.image, s.label, s.group) for s in data
    ]
    assert again.hashes == data.hashes
    assert pickle.loads(pickle.dumps(evaluation)).to_dict() == evaluation.to_dict()
    assert copy.deepcopy(evaluation).to_dict() == evaluation.to_dict()


def test_a_copy_of_an_exported_file_that_was_changed_since_says_so(tiny_onnx, trained, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny_onnx.read_bytes())
    sent = pickle.dumps(OnnxPredictor(path))
    path.unlink()
    with pytest.raises(ExportError, match=r"m\.onnx"):
        pickle.loads(sent)


def test_an_exported_file_is_found_after_the_folder_was_changed(
    tiny_onnx, monkeypatch, tmp_path, pixels
):
    monkeypatch.chdir(tiny_onnx.parent)
    predictor = OnnxPredictor(tiny_onnx.name)
    expected = predictor.predict(pixels)
    monkeypatch.chdir(tmp_path)
    assert copy.deepcopy(predictor).predict(pixels) == expected
