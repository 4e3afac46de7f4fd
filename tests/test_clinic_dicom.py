"""DICOM that comes in: the right pixels or a named refusal, and nothing that says whose it is."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from allkit.clinic.intake.incoming import take_dicom as read_dicom
from allkit.errors import ImageError
from allkit.images.decode import read_image

pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402 - pydicom may be missing
from pydicom.encaps import encapsulate  # noqa: E402 - pydicom may be missing
from pydicom.uid import UID  # noqa: E402 - pydicom may be missing

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
JPEG, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"
MICROSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1.2"
IDENTITY = {
    "PatientName": "Doe^Jane", "PatientID": "P-4711", "PatientBirthDate": "19700131",
    "InstitutionName": "St. Elsewhere", "ReferringPhysicianName": "House^Greg",
    "StudyDescription": "of Jane Doe", "DeviceSerialNumber": "SN-99", "OperatorsName": "Roe^Rick",
    "ImageComments": "Jane again", "StudyDate": "20260131",
}  # fmt: skip


def smear(height=40, width=50):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 5 % 256, y * 6 % 256, (x + y) * 2 % 256], axis=-1).astype(np.uint8)


def dataset(pixels=None, syntax=EXPLICIT, kind=MICROSCOPIC, **changed):
    pixels = smear() if pixels is None else pixels
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.SOPClassUID, made.SOPInstanceUID = kind, "2.25.1"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, 0
    data = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == BIG else "<")).tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OW" if pixels.itemsize > 1 or syntax == IMPLICIT else "OB"
    with warnings.catch_warnings():  # pydicom warns of the wrong values that tests use on purpose
        warnings.simplefilter("ignore")
        for keyword, value in changed.items():
            if value is None:
                delattr(made, keyword)
            else:
                setattr(made, keyword, value)
    if changed.get("BitsStored"):
        made.HighBit = made.BitsStored - 1
    return made


def file_of(made):
    stream = io.BytesIO()
    syntax = made.file_meta.TransferSyntaxUID
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(
            stream, made, enforce_file_format=True, implicit_vr=syntax == IMPLICIT,
            little_endian=syntax != BIG,
        )  # fmt: skip
    return stream.getvalue()


def jpeg_of(pixels, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def with_jpeg(jpeg, **changed):
    made = dataset(syntax=JPEG, **changed)
    made.PixelData = encapsulate([jpeg])
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    return made


def read(made):
    return read_image(read_dicom(file_of(made), "a.dcm").data)


def refusal(made):
    data = made if isinstance(made, bytes) else file_of(made)
    with pytest.raises(ImageError) as caught:
        read_dicom(data, "a.dcm")
    assert str(caught.value).startswith("a.dcm ")
    assert caught.value.__cause__ is None
    return caught.value


# ── pixels ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("kind", ["77.1.2", "77.1.3", "77.1.4", "7", "7.4"])
def test_the_pixels_of_a_photograph_come_out_bit_by_bit(syntax, kind):
    made = dataset(syntax=syntax, kind=f"1.2.840.10008.5.1.4.1.1.{kind}")
    taken = read_dicom(file_of(made), "a.dcm")
    assert (read_image(taken.data) == smear()).all()
    assert (taken.width, taken.height, taken.media) == (50, 40, "image/png")


def test_colours_in_planes_are_read():
    made = dataset(PlanarConfiguration=1)
    made.PixelData = smear().transpose(2, 0, 1).tobytes()
    assert (read(made) == smear()).all()


def test_run_length_coding_is_read():
    made = dataset()
    made.compress(RLE)
    assert (read(made) == smear()).all()


def test_black_is_black_in_both_kinds_of_grey():
    grey = smear()[..., 0]
    assert (read(dataset(grey))[..., 1] == grey).all()
    made = dataset(255 - grey, PhotometricInterpretation="MONOCHROME1")
    assert (read(made)[..., 2] == grey).all()


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_samples_of_more_than_8_bits_are_scaled_by_the_range_that_the_file_states(bits):
    eight = smear()
    deep = np.rint(eight.astype(float) * (2**bits - 1) / 255).astype(np.uint16)
    assert (read(dataset(deep, BitsStored=bits)) == eight).all()


def test_12_bits_that_call_themselves_16_are_refused():
    assert refusal(dataset(smear().astype(np.uint16) * 16)).code == "low_bit_depth"


def test_more_bits_than_stated_are_refused():
    deep = smear().astype(np.uint16) * 256
    assert refusal(dataset(deep, BitsStored=12)).code == "mode"


@pytest.mark.parametrize("high", [False, True])
def test_a_palette_gives_its_colours(high):
    index = (np.arange(40 * 50) % 256).astype(np.uint8).reshape(40, 50)
    made = dataset(index, PhotometricInterpretation="PALETTE COLOR")
    table = np.arange(256, dtype=np.uint16)[::-1]
    for colour, factor in (("Red", 1), ("Green", 0), ("Blue", 1)):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        values = table * factor * 256 + (table * factor if high else 0)
        setattr(made, f"{colour}PaletteColorLookupTableData", values.astype("<u2").tobytes())
    pixels = read(made)
    assert (pixels[..., 0] == 255 - index).all()
    assert (pixels[..., 1] == 0).all()


def test_a_palette_in_segments_is_refused():
    made = dataset(smear()[..., 0], PhotometricInterpretation="PALETTE COLOR")
    made.SegmentedRedPaletteColorLookupTableData = b"\0\0"
    assert refusal(made).code == "mode"


def test_luminance_and_chrominance_become_red_green_and_blue():
    image = Image.fromarray(smear()).convert("YCbCr")
    pixels = read(dataset(np.array(image), PhotometricInterpretation="YBR_FULL"))
    assert np.abs(pixels.astype(int) - np.array(image.convert("RGB"))).max() <= 1


@pytest.mark.parametrize("stated", ["YBR_FULL_422", "RGB"])
def test_a_jpeg_inside_is_decoded_like_the_jpeg_alone(stated):
    # Files that state RGB around a JPEG that says YCbCr are common: the JPEG knows better.
    jpeg = jpeg_of(smear())
    pixels = read(with_jpeg(jpeg, PhotometricInterpretation=stated))
    assert (pixels == read_image(jpeg)).all()


def test_a_jpeg_of_red_green_and_blue_without_a_mark_is_not_taken_for_ycbcr():
    jpeg = jpeg_of(smear(), keep_rgb=True)
    marked = read_image(jpeg)
    start = jpeg.index(b"\xff\xee") if b"\xff\xee" in jpeg else None
    bare = jpeg[:start] + jpeg[start + 16 :] if start else jpeg
    frame = bare.index(b"\xff\xc0") + 10
    bare = bytearray(bare)
    bare[frame : frame + 9 : 3] = b"\1\2\3"  # the numbers of the components say nothing either
    scan = bare.index(b"\xff\xda") + 5
    bare[scan : scan + 6 : 2] = b"\1\2\3"
    assert (read(with_jpeg(bytes(bare))) == marked).all()


def test_an_orientation_in_the_jpeg_inside_does_not_count():
    exif = Image.Exif()
    exif[274] = 6
    jpeg = jpeg_of(smear(), exif=exif)
    assert read(with_jpeg(jpeg, PhotometricInterpretation="YBR_FULL_422")).shape == (40, 50, 3)


def test_a_jpeg_of_another_size_or_colours_than_stated_is_refused():
    other = jpeg_of(smear(60, 60))
    assert refusal(with_jpeg(other)).code == "corrupt"
    assert refusal(with_jpeg(jpeg_of(smear()[..., 0]))).code == "mode"
    assert refusal(with_jpeg(b"no JPEG at all.")).code == "corrupt"


def test_a_cut_jpeg_is_refused():
    assert refusal(with_jpeg(jpeg_of(smear())[:-200])).code == "truncated"


# ── refused, by name and with what to do ──────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"kind": "1.2.840.10008.5.1.4.1.1.77.1.6"}, "not_an_image", "whole slide"),
        ({"kind": "1.2.840.10008.5.1.4.1.1.2"}, "not_an_image", "CT Image Storage"),
        ({"kind": "1.2.3.4"}, "not_an_image", "Export"),
        ({"PixelData": None}, "not_an_image", "without pixels"),
        ({"NumberOfFrames": 2}, "animated", "several frames"),
        ({"BurnedInAnnotation": "YES"}, "identity", "without it"),
        ({"RecognizableVisualFeatures": "YES"}, "identity", "without it"),
        ({"PixelRepresentation": 1}, "mode", "8-bit RGB"),
        ({"BitsStored": 7}, "mode", "8-bit RGB"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "mode", "8-bit RGB"),
        ({"PhotometricInterpretation": "YBR_RCT"}, "mode", "8-bit RGB"),
        ({"PhotometricInterpretation": "MONOCHROME2"}, "mode", "8-bit RGB"),
        ({"Rows": 41}, "truncated", "again"),
        ({"Rows": 0}, "too_small", "original"),
        ({"Rows": 60000, "Columns": 60000}, "too_large", "limit"),
    ],
)
def test_what_is_not_read_is_refused(changed, code, words):
    error = refusal(dataset(**changed))
    assert error.code == code
    assert words in str(error)


def test_grey_that_needs_a_window_is_refused():
    grey = smear()[..., 0]
    assert refusal(dataset(grey, WindowCenter=100, WindowWidth=50)).code == "mode"
    assert refusal(dataset(grey, RescaleSlope=2, RescaleIntercept=0)).code == "mode"


@pytest.mark.parametrize("syntax", ["4.57", "4.70", "4.80", "4.90", "4.91"])
def test_other_compressions_are_refused(syntax):
    made = with_jpeg(jpeg_of(smear()))
    made.file_meta.TransferSyntaxUID = UID(f"1.2.840.10008.1.2.{syntax}")
    assert "JPEG Baseline" in str(refusal(made))


def test_a_deflated_file_is_refused_before_it_is_inflated():
    made = dataset()
    made.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1.99")
    assert "uncompressed" in str(refusal(made))


def test_a_file_without_a_preamble_is_read():
    data = file_of(dataset())
    whole = read_image(read_dicom(data, "a.dcm").data)
    assert (read_image(read_dicom(data[132:], "a.dcm").data) == whole).all()
    made = dataset(syntax=IMPLICIT)
    bare = io.BytesIO()
    pydicom.dcmwrite(bare, Dataset(made), implicit_vr=True, little_endian=True)
    assert (read_image(read_dicom(bare.getvalue(), "a.dcm").data) == whole).all()


def test_a_file_cut_anywhere_is_refused():
    data = file_of(dataset(**IDENTITY))
    for length in [*range(132, len(data) - 6000, 37), *range(len(data) - 6000, len(data), 501)]:
        refusal(data[:length])


def test_flipped_bytes_give_an_image_or_a_refusal_and_nothing_else():
    data = file_of(dataset(**IDENTITY))
    rng = np.random.default_rng(0)
    header, refusals = len(data) - 6000, []
    for _ in range(300):
        broken = bytearray(data)
        for place in rng.integers(132, header, 3):
            broken[place] = rng.integers(256)
        try:
            read_dicom(bytes(broken), "a.dcm")
        except ImageError as error:
            refusals.append(str(error))
    assert 0 < len(refusals) < 300
    assert "Jane" not in " ".join(refusals)


# ── identity ──────────────────────────────────────────────────────────────────────────────────


def with_identity():
    made = dataset(**IDENTITY, AccessionNumber="A-1", PixelSpacing=[0.0001, 0.0001])
    inner = Dataset()
    inner.PatientID = "P-4711"
    made.OtherPatientIDsSequence = [inner]
    made.private_block(0x0011, "JANE DOE", create=True).add_new(1, "LO", "Jane Doe")
    return made


def test_identity_is_dropped_and_listed_by_keyword_only():
    data = file_of(with_identity())
    data = b"II*\0Jane Doe".ljust(128, b"\0") + data[128:]
    taken = read_dicom(data, "a.dcm")
    expected = {*IDENTITY, "OtherPatientIDsSequence", "SOPInstanceUID"}
    assert set(taken.stripped) == expected | {"preamble", "private attributes"}
    everything = taken.data + repr(taken).encode()
    for value in [*IDENTITY.values(), "Jane", "P-4711", "JANE"]:
        assert value.encode() not in everything
    assert taken.accession == "A-1"
    assert taken.micrometres_per_pixel == pytest.approx(0.1)


def test_attributes_without_a_value_are_not_listed():
    taken = read_dicom(file_of(dataset(PatientName="", PatientID="")), "a.dcm")
    assert taken.stripped == ("SOPInstanceUID",)


@pytest.mark.parametrize("number", ["x" * 65, "A\x1b1"])
def test_an_accession_number_that_is_none_is_dropped_and_listed(number):
    taken = read_dicom(file_of(dataset(AccessionNumber=number)), "a.dcm")
    assert taken.accession == ""
    assert "AccessionNumber" in taken.stripped


@pytest.mark.parametrize("spacing", [[0.0001, 0.0002], [0, 0], [5, 5], [-0.1, -0.1]])
def test_a_spacing_that_cannot_be_is_not_believed(spacing):
    assert read_dicom(file_of(dataset(PixelSpacing=spacing)), "a.dcm").micrometres_per_pixel is None


def test_neither_warnings_nor_the_log_let_a_value_out():
    import logging

    made = with_identity()
    made.PixelSpacing = None
    data = file_of(made).replace(b"19700131", b"Jane Doe").replace(b"20260131", b"Jane Doe")
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("pydicom").addHandler(handler)
    try:
        taken = read_dicom(data, "a.dcm")  # a warning would be an error
    finally:
        logging.getLogger("pydicom").removeHandler(handler)
    assert taken.micrometres_per_pixel is None
    assert records == []
    assert not logging.getLogger("pydicom").disabled


def test_several_threads_read_at_once_and_leave_the_filters_of_warnings_as_they_were():
    data, before = file_of(with_identity()), list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: read_dicom(data, f"{n}.dcm").sha256, range(16)))
    assert len(set(found)) == 1
    assert warnings.filters == before
