"""Formats that plugins read: taken wherever a PNG is, checked, and said to be tiles where they are."""

import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel

import allkit
from allkit import Dataset, ImageError, Raster, Reader, Region, hookimpl
from allkit.clinic.intake.unpack import unpack
from allkit.data.drawn import draw_smears
from allkit.data.passes import Measure
from allkit.errors import ConfigError, PluginError
from allkit.features import FeatureCache
from allkit.images.decode import decoded, read_info
from allkit.images.hidden import TILE
from allkit.images.readers import asked_for, chosen
from allkit.images.tiles import tiles_in
from allkit.plugins import Registry
from allkit.runtime.onnx import OnnxPredictor
from allkit.testing import run_checks
from allkit.testing.readers import CHECKS, using_files
from allkit.trust.reasons import TILE_OF_SLIDE

MAGIC = b"MYF1"
IDENTITY = "Jane Doe"


def packed(image, whose=IDENTITY):
    """A made-up vendor's file: who, how large, and the pixels."""
    return MAGIC + whose.encode().ljust(16) + struct.pack("<HH", *image.shape[:2]) + image.tobytes()


def read(data, name):
    if len(data) < 24 or not data.startswith(MAGIC):
        raise ImageError(f"{name} is no MYF.", code="not_an_image")
    height, width = struct.unpack_from("<HH", data, 20)
    if len(data) != 24 + 3 * height * width:
        raise ImageError(f"{name} is cut off.", code="truncated")
    pixels = np.frombuffer(data, np.uint8, offset=24).reshape(height, width, 3)
    return Raster(pixels, 0.5, {"stain": "Giemsa"}, ("patient",), "A-1")


def reader(function=read, suffixes=(".myf",), magic=((0, MAGIC),), **more):
    return Reader("myf", suffixes, function, magic=magic, **more)


def cut(path):
    """A file of several fields, side by side."""
    data = Path(path).read_bytes()
    image = read(data, path).pixels

    def part(x):
        return Region(f"x={x},y=0", lambda: image[:, x : x + 224].copy(), 0.5)

    return [part(x) for x in range(0, image.shape[1] - 223, 224)]


def slides(function=cut):
    return Reader("strip", (".strip",), regions=function)


@pytest.fixture
def offer(allkit_registry):
    def run(*records, distribution="acme"):
        plugin = SimpleNamespace(allkit_readers=hookimpl(lambda: list(records)), api_version=2)
        found = allkit_registry.register(
            plugin, name=distribution, distribution=distribution, version="1.0"
        )
        assert found.error is None, found.error

    return run


@pytest.fixture(scope="module")
def fields():
    return [field.image for field in draw_smears(4, groups=4, seed=8)]


def refusal(call, *arguments):
    with pytest.raises(ImageError) as caught:
        call(*arguments)
    return caught.value


# ── a format of a plugin is taken where a PNG is ──────────────────────────────────────────────


def test_hook_allkit_readers_offers_a_format_known_by_content_and_by_name(offer, fields, tmp_path):
    offer(reader())
    for name in ("a.myf", "a.MYF", "a.png", "a"):
        (tmp_path / name).write_bytes(packed(fields[0]))
        image = allkit.read_image(tmp_path / name)
        assert (image == fields[0]).all()
        assert image.flags.writeable
        assert image.flags.c_contiguous
    assert allkit.read_image(packed(fields[0])).shape == fields[0].shape
    assert read_info(packed(fields[0])).width == fields[0].shape[1]


def test_a_name_decides_only_where_the_content_says_nothing(offer, fields, tmp_path):
    offer(reader(lambda data, name: Raster(np.zeros((40, 40, 3), np.uint8)), magic=()))
    assert not allkit.read_image(b"?" * 50, name="a.myf").any()
    stream = io.BytesIO()
    Image.fromarray(fields[0]).save(stream, "PNG")
    assert (allkit.read_image(stream.getvalue(), name="a.myf") == fields[0]).all()


def test_everything_that_a_reader_says_is_in_the_raster(offer, fields):
    from allkit.images.decode import read_raster

    offer(reader())
    raster = read_raster(packed(fields[0]), name="a.myf")
    assert raster.micrometres_per_pixel == 0.5
    assert raster.metadata == {"stain": "Giemsa"}
    assert raster.left_out == ("patient",)


def test_what_a_photograph_holds_beside_pixels_is_named_in_its_raster(fields):
    from allkit.images.decode import read_raster

    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = IDENTITY
    Image.fromarray(fields[0]).save(stream, "JPEG", exif=exif)
    raster = read_raster(stream.getvalue())
    assert raster.left_out == ("EXIF",)
    assert raster.metadata == {}


def test_folders_zips_and_tables_take_such_files(offer, fields, tmp_path, tiny_onnx):
    offer(reader())
    for label, image in zip(("hem", "all", "hem", "all"), fields, strict=True):
        (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
        number = len(list((tmp_path / "set" / label).iterdir()))
        (tmp_path / "set" / label / f"{number}.myf").write_bytes(packed(image))
    (tmp_path / "set" / "notes.myfx").write_text("no image")
    data = Dataset.open(tmp_path / "set")
    assert len(data) == 4
    assert data.left_out == ("notes.myfx",)
    assert {data.read(i).tobytes() for i in range(4)} == {image.tobytes() for image in fields}
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted((tmp_path / "set").rglob("*.myf")):
            archive.write(path, path.relative_to(tmp_path / "set").as_posix())
    assert len(Dataset.open(tmp_path / "set.zip")) == 4
    table = tmp_path / "set.csv"
    table.write_text("image,label\nset/hem/0.myf,hem\nset/all/0.myf,all\n")
    assert len(Dataset.open(table)) == 2
    model = OnnxPredictor(tiny_onnx)
    for given in (tmp_path / "set", tmp_path / "set.zip", str(tmp_path / "set/*/*.myf")):
        answers = model.predict(given)
        assert len(answers) == 4
        assert "unreadable" not in answers.verdicts


def test_what_a_reader_cannot_read_is_unreadable_and_the_rest_is_answered(
    offer, fields, tmp_path, tiny_onnx
):
    offer(reader())
    (tmp_path / "a.myf").write_bytes(packed(fields[0]))
    (tmp_path / "b.myf").write_bytes(packed(fields[1])[:-9])
    answers = OnnxPredictor(tiny_onnx).predict(tmp_path)
    assert [one.verdict == "unreadable" for one in answers] == [False, True]
    assert answers[1].error.endswith("b.myf is cut off.")


def test_the_clinic_keeps_pixels_scale_and_order_and_names_what_it_dropped(offer, fields):
    offer(reader())
    (taken,) = unpack(("field.myf", packed(fields[0])))
    assert (allkit.read_image(taken.data) == fields[0]).all()
    assert (taken.micrometres_per_pixel, taken.accession) == (0.5, "A-1")
    assert taken.stripped == ("patient",)
    assert IDENTITY.encode() not in taken.data


# ── what a plugin gets wrong ──────────────────────────────────────────────────────────────────


def crash(data, name):
    raise ValueError(data.decode("latin-1"))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (crash, "failed (ValueError)"),
        (lambda data, name: sys.exit(0), "failed (SystemExit)"),
        (lambda data, name: np.zeros((40, 40, 3), np.uint8), "returned ndarray and not a Raster"),
        (lambda data, name: Raster(np.zeros((40, 40), np.uint8)), "(40, 40) uint8"),
        (lambda data, name: Raster(np.zeros((40, 40, 3))), "(40, 40, 3) float64"),
        (lambda data, name: Raster(np.zeros((40, 40, 4), np.uint8)), "(40, 40, 4) uint8"),
        (lambda data, name: Raster(np.zeros((40, 40, 3), np.uint8), float("nan")), "micrometres"),
        (lambda data, name: Raster(np.zeros((40, 40, 3), np.uint8), 0), "micrometres"),
        (lambda data, name: Raster(np.zeros((40, 40, 3), np.uint8), 1.0, {"a": [1]}), "metadata"),
        (lambda data, name: Raster(np.zeros((40, 40, 3), np.uint8), 1.0, {}, ["a"]), "left_out"),
    ],
)
def test_a_reader_that_fails_is_named_and_quotes_nothing(offer, fields, function, words):
    offer(reader(function))
    error = refusal(allkit.read_image, packed(fields[0]))
    assert error.code == "reader"
    assert words in str(error)
    assert "acme 1.0" in str(error)
    assert IDENTITY not in str(error)


@pytest.mark.parametrize(
    ("shape", "code"), [((8000, 8000, 3), "too_large"), ((8, 90, 3), "too_small")]
)
def test_limits_of_size_hold_for_what_a_reader_gives(offer, shape, code):
    pixels = np.broadcast_to(np.uint8(7), shape)
    offer(reader(lambda data, name: Raster(pixels)))
    assert refusal(allkit.read_image, MAGIC + b"?").code == code


def test_a_lack_of_memory_is_no_fault_of_the_file(offer):
    def lacking(data, name):
        raise MemoryError

    offer(reader(lacking))
    assert refusal(allkit.read_image, MAGIC + b"?").code == "too_large"


def test_two_packages_that_claim_a_format_are_both_named_and_one_can_be_chosen(offer, fields):
    offer(reader())
    offer(reader(), distribution="other")
    error = refusal(allkit.read_image, packed(fields[0]))
    assert "acme 1.0 and other 1.0" in str(error)
    with chosen(["other/myf"]):
        assert allkit.read_image(packed(fields[0])).shape == fields[0].shape
    with pytest.raises(PluginError, match="acne"), chosen(["acne/myf"]):
        pass


def test_no_plugin_takes_a_format_of_allkit_or_the_name_of_a_table(offer, fields, tmp_path):
    wrong = reader(crash, (".png", ".csv", ".myf"), magic=((0, b"\x89PNG\r\n\x1a\n"),))
    offer(wrong)
    Image.fromarray(fields[0]).save(tmp_path / "a.png")
    assert (allkit.read_image(tmp_path / "a.png") == fields[0]).all()
    (tmp_path / "notes.csv").write_text("a,b\n")
    assert len(Dataset.unlabelled(tmp_path)) == 1
    outcomes = {outcome.check: outcome.state for outcome in run_checks(wrong)}
    assert outcomes["claims_nothing_of_allkit"] == "failed"


class Darker(BaseModel):
    darker: int = 0


def darkened(data, name, *, settings):
    return Raster(read(data, name).pixels // (1 + settings.darker))


@pytest.mark.parametrize(
    "text",
    ['myf{"darker":1}', "{acme/myf: {darker: 1}}", "myf{darker: 1}; ", "; {myf: {darker: 1}}"],
)
def test_a_setting_in_the_environment_holds_for_everything_that_reads(
    offer, fields, tmp_path, monkeypatch, text
):
    offer(reader(darkened, settings=Darker))
    (tmp_path / "a.myf").write_bytes(packed(fields[0]))
    monkeypatch.setenv("ALLKIT_READERS", text)
    assert asked_for() == 'acme/myf{"darker":1}'
    assert (Dataset.unlabelled(tmp_path).read(0) == fields[0] // 2).all()
    assert (allkit.read_image(tmp_path / "a.myf") == fields[0] // 2).all()
    with chosen([{"myf": {"darker": 0}}]):  # what is said to a command goes first
        assert (allkit.read_image(tmp_path / "a.myf") == fields[0]).all()


@pytest.mark.parametrize("text", ["{myf: 1}", "nobody", "myf{", 'myf{"lighter": 1}', "png"])
def test_a_mistake_in_the_environment_is_said_and_nothing_is_read(offer, fields, monkeypatch, text):
    offer(reader(darkened, settings=Darker))
    monkeypatch.setenv("ALLKIT_READERS", text)
    with pytest.raises(ConfigError, match=r"^ALLKIT_READERS: "):
        allkit.read_image(packed(fields[0]))


def test_what_was_computed_of_files_as_another_reader_read_them_is_not_taken(
    offer, fields, tmp_path, monkeypatch
):
    offer(reader(darkened, settings=Darker))
    (tmp_path / "a.myf").write_bytes(packed(fields[0]))
    Image.fromarray(fields[1]).save(tmp_path / "b.png")
    cache = FeatureCache(tmp_path / "cache")

    def means():
        data, looked = Dataset.unlabelled(tmp_path), []

        def mean(frame):
            looked.append(frame.sha256)
            return np.array([frame.pixels.mean()], np.float32)

        (column,) = data.passes.measure([Measure("mean 1", mean, cached=True)], cache=cache)
        return data, [round(float(column[i][0]), 1) for i in range(2)], len(looked)

    _, (first, plain), computed = means()
    assert (computed, means()[2]) == (2, 0)
    monkeypatch.setenv("ALLKIT_READERS", "{myf: {darker: 1}}")
    data, (second, same), computed = means()
    assert (computed, same) == (1, plain)
    assert second < 0.6 * first
    assert data.passes.readers == {"acme/myf": '1.0 chosen {"darker":1}'}
    assert data.passes.keys[1] == data.hashes[1]


def test_settings_of_a_reader_are_chosen_for_a_block(offer, fields):
    offer(reader(darkened, settings=Darker))
    plain = allkit.read_image(packed(fields[0]))
    with chosen([{"myf": {"darker": 1}}]):
        assert (allkit.read_image(packed(fields[0])) == plain // 2).all()
    assert (allkit.read_image(packed(fields[0])) == plain).all()
    with pytest.raises(ConfigError, match="darker"), chosen([{"acme/myf": {"drker": 1}}]):
        pass


# ── what has no reader ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "data", "package"),
    [
        ("a.dcm", b"\x08\0\x05\0CS\x0a\0", "allkit-dicom"),
        ("a", bytes(128) + b"DICM", "allkit-dicom"),
        ("a.svs", b"II*\0" + bytes(90), "allkit-wsi"),
        ("a.MRXS", b"\xff\xd8\xff" + bytes(90), "allkit-wsi"),  # its content is a small JPEG
    ],
)
def test_a_format_without_its_reader_says_what_to_install(
    allkit_registry, tmp_path, name, data, package
):
    (tmp_path / name).write_bytes(data)
    assert f"pip install {package}" in str(refusal(allkit.read_image, tmp_path / name)).replace(
        "'", ""
    )


def test_a_folder_says_which_files_need_a_reader(allkit_registry, fields, tmp_path):
    Image.fromarray(fields[0]).save(tmp_path / "a.png")
    for name in ("b.dcm", "c.svs", "d.txt"):
        (tmp_path / name).write_bytes(b"?")
    said = Dataset.unlabelled(tmp_path).summary()
    assert "1 is a DICOM, whose reader is not installed (pip install allkit-dicom)" in said
    assert "1 is a whole slide, not an image of one field" in said
    assert "1 file is no image by its name" in said


def test_the_clinic_says_what_reads_dicom(allkit_registry):
    (refused,) = unpack(("scan", bytes(128) + b"DICM" + bytes(40)))
    assert "pip install allkit-dicom" in refused.message


# ── tiles ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def strip(fields, tmp_path):
    (tmp_path / "slides").mkdir()
    path = tmp_path / "slides" / "a.strip"
    wide = [image for image in fields if image.shape == (224, 224, 3)]
    path.write_bytes(packed(np.concatenate(wide, axis=1)))
    return path


def test_each_tile_has_an_answer_that_says_so_and_is_not_accepted(
    offer, strip, tiny_onnx, monkeypatch
):
    offer(slides())
    model = OnnxPredictor(tiny_onnx)
    plain = model.predict([np.ascontiguousarray(r.read()) for r in cut(strip)])
    answers = model.predict(strip)
    assert [one.image for one in answers] == [f"{strip}#{r.name}" for r in cut(strip)]
    for tile, field in zip(answers, plain, strict=True):
        assert tile.reason_codes == (*field.reason_codes, TILE_OF_SLIDE)
        assert tile.verdict == ("review" if field.verdict == "accepted" else field.verdict)
        assert tile.coarse_verdict != "accepted"
        assert tile.probabilities == field.probabilities
    case = allkit.combine(answers)
    assert case.verdict != "accepted"
    assert TILE_OF_SLIDE in case.reason_codes or case.used == 0


def test_an_answer_about_a_tile_is_never_accepted_however_sure_it_is():
    from allkit.images.decode import Decoded
    from allkit.records import Prediction
    from allkit.runtime.answers import with_notes

    sure = Prediction(
        "s#x=0,y=0", "accepted", label="all", probability=0.99,
        probabilities={"all": 0.99, "hem": 0.01}, coarse_verdict="accepted",
    )  # fmt: skip
    tile = with_notes(sure, Decoded(np.zeros((224, 224, 3), np.uint8), tile=True))
    assert (tile.verdict, tile.coarse_verdict) == ("review", "review")
    case = allkit.combine([tile, tile], "s")
    assert case.verdict == "review"
    assert TILE_OF_SLIDE in case.reason_codes


def test_a_folder_of_slides_has_a_row_for_each_tile_or_one_for_each_slide(
    offer, strip, tiny_onnx, cli
):
    offer(slides())
    strip.with_name("b.strip").write_bytes(b"damaged")
    count = len(cut(strip))
    code, out, _ = cli("predict", tiny_onnx, strip.parent)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [Path(row["image"]).name for row in rows] == [
        *(f"a.strip#{r.name}" for r in cut(strip)),
        "b.strip",
    ]
    assert all(TILE_OF_SLIDE in row["reason_codes"] for row in rows[:count])
    assert rows[-1]["error"].endswith("b.strip is no MYF.")
    _, out, _ = cli("predict", tiny_onnx, strip.parent, "--by", "slide")
    cases = [json.loads(line) for line in out.splitlines()]
    assert [Path(case["unit"]).name for case in cases] == ["a.strip", "b.strip"]
    assert cases[0]["fields"] == count
    assert cases[0]["verdict"] != "accepted"


def test_a_tile_is_an_image_by_its_name(offer, strip, tmp_path):
    from allkit.images.decode import read_raster

    offer(slides())
    name = f"{strip}#{cut(strip)[1].name}"
    assert (allkit.read_image(name) == cut(strip)[1].read()).all()
    assert decoded(name).tile
    assert read_raster(name).micrometres_per_pixel == 0.5
    assert refusal(allkit.read_image, f"{strip}#x=1,y=1").code == "missing"


def test_a_photograph_that_is_named_as_a_slide_is_called_what_it_is(offer, fields, tmp_path):
    offer(slides())
    for name in ("a.svs", "a.strip"):
        Image.fromarray(fields[0]).save(tmp_path / name, "png")
        error = refusal(allkit.read_image, tmp_path / name)
        assert "is a PNG by its content. Rename it: its name ends with .png" in str(error)
        (answer,) = tiles_in(str(tmp_path / name))
        assert answer == str(tmp_path / name)


def test_a_slide_is_no_image_of_a_set_and_none_by_itself(offer, strip, fields):
    offer(slides())
    assert "allkit predict" in str(refusal(allkit.read_image, strip))
    Image.fromarray(fields[0]).save(strip.with_name("a.png"))
    data = Dataset.unlabelled(strip.parent)
    assert [Path(sample.image).name for sample in data] == ["a.png"]
    assert "whole slide" in data.summary()


@pytest.mark.parametrize(
    ("regions", "words"),
    [
        (lambda path: [1], "gave int and not a Region"),
        (lambda path: [Region("a", lambda: None), Region("a", lambda: None)], "named two regions"),
        (lambda path: [Region("a#b", lambda: None)], "named a region"),
        (lambda path: 1 / 0, "failed (ZeroDivisionError)"),
        (lambda path: (1 / 0 for _ in range(1)), "failed (ZeroDivisionError)"),
        (lambda path: [], "no tile was found"),
    ],
)
def test_regions_that_are_none_are_refused_with_the_name_of_the_package(
    offer, strip, regions, words
):
    offer(slides(regions))
    message = str(refusal(allkit.read_image, strip))
    assert words in message
    assert "acme 1.0" in message or words == "no tile was found"


def test_a_region_that_cannot_be_read_is_unreadable_and_the_others_are_answered(
    offer, strip, tiny_onnx
):
    def some(path):
        good = cut(path)
        return [good[0], Region("bad", lambda: 1 / 0), Region("flat", lambda: np.zeros(3)), good[1]]

    offer(slides(some))
    verdicts = [one.verdict for one in OnnxPredictor(tiny_onnx).predict(strip)]
    assert [verdict == "unreadable" for verdict in verdicts] == [False, True, True, False]


def test_a_tile_that_was_saved_as_a_png_stays_a_tile(fields, tmp_path):
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text(*TILE)
    Image.fromarray(fields[0]).save(tmp_path / "t.png", pnginfo=mark)
    assert decoded(tmp_path / "t.png").tile
    (refused,) = unpack(tmp_path / "t.png")
    assert refused.code == "tile"


# ── own formats, checks, cost ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["jpeg", "png", "tiff", "bmp"])
def test_the_formats_of_allkit_keep_the_contract(name):
    states = {outcome.check: outcome.state for outcome in run_checks(name)}
    assert states.pop("claims_nothing_of_allkit") == "skipped"
    assert set(states.values()) == {"passed"}, states


def test_a_good_reader_passes_every_check_with_files_and_skips_most_without(fields, tmp_path):
    (tmp_path / "a.myf").write_bytes(packed(fields[0]))
    with using_files([tmp_path / "a.myf"], identity=[IDENTITY]):
        outcomes = run_checks(reader())
    assert [outcome.message for outcome in outcomes if outcome.state != "passed"] == []
    with using_files([tmp_path / "a.myf"]):
        skipped = {o.check: o.message for o in run_checks(reader()) if o.state == "skipped"}
    assert skipped.keys() == {"quotes_nothing_of_a_file", "identity_stays_behind"}
    assert all("--identity WORD" in message for message in skipped.values())
    states = [outcome.state for outcome in run_checks(reader())]
    assert (states.count("passed"), states.count("skipped")) == (3, len(CHECKS) - 3)


def leaky(data, name):
    raster = read(data, name)
    return Raster(raster.pixels, 0.5, {"patient": data[4:20].decode().strip()})


def lettered(data, name):
    return Raster(read(data, name).pixels, 0.5, {}, (f"label of {IDENTITY.upper()}",))


def quoting(data, name):
    try:
        return read(data, name)
    except ImageError as error:
        raise ImageError(f"{name}: {data!r}", code="corrupt") from error


def chancy(data, name):
    read(data, name)
    return Raster(np.random.default_rng().integers(0, 2, (40, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("function", "check"),
    [
        (leaky, "identity_stays_behind"),
        (lettered, "identity_stays_behind"),
        (quoting, "quotes_nothing_of_a_file"),
        (crash, "refuses_what_is_no_such_file"),
        (chancy, "same_file_gives_same_image"),
        (lambda data, name: Raster(read(data, name).pixels[..., 0]), "gives_images"),
        (
            lambda data, name: Raster(np.zeros((40, 40, 3), np.uint8)),
            "refuses_what_is_no_such_file",
        ),
    ],
)
def test_a_reader_that_breaks_the_contract_fails_its_check(fields, tmp_path, function, check):
    (tmp_path / "a.myf").write_bytes(packed(fields[0]))
    with using_files([tmp_path / "a.myf"], identity=[IDENTITY]):
        states = {outcome.check: outcome.state for outcome in run_checks(reader(function))}
    assert states[check] == "failed"


def test_own_formats_are_read_without_a_look_at_what_is_installed(tmp_path, fields):
    Image.fromarray(fields[0]).save(tmp_path / "a.png")
    program = (
        "import sys, allkit, allkit.plugins.catalogue as c\n"
        "def refuse(): raise SystemExit('it looked')\n"
        "c.installed = refuse\n"
        "allkit.read_image(sys.argv[1]); allkit.read_image(open(sys.argv[1], 'rb').read())\n"
        "from allkit.data.left_out import is_image_name\n"
        "assert is_image_name('a.png') and not is_image_name('notes')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.png")], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_only_the_reader_that_is_needed_is_imported(tmp_path, monkeypatch, fields):
    site = tmp_path / "site"
    for name, magic in (("alpha", "AAAA"), ("beta", "BBBB")):
        info = site / f"{name}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[allkit]\n{name} = {name}\n")
        (site / f"{name}.py").write_text(
            "import numpy as np\nfrom allkit import Raster, Reader, hookimpl\napi_version = 2\n"
            "def read(data, name): return Raster(np.zeros((40, 40, 3), np.uint8))\n"
            "@hookimpl\ndef allkit_readers():\n"
            f"    return [Reader('{name}', ('.{name}',), read, magic=((0, b'{magic}'),))]\n"
        )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("ALLKIT_PLUGINS", "alpha,beta")
    from allkit.plugins import using

    with using(Registry()):
        assert allkit.read_image(b"BBBB....").shape == (40, 40, 3)
    assert "beta" in sys.modules
    assert "alpha" not in sys.modules
    monkeypatch.delitem(sys.modules, "beta")
