"""A colour profile that is not sRGB is named, and changes no pixel and no verdict."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from allkit.images.decode import decoded, read_image
from allkit.images.profiles import BROKEN, UNCALIBRATED, foreign_profile

FIELD = Image.fromarray(np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))


def profile(primaries=ADOBE, gamma=2.2, name=b"Adobe RGB (1998)", space=b"RGB "):
    """A profile of version 2 with three primaries and one gamma."""
    desc = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name + bytes(80)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    parts = {b"desc": desc, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"kTRC": curve}
    for tag, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True):
        parts[tag] = b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in xyz))
    at, table, body = 132 + 12 * len(parts), b"", b""
    for tag, part in parts.items():
        table += struct.pack(">4sII", tag, at + len(body), len(part))
        body += part
    head = bytes(12) + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(88)
    whole = head + struct.pack(">I", len(parts)) + table + body
    return struct.pack(">I", len(whole) + 4)[:4] + whole[4:]


def saved(kind, **options):
    stream = io.BytesIO()
    FIELD.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_profile_that_is_not_srgb_is_named_and_not_applied(kind):
    plain = read_image(saved(kind))
    for icc, name in ((profile(), "Adobe RGB (1998)"), (SRGB, ""), (SRGB[:90], BROKEN)):
        got = decoded(saved(kind, icc_profile=icc))
        assert got.profile == name
        assert np.array_equal(got.pixels, plain)
    assert foreign_profile(saved(kind)) == ""


def test_srgb_is_recognised_by_its_numbers_and_not_by_its_name():
    srgb = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))
    for icc, name in (
        (profile(srgb, 2.2, b"monitor of the lab"), ""),
        (profile(srgb, 1.0, b"sRGB linear"), "sRGB linear"),
        (profile(ADOBE, 2.2, b"sRGB IEC61966-2.1"), "sRGB IEC61966-2.1"),
        (profile(space=b"CMYK", name=b"Coated"), "Coated"),
        (profile(name=b"\x1b[31mred\x07"), "[31mred"),
    ):
        assert foreign_profile(saved("JPEG", icc_profile=icc)) == name


def test_a_profile_in_several_segments_of_a_jpeg_is_put_together_or_called_broken():
    icc = profile() + bytes(150_000)
    data = saved("JPEG", icc_profile=icc)
    assert foreign_profile(data) == "Adobe RGB (1998)"
    at = data.index(b"ICC_PROFILE\0\x02") - 4
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    assert foreign_profile(data[:at] + data[at + 2 + length :]) == BROKEN


def test_what_exif_and_the_parts_of_a_png_say_counts_too():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 0xFFFF
    assert foreign_profile(saved("JPEG", exif=exif)) == UNCALIBRATED
    exif.get_ifd(0x8769)[0xA001] = 1
    assert foreign_profile(saved("JPEG", exif=exif)) == ""

    def with_part(kind, body):
        data = saved("PNG")
        part = struct.pack(">I", len(body)) + kind + body
        return data[:33] + part + struct.pack(">I", zlib.crc32(kind + body)) + data[33:]

    assert foreign_profile(with_part(b"gAMA", struct.pack(">I", 45455))) == ""
    assert "gamma of 1 " in foreign_profile(with_part(b"gAMA", struct.pack(">I", 100000)))
    assert "cHRM" in foreign_profile(
        with_part(
            b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
        )
    )


def test_the_answer_and_the_check_say_it_and_the_verdict_stays(tiny, tmp_path):
    import allkit

    for name, options in (("ALL/plain", {}), ("HEM/adobe", {"icc_profile": profile()})):
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.png").write_bytes(saved("PNG", **options))
    plain, adobe = tiny.predict([tmp_path / "ALL" / "plain.png", tmp_path / "HEM" / "adobe.png"])
    assert adobe.reason_codes == (*plain.reason_codes, "colour_profile")
    assert adobe.verdict == plain.verdict
    found = allkit.check(tmp_path)
    assert found.to_dict()["colour_profiles"] == ["HEM/adobe.png"]
    assert found.colour_profiles == (("HEM/adobe.png", "Adobe RGB (1998)"),)
