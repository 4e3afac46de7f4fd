"""DICOM through the door for readers; what is read and refused in full: tests/test_clinic_dicom.py."""

import numpy as np
import pytest

pytest.importorskip("pydicom")

from allkit import Dataset, read_image
from allkit.images.decode import read_raster
from allkit.testing import conformance
from allkit.testing.readers import using_files
from test_clinic_dicom import (
    IDENTITY,
    JPEG,
    dataset,
    file_of,
    jpeg_of,
    smear,
    with_identity,
    with_jpeg,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    made = {
        "plain.dcm": with_identity(),
        "jpeg.DICOM": with_jpeg(
            jpeg_of(smear()), PhotometricInterpretation="YBR_FULL_422", **IDENTITY
        ),
    }
    for name, one in made.items():
        (folder / name).write_bytes(file_of(one))
    return sorted(folder.iterdir())


@conformance("allkit-dicom")
def test_conformance(check, files):
    with using_files(files, identity=[*IDENTITY.values(), "P-4711"]):
        check()


def test_a_folder_of_dicom_is_a_set_of_images(files, tmp_path):
    for number, label in enumerate(("all", "hem")):
        (tmp_path / label).mkdir()
        (tmp_path / label / f"{number}.dcm").write_bytes(file_of(dataset()))
    data = Dataset.open(tmp_path)
    assert [sample.label for sample in data] == ["all", "hem"]
    assert (data.read(0) == smear()).all()


def test_a_file_says_its_scale_and_what_was_dropped_and_not_whose_it_is(files):
    raster = read_raster(files[1])
    assert raster.micrometres_per_pixel == pytest.approx(0.1)
    assert "PatientName" in raster.left_out
    assert dict(raster.metadata) == {}
    assert "Jane" not in repr(raster)


def test_the_name_decides_only_for_a_file_without_a_preamble(tmp_path):
    data = file_of(dataset())
    (tmp_path / "a.png").write_bytes(data)
    (tmp_path / "bare.dcm").write_bytes(data[132:])
    for name in ("a.png", "bare.dcm"):
        assert np.array_equal(read_image(tmp_path / name), smear())


def test_the_syntax_of_the_second_file_is_jpeg(files):
    # So that both ways of the reader, values and JPEG, are among the files that are checked.
    assert JPEG.encode() in files[0].read_bytes()[:1024]
