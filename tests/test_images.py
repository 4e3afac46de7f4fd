"""The reader's policy, one sentence per row."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from allkit.errors import ConfigError, ImageError
from allkit.images.decode import ImageInfo, read_image, read_info

H, W = 40, 56


def colours(height=H, width=W, channels=3):
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def saved(image, kind, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width, height, depth, colour, rows, *chunks):
    """A PNG written by hand; `rows` are bytes without filter."""
    body = b"".join(b"\0" + row for row in rows)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts
    )


def tiff(pixels, photometric, *, order="<", extra=(), bits=None, sample_format=1, following=0):
    """An uncompressed TIFF of one strip, its directory last, written by hand."""
    height, width, channels = pixels.shape
    bits = bits or pixels.dtype.itemsize * 8
    strip = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    strip += bytes(len(strip) % 2)
    arrays = b"" if channels == 1 else struct.pack(f"{order}{channels}H", *[bits] * channels)
    values = {
        256: (4, 1, width), 257: (4, 1, height),
        258: (3, channels, 8 + len(strip) if channels > 2 else bits),
        259: (3, 1, 1), 262: (3, 1, photometric), 273: (4, 1, 8), 277: (3, 1, channels),
        278: (4, 1, height), 279: (4, 1, len(strip)), 339: (3, 1, sample_format),
    }  # fmt: skip
    if extra:
        values[338] = (3, 1, extra[0])
    table = struct.pack(order + "H", len(values))
    for tag, (kind, count, value) in sorted(values.items()):
        form = "HHIHH" if kind == 3 and count == 1 else "HHII"
        rest = (value, 0) if form == "HHIHH" else (value,)
        table += struct.pack(order + form, tag, kind, count, *rest)
    table += struct.pack(order + "I", following)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(
        order + "I", 8 + len(strip) + len(arrays)
    )
    return head + strip + arrays + table


def refusal(source, **options):
    with pytest.raises(ImageError) as caught:
        read_image(source, **options)
    message = str(caught.value)
    assert message.endswith(".")
    assert "Error(" not in message
    return caught.value.code


def wide16(channels):
    """Every 16-bit pattern matters: `(H, W, C)` uint16."""
    rng = np.random.default_rng(3)
    return rng.integers(0, 65536, (H, W, channels)).astype(np.uint16)


def divided(pixels):
    return np.round(pixels / 257).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_a_lossless_format_gives_its_exact_pixels(tmp_path, kind):
    path = tmp_path / "image.any"
    path.write_bytes(saved(colours(), kind))
    for source in (path, str(path), path.read_bytes()):
        pixels = read_image(source)
        assert np.array_equal(pixels, colours())
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_gives_what_pillow_decodes(options):
    data = saved(colours(), "JPEG", **options)
    assert np.array_equal(read_image(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_compressed_tiff_is_read(compression):
    data = saved(colours(), "TIFF", compression=compression)
    assert np.array_equal(read_image(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_with_metadata_is_read(big):
    data = saved(colours(), "TIFF", big_tiff=big, description="a smear", dpi=(300, 300))
    assert np.array_equal(read_image(data), colours())


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("1", "PNG"), ("L", "PNG"), ("P", "PNG"), ("1", "BMP"), ("L", "BMP"), ("P", "BMP"),
        ("1", "TIFF"), ("L", "TIFF"), ("P", "TIFF"), ("CMYK", "TIFF"), ("YCbCr", "TIFF"),
        ("L", "JPEG"), ("CMYK", "JPEG"), ("YCbCr", "JPEG"),
    ],
)  # fmt: skip
def test_every_plain_mode_becomes_rgb(mode, kind):
    data = saved(Image.fromarray(colours()).convert(mode), kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(read_image(data), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_dropped_when_opaque_and_refused_when_translucent(mode, kind):
    image = Image.fromarray(colours()).convert(mode)
    assert np.array_equal(read_image(saved(image, kind)), np.asarray(image.convert("RGB")))
    alpha = Image.new("L", image.size, 255)
    alpha.putpixel((3, 3), 254)
    image.putalpha(alpha)
    assert refusal(saved(image, kind)) == "translucent"


def test_a_transparent_palette_entry_matters_only_if_a_pixel_uses_it():
    image = Image.new("P", (W, H), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    unused = read_image(saved(image, "PNG", transparency=0))
    assert (unused == (40, 50, 60)).all()
    assert refusal(saved(image, "PNG", transparency=1)) == "translucent"
    assert refusal(saved(image, "PNG", transparency=b"\xff\x80")) == "translucent"


@pytest.mark.parametrize(("depth", "values"), [(1, 2), (2, 4), (4, 16), (8, 256)])
def test_a_transparent_grey_is_compared_in_the_files_own_bits(depth, values):
    row = bytes([0] * (W * depth // 8))
    for key in range(values):
        data = png(W, H, depth, 0, [row] * H, (b"tRNS", struct.pack(">H", key)))
        if key:
            assert not read_image(data).any()
        else:
            assert refusal(data) == "translucent"


def test_a_transparent_colour_matters_only_if_a_pixel_has_it():
    row = bytes([1, 2, 3]) * W
    used, unused = ((b"tRNS", struct.pack(">HHH", 1, 2, blue)) for blue in (3, 4))
    assert (read_image(png(W, H, 8, 2, [row] * H, unused)) == (1, 2, 3)).all()
    assert refusal(png(W, H, 8, 2, [row] * H, used)) == "translucent"
    wide = struct.pack(">HHH", 60000, 2, 3) * W
    used, unused = ((b"tRNS", struct.pack(">HHH", 60000, 2, blue)) for blue in (3, 4))
    assert (read_image(png(W, H, 16, 2, [wide] * H, unused)) == (233, 0, 0)).all()
    assert refusal(png(W, H, 16, 2, [wide] * H, used)) == "translucent"


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_ramp_of_256_levels_in_16_bits_keeps_256_levels(kind):
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (H, 1))
    pixels = read_image(saved(Image.fromarray(ramp), kind))
    assert np.array_equal(pixels, np.repeat((ramp // 257)[..., None], 3, 2))


@pytest.mark.parametrize(("channels", "colour"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_16_bit_png_is_divided_by_257_and_rounded(channels, colour):
    wide = wide16(channels)
    if channels in (2, 4):
        wide[..., -1] = 65535
    rows = [row.astype(">u2").tobytes() for row in wide]
    shown = divided(wide[..., : channels - (channels in (2, 4))])
    pixels = read_image(png(W, H, 16, colour, rows))
    assert np.array_equal(pixels, np.broadcast_to(shown, (H, W, 3)))
    if channels in (2, 4):
        wide[5, 5, -1] = 65534  # the high byte alone would look opaque
        rows = [row.astype(">u2").tobytes() for row in wide]
        assert refusal(png(W, H, 16, colour, rows)) == "translucent"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("channels", "photometric", "extra"),
    [(1, 1, ()), (1, 0, ()), (3, 2, ()), (4, 2, (0,)), (4, 2, (1,)), (4, 2, (2,))],
)
def test_16_bit_tiff_is_divided_by_257_and_rounded(order, channels, photometric, extra):
    wide = wide16(channels)
    wide[..., 3:] = 65535
    pixels = read_image(tiff(wide, photometric, order=order, extra=extra))
    shown = divided(wide[..., :3] if photometric else 65535 - wide)
    assert np.array_equal(pixels, np.broadcast_to(shown, (H, W, 3)))


def test_compressed_16_bit_rgb_tiff_is_divided_by_257(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    wide = wide16(3)
    for order in "<>":
        path = tmp_path / "deflate.tif"
        tifffile.imwrite(path, wide, byteorder=order, compression="deflate", photometric="rgb")
        assert np.array_equal(read_image(path), divided(wide))
        tifffile.imwrite(path, wide.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
        assert refusal(path) == "mode"


def test_12_bits_in_16_are_refused_and_the_brightest_value_is_told():
    dim = wide16(3) >> 4
    assert refusal(tiff(dim, 2)) == "low_bit_depth"
    assert refusal(tiff(dim[..., :1], 1)) == "low_bit_depth"
    assert refusal(saved(Image.fromarray(dim[..., 0]), "PNG")) == "low_bit_depth"
    assert (
        refusal(png(W, H, 16, 2, [row.astype(">u2").tobytes() for row in dim])) == "low_bit_depth"
    )
    with pytest.raises(ImageError, match=f"brightest is {dim.max()}: 12 bits in 16"):
        read_image(tiff(dim, 2))


def test_float_signed_and_32_bit_pixels_are_refused():
    grey = colours()[..., 0]
    assert refusal(saved(Image.fromarray(grey / np.float32(255)), "TIFF")) == "float"
    assert refusal(tiff((grey / 255)[..., None], 1, sample_format=3)) == "float"
    assert refusal(tiff(colours(channels=1), 1, sample_format=2)) == "mode"
    half = (wide16(1) >> 1).astype(np.int16)  # as unsigned it would come out half as bright
    assert refusal(tiff(half, 1, sample_format=2)) == "mode"
    huge = Image.fromarray(grey.astype(np.int32) * 70000)
    assert refusal(saved(huge, "TIFF")) == "mode"
    assert refusal(saved(Image.fromarray(colours()).convert("LAB"), "TIFF")) == "mode"


def test_a_tiff_palette_of_8_bit_colours_is_refused_and_not_read_as_black(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "palette.tif"
    ramp = np.tile(np.arange(256, dtype=np.uint16), (3, 1))
    index = colours()[..., 0]
    tifffile.imwrite(path, index, photometric="palette", colormap=ramp * 257)
    assert np.array_equal(read_image(path), np.repeat(index[..., None], 3, 2))
    tifffile.imwrite(path, index, photometric="palette", colormap=ramp)
    assert refusal(path) == "mode"


def test_a_big_endian_bigtiff_is_named_and_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "big.tif"
    tifffile.imwrite(path, colours(), photometric="rgb", bigtiff=True, byteorder=">")
    with pytest.raises(ImageError, match="big-endian BigTIFF"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
def test_the_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    data = saved(colours(), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read_image(data), upright)
    info = read_info(data)
    assert (info.height, info.width) == upright.shape[:2]


@pytest.mark.parametrize(
    "block", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_broken_exif_leaves_the_image_as_it_is(kind, block):
    data = saved(colours(), kind, exif=b"Exif\0\0" + block)
    assert read_image(data).shape == (H, W, 3)


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "GIF", "WEBP"])
def test_several_frames_are_refused(kind):
    frames = [Image.fromarray(colours()), Image.fromarray(255 - colours())]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert refusal(data) == ("animated" if kind in ("TIFF", "PNG") else "not_an_image")


def test_an_mpo_is_read_as_the_jpeg_it_begins_with():
    first, second = Image.fromarray(colours()), Image.fromarray(255 - colours())
    data = saved(first, "MPO", save_all=True, append_images=[second])
    assert np.array_equal(read_image(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_a_file_cut_anywhere_is_refused(kind):
    data = saved(colours(), kind)
    for length in [*range(1, 64), *range(64, len(data), 97), *range(len(data) - 12, len(data))]:
        code = refusal(data[:length])
        assert code in ("truncated", "corrupt", "not_an_image")
        assert length < 64 or code == "truncated", length


def test_a_tiff_with_its_directory_last_is_truncated_when_cut():
    data = tiff(colours(), 2)
    assert {refusal(data[:n]) for n in range(8, len(data), 101)} == {"truncated"}


def test_a_wrong_checksum_is_refused_even_where_pillow_accepts_it():
    data = bytearray(saved(colours(), "PNG"))
    end = data.index(b"IEND") - 8  # the last byte of the checksum of the pixels is before IEND
    data[end] ^= 1
    Image.open(io.BytesIO(data)).load()
    assert refusal(bytes(data)) == "corrupt"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (saved(colours(), "GIF"), "a GIF"),
        (saved(colours(), "WEBP"), "a WebP"),
        (b"%PDF-1.7\n", "a PDF"),
        (bytes(128) + b"DICM" + bytes(9), "a DICOM"),
        (b"\0\0\0\x18ftypheic" + bytes(9), "a HEIC"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG"),
        (b"patient,label\n1,ALL\n", "a text"),
        (b"BM stands for nothing here, really", "a text"),
        (bytes(500), "not an image of a known format"),
    ],
)
def test_what_is_no_image_is_named_with_the_formats_taken(allkit_registry, tmp_path, data, word):
    path = tmp_path / "smear.jpg"
    path.write_bytes(data)
    with pytest.raises(
        ImageError, match=rf"smear\.jpg is.*{word}.*JPEG, PNG, TIFF or BMP"
    ) as caught:
        read_image(path)
    assert caught.value.code == "not_an_image"


def test_empty_missing_and_unreadable_paths_are_told_apart(tmp_path):
    (tmp_path / "empty.png").touch()
    assert refusal(tmp_path / "empty.png") == "empty"
    assert refusal(b"") == "empty"
    assert refusal(tmp_path / "no.png") == "missing"
    assert refusal(str(tmp_path / "empty.png" / "no.png")) == "missing"
    assert refusal("a\0b.png") == "missing"
    assert refusal("x" * 5000) == "missing"
    assert refusal(tmp_path) == "not_an_image"
    assert refusal("/dev/null") == "not_an_image"


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    path.write_bytes(saved(colours(), "PNG"))

    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("allkit.images.regular.os.open", deny)
    with pytest.raises(ImageError, match=r"image\.png cannot be opened \(Permission denied\)"):
        read_image(path)


def test_a_file_over_512_mb_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "huge.bmp").open("wb") as file:
        file.truncate(513 * 2**20)
    assert refusal(tmp_path / "huge.bmp") == "too_large"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("size", [(1, 1), (31, 200), (200, 31)])
def test_less_than_32_pixels_a_side_are_refused(kind, size):
    assert refusal(saved(Image.new("RGB", size), kind)) == "too_small"
    assert read_image(saved(Image.new("RGB", (32, 32)), kind)).shape == (32, 32, 3)


def test_900_megapixels_are_refused_at_once_and_without_memory(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(30000, 30000, 8, 0, [bytes(30000)] * 30))
    for limit in (Image.MAX_IMAGE_PIXELS, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        tracemalloc.start()
        start = time.perf_counter()
        assert refusal(path) == "too_large"
        assert time.perf_counter() - start < 0.05
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_the_limit_does_not_depend_on_pillows_global(monkeypatch, kind):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    assert read_image(saved(colours(), kind)).shape == (H, W, 3)


def test_reading_stops_when_pillow_is_told_to_accept_halves(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ConfigError, match="Set it to False"):
        read_image(saved(colours(), "JPEG"))


def test_an_array_passes_as_a_copy_and_grey_becomes_rgb():
    pixels = colours()
    copy = read_image(pixels)
    assert np.array_equal(copy, pixels)
    assert not np.shares_memory(copy, pixels)
    turned = read_image(pixels[::-1, ::-1])
    assert turned.flags.c_contiguous
    assert np.array_equal(read_image(pixels[..., 0]), np.repeat(pixels[..., :1], 3, 2))


@pytest.mark.parametrize(
    "array",
    [np.zeros((40, 40, 4), np.uint8), np.zeros((40, 40, 3)), np.zeros((40, 40, 3, 1), np.uint8),
     np.zeros(40, np.uint8), np.zeros((3, 40, 40), np.uint8)],
)  # fmt: skip
def test_any_other_array_is_refused_with_its_shape_and_type(array):
    with pytest.raises(ImageError) as caught:
        read_image(array, name="the upload")
    assert caught.value.code == "array"
    assert f"{array.shape} and the type {array.dtype}" in str(caught.value)
    assert str(caught.value).startswith("the upload")


def test_the_limits_hold_for_arrays_and_other_types_are_refused():
    assert refusal(np.zeros((31, 40, 3), np.uint8)) == "too_small"
    assert refusal(np.broadcast_to(np.uint8(0), (8000, 8000, 3))) == "too_large"
    assert refusal(None) == "array"


def test_the_header_alone_tells_size_mode_and_format():
    assert read_info(saved(colours(), "JPEG")) == ImageInfo(W, H, "RGB", "JPEG")
    with pytest.raises(ImageError, match="is empty"):
        read_info(b"")


def test_threads_read_the_same_pixels_at_once():
    files = [saved(colours(), kind) for kind in ("JPEG", "PNG", "TIFF", "BMP")] * 40
    alone = [read_image(file) for file in files[:4]]
    with ThreadPoolExecutor(8) as pool:
        for index, pixels in enumerate(pool.map(read_image, files)):
            assert np.array_equal(pixels, alone[index % 4])


def mutant(data, rng):
    """`data` with a few bytes changed, cut out or put in."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(0, min(len(data), rng.choice([64, 600, 10**6]))))
        match rng.integers(0, 4):
            case 0:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                data[at] = rng.choice([0, 255, 127, 128])
            case 2:
                del data[at : at + int(rng.integers(1, 9))]
            case _:
                data[at:at] = rng.bytes(int(rng.integers(1, 9)))
    return bytes(data)


def test_500_mutants_are_read_or_refused_without_a_word(capfd):
    rng = np.random.default_rng(11)
    exif = Image.Exif()
    exif[274] = 6
    exif[270] = "a long description of the smear"
    seeds = [saved(colours(), kind, exif=exif) for kind in ("JPEG", "TIFF", "PNG")]
    seeds += [saved(colours(), "TIFF", compression="tiff_lzw"), saved(colours(), "BMP")]
    seeds += [tiff(wide16(3), 2), saved(Image.fromarray(colours()).quantize(), "BMP")]
    causes = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for turn in range(500):
            try:
                assert read_image(mutant(seeds[turn % len(seeds)], rng)).shape[2] == 3
            except ImageError as error:
                causes.append(error.__cause__)
    assert not [cause for cause in causes if isinstance(cause, Warning)]
    assert capfd.readouterr().out == ""  # libtiff has its own say on standard error


@pytest.mark.parametrize("bits", [10, 12, 13, 14])
@pytest.mark.parametrize("channels", [1, 3])
def test_10_to_14_bits_in_16_are_refused_with_their_depth(bits, channels):
    pixels = wide16(channels) >> (16 - bits)
    photometric = 1 if channels == 1 else 2
    rows = [row.astype(">u2").tobytes() for row in pixels]
    for data in (tiff(pixels, photometric), png(W, H, 16, 0 if channels == 1 else 2, rows)):
        with pytest.raises(ImageError, match=f"{bits} bits in 16") as caught:
            read_image(data)
        assert caught.value.code == "low_bit_depth"


def test_15_bits_in_16_are_refused_where_a_file_says_that_it_has_no_more():
    pixels = wide16(3) >> 1
    rows = [row.astype(">u2").tobytes() for row in pixels]
    assert np.array_equal(read_image(png(W, H, 16, 2, rows)), divided(pixels))
    assert refusal(png(W, H, 16, 2, rows, (b"sBIT", bytes([15] * 3)))) == "low_bit_depth"
    high = [row.astype(">u2").tobytes() for row in wide16(3)]
    assert read_image(png(W, H, 16, 2, high, (b"sBIT", bytes([15] * 3)))).shape == (H, W, 3)


def test_every_16_bit_value_becomes_itself_over_257():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = saved(Image.fromarray(values), "PNG")
    assert np.array_equal(read_image(data)[..., 0], np.round(values / 257).astype(np.uint8))


@pytest.mark.parametrize("kind", ["zeros", "noise", "cut out", "put in"])
def test_a_jpeg_with_200_bytes_changed_is_refused_though_a_decoder_would_read_it(kind):
    rng = np.random.default_rng(5)
    field = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((800, 600))
    data = saved(field, "JPEG", quality=90)
    for at in rng.integers(len(data) // 4, len(data) - 400, 20):
        piece = {"zeros": bytes(200), "noise": rng.bytes(200).replace(b"\xff", b"\xfe")}.get(
            kind, b""
        )
        end = at if kind == "put in" else at + 200
        changed = data[:at] + (data[100:300] if kind == "put in" else piece) + data[end:]
        Image.open(io.BytesIO(changed)).verify()
        assert refusal(changed) in ("corrupt", "truncated")


@pytest.mark.parametrize(
    "options",
    [{"quality": q} for q in (5, 30, 75, 95, 100)]
    + [
        {"subsampling": 0},
        {"subsampling": 1},
        {"optimize": True},
        {"progressive": True},
        {"restart_marker_blocks": 3},
        {"restart_marker_rows": 1},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_no_whole_jpeg_is_taken_for_a_damaged_one(mode, options):
    rng = np.random.default_rng(1)
    for size in ((32, 32), (33, 47), (200, 97), (640, 481)):
        coarse = rng.integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
        for image in (Image.fromarray(coarse).resize(size), Image.new("RGB", size, (0, 0, 0))):
            data = saved(image.convert(mode), "JPEG", **options)
            assert np.array_equal(
                read_image(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            )


def test_restarts_out_of_order_and_marks_within_the_data_are_damage():
    data = saved(colours(100, 120), "JPEG", restart_marker_blocks=4)
    first, second = data.index(b"\xff\xd0"), data.index(b"\xff\xd1")
    assert refusal(data[:first] + data[second:]) == "corrupt"
    begin = data.index(b"\xff\xda")
    assert refusal(data[: begin + 40] + b"\xff\xd8" + data[begin + 40 :]) == "corrupt"


@pytest.mark.parametrize(("fourth", "read"), [(0, True), (255, True), (7, False), (None, False)])
def test_the_fourth_byte_of_a_bmp_is_an_opacity_only_where_it_can_be_one(fourth, read):
    pixels = colours(channels=4)
    if fourth is not None:
        pixels[..., 3] = fourth
    data = saved(pixels, "BMP")
    if read:
        assert np.array_equal(read_image(data), pixels[..., :3])
    else:
        assert refusal(data) == "translucent"


def test_what_is_long_to_decode_is_decoded_apart_and_ended(monkeypatch):
    from allkit.images import apart, workload

    data = saved(colours(), "PNG")
    monkeypatch.setattr(workload, "LONG", 0)
    assert np.array_equal(read_image(data), colours())
    with pytest.raises(ImageError, match="the upload is truncated") as caught:
        read_image(data[:-30] + data[-12:], name="the upload")
    assert caught.value.code in ("corrupt", "truncated")
    monkeypatch.setattr(apart, "SECONDS", 0.01)
    assert refusal(data) == "too_slow"
    monkeypatch.setattr("sys.frozen", True, raising=False)
    assert refusal(data) == "too_slow"
