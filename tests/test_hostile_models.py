"""Model folders, exported files and settings made to harm are refused with one error each."""

import shutil

import pytest

import allkit
from allkit.errors import CheckpointError
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
