"""Whole slides: the right tiles at the right scale, little memory, and nothing quiet about it."""

import contextlib
import csv
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import allkit_wsi
from allkit import ImageError, read_image
from allkit.data.drawn import draw_smears
from allkit.errors import ConfigError
from allkit.images.decode import decoded
from allkit.images.tiles import tile_named, tiles_of
from allkit.plugins import registry
from allkit.runtime.inputs import asked
from allkit.testing import conformance
from allkit.testing.readers import using_files
from allkit_wsi.settings import Tiling

openslide = pytest.importorskip("openslide")
tifffile = pytest.importorskip("tifffile")
resource = pytest.importorskip("resource", reason="Windows tells the memory in another way")

from allkit_wsi.slide import BLOCK, Slide, density_of  # noqa: E402 - needs openslide

WHOSE = "Jane Doe"  # made up
GLASS = (238, 236, 240)
SIDE, FIELDS = 2304, (4, 3)
CORNER = (896, 448)
"""Where the smear begins, x and y, in pixels of the scan."""


def scan(seed=5):
    """A slide `(SIDE, SIDE, 3)` at 0.25 micrometres a pixel: glass, and a smear of 4 × 3 fields."""
    image = np.empty((SIDE, SIDE, 3), np.uint8)
    image[:] = GLASS
    fields = [f.image for f in draw_smears(12, groups=4, seed=seed)]
    for number, field in enumerate(fields):
        row, column = divmod(number, FIELDS[0])
        y, x = CORNER[1] + 448 * row, CORNER[0] + 448 * column
        if x + 448 <= SIDE:
            image[y : y + 448, x : x + 448] = np.kron(field, np.ones((2, 2, 1), np.uint8))
    return image


def write(path, image, *, levels=2, scale=0.25):
    """Write a tiled TIFF as scanners do: each level a quarter of the one before."""
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            step = 4**level
            resolution = {} if scale is None else {
                "resolution": (1e4 / scale / step, 1e4 / scale / step),
                "resolutionunit": "CENTIMETER",
            }  # fmt: skip
            file.write(
                np.asarray(Image.fromarray(image).reduce(step)),
                tile=(256, 256),
                photometric="rgb",
                compression="adobe_deflate",
                subfiletype=int(level > 0),
                metadata=None,
                extratags=[(315, "s", 0, WHOSE, True)],
                **resolution,
            )
    return path


@pytest.fixture(scope="module")
def image():
    return scan()


@pytest.fixture(scope="module")
def slide(image, tmp_path_factory):
    return write(tmp_path_factory.mktemp("slides") / "a.svs", image)


@conformance("allkit-wsi")
def test_conformance(check, slide):
    with using_files([slide], identity=[WHOSE]):
        check()


def places(path, **settings):
    regions = Slide(path).regions(Tiling(**settings))
    return [tuple(int(part[2:]) for part in region.name.split(",")) for region in regions]


def test_tiles_cover_the_smear_and_no_bare_glass(slide):
    found = places(slide)
    assert found == sorted(found, key=lambda at: (at[1], at[0]))
    assert set(found) == {
        (CORNER[0] + 448 * column, CORNER[1] + 448 * row) for row in range(3) for column in range(3)
    }


def test_a_tile_has_the_pixels_of_the_scan_at_the_scale_of_the_training(slide, image):
    region = Slide(slide).regions(Tiling())[0]
    x, y = CORNER
    expected = image[y : y + 448, x : x + 448].reshape(224, 2, 224, 2, 3).mean(axis=(1, 3))
    tile = region.read()
    assert tile.shape == (224, 224, 3)
    assert tile.dtype == np.uint8
    assert np.abs(tile - expected).max() <= 1
    assert region.micrometres_per_pixel == 0.5


def test_settings_decide_scale_side_tissue_and_number(slide):
    assert set(places(slide, side=448)) <= {(x, y) for x in (0, 896) for y in (0, 896)}
    regions = Slide(slide).regions(Tiling(micrometres_per_pixel=1.0))
    assert regions[0].read().shape == (224, 224, 3)
    assert regions[0].micrometres_per_pixel == 1.0
    everything = places(slide, least_tissue=0)
    assert len(everything) == (SIDE // 448) ** 2
    assert places(slide, most_tiles=3) == [places(slide)[i] for i in (0, 4, 8)]
    with pytest.raises(ConfigError, match="side"):
        registry().get("reader", {"whole-slide": {"side": 3}})


def test_a_slide_without_small_levels_gives_the_same_tiles(image, slide, tmp_path):
    assert places(write(tmp_path / "flat.svs", image, levels=1)) == places(slide)


def test_what_was_not_scanned_counts_as_glass():
    overview = np.full((40, 40, 3), 240, np.uint8)
    overview[:10] = 0
    overview[10:20] = (200, 120, 190)
    density = density_of(overview)
    assert (density[:10] == 0).all()
    assert (density[10:20] > 0.2).all()
    assert (density[20:] == 0).all()


def test_the_overview_is_read_in_blocks(slide, monkeypatch):
    opened, sizes = Slide(slide), []
    before = opened._read
    monkeypatch.setattr(opened, "_read", lambda *a: sizes.append(a[2]) or before(*a))
    opened.overview()
    assert max(max(size) for size in sizes) <= BLOCK


# ── refusals ──────────────────────────────────────────────────────────────────────────────────


def refusal(path, **settings):
    with pytest.raises(ImageError) as caught:
        Slide(path).regions(Tiling(**settings))
    assert path.name in str(caught.value)
    return str(caught.value)


def test_a_slide_of_unknown_scale_is_refused_until_it_is_given(image, slide, tmp_path):
    path = write(tmp_path / "silent.svs", image, scale=None)
    said = refusal(path)
    assert "does not say how large its pixels are" in said
    for advice in ("{whole-slide: {stated_micrometres_per_pixel: 0.25}}", "tiles --stated 0.25"):
        assert advice in said
    assert places(path, stated_micrometres_per_pixel=0.25) == places(slide)


def test_a_scan_that_is_too_coarse_is_not_enlarged(image, tmp_path):
    assert "coarser" in refusal(write(tmp_path / "coarse.svs", image, scale=1.0))


def test_a_slide_smaller_than_a_tile_is_refused(image, tmp_path):
    assert "smaller than one tile" in refusal(
        write(tmp_path / "s.svs", image[:300, :300], levels=1)
    )


def test_what_is_no_slide_and_what_is_damaged_is_refused(slide, tmp_path):
    other = tmp_path / "text.svs"
    other.write_bytes(b"no slide")
    assert "no whole slide" in refusal(other)
    cut = tmp_path / "cut.svs"
    cut.write_bytes(slide.read_bytes()[: slide.stat().st_size // 2])
    refusal(cut)


@pytest.mark.parametrize("levels", [1, 2])
def test_one_damaged_tile_does_not_end_the_others(image, tmp_path, levels):
    path = write(tmp_path / "hurt.svs", image, levels=levels)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        columns = -(-SIDE // 256)
        number = (CORNER[1] // 256) * columns + CORNER[0] // 256
        at = page.dataoffsets[number]
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(b"\xff" * 40)
    tiles = tiles_of(str(path))
    with pytest.raises(ImageError, match="damaged"):
        tile_named(f"{path}#x={CORNER[0]},y={CORNER[1]}").read()
    intact = [t for t in tiles if int(t.region.name.split(",")[0][2:]) > CORNER[0]]
    assert len(intact) >= 6
    assert all(tile.read().shape == (224, 224, 3) for tile in intact)


def claim(path, *levels, tile=8192):
    """Write a tiled TIFF that claims levels of these sizes, and holds none of their tiles."""
    data, link = bytearray(b"II*\0" + bytes(4)), 4
    for number, (width, height) in enumerate(levels):
        tiles = -(-width // tile) * -(-height // tile)
        at = len(data)
        data += bytes(4 * tiles + 8 * tiles) + struct.pack("<2L", 40_000, 1)  # 4 px in a micrometre
        tags = [
            (254, 4, 1, int(number > 0)), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8),
            (259, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3), (282, 5, 1, len(data) - 8),
            (283, 5, 1, len(data) - 8), (284, 3, 1, 1), (296, 3, 1, 3), (322, 4, 1, tile),
            (323, 4, 1, tile), (324, 4, tiles, at if tiles > 1 else 0),
            (325, 4, tiles, at if tiles > 1 else 0),
        ]  # fmt: skip
        struct.pack_into("<L", data, link, len(data))
        data += struct.pack("<H", len(tags))
        for tag in tags:
            data += struct.pack("<HHLL", *tag)
        link = len(data)
        data += bytes(4)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("levels", "tile", "said"),
    [
        ([(5_000_000, 5_000_000)], 65536, "which no scanner makes"),
        ([(1_000_000, 1_000_000)], 8192, "4,981,824 tiles; the limit is 500,000"),
        ([(200_000, 200_000)], 8192, "has no small level"),
        ([(200_000, 200_000), (200_000, 50)], 8192, "has no small level"),
        ([(200_000, 200_000), (50, 2_000_000_000)], 65536, "tiles that can be read"),
        ([(100_000, 100_000)], 100_000, "tiles that can be read"),
    ],
)
def test_a_slide_that_claims_too_much_is_refused_at_once(levels, tile, said, tmp_path):
    path = claim(tmp_path / "claims.svs", *levels, tile=tile)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert said in refusal(path)
    assert time.monotonic() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


def test_a_level_that_lies_is_left_out(tmp_path):
    path = claim(tmp_path / "lies.svs", (20_000, 20_000), (20_000, 1_500), (1_000, 1_000))
    slide = Slide(path)
    assert [step for _, step in slide._levels] == [1.0, 20.0]
    assert slide.regions(Tiling(least_tissue=0))[0].read().shape == (224, 224, 3)


def test_a_slide_cut_anywhere_is_refused_or_gives_tiles_or_refusals(slide, tmp_path):
    data, path = slide.read_bytes(), tmp_path / "cut.svs"
    for length in (0, 3, 8, 100, len(data) // 3, len(data) - 100, len(data) - 3):
        path.write_bytes(data[:length])
        with contextlib.suppress(ImageError):
            for region in Slide(path).regions(Tiling()):
                with contextlib.suppress(ImageError):
                    assert region.read().shape == (224, 224, 3)


def test_threads_read_one_slide_together(slide):
    tiles = tiles_of(str(slide))
    alone = [tile.read() for tile in tiles]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda tile: tile.read(), tiles * 4))
    assert all((one == alone[i % len(alone)]).all() for i, one in enumerate(together))


# ── answers, command, health ──────────────────────────────────────────────────────────────────


def test_what_is_asked_about_a_slide_are_its_tiles_which_say_so(slide):
    images = list(asked(slide).images)
    assert [one.name for one in images] == [f"{slide}#x={x},y={y}" for x, y in places(slide)]
    assert all(decoded(one.source).tile for one in images)


@pytest.fixture
def command():
    """The command as `allkit tiles` runs it: `command("slide.svs", "--out", "tiles")`."""
    import typer
    from typer.testing import CliRunner

    app = typer.Typer()
    (record,) = allkit_wsi.allkit_commands()
    app.command(record.name)(record.build())

    def run(*arguments):
        return CliRunner().invoke(app, list(map(str, arguments)))

    return run


def test_tiles_are_saved_with_their_places_and_stay_tiles(slide, tmp_path, command):
    out = tmp_path / "tiles"
    result = command(slide, "--out", out)
    assert (result.exit_code, "9 tiles of a.svs" in result.output) == (0, True)
    rows = list(csv.DictReader((out / "tiles.csv").read_text().splitlines()))
    assert [(int(row["x"]), int(row["y"])) for row in rows] == places(slide)
    assert {(row["slide"], row["side"], row["micrometres_per_pixel"]) for row in rows} == {
        ("a.svs", "448", "0.5")
    }
    for row, tile in zip(rows, tiles_of(str(slide)), strict=True):
        assert (read_image(out / row["image"]) == tile.read()).all()
        assert decoded(out / row["image"]).tile
    assert isinstance(command(slide, "--out", out).exception, ConfigError)


def test_the_command_takes_a_pyramidal_tiff_and_refuses_wrong_settings(image, tmp_path, command):
    path = write(tmp_path / "a.tif", image)
    assert command(path, "--out", tmp_path / "t", "--most-tiles", 2).exit_code == 0
    assert len(list((tmp_path / "t").glob("*.png"))) == 2
    error = command(path, "--out", tmp_path / "u", "--least-tissue", 2).exception
    assert "--least-tissue" in str(error)
    assert not (tmp_path / "u").exists()


def test_the_health_check_names_the_library_or_what_to_install(monkeypatch):
    (found,) = allkit_wsi._health()
    assert found.state == "note"
    assert openslide.__library_version__ in found.message

    def absent():
        raise ImportError("no library")

    monkeypatch.setattr("allkit_wsi.slide.library", absent)
    (found,) = allkit_wsi._health()
    assert (found.state, found.fix) == ("problem", "pip install 'allkit-wsi[openslide]'")


def test_without_the_library_a_slide_says_what_to_install(slide, monkeypatch):
    def absent():
        raise ImportError("no library")

    monkeypatch.setattr("allkit_wsi.slide.library", absent)
    with pytest.raises(ImageError, match="pip install"):
        Slide(slide)
