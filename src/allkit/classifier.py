"""A trained classifier: answer, judge, save, load, export."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from allkit.checkpoint import ModelInfo, read_model, write_model
from allkit.data.dataset import Dataset
from allkit.duplicates import match, pack, unpack
from allkit.errors import CheckpointError, DatasetError, ExportError, PluginError
from allkit.features import Extractor, FeatureCache, Progress
from allkit.files import require_free
from allkit.metrics import Evaluation, evaluate
from allkit.network import Branches, Head, Network, Pipeline, cut, fingerprint
from allkit.plugins import registry
from allkit.probes import QUICK, collect, measure, score, too_few
from allkit.records import Backbone, Exporter, InputSpec, Prediction
from allkit.report.card import model_card
from allkit.runtime.answers import answer, stream

__all__ = ["Classifier"]


class Classifier:
    """Answers for blood-smear images. Made by `Trainer.fit` or `Classifier.load`.

    Safe to share between threads. `info` describes it: classes, backbone, training data (as
    hashes), settings, figures of the validation.
    """

    def __init__(
        self,
        network: Network,
        info: ModelInfo,
        *,
        device: torch.device | str = "cpu",
        pictures: Mapping[str, bytes] | None = None,
        training: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        self.info = info
        self.device = torch.device(device)
        self.network = network.eval().requires_grad_(False).to(self.device)
        self.pictures = dict(pictures or {})
        """PNG pictures of the training, by file name, saved under `plots/`."""
        self.training = dict(training or {})
        """What is kept of the training images to know their fields again (`fingerprints`)."""
        self._extractor = Extractor(
            network.embedding(), self.spec, info.backbone.identity, self.device
        )

    def __repr__(self) -> str:
        return f"<Classifier {self.info.backbone.name!r}: {', '.join(self.classes)}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.info.classes

    @property
    def spec(self) -> InputSpec:
        """How an image is standardised for the backbone."""
        return InputSpec(self.info.backbone.size, self.info.backbone.mean, self.info.backbone.std)

    # ── answering ──────────────────────────────────────────────────────────────────────────

    def predict(
        self,
        images: str | Path | bytes | npt.NDArray[np.uint8] | Iterable[Any],
        *,
        batch_size: int = 16,
    ) -> list[Prediction]:
        """Return one answer per image, in order.

        An image is a path, the bytes of an encoded file, or an `(H, W, 3)` uint8 RGB array; a
        single one may be given without a list. An image that cannot be read gets the verdict
        `unreadable`, and the others are still answered.
        """
        return list(self.stream(images, batch_size=batch_size))

    def stream(self, images: Any, *, batch_size: int = 16) -> Iterator[Prediction]:
        """Yield one answer per image, in order, in constant memory."""
        if isinstance(images, (str, Path, bytes)) or (
            isinstance(images, np.ndarray) and images.ndim <= 3
        ):
            images = [images]
        return stream(images, self.probabilities, self.classes, batch_size=batch_size)

    def probabilities(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Return `(N, K)` float32 probabilities for N images, each `(H, W, 3)` uint8 RGB."""
        return self._from_features(self._extractor.compute(list(images)))

    def _from_features(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits = self.network.classify(torch.from_numpy(features).to(self.device))
            probabilities: npt.NDArray[np.float32] = (
                torch.softmax(logits.float(), dim=1).cpu().numpy()
            )
        return probabilities

    # ── judging ────────────────────────────────────────────────────────────────────────────

    def evaluate(
        self,
        dataset: Dataset,
        *,
        cache: FeatureCache | None = None,
        progress: Progress | None = None,
        probes: bool = True,
    ) -> Evaluation:
        """Return the figures on a labelled set; `cache` keeps features for the next time.

        With `probes`, the strongest shortcut probe on the same images stands in `extra` under
        `shortcut_probe`: what a classifier gets that reads no cell.

        Raises `DatasetError` when an image is unreadable or a label is none of the model's. The
        notes of the result say when the figures are worth less than they look: images that were
        trained on, a division by image, drawn images.
        """
        if len(dataset) == 0:
            raise DatasetError(f"{dataset.name} holds no images to evaluate.")
        strange = sorted(set(dataset.classes) & set(dataset.counts) - set(self.classes))
        if strange:
            raise DatasetError(
                f"{dataset.name} has the labels {', '.join(map(repr, strange))}, which this model "
                f"does not know. It knows: {', '.join(self.classes)}."
            )
        extractor = self._extractor
        extractor = Extractor(
            extractor.backbone, extractor.spec, extractor.identity, self.device, cache=cache
        )
        features = extractor.extract(dataset, progress=progress, label="features")
        probabilities = self._from_features(features)
        position = {name: index for index, name in enumerate(self.classes)}
        truth = np.array([position[s.label] for s in dataset], dtype=np.int64)
        verdicts = [
            answer(s.image, row, self.classes).verdict
            for s, row in zip(dataset, probabilities, strict=True)
        ]
        return evaluate(
            truth, probabilities, self.classes, verdicts=verdicts,
            units=dataset.units if dataset.has_groups else None, notes=self._cautions(dataset),
            extra={"shortcut_probe": strongest_probe(dataset)} if probes else {},
        )  # fmt: skip

    def _cautions(self, dataset: Dataset) -> list[str]:
        trained = set(self.info.data.images_sha256)
        seen = sum(digest in trained for digest in dataset.hashes)
        groups = set(self.info.data.groups_sha256)
        shared = sum(group_hash(s.group or s.case) in groups for s in dataset if s.group or s.case)
        notes = []
        if seen:
            notes.append(
                f"{seen} of these {len(dataset)} images were trained on: the figures are too high."
            )
        if shared > seen:
            notes.append(
                f"{shared} of these {len(dataset)} images come from groups that were trained on: "
                f"the figures say nothing about new slides."
            )
        shown = {index for index, _ in match(dataset.signatures, unpack(self.training))}
        shown -= {i for i, digest in enumerate(dataset.hashes) if digest in trained}
        if shown:
            notes.append(
                f"{len(shown)} of these {len(dataset)} images show a field that was trained on, "
                f"photographed again: the figures are too high."
            )
        kept = len(self.training.get("counts", ()))
        if self.training and kept < len(trained):
            notes.append(
                f"Images of the same field were looked for among {kept:,} of the {len(trained):,} "
                f"training images; the model keeps no more."
            )
        if "image" in (dataset.split_by, self.info.data.split_by):
            notes.append(IMAGE_LEVEL)
        if self.info.data.drawn:
            notes.append("The model was trained on drawn images: nothing follows for real smears.")
        return notes

    # ── keeping ────────────────────────────────────────────────────────────────────────────

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model folder, whole or not at all, and return its path.

        Raises `ConfigError` when it exists and `overwrite` is false.
        """
        folder = Path(folder)
        if not self.info.backbone.fingerprint:
            mark = fingerprint(self.network.backbone, self.spec)
            known = self.info.backbone.model_copy(update={"fingerprint": mark})
            self.info = self.info.model_copy(update={"backbone": known})
        arrays = {
            f"network.{name}": tensor.detach().cpu().contiguous()
            for name, tensor in self.network.state_dict().items()
        } | {f"data.{name}": torch.from_numpy(array) for name, array in self.training.items()}
        card = model_card(self.info.model_dump(mode="json"))
        write_model(
            folder, self.info, arrays, card=card, pictures=self.pictures, overwrite=overwrite
        )
        return folder

    @classmethod
    def load(cls, folder: str | Path, *, device: torch.device | str = "cpu") -> Classifier:
        """Read a model folder.

        Raises `CheckpointError` when something is missing or altered, and `PluginError` that
        says what to install when the plugin of its backbone is not there.
        """
        folder = Path(folder)
        info, arrays = read_model(folder)
        record = _backbone_of(info)
        network = _empty_network(record.build("none"), info)
        state = _under("network.", arrays)
        training = {name: array.numpy() for name, array in _under("data.", arrays).items()}
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()[:200]
            raise CheckpointError(
                f"The arrays in {folder} do not fit the backbone {info.backbone.name!r} as "
                f"{info.backbone.distribution} builds it today: {detail} It was saved with "
                f"{info.backbone.distribution} {info.backbone.version}; install that version."
            ) from None
        _warn_of_another_version(info, network.backbone)
        return cls(network, info, device=device, training=training)

    def export(
        self,
        path: str | Path,
        *,
        format: str = "onnx",
        overwrite: bool = False,
        check: Sequence[npt.NDArray[np.uint8]] | None = None,
    ) -> float:
        """Write the model as one file of another format, and prove that it answers alike.

        The file holds the whole way from uint8 RGB pixels to probabilities. It is run on `check`
        images (drawn ones without it); the largest difference of a probability is returned.
        Raises `ExportError`, and leaves no file, when the answers do not agree.
        """
        path = Path(path)
        exporter: Exporter = registry().get("exporter", format)
        if path.suffix != exporter.suffix:
            raise ExportError(
                f"A {format} file is named *{exporter.suffix}, not {path.name!r}. Choose another name."
            )
        require_free(path, overwrite=overwrite)
        images = list(check) if check is not None else _drawn_checks()
        part = path.with_name(f".{path.stem}.part{exporter.suffix}")
        try:
            exporter.write(self, part, precision="float32", calibration=None)
            theirs = exporter.open(part).probabilities(images)
            ours = self.probabilities(images)
            difference = float(np.abs(ours - theirs).max())
            if difference > AGREEMENT or (ours.argmax(1) != theirs.argmax(1)).any():
                raise ExportError(
                    f"The {format} file does not answer like the model: on {len(images)} images "
                    f"the probabilities differ by up to {difference:.2g}. It was not written."
                )
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return difference

    def pipeline(self) -> Pipeline:
        """Return the whole way from `(N, H, W, 3)` uint8 to `(N, K)` probabilities, on the CPU."""
        # A copy: moving the network itself would take it away from whoever answers with it.
        return Pipeline(self.spec, copy.deepcopy(self.network).cpu()).eval()


def _empty_network(backbone: torch.nn.Module, info: ModelInfo) -> Network:
    """Return the network that the arrays of a model folder fit."""
    parts = info.backbone
    if parts.cut is not None:
        trunk, tail = cut(backbone, parts.cut)
        backbone = Branches(trunk, [copy.deepcopy(tail) for _ in range(parts.members)])
    heads = [Head(parts.width, len(info.classes)) for _ in range(parts.members)]
    return Network(backbone, heads, orientations=parts.orientations)


AGREEMENT = 1e-4
IMAGE_LEVEL = (
    "Image-level split: images of the same slide, even of the same field, were trained on and "
    "tested. This is the protocol of the published systems; its figures are inflated."
)


def group_hash(group: str | None) -> str:
    """Return the hash by which a group is remembered: its name may be a patient's."""
    import hashlib

    return hashlib.sha256(f"group {group}".encode()).hexdigest()[:16] if group else ""


FINGERPRINTS = 10_000
"""Images whose fingerprints a model keeps, at most: 3.5 KB each."""


def fingerprints(dataset: Dataset) -> dict[str, npt.NDArray[Any]]:
    """Return what is kept of a set's images to know their fields again, as plain arrays.

    Keypoints and bits of their surroundings, from which no picture can be shown. Of more than
    10,000 images, as many are taken at equal distances.
    """
    step = max(1, -(-len(dataset) // FINGERPRINTS))
    return pack(dataset.subset(range(0, len(dataset), step)).signatures)


def strongest_probe(dataset: Dataset) -> dict[str, Any]:
    """Return the strongest shortcut probe on a set, or why there is none, as plain values."""
    labels, units = dataset.labels, dataset.fields
    reason = too_few(labels, units, dataset.classes)
    if reason:
        return {"name": None, "reason": reason}
    seen = collect(dataset.each(lambda index: measure(*dataset.load(index))))
    best = score(seen, labels, units, names=QUICK, folds=3, trees=50)[0]
    return {
        "name": best.name,
        "balanced_accuracy": best.balanced_accuracy,
        "interval": [best.low, best.high],
        "chance": 1 / len(np.unique(labels)),
        "blind_to_cells": best.blind,
    }


def _under(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {n.removeprefix(prefix): t for n, t in arrays.items() if n.startswith(prefix)}


def _drawn_checks() -> list[npt.NDArray[np.uint8]]:
    from allkit.data.drawn import draw_smears

    return [field.image for field in draw_smears(8, groups=8, seed=20)]


def _warn_of_another_version(info: ModelInfo, backbone: torch.nn.Module) -> None:
    """Warn when a plugin of another version computes other features from the same weights."""
    saved = info.backbone
    now = registry().provider("backbone", saved.name)
    if (now.distribution, now.version) == (saved.distribution, saved.version):
        return
    if not saved.fingerprint:
        return
    mark = fingerprint(backbone, InputSpec(saved.size, saved.mean, saved.std))
    norm = abs(mark[0] - saved.fingerprint[0]) / (saved.fingerprint[0] or 1.0)
    rest = zip(mark[1:], saved.fingerprint[1:], strict=True)
    if max(norm, *(abs(a - b) for a, b in rest)) > 1e-3:
        warnings.warn(
            f"This model was made with {saved.distribution} {saved.version}; {now.origin} computes "
            f"other features from the same weights, so its figures no longer hold. Install "
            f"{saved.distribution}=={saved.version}, or train again.",
            stacklevel=3,
        )


def _backbone_of(info: ModelInfo) -> Backbone:
    try:
        record: Backbone = registry().get("backbone", info.backbone.name)
    except PluginError as error:
        if info.backbone.distribution == "allkit":
            raise
        raise PluginError(
            f"This model needs the backbone {info.backbone.name!r} of the plugin "
            f"{info.backbone.distribution} {info.backbone.version}, which is not there: install "
            f"{info.backbone.distribution}=={info.backbone.version}. ({error})"
        ) from None
    return record
