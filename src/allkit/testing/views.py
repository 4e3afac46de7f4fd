"""The checks of a view."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from allkit.network.standardise import Standardise, to_batches
from allkit.plugins import using
from allkit.records import InputSpec, View
from allkit.testing.alone import imports_quickly
from allkit.testing.checks import require
from allkit.testing.examples import host_of, kept, model_of, sample_images
from allkit.testing.surroundings import changed, global_state, no_network

__all__ = ["CHECKS"]

SIZE = 96
SECONDS = 0.25  # for one field of 224 × 224 pixels
TOLERANCE = 1e-4


@kept
def _module(record: View) -> nn.Module:
    return record.build(SIZE).eval()


def _wholes() -> torch.Tensor:
    """Return drawn smears `(8, 3, S, S)` float32 in 0–1, as a view is given whole images."""
    plain = Standardise(InputSpec(SIZE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    images = sample_images()
    rows = torch.empty(len(images), 3, SIZE, SIZE)
    for indices, pixels in to_batches(images):
        rows[indices] = plain(pixels)
    return rows


def _seen(record: View, image: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        view: torch.Tensor = _module(record)(image, whole)
    require(isinstance(view, torch.Tensor), f"It returned {type(view).__name__}, no tensor.")
    return view.clone()


def keeps_the_places(record: View) -> None:
    """An image of any size, in any batch, becomes 1 or 3 planes of its size, float32 from 0 to 1."""
    wholes = _wholes()
    for count, height, width in ((1, SIZE, SIZE), (2, 33, 47), (3, 160, 120)):
        image = nn.functional.interpolate(wholes[:count], (height, width), mode="bilinear")
        view = _seen(record, image, wholes[:count])
        shape = tuple(view.shape)
        require(
            shape in ((count, 1, height, width), (count, 3, height, width)),
            f"For images {tuple(image.shape)} it returned {shape}; 1 or 3 planes of that size are wanted.",
        )
        require(view.dtype == torch.float32, f"It returned {view.dtype}, not float32.")
        _require_range(view)


def _require_range(view: torch.Tensor) -> None:
    require(bool(view.isfinite().all()), "Some of its values are not finite.")
    low, high = float(view.min()), float(view.max())
    require(low >= 0 and high <= 1, f"Its values are {low:.3g} to {high:.3g}; 0 to 1 is wanted.")


def takes_blank_images(record: View) -> None:
    """Black, white and grey images, one colour only, and noise are images too: finite, from 0 to 1."""
    noise = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    red = torch.tensor([0.8, 0.1, 0.2]).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE)
    blank = [torch.full((1, 3, SIZE, SIZE), value) for value in (0.0, 0.5, 1.0)]
    for image in (*blank, red, noise):
        _require_range(_seen(record, image, image))


def follows_the_image(record: View) -> None:
    """Different images are seen as different ones, and a place with a cell as another than the glass."""
    wholes = _wholes()
    view = _seen(record, wholes, wholes)
    require(not torch.equal(view[0], view[2]), "Two different images look the same.")
    require(float(view[0].std()) > 1e-3, "A smear looks the same everywhere.")


def answers_alike_every_time(record: View) -> None:
    """The same images look the same, and so they do to a view that is built again."""
    wholes = _wholes()
    first = _seen(record, wholes, wholes)
    require(torch.equal(first, _seen(record, wholes, wholes)), "Twice the same images, two views.")
    with torch.inference_mode():
        again = record.build(SIZE).eval()(wholes, wholes)
    require(torch.equal(first, again), "Built again, it shows the same images as others.")


def images_do_not_disturb_each_other(record: View) -> None:
    """What is seen of an image does not depend on what else is in the batch."""
    wholes = _wholes()[:3]
    together = _seen(record, wholes, wholes)
    alone = torch.cat([_seen(record, row[None], row[None]) for row in wholes])
    worst = float((together - alone).abs().max())
    require(worst <= TOLERANCE, f"In a batch the view differs by up to {worst:.2g}.")


def takes_its_measure_from_the_whole(record: View) -> None:
    """What is at the top of `image` changes nothing at its bottom: the scale comes from `whole`."""
    wholes = _wholes()[:1]
    image = nn.functional.interpolate(wholes, (2 * SIZE, 2 * SIZE), mode="bilinear")
    other = image.clone()
    other[..., : SIZE // 2, :] = 0.0
    bottom = [_seen(record, each, wholes)[..., SIZE:, :] for each in (image, other)]
    worst = float((bottom[0] - bottom[1]).abs().max())
    require(
        worst <= TOLERANCE,
        f"A black bar at the top of `image` changes its bottom by up to {worst:.2g}. Its scale has to come "
        "from `whole`.",
    )


def learns_nothing(record: View) -> None:
    """It has no weights that a training would change."""
    names = [name for name, _ in _module(record).named_parameters()]
    require(not names, f"It has weights: {', '.join(names)}. Keep what does not change in buffers.")


def changes_no_global_state(record: View) -> None:
    """Building and seeing change nothing of the process, and use no network."""
    wholes = _wholes()[:1]
    _seen(record, wholes, wholes)  # the first time may import libraries
    with no_network() as attempts:
        before = global_state()
        with torch.inference_mode():
            record.build(SIZE)(wholes, wholes)
        different = changed(before, global_state())
    require(not different, f"It changed: {', '.join(different)}.")
    require(not attempts, f"It tried to reach {', '.join(attempts)}.")


def goes_through_the_model_folder(record: View) -> None:
    """A classifier that is shown it, saved and loaded, gives the same probabilities."""
    import allkit

    images, model = list(sample_images()), model_of(record)
    with tempfile.TemporaryDirectory() as folder, using(host_of(record)):
        again = allkit.Classifier.load(model.save(Path(folder) / "model"))
    difference = float(np.abs(model.probabilities(images) - again.probabilities(images)).max())
    require(difference <= 1e-6, f"Loaded, its probabilities differ by up to {difference:.2g}.")


def exports_to_onnx(record: View) -> None:
    """A classifier that is shown it, written as ONNX, answers like the classifier."""
    with tempfile.TemporaryDirectory() as folder, using(host_of(record)):
        # `export` runs the file on these images and raises when an answer differs.
        model_of(record).export(Path(folder) / "model.onnx", check=list(sample_images()))


def is_quick(record: View) -> None:
    """One field of 224 × 224 pixels takes at most a quarter of a second."""
    module = record.build(224).eval()
    image = nn.functional.interpolate(_wholes()[:1], (224, 224), mode="bilinear")
    with torch.inference_mode():
        module(image, image)
        start = time.perf_counter()
        for _ in range(3):
            module(image, image)
    seconds = (time.perf_counter() - start) / 3
    require(seconds <= SECONDS, f"One field takes {seconds:.2f} s; at most {SECONDS} s is fair.")


CHECKS = (
    imports_quickly,
    keeps_the_places,
    takes_blank_images,
    follows_the_image,
    answers_alike_every_time,
    images_do_not_disturb_each_other,
    takes_its_measure_from_the_whole,
    learns_nothing,
    changes_no_global_state,
    goes_through_the_model_folder,
    exports_to_onnx,
    is_quick,
)
