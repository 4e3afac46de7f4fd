"""DICOM through the door for readers; what is read and refused in full: tests/test_clinic_dicom.py."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest

pytest.importorskip("pydicom")

from pydicom.encaps import encapsulate
from pydicom.uid import UID

from allkit import Dataset, ImageError, read_image
from allkit.images.decode import read_raster
from allkit.images.readers import raster_of
from allkit.testing import conformance
from allkit.testing.readers import using_files
from test_clinic_dicom import (
    IDENTITY,
    JPEG,
    RLE,
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


# ── files that are small and become large ────────────────────────────────────────────────────


def element(group, number, kind, value):
    value += bytes(len(value) % 2)
    long = kind in (b"OB", b"UN")
    length = struct.pack("<HI", 0, len(value)) if long else struct.pack("<H", len(value))
    return struct.pack("<HH2s", group, number, kind) + length + value


def begun(syntax, filling=b"", kind=b"UI"):
    """Return the beginning of a DICOM up to where its attributes begin."""
    first = element(2, 1, b"OB", b"\0\1" + filling)
    meta = first + element(2, 0x10, kind, syntax)
    return bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta


def refused(data):
    """Return why a file is refused; it takes no more memory than a few times its size."""
    tracemalloc.start()
    try:
        with pytest.raises(ImageError) as caught:
            raster_of(data, "a.dcm")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6
    return str(caught.value)


def test_a_deflated_file_is_refused_wherever_it_says_so():
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed = packer.compress(element(0x7FE1, 0x1001, b"OB", bytes(200_000_000))) + packer.flush()
    assert len(packed) < 1e6
    for kind in (b"UI", b"UN"):
        for filling in (0, 6000):
            data = begun(b"1.2.840.10008.1.2.1.99", bytes(filling), kind) + packed
            assert "deflated" in refused(data)


def test_a_file_of_millions_of_attributes_is_refused():
    attributes = b"".join(
        struct.pack("<HH2sH", 0x0009 + 2 * (n >> 16), n & 0xFFFF, b"LO", 0) for n in range(310_000)
    )
    with pytest.raises(ImageError, match="more attributes than a photograph"):
        raster_of(begun(b"1.2.840.10008.1.2.1") + attributes, "a.dcm")


@pytest.mark.parametrize(("side", "pairs"), [(50, 2_000_000), (1900, 3_500_000)])
def test_runs_that_become_more_than_the_pixels_are_refused(side, pairs):
    part = b"\x81\x00" * pairs  # two bytes that stand for 128
    head = struct.pack("<16L", 3, 64, 64 + len(part), 64 + len(part), *[0] * 12)
    made = dataset(Rows=side, Columns=side)
    made.file_meta.TransferSyntaxUID = UID(RLE)
    made.PixelData = encapsulate([head + 2 * part])
    made["PixelData"].is_undefined_length = True
    assert "more than its pixels" in refused(file_of(made))
