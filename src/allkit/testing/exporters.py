"""The checks of an exporter."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from allkit.errors import AllkitError, ExportError
from allkit.plugins import registry
from allkit.plugins.asked import bound
from allkit.plugins.guard import Guarded
from allkit.plugins.suffixes import own_suffix
from allkit.records import Exporter, Prediction, Predictor, Reference
from allkit.runtime.opening import same_exporter
from allkit.runtime.seal import check_seal, exporter_in, with_parity
from allkit.testing.checks import ConformanceError, Skipped, require
from allkit.testing.examples import sample_images, tiny_model, trained
from allkit.testing.surroundings import changed, global_state
from allkit.trust.reasons import codes_of

if TYPE_CHECKING:
    from allkit.model.classifier import Classifier

__all__ = ["CHECKS"]

AGREEMENT = 1e-4
TAKE = "Give what you are given to `allkit.runtime.answers.stream`, which knows what an image is."


KIT = "Write the file with `allkit.exporting.write`."
_files: list[tuple[Exporter, str, bytes]] = []
"""What each record wrote last: it takes seconds. A record with settings has no hash."""


def _write(record: Exporter, model: Any, path: Path, **options: Any) -> None:
    """Write a model as the registry would have it written: with settings, which are the defaults."""
    if record.settings is not None and not isinstance(record.write, Guarded):
        record = bound(record, record.settings(), "unpackaged", "exporter")
    record.write(model, path, **({"precision": "float32", "calibration": None} | options))


def _written(record: Exporter, bag: str = "field") -> bytes:
    """Return the bytes of the file of a tiny model."""
    for known, of_bag, data in _files:
        if known is record and of_bag == bag:
            return data
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{record.suffix}"
        _write(record, tiny_model() if bag == "field" else _model_with_cells(), path)
        require(path.is_file(), f"`write` left no file at {path.name}.")
        others = [p.name for p in Path(folder).iterdir() if p != path]
        require(not others, f"Beside {path.name} it wrote {', '.join(others)}; one file is wanted.")
        data = path.read_bytes()
    _files[:] = [*_files[-3:], (record, bag, data)]
    return data


@cache
def _model_with_cells() -> Classifier:
    """Return a classifier that is shown fields in tiles and the white cells in them."""
    return trained("timm:test_resnet", bag="both")


def _opened(record: Exporter, folder: str, bag: str = "field") -> Predictor:
    path = Path(folder) / f"model{record.suffix}"
    path.write_bytes(_written(record, bag))
    return record.open(path)


def writes_one_file(record: Exporter) -> None:
    """`write` makes the one file it is told to make, and nothing beside it."""
    require(len(_written(record)) > 0, "The file it wrote is empty.")


def answers_like_the_model(record: Exporter) -> None:
    """On images of several sizes, classes and answers are the model's, probabilities to 0.0001."""
    images = list(sample_images())
    with tempfile.TemporaryDirectory() as folder:
        predictor = _opened(record, folder)
        require(isinstance(predictor, Predictor), "What `open` returns is no Predictor.")
        require(
            tuple(predictor.classes) == tiny_model().classes,
            f"Its classes are {predictor.classes}, the model's {tiny_model().classes}.",
        )
        _require_alike(predictor, tiny_model(), images)


def _require_alike(predictor: Predictor, model: Classifier, images: list[Any]) -> None:
    theirs, ours = predictor.probabilities(images), model.probabilities(images)
    require(theirs.shape == ours.shape, f"It answered {theirs.shape} for {ours.shape}.")
    difference = float(np.abs(theirs - ours).max())
    require(difference <= AGREEMENT, f"Probabilities differ by up to {difference:.2g}.")
    for mine, its in zip(model.predict(images), predictor.predict(images), strict=True):
        codes = its.reason_codes or codes_of(its.reasons)
        require(
            (mine.label, mine.verdict, mine.reasons, mine.reason_codes)
            == (its.label, its.verdict, its.reasons, codes),
            f"The model says {mine.label}, {mine.verdict}; the file {its.label}, {its.verdict}.",
        )


def answers_like_a_model_with_cells(record: Exporter) -> None:
    """A model that is shown white cells, and large fields in tiles, is answered alike too."""
    small = list(sample_images()[:2])
    side = min(small[0].shape[:2])
    large = np.tile(small[0][:side, :side], (-(-448 // side), -(-448 // side), 1))
    with tempfile.TemporaryDirectory() as folder:
        try:
            predictor = _opened(record, folder, "both")
        except AllkitError as error:
            raise ConformanceError(
                f"A model with `bag: both` cannot be written: {error} Its graph takes `places` and "
                f"`shares` beside `pixels`: see `allkit.exporting`."
            ) from error
        _require_alike(predictor, _model_with_cells(), [*small, large])


def takes_any_number_of_images(record: Exporter) -> None:
    """One, two and five images at once are answered like each alone."""
    image = sample_images()[0]
    with tempfile.TemporaryDirectory() as folder:
        predictor = _opened(record, folder)
        images = [np.roll(image, 17 * k, axis=0) for k in range(5)]
        alone = np.concatenate([predictor.probabilities([i]) for i in images])
        for count in (1, 2, 5):
            difference = float(
                np.abs(predictor.probabilities(images[:count]) - alone[:count]).max()
            )
            require(
                difference <= AGREEMENT, f"{count} at once differ by {difference:.2g} from each."
            )


def answers_unreadable_images_too(record: Exporter) -> None:
    """A file that is no image gets the verdict `unreadable`; the others are still answered."""
    with tempfile.TemporaryDirectory() as folder:
        answers = _opened(record, folder).predict([b"no image", sample_images()[0]])
    verdicts = [answer.verdict for answer in answers]
    require(
        verdicts[0] == "unreadable" and verdicts[1] != "unreadable" and len(verdicts) == 2,
        f"For a broken and a good image it said {verdicts}. Use `allkit.runtime.answers.stream`.",
    )


def takes_one_image_in_every_form(record: Exporter) -> None:
    """One image without a list, in every form, gets one answer: the model's."""
    image = sample_images()[0]
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    data = stream.getvalue()
    (wanted,) = tiny_model().predict(image)
    with tempfile.TemporaryDirectory() as folder:
        predictor = _opened(record, folder)
        path = Path(folder) / "image.png"
        path.write_bytes(data)
        with path.open("rb") as file, Image.open(path) as picture:
            forms: dict[str, Any] = {
                "a path as text": str(path),
                "a Path": path,
                "bytes": data,
                "a bytearray": bytearray(data),
                "a memoryview": memoryview(data),
                "an array (H, W, 3)": image,
                "an open file": file,
                "a BytesIO": stream,
                "a Pillow image": picture,
                "the pixels of a Pillow image": picture.copy(),
            }
            for form, given in forms.items():
                for said in (_said(predictor.predict, given), _said(predictor.stream, given)):
                    if isinstance(said, Exception) or len(said) != 1:
                        raise ConformanceError(
                            f"For {form} it gave {_shown(said)}, not one answer. {TAKE}"
                        )
                    (answer,) = said
                    require(
                        (answer.verdict, answer.label) == (wanted.verdict, wanted.label)
                        and all(
                            abs(answer.probabilities[name] - value) <= AGREEMENT
                            for name, value in wanted.probabilities.items()
                        ),
                        f"For {form} the model says {wanted.label}, {wanted.verdict}; the file "
                        f"{answer.label}, {answer.verdict}. {TAKE}",
                    )
            require(not file.closed, f"It closed the file that it was given. {TAKE}")
            several = _said(predictor.predict, iter([data, path, image]))
            require(
                isinstance(several, list) and len(several) == 3,
                f"For an iterator over three images it gave {_shown(several)}. {TAKE}",
            )


def refuses_what_can_be_no_image(record: Exporter) -> None:
    """What can be no image is an `AllkitError`, and never the answer `unreadable`."""
    image = sample_images()[0]
    forms = {
        "None": None,
        "a number": 3,
        "a dict": {"image": image},
        "a list with None": [image, None],
        "a list with a number": [1.5],
        "a list in a list": [[image]],
        "a list with a dict": [{"image": image}],
        "an array of floats": image / 255,
        "an array (H, W, 4)": np.dstack([image, image[:, :, 0]]),
        "a text file": io.StringIO("x"),
    }
    with tempfile.TemporaryDirectory() as folder:
        predictor = _opened(record, folder)
        for form, given in forms.items():
            for said in (_said(predictor.predict, given), _said(predictor.stream, given)):
                require(
                    isinstance(said, AllkitError),
                    f"For {form} it gave {_shown(said)}, not an AllkitError. {TAKE}",
                )


def _said(ask: Callable[[Any], Iterable[Prediction]], images: Any) -> list[Prediction] | Exception:
    """Return the answers, or what was raised in their place."""
    try:
        return list(ask(images))
    except Exception as error:  # noqa: BLE001 - which is what is checked
        return error


def _shown(said: list[Prediction] | Exception) -> str:
    if isinstance(said, Exception):
        return f"{type(said).__name__}: {said}"
    return f"{len(said)} answers ({', '.join(answer.verdict for answer in said[:3])})"


def refuses_an_altered_file(record: Exporter) -> None:
    """One changed bit, anywhere, is an `ExportError` when the file is opened."""
    data = _written(record)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{record.suffix}"
        for part in range(8):
            position = min(len(data) - 1, len(data) * part // 7)
            altered = bytearray(data)
            altered[position] ^= 1
            path.write_bytes(altered)
            _refused(record, path, f"a file with a changed bit at byte {position} of {len(data)}")


def refuses_what_is_not_its_own(record: Exporter) -> None:
    """A cut file, an empty one, another one and a missing one are an `ExportError`."""
    data = _written(record)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{record.suffix}"
        _refused(record, path, "a file that does not exist")
        for name, content in [
            ("half a file", data[: len(data) // 2]),
            ("an empty file", b""),
            ("a file of noise", bytes(range(256)) * 64),
        ]:
            path.write_bytes(content)
            _refused(record, path, name)


def _refused(record: Exporter, path: Path, what: str) -> None:
    try:
        record.open(path)
    except ExportError:
        return
    except Exception as error:  # noqa: BLE001 - which is what is checked
        require(False, f"{what} raised {type(error).__name__}, not ExportError: {error}")
    require(False, f"It opened {what}.")


def writes_every_precision_it_declares(record: Exporter) -> None:
    """Each of `precisions` is written as one file that opens and names the model's classes."""
    images = list(sample_images())
    for precision in record.precisions:
        if precision == "float32":
            continue  # `writes_one_file` and `answers_like_the_model`
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{record.suffix}"
            try:
                _write(record, tiny_model(), path, precision=precision, calibration=images)
            except ExportError as error:
                require(False, f"It declares {precision} in `precisions`, but refuses it: {error}")
            require(path.is_file(), f"For {precision}, `write` left no file at {path.name}.")
            sums = record.open(path).probabilities(images).sum(axis=1)
            require(
                np.allclose(sums, 1, atol=AGREEMENT),
                f"The {precision} file's probabilities do not add up to 1.",
            )


def opens_without_torch(record: Exporter) -> None:
    """`open` and an answer import neither torch nor timm, in a process of its own."""
    if record.needs_torch:
        raise Skipped("it says that it needs torch")
    function = getattr(record.open, "func", record.open)
    module, name = function.__module__, function.__qualname__
    require("<" not in name, f"`open` is {name}; make it a function or class of the module.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{record.suffix}"
        path.write_bytes(_written(record))
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            f"import importlib, numpy, pathlib\n"
            f"predictor = importlib.import_module({module!r}).{name}(pathlib.Path({str(path)!r}))\n"
            f"predictor.predict([numpy.zeros((64, 64, 3), numpy.uint8)])\n"
            f"print([n for n in ('torch', 'timm', 'albumentations') if n in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    require(done.returncode == 0, f"It failed in a process of its own: {done.stderr[-300:]}")
    said = done.stdout.strip().splitlines()[-1]
    require(said == "[]", f"Answering imported {said}.")


def may_be_shared_between_threads(record: Exporter) -> None:
    """Four threads at once get what each would get alone."""
    with tempfile.TemporaryDirectory() as folder:
        predictor = _opened(record, folder)
        images = sample_images()
        alone = [predictor.probabilities([image]) for image in images]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda image: predictor.probabilities([image]), images))
    worst = max(float(np.abs(a - b).max()) for a, b in zip(alone, together, strict=True))
    require(worst <= AGREEMENT, f"In threads the probabilities differ by {worst:.2g}.")


def leaves_the_model_as_it_was(record: Exporter) -> None:
    """Writing changes neither the model's answers nor the state of the process."""
    images = list(sample_images()[:2])
    model = tiny_model()
    first = model.probabilities(images)
    _written(record)  # the first time may import libraries
    with tempfile.TemporaryDirectory() as folder:
        before = global_state()
        path = Path(folder) / f"model{record.suffix}"
        _write(record, model, path)
        different = changed(before, global_state())
    require(not different, f"Writing changed: {', '.join(different)}.")
    require(np.array_equal(first, model.probabilities(images)), "Writing changed the model.")


def its_file_is_sealed_and_names_its_exporter(record: Exporter) -> None:
    """The file has a hash, says by which exporter it was written, and takes its parity report."""
    data = _written(record)
    try:
        check_seal(data, "The file")
        finished = with_parity(data, {"precision": "float32"})
    except ExportError as error:
        raise ConformanceError(f"{error} {KIT}") from error
    require(finished is not None, f"It leaves no room for a parity report. {KIT}")
    named = exporter_in(data)
    require(named, f"It does not say by which exporter it was written. {KIT}")
    package = getattr(record.open, "origin", "unpackaged").partition(" ")[0]
    require(
        same_exporter(named, package, record.name),
        f"It says that {named} wrote it, and {Reference(record.name, package).qualified} did.",
    )


def has_a_suffix_of_its_own(record: Exporter) -> None:
    """Its suffix is not that of a format of allkit's own, which would open its files."""
    package = getattr(record.open, "origin", "").partition(" ")[0]
    taken = "" if package == "allkit" else own_suffix(registry(), f"model{record.suffix}")
    require(
        not taken,
        f"Files *{record.suffix} are those of {taken}: that would open them, and nothing can be exported "
        f"with {record.name}. Choose another suffix.",
    )


class _Failing:
    """A model of which nothing can be made."""

    def __getattr__(self, name: str) -> Any:
        return getattr(tiny_model(), name)

    def pipeline(self) -> Any:
        raise ExportError("This model is to fail, to see what is left of its file.")


def an_error_leaves_no_file(record: Exporter) -> None:
    """Where a model cannot be written, the error says so, and no half of a file is left."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _write(record, _Failing(), Path(folder) / f"model{record.suffix}")
        except AllkitError:
            left = [path.name for path in Path(folder).iterdir()]
            require(not left, f"After an error it left {', '.join(left)}. Write the file last.")
            return
    raise Skipped("it makes no use of `model.pipeline()`")


CHECKS = (
    has_a_suffix_of_its_own,
    writes_one_file,
    answers_like_the_model,
    answers_like_a_model_with_cells,
    takes_any_number_of_images,
    answers_unreadable_images_too,
    takes_one_image_in_every_form,
    refuses_what_can_be_no_image,
    refuses_an_altered_file,
    refuses_what_is_not_its_own,
    writes_every_precision_it_declares,
    opens_without_torch,
    may_be_shared_between_threads,
    leaves_the_model_as_it_was,
    its_file_is_sealed_and_names_its_exporter,
    an_error_leaves_no_file,
)
