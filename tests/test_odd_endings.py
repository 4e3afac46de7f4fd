"""A command line, a stream, a home or an image that is not what it should be: one sentence, nothing lost."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import allkit
from allkit.cli import _called
from allkit.files import cache_folder, write_whole
from allkit.images.decode import decoded
from allkit.images.given import given, is_one

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 14\n"
RUN = "from allkit.cli import main; main()"


@pytest.mark.parametrize(
    "words",
    ["predict --out", "check --json", "train --set", "clinic add --as", "plugins new --out"],
)
def test_an_option_without_its_value_is_a_mistake_that_names_the_command(cli, words):
    *path, option = words.split()
    status, out, err = cli(*path, option)
    assert (status, out) == (2, "")
    called = " ".join(path)
    assert err == f"Error: Option '{option}' requires an argument. See: allkit {called} --help\n"


def test_the_command_is_named_up_to_its_own_words():
    assert _called(["clinic", "nope", "x"]) == "allkit clinic"
    assert _called(["--out"]) == "allkit"


def run(words, closed, cwd):
    """Run `allkit` with a stream closed, as a service may start it; return the process."""
    command = f'exec "$0" -c "{RUN}" "$@" {closed}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def picture(tmp_path):
    """An image of noise."""
    path = tmp_path / "field.png"
    values = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(values).save(path)
    return path


def test_rows_are_written_without_standard_error_and_missed_without_standard_output(
    tiny_onnx, picture, tmp_path
):
    quiet = run(("predict", tiny_onnx, picture), "2>&-", tmp_path)
    assert (quiet.returncode, quiet.stdout.count("field.png")) == (0, 1)
    lost = run(("predict", tiny_onnx, picture), ">&-", tmp_path)
    assert lost.returncode == 2
    assert "standard output is closed" in lost.stderr
    assert "Traceback" not in lost.stderr


def test_a_working_folder_that_was_removed_is_said(tmp_path):
    code = (
        "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); "
        "from allkit.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "plugins", "list"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: The working folder was removed")


def test_a_name_that_is_no_unicode_is_told_as_rows_have_it(capsys):
    from allkit.cli.progress import say

    say("Saved d\udcfc/o.csv.")
    assert capsys.readouterr().err == "Saved d\\xfc/o.csv.\n"


@pytest.mark.parametrize("value", ["/etc/passwd", "/proc"])
@pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")
def test_without_a_place_for_a_cache_one_is_kept_as_long_as_the_process_runs(monkeypatch, value):
    monkeypatch.delenv("ALLKIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    folder = cache_folder()
    assert folder.is_dir()
    assert "allkit-" in folder.name


@pytest.mark.parametrize("place", ["folder", "", "-", "/dev/null"])
@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_report_goes_into_a_file_only(cli, tmp_path, place, option):
    (tmp_path / "folder").mkdir()
    status, out, err = cli("check", ".", option, place)
    assert (status, out) == (2, "")
    assert "Name a file to write." in err


def test_a_device_and_a_folder_are_never_replaced(tmp_path):
    for place in (tmp_path, tmp_path / "pipe"):
        if place.name == "pipe":
            os.mkfifo(place)
        with pytest.raises(allkit.errors.ConfigError, match="Name a file"):
            write_whole(place, "x")


def test_an_array_that_holds_a_path_is_that_path(picture):
    for array in (np.array(str(picture)), np.array(picture, dtype=object)):
        assert is_one(array)
        (one,) = given(array)
        assert one.name == str(picture)
        assert one.read().shape == (64, 64, 3)
    with pytest.raises(allkit.errors.ImageError, match="float64"):
        next(given(np.array(1.0)))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("shape", [(64, 64, 3), (2, 64, 64, 3)])
@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor.to("meta"),
        lambda tensor: tensor.to_sparse(),
        lambda tensor: (
            torch.nested.as_nested_tensor([tensor, tensor[:32]])
            if tensor.ndim == 3
            else torch.nested.as_nested_tensor([tensor[0], tensor[0, :32]])
        ),
    ],
    ids=["meta", "sparse", "nested"],
)
def test_a_tensor_without_an_array_is_named_as_such(shape, change):
    tensor = change(torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(allkit.errors.ImageError, match="is a tensor") as caught:
        raise next(given(tensor)).mistake
    assert caught.value.code == "array"


@pytest.mark.parametrize(
    ("content", "said"), [(POINTER, "git lfs pull"), (b"<!DOCTYPE html><html>", "web page")]
)
def test_what_was_saved_in_place_of_an_image_is_named(content, said):
    with pytest.raises(allkit.errors.ImageError, match=said) as caught:
        decoded(content, name="field.png")
    assert caught.value.code == "not_an_image"


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_without_a_profile_are_said(kind):
    stream = io.BytesIO()
    Image.new("CMYK", (64, 64)).save(stream, kind)
    assert "CMYK" in decoded(stream.getvalue()).profile
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, kind)
    assert decoded(stream.getvalue()).profile == ""
