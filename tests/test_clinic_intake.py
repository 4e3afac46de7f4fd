"""Files that come in: content decides, identity stays out, nothing is left out in silence."""

import io
import json
import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from allkit.clinic.intake import unpack as module
from allkit.clinic.intake.incoming import Incoming, Refused, take_image
from allkit.clinic.intake.sniff import sniff
from allkit.clinic.intake.unpack import IncomingOrder, unpack
from allkit.clinic.intake.watch import case_of, set_aside, settled
from allkit.clinic.records import sha256_of
from allkit.data.sources import DRAWN, BytesSource, says_drawn
from allkit.errors import ImageError
from allkit.images.decode import read_image
from allkit.images.hidden import hidden_parts

NAME = "Jane Doe"
ORDER = b"MSH|^~\\&|LIS|LAB|||20260131||ORM^O01|M1|P|2.5.1\rPID|||P1\rORC|NW|A1\r"


def smear(height=40, width=50):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 5 % 256, y * 6 % 256, (x + y) * 2 % 256], axis=-1).astype(np.uint8)


def encoded(form, pixels=None, **options):
    stream = io.BytesIO()
    Image.fromarray(smear() if pixels is None else pixels).save(stream, form, **options)
    return stream.getvalue()


def exif(orientation=1, gps=True):
    made = Image.Exif()
    made[274], made[315] = orientation, NAME
    if gps:
        made.get_ifd(0x8825)[1] = "N"
    return made


def zipped(members, **options):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def of(data, name="a.bin"):
    return list(unpack((name, data)))


def only(data, name="a.bin"):
    (found,) = of(data, name)
    return found


# ── content decides ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encoded("PNG"), "image"), (encoded("JPEG"), "image"), (encoded("TIFF"), "image"),
        (encoded("BMP"), "image"), (b"\0" * 128 + b"DICM", "dicom"),
        (b"II*\0".ljust(128, b"\0") + b"DICM", "dicom"),
        (b"\x08\0\x16\0UI\x1a\0", "dicom"), (b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100", "dicom"),
        (b"\x02\0\0\0UL\x04\0", "dicom"), (zipped([]), "zip"), (zipped([("a", b"")]), "zip"),
        (ORDER, "hl7"), (b"\x0b" + ORDER + b"\x1c\r", "hl7"), (b"\xef\xbb\xbf\r\n" + ORDER, "hl7"),
        (ORDER.decode().encode("utf-16"), "hl7"), (b"FHS|^~\\&|", "hl7"),
        (b"MSHello", "other"), (b"MSH\n", "other"), (b'{"resourceType": "Patient"}', "fhir"),
        ("\ufeff {}".encode(), "other"), ('\ufeff\n{"resourceType":"X"}'.encode(), "fhir"),
        (b'{"resourceType": 3}', "other"), (b'{"resourceType"', "other"), (b"[" * 10**5, "other"),
        (b'{"a":' * 10**5, "other"), (b"", "other"), (b"%PDF-1.7", "other"), (b"<html>", "other"),
        (b"\x08\0", "other"), (b"\x08\0\x70\0UI\x1a\0", "other"),
    ],
    # The bytes of a zip hold the time, which would be another in each process.
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else value,
)  # fmt: skip
def test_what_a_file_is_says_its_content(data, kind):
    assert sniff(data) == kind


def test_a_name_that_lies_changes_nothing():
    assert isinstance(only(encoded("JPEG"), "order.hl7"), Incoming)
    assert isinstance(only(ORDER, "field.png"), IncomingOrder)


# ── pixels stay, the rest goes ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_file_of_pixels_only_is_stored_as_it_is(form):
    data = encoded(form)
    taken = take_image(data, "a")
    assert taken.data == data
    assert taken.stripped == ()
    assert taken.media == f"image/{form.lower()}"
    assert taken.sha256 == sha256_of(data)
    assert (taken.width, taken.height) == (50, 40)


def tiff_with_name():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270], tags[315], tags[33432] = NAME, NAME, NAME
    return encoded("TIFF", tiffinfo=tags)


def png_with_name():
    texts = PngInfo()
    texts.add_text("Comment", NAME)
    texts.add_itxt("XML:com.adobe.xmp", f"<x>{NAME}</x>")
    return encoded("PNG", pnginfo=texts, exif=exif(), icc_profile=NAME.encode() * 20)


def jpeg_with_name():
    data = encoded("JPEG", exif=exif(), comment=NAME, icc_profile=NAME.encode() * 20)
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + NAME.encode()
    segments = [(0xE1, xmp), (0xED, b"Photoshop 3.0\0" + NAME.encode()), (0xE5, NAME.encode())]
    extra = b"".join(
        b"\xff" + bytes([kind]) + (len(body) + 2).to_bytes(2, "big") + body
        for kind, body in segments
    )
    return data[:2] + extra + data[2:] + encoded("JPEG", comment=NAME)  # as an MPO has it


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (tiff_with_name(), {"comment", "artist", "copyright"}),
        (png_with_name(), {"comment", "XMP", "EXIF", "GPS", "ICC profile"}),
        (
            jpeg_with_name(),
            {"comment", "XMP", "EXIF", "GPS", "ICC profile", "IPTC", "APP5", "data behind the image"},
        ),
        (encoded("PNG") + NAME.encode(), {"data behind the image"}),
        (encoded("BMP") + NAME.encode(), set()),
    ],
)  # fmt: skip
def test_what_is_no_pixel_is_removed_and_listed_by_name(data, parts):
    assert NAME.encode() in data
    taken = take_image(data, "a")
    assert set(taken.stripped) == parts
    assert NAME.encode() not in taken.data
    assert hidden_parts(taken.data) == ()
    assert (read_image(taken.data) == read_image(data)).all()


def test_a_comment_between_the_scans_of_a_jpeg_is_found():
    data = encoded("JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    hidden = data[:at] + b"\xff\xfe\x00\x0a" + NAME.encode() + data[at:]
    taken = take_image(hidden, "a")
    assert taken.stripped == ("comment",)
    assert NAME.encode() not in taken.data
    assert (read_image(taken.data) == read_image(data)).all()


def test_a_jpeg_with_exif_stays_a_jpeg():
    plain = encoded("JPEG")
    taken = take_image(encoded("JPEG", exif=exif()), "a")
    assert taken.media == "image/jpeg"
    assert (taken.sha256, taken.data) == (sha256_of(plain), plain)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_photograph_that_has_to_be_turned_is_stored_upright(form, orientation):
    data = encoded(form, exif=exif(orientation))
    taken = take_image(data, "a")
    assert taken.media == "image/png"
    assert (read_image(taken.data) == read_image(data)).all()
    assert (taken.height, taken.width) == read_image(data).shape[:2]


@pytest.mark.parametrize("pixels", [smear()[..., 0], (smear().astype(np.uint16) * 257)[..., 0]])
def test_grey_images_keep_their_pixels(pixels):
    texts = PngInfo()
    texts.add_text("Comment", NAME)
    data = encoded("PNG", pixels, pnginfo=texts)
    taken = take_image(data, "a")
    assert (read_image(taken.data) == read_image(data)).all()
    assert taken.stripped == ("comment",)


@pytest.mark.parametrize("more", [False, True])
def test_the_mark_of_a_drawn_image_stays(more):
    texts = PngInfo()
    texts.add_text(*DRAWN)
    if more:
        texts.add_text("Comment", NAME)
    taken = take_image(encoded("PNG", pnginfo=texts), "a")
    assert says_drawn(BytesSource(taken.data))
    assert taken.stripped == (("comment",) if more else ())
    assert NAME.encode() not in taken.data


@pytest.mark.parametrize("data", [tiff_with_name(), png_with_name(), jpeg_with_name()])
def test_a_damaged_file_is_an_image_or_refused_and_nothing_else(data):
    rng = np.random.default_rng(0)
    taken, refusals = 0, []
    for _ in range(60):
        broken = bytearray(data)
        for place in rng.integers(2, len(data), 4):
            broken[place] = rng.integers(256)
        try:
            taken += (read_image(take_image(bytes(broken), "a").data).ndim) > 0
        except ImageError as error:
            refusals.append(str(error))
    assert refusals
    assert taken + len(refusals) == 60
    assert NAME not in " ".join(refusals)


# ── folders ───────────────────────────────────────────────────────────────────────────────────


def filled(folder):
    files = {
        "b.png": encoded("PNG"), "deep/er/a.jpg": encoded("JPEG"), "notes.txt": b"hello",
        ".hidden.png": encoded("PNG"), ".Trash-1000/x.png": b"", "__MACOSX/._b.png": b"",
        "deep/Thumbs.db": b"", "old.png~": b"", "order": ORDER, "empty.png": b"",
        "half.jpg": encoded("JPEG")[:300], "z.zip": zipped([("in.png", encoded("PNG"))]),
    }  # fmt: skip
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return files


def test_every_file_of_a_folder_comes_out_taken_or_refused_with_a_reason(tmp_path):
    files = filled(tmp_path)
    found = list(unpack(tmp_path))
    assert {one.name for one in found} == {*files, "z.zip/in.png"} - {"z.zip"}
    taken = sorted(one.name for one in found if isinstance(one, Incoming))
    assert taken == ["b.png", "deep/er/a.jpg", "z.zip/in.png"]
    assert [one.name for one in found if isinstance(one, IncomingOrder)] == ["order"]
    codes = {one.name: one.code for one in found if isinstance(one, Refused)}
    assert codes == {
        ".hidden.png": "left_out", ".Trash-1000/x.png": "left_out", "deep/Thumbs.db": "left_out",
        "__MACOSX/._b.png": "left_out", "old.png~": "left_out", "notes.txt": "not_an_image",
        "empty.png": "empty", "half.jpg": "truncated",
    }  # fmt: skip
    assert all(one.name in one.message for one in found if isinstance(one, Refused))
    assert list(unpack(tmp_path)) == found


def test_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a.png").write_bytes(encoded("PNG"))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").symlink_to(secret / "a.png")
    (folder / "folder").symlink_to(secret)
    (folder / "nowhere").symlink_to("/nothing/there")
    assert [(one.name, one.code) for one in unpack(folder)] == [
        ("file", "link"), ("folder", "link"), ("nowhere", "link"),
    ]  # fmt: skip


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (found,) = unpack(tmp_path)
    assert found.code == "not_an_image"


def test_a_folder_and_a_file_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    real_scan, real_open = os.scandir, Path.open

    def scandir(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return real_scan(path)

    def closed(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(os, "scandir", scandir)
    assert [(type(one), one.name) for one in unpack(tmp_path)] == [
        (Incoming, "a.png"), (Refused, "shut"),
    ]  # fmt: skip
    monkeypatch.setattr(Path, "open", closed)
    assert [one.code for one in unpack(tmp_path)] == ["missing", "missing"]
    assert Path.open is not real_open


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    (found,) = unpack(tmp_path / "gone.png")
    assert (found.code, found.name) == ("missing", "gone.png")
    (found,) = unpack(Path("a\0b"))
    assert found.code == "missing"


# ── zips ──────────────────────────────────────────────────────────────────────────────────────


def test_the_files_of_a_zip_come_out_like_those_of_a_folder(tmp_path):
    inner = zipped([("x.png", encoded("PNG"))])
    data = zipped(
        [
            ("z/b.png", encoded("PNG")), ("a.jpg", encoded("JPEG")), ("__MACOSX/._a.jpg", b""),
            ("inner.png", inner), ("o.hl7", ORDER), ("folder/", b""),
        ]
    )  # fmt: skip
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    found = list(unpack(path))
    assert found == of(data, "a.zip")
    assert [(type(one), one.name, getattr(one, "code", "")) for one in found] == [
        (Refused, "a.zip/__MACOSX/._a.jpg", "left_out"), (Incoming, "a.zip/a.jpg", ""),
        (Refused, "a.zip/inner.png", "nested_zip"), (IncomingOrder, "a.zip/o.hl7", ""),
        (Incoming, "a.zip/z/b.png", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "etc/passwd"), ("/abs/x", "abs/x"), ("..\\..\\x", "x"),
        ("a\nb\u202e.png", "a\ufffdb\ufffd.png"), ("x" * 300, "…" + "x" * 252), ("..", "a file"),
    ],
)  # fmt: skip
def test_no_name_leads_out_of_anything(name, shown):
    taken = only(zipped([(name, encoded("PNG"))]), "z")
    assert isinstance(taken, Incoming)
    assert taken.name.startswith(f"z/{shown}"[:255]) or taken.name.startswith("…")
    assert len(taken.name) <= 260
    assert ".." not in taken.name
    assert only(encoded("PNG"), "\udcff.png").name == "\ufffd.png"


def test_encrypted_damaged_and_linked_members_are_named():
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    data = bytearray(zipped([("good.png", encoded("PNG")), (link, b"/etc/passwd")]))
    found = {one.name: one for one in of(bytes(data), "z")}
    assert found["z/link.png"].code == "link"
    data[data.index(b"IDAT") + 30] ^= 255  # the sum of the member is now wrong
    found = {one.name: one for one in of(bytes(data), "z")}
    assert found["z/good.png"].code == "damaged_zip"
    for at in (b"PK\x03\x04", b"PK\x01\x02"):
        data[data.index(at) + (6 if at[2] == 3 else 8)] |= 1
    found = {one.name: one for one in of(bytes(data), "z")}
    assert found["z/good.png"].code == "encrypted"


@pytest.mark.parametrize("end", [40, -10])
def test_a_cut_zip_is_refused(end):
    assert only(zipped([("a.png", encoded("PNG"))])[:end]).code == "damaged_zip"


def test_an_empty_zip_is_refused():
    assert only(zipped([])).code == "empty"


def test_too_many_files_and_too_many_bytes_are_refused_as_a_whole(monkeypatch):
    many = zipped([(f"{n}.png", b"") for n in range(2001)])
    assert only(many).code == "too_many"
    assert len(of(zipped([(f"{n}.png", b"") for n in range(2000)]))) == 2000
    monkeypatch.setattr(module, "MAX_UNPACKED", 1000)
    bomb = zipped([("a", b"\0" * 600), ("b", b"\0" * 600)], compression=zipfile.ZIP_DEFLATED)
    assert only(bomb).code == "too_large"


def test_a_member_over_the_limit_of_the_reader_is_named_and_the_others_are_taken(monkeypatch):
    monkeypatch.setattr("allkit.images.refusal.MAX_BYTES", 100_000)
    data = zipped([("big.png", b"\0" * 200_000), ("a.png", encoded("PNG"))])
    found = of(data, "z")
    assert [(one.name, getattr(one, "code", "")) for one in found] == [
        ("z/a.png", ""), ("z/big.png", "too_large"),
    ]  # fmt: skip


# ── orders ────────────────────────────────────────────────────────────────────────────────────


def test_each_order_of_a_message_comes_out():
    data = ORDER + b"ORC|NW|A2\r"
    assert [one.order.number.value for one in of(data)] == ["A1", "A2"]


def test_a_broken_order_is_refused_with_the_segment():
    found = only(ORDER.replace(b"NW", b"ZZ"), "o.hl7")
    assert found.code == "order"
    assert found.message.startswith("o.hl7: ORC-1 ")
    assert only(json.dumps({"resourceType": "Patient"}).encode()).code == "order"


# ── a watched folder ──────────────────────────────────────────────────────────────────────────


def polls(folder, seen, **options):
    return [path.relative_to(folder).as_posix() for path in settled(folder, seen, **options)]


def test_a_file_is_given_once_when_it_no_longer_changes(tmp_path):
    seen = {}
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    assert polls(tmp_path, seen) == []
    path.write_bytes(b"12")
    assert polls(tmp_path, seen) == []
    assert polls(tmp_path, seen) == ["a.png"]
    assert polls(tmp_path, seen) == []
    path.write_bytes(b"123")
    assert polls(tmp_path, seen) == []
    assert polls(tmp_path, seen) == ["a.png"]
    path.unlink()
    assert polls(tmp_path, seen) == []
    assert seen == {}


def test_temporary_hidden_and_moved_files_wait(tmp_path):
    for name in ("a.part", "b.TMP", "c.png~", ".d", "taken/e", "refused/f", ".g/h", "sub/i"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "sub" / "i")
    seen = {}
    polls(tmp_path, seen)
    assert polls(tmp_path, seen) == ["sub/i"]


def test_a_subfolder_is_a_case(tmp_path):
    assert case_of(tmp_path, tmp_path / "x.png") == ""
    assert case_of(tmp_path, tmp_path / "case 7" / "left" / "x.png") == "case 7"


def test_a_folder_that_goes_away_and_comes_back_gives_nothing_twice(tmp_path, monkeypatch):
    folder = tmp_path / "share"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.png").write_bytes(b"1")
    seen = {}
    polls(folder, seen)
    assert polls(folder, seen) == ["sub/a.png"]
    told = []
    real = os.scandir

    def gone(path):
        if str(path).endswith(("share", "sub")):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", gone)
    assert polls(folder, seen, tell=told.append) == []
    assert "share cannot be read (Permission denied)" in told[0]
    monkeypatch.undo()
    assert polls(folder, seen) == []
    assert polls(tmp_path / "never", {}, tell=told.append) == []
    assert "never" in told[-1]


def test_a_file_that_vanishes_between_the_listing_and_the_look_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"1")

    def lstat(self):
        raise FileNotFoundError(2, "No such file")

    monkeypatch.setattr(Path, "lstat", lstat)
    assert polls(tmp_path, {}) == []


def test_a_file_is_set_aside_with_the_reason_and_nothing_is_overwritten(tmp_path):
    places = []
    for content in (b"1", b"2", b"3"):
        path = tmp_path / "case" / "a.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        places.append(set_aside(path, tmp_path, "refused", why=f"reason {content.decode()}"))
        assert not path.exists()
    names = [place.relative_to(tmp_path).as_posix() for place in places]
    base = "refused/case/a"
    assert names == [f"{base}.png", f"{base} (2).png", f"{base} (3).png"]
    assert [place.read_bytes() for place in places] == [b"1", b"2", b"3"]
    reasons = [place.with_name(place.name + ".txt").read_text("utf-8") for place in places]
    assert reasons == ["reason 1\n", "reason 2\n", "reason 3\n"]


def test_a_taken_file_needs_no_reason_and_a_vanished_one_is_none(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    assert set_aside(tmp_path / "a", tmp_path, "taken") == tmp_path / "taken" / "a"
    assert set_aside(tmp_path / "a", tmp_path, "taken") is None
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["a"]


def test_a_file_that_cannot_be_moved_stays(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"1")

    def replace(self, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(PermissionError):
        set_aside(tmp_path / "a", tmp_path, "taken")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert list((tmp_path / "taken").iterdir()) == []


def test_the_colours_of_a_stain_are_measured_when_an_image_comes_in():
    from allkit.clinic.intake.incoming import STAIN

    pale, dark = (
        take_image(encoded("PNG", np.full((40, 40, 3), light, np.uint8)), "x.png")
        for light in (240, 60)
    )
    measured = dict(zip(STAIN, dark.stain, strict=True))
    assert measured["background_g"] == pytest.approx(-np.log(61 / 256), abs=1e-3)
    assert pale.stain[0] < dark.stain[0]
