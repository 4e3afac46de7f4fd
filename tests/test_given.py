"""What one image is: the same for a model, an exported file and whatever answers."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

import allkit
from allkit.errors import AllkitError, ImageError
from allkit.images.given import given, one
from allkit.runtime.onnx import OnnxPredictor


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    tiny.export(path)
    return OnnxPredictor(path)


@pytest.fixture(params=["model", "file"])
def answering(request, tiny):
    """A classifier, and the file that was made of it."""
    return tiny if request.param == "model" else request.getfixturevalue("exported")


@pytest.fixture(scope="module")
def path(drawn):
    return drawn.parent / allkit.Dataset.open(drawn).samples[0].image


def png(array, **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", **options)
    return stream.getvalue()


def opened(path):
    return Image.open(io.BytesIO(path.read_bytes()))


def pixels(height=40, width=60, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


FORMS = {
    "text": str,
    "path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "array": lambda path: allkit.read_image(path),
    "file": lambda path: io.BytesIO(path.read_bytes()),
    "pillow": lambda path: opened(path),
    "pillow, used": lambda path: opened(path).convert("RGB"),
    "pillow, with alpha": lambda path: opened(path).convert("RGBA"),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_image_in_any_form_is_one_answer_and_so_it_is_in_a_list(answering, path, form):
    (wanted,) = answering.predict([path])
    assert wanted.verdict != "unreadable"
    for images in (FORMS[form](path), [FORMS[form](path)], iter([FORMS[form](path)])):
        (answer,) = answering.predict(images)
        assert answer.probabilities == pytest.approx(wanted.probabilities, abs=1e-6)
        assert answer.verdict == wanted.verdict
        assert answer.image == (str(path) if form in ("text", "path") else "image 0")


def test_a_batch_is_as_many_images_and_a_grey_picture_is_one(answering):
    batch = np.stack([pixels(seed=seed) for seed in range(3)])
    assert [a.image for a in answering.predict(batch)] == ["image 0", "image 1", "image 2"]
    grey = batch[0, :, :, 0].copy()
    (answer,) = answering.predict(grey)
    (wanted,) = answering.predict(np.stack([grey] * 3, axis=2))
    assert answer.probabilities == pytest.approx(wanted.probabilities, abs=1e-6)


NEVER = {
    "None": (None, "is None"),
    "a number": (7, "is an int"),
    "a dict": ({"a.png": 1}, "is a dict"),
    "a table": (type("Table", (list,), {"columns": ["image"]})(["image"]), "is a Table"),
    "None in a list": (["a.png", None], "Image 1 is None"),
    "a gap of a table": (["a.png", "b.png", float("nan")], "Image 2 is a float"),
    "a list in a list": ([["a.png"]], "Image 0 is a list"),
    "floats": (np.zeros((40, 60, 3)), r"\(40, 60, 3\) and the type float64"),
    "floats in a list": ([np.zeros((40, 60, 3))], "Image 0 has the shape"),
    "four channels": (np.zeros((40, 60, 4), np.uint8), r"\(40, 60, 4\)"),
    "a batch of floats": (np.zeros((2, 40, 60, 3)), "float64"),
    "a batch in a list": ([np.zeros((2, 40, 60, 3), np.uint8)], r"\(2, 40, 60, 3\)"),
    "one number in an array": (np.array(7), "int64"),
    "text": (io.StringIO("a.png\nb.png\n"), "opened as text"),
    "a function": (len, "is a builtin"),
}


@pytest.mark.parametrize("what", NEVER)
def test_what_can_be_no_image_is_the_callers_mistake_and_no_unreadable_patient(answering, what):
    images, told = NEVER[what]
    with pytest.raises(ImageError, match=told) as raised:
        answering.predict(images)
    assert raised.value.code == "array"
    assert "Give a path" in str(raised.value)


def test_a_set_of_images_stands_for_its_images(answering, drawn):
    data = allkit.Dataset.open(drawn)[:2]
    assert [answer.image for answer in answering.predict(data)] == [s.image for s in data]


def test_what_is_wrong_as_a_whole_is_told_before_anything_is_answered(answering):
    with pytest.raises(ImageError, match="is a dict"):
        answering.stream({"a.png": 1})


def test_answers_that_come_before_a_mistake_are_given(answering, path):
    stream = answering.stream(iter([path, path, None, path]), batch_size=1)
    assert [next(stream).verdict for _ in range(2)] == ["review"] * 2
    with pytest.raises(ImageError, match="Image 2 is None"):
        next(stream)


def test_a_file_that_is_missing_or_damaged_stays_an_answer(answering, path, tmp_path):
    data = path.read_bytes()
    cut = Image.open(io.BytesIO(data[: len(data) // 2]))
    files = [data[:500], io.BytesIO(data[:500]), io.BytesIO(b""), tmp_path / "none.png", cut, data]
    answers = answering.predict(files)
    assert [a.verdict for a in answers] == ["unreadable"] * 5 + ["review"]
    assert "none.png does not exist" in answers[3].error
    assert "truncated" in answers[4].error


def test_a_member_of_a_damaged_archive_is_an_unreadable_image(tiny, path, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(path, "one.png")
    data = bytearray((tmp_path / "all.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "all.zip").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "all.zip") as archive, archive.open("one.png") as member:
        (answer,) = tiny.predict(member)
    assert answer.verdict == "unreadable"
    assert "Bad CRC" in answer.error


class Upload(io.BytesIO):
    """A file that counts how often it was read to its end, and has a patient's name."""

    name = "MEIER_ANNA_1961.png"
    ends = 0

    def read(self, size=-1):
        data = super().read(size)
        self.ends += not data
        return data


def test_a_file_is_read_once_from_its_beginning_left_as_it_was_and_its_name_is_not_kept(tiny, path):
    file = Upload(path.read_bytes())
    file.seek(7)  # somebody looked at its first bytes
    (answer,) = tiny.predict(file)
    assert answer.verdict == "review"
    assert (file.ends, file.closed, file.tell()) == (1, False, 7)
    assert answer.image == "image 0"
    damaged = Upload(b"no image")
    assert "MEIER" not in tiny.predict([damaged])[0].error


def test_files_that_are_closed_behind_the_iterator_are_answered(tiny, path):
    def opened():
        for _ in range(5):
            with path.open("rb") as file:
                yield file
            with Image.open(path) as picture:
                yield picture

    assert [a.verdict for a in tiny.predict(opened())] == ["review"] * 10


def test_a_file_that_is_closed_or_gives_text_is_a_mistake(tiny, path):
    file = io.BytesIO(path.read_bytes())
    file.close()
    with pytest.raises(ImageError, match="Image 0 is a file that is closed"):
        tiny.predict([file])

    class Wrapped:
        seek = None

        def read(self, size):
            return "text"

    with pytest.raises(ImageError, match="gives a str, not bytes"):
        tiny.predict([Wrapped()])


def test_a_pillow_image_is_read_as_its_path_is_and_stays_as_it_was(tmp_path):
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels(40, 60)).save(turned, exif=exif)
    wanted = allkit.read_image(turned)
    assert wanted.shape == (60, 40, 3)
    with Image.open(turned) as picture:
        np.testing.assert_array_equal(one(picture).read(), wanted)
        assert picture.tile  # nothing was decoded into the caller's image
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(opened(turned)))
        np.testing.assert_array_equal(one(picture).read(), wanted)  # now from its pixels


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "HSV", "I;16", "I", "PA"])
def test_the_pixels_of_a_pillow_image_keep_to_the_policy_of_the_reader(mode):
    colour = Image.fromarray(pixels())
    if mode in ("I;16", "I"):
        picture = Image.fromarray((pixels()[:, :, 0].astype(np.uint16) + 1) * 250).convert(mode)
        wanted = ((np.asarray(picture).astype(np.int64) + 128) // 257).astype(np.uint8)
        wanted = np.stack([wanted] * 3, axis=2)
    else:
        through = {"LA": "L", "PA": "P"}.get(mode, mode)
        picture = colour.convert(through).convert(mode)
        wanted = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(one(picture).read(), wanted)


@pytest.mark.parametrize(
    ("picture", "code"),
    [
        (Image.fromarray(np.zeros((40, 40), np.float32)), "float"),
        (Image.fromarray(np.full((40, 40), 70_000, np.int32)), "mode"),
        (Image.fromarray(np.full((40, 40), 900, np.uint16)), "low_bit_depth"),
        (Image.new("RGBA", (40, 40), (200, 0, 0, 90)), "translucent"),
        (Image.new("RGB", (20, 40)), "too_small"),
    ],
)
def test_the_pixels_of_a_pillow_image_are_refused_as_those_of_a_file(picture, code):
    with pytest.raises(ImageError, match="image 0") as raised:
        one(picture).read()
    assert raised.value.code == code


def test_a_buffer_that_is_written_to_again_does_not_change_an_answer():
    buffer = bytearray(png(pixels()))
    first = one(buffer)
    buffer[:] = bytes(len(buffer))
    np.testing.assert_array_equal(first.read(), pixels())


def test_a_stream_of_files_reads_only_a_few_batches_ahead(tiny, path):
    drawn = 0
    source = path.read_bytes()

    def files():
        nonlocal drawn
        for _ in range(60):
            drawn += 1
            yield io.BytesIO(source)

    ahead = [drawn - answered for answered, _ in enumerate(tiny.stream(files(), batch_size=4))]
    assert len(ahead) == 60
    assert max(ahead) <= 20


def test_explain_takes_one_image_in_the_same_forms(tiny, path):
    found = [
        tiny.explain(form(path), check=False, method="occlusion").map
        for form in (FORMS["text"], FORMS["file"], FORMS["pillow"])
    ]
    np.testing.assert_allclose(found[1], found[0])
    np.testing.assert_allclose(found[2], found[0])
    with pytest.raises(ImageError, match="is a list, which is no image"):
        tiny.explain([path])


def test_a_case_of_one_field_may_be_given_without_a_list(tiny, path):
    assert tiny.predict_case(str(path)).fields == 1


def test_an_iterator_is_drawn_from_only_as_it_is_asked():
    drawn = []

    def paths():
        for number in range(10):
            drawn.append(number)
            yield f"{number}.png"

    found = given(paths())
    assert next(found).name == "0.png"
    assert drawn == [0]


def test_a_pillow_image_whose_file_was_closed_is_unreadable_and_the_others_are_answered(
    answering, path
):
    with Image.open(path) as closed:
        pass
    answers = answering.predict([path, closed, path])
    assert [a.verdict == "unreadable" for a in answers] == [False, True, False]
    assert "Open it again" in answers[1].error


def test_an_array_that_is_written_again_was_taken_before(answering, drawn):
    data = allkit.Dataset.open(drawn)
    images = [data.read(i) for i in range(8)]
    buffer = np.empty_like(images[0])

    def reused():
        for image in images:
            buffer[:] = image
            yield buffer

    wanted = answering.predict(images)
    for answer, expected in zip(answering.predict(reused()), wanted, strict=True):
        assert answer.probabilities == pytest.approx(expected.probabilities, abs=1e-6)


@pytest.mark.parametrize("size", [0, -3, 2.5, None, True])
def test_a_batch_size_that_is_none_is_refused_and_drops_nothing(answering, path, size):
    with pytest.raises(AllkitError, match="batch size"):
        answering.predict([path], batch_size=size)


def test_what_only_looks_like_a_file_or_a_path_is_the_callers_mistake(tmp_path):
    released = memoryview(b"x")
    released.release()

    class Broken:
        def __fspath__(self):
            raise OSError("no such thing")

    with (tmp_path / "out.png").open("wb") as written:
        for value, said in [
            ("", "an empty path"),
            (released, "was released"),
            (memoryview(pixels()), "a memoryview of an array"),
            (written, "opened for writing only"),
        ]:
            with pytest.raises(ImageError, match=said):
                one(value)
    with pytest.raises(ImageError):
        one(Broken())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_alike_from_its_file_and_from_its_pixels(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    content = png(pixels(), exif=exif)
    loaded = Image.open(io.BytesIO(content))
    loaded.load()
    np.testing.assert_array_equal(one(loaded).read(), one(content).read())


def test_an_orientation_in_xmp_turns_neither():
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    stream = io.BytesIO()
    Image.fromarray(pixels()).save(stream, "JPEG", xmp=xmp)
    loaded = Image.open(io.BytesIO(stream.getvalue()))
    loaded.load()
    assert one(loaded).read().shape == one(stream.getvalue()).read().shape == (40, 60, 3)
