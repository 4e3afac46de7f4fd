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
from allkit.data.mapping import LabelMap
from allkit.errors import CheckpointError, ConfigError, DatasetError, ExportError, PluginError
from allkit.explain import Explanation, Mapper, enlarge, share_on
from allkit.features import Extractor, FeatureCache, Progress
from allkit.files import require_free
from allkit.images import read_image
from allkit.judgement import Judged, cautions, figures_of, mapped_figures, require_labels
from allkit.metrics import Evaluation
from allkit.network import Branches, Head, Network, Plain, cut, fingerprint
from allkit.pipeline import Pipeline
from allkit.plugins import registry
from allkit.records import Backbone, CasePrediction, Exporter, InputSpec, Prediction
from allkit.report.card import model_card
from allkit.report.pictures import Example
from allkit.runtime.answers import answers, stream
from allkit.runtime.cases import combine
from allkit.runtime.smear import cell_mask
from allkit.runtime.trust import Outputs, Trust, signed_root
from allkit.transforms import Standardise
from allkit.trust import dataset_statistics

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
        trust: Trust | None = None,
        device: torch.device | str = "cpu",
        pictures: Mapping[str, bytes] | None = None,
        training: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        self.info = info
        self.trust = trust or Trust(info.classes)
        self.device = torch.device(device)
        self.network = network.eval().requires_grad_(False).to(self.device)
        self.pictures = dict(pictures or {})
        """PNG pictures of the training, by file name, saved under `plots/`."""
        self.training = dict(training or {})
        """What is kept of the training images to know their fields again (`fingerprints`)."""
        self._extractor = Extractor(
            network.embedding(), self.spec, info.backbone.identity, self.device
        )

        self._standardise = Standardise(self.spec).to(self.device)
        self._mapper = Mapper(Plain(self.network), _layer_for_maps(info.backbone.name))

    def __repr__(self) -> str:
        return f"<Classifier {self.info.backbone.name!r}: {', '.join(self.classes)}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.info.classes

    @property
    def spec(self) -> InputSpec:
        """How an image is standardised for the backbone."""
        saved = self.info.backbone
        return InputSpec(saved.size, saved.mean, saved.std, saved.view)

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

    def predict_case(self, images: Iterable[Any], case: str = "") -> CasePrediction:
        """Return one answer for several fields of one patient, as `allkit.combine` makes it."""
        return combine(self.predict(list(images)), case)

    def stream(self, images: Any, *, batch_size: int = 16) -> Iterator[Prediction]:
        """Yield one answer per image, in order, in constant memory."""
        if isinstance(images, (str, Path, bytes)) or (
            isinstance(images, np.ndarray) and images.ndim <= 3
        ):
            images = [images]
        return stream(images, self.outputs, self.trust, batch_size=batch_size)

    def probabilities(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Return `(N, K)` float32 probabilities for N images, each `(H, W, 3)` uint8 RGB.

        They are calibrated where the model is.
        """
        return self.trust.probabilities(self.outputs(images))

    def outputs(self, images: Sequence[npt.NDArray[np.uint8]]) -> Outputs:
        """Return logits `(N, K)` and features `(N, D)` for N images, each `(H, W, 3)` uint8 RGB."""
        return self._from_features(self._extractor.compute(list(images)))

    def _from_features(self, features: npt.NDArray[np.float32]) -> Outputs:
        with torch.inference_mode():
            logits = self.network.classify(torch.from_numpy(features).to(self.device))
        return Outputs(logits.float().cpu().numpy(), features)

    # ── judging ────────────────────────────────────────────────────────────────────────────

    def evaluate(
        self,
        dataset: Dataset,
        *,
        cache: FeatureCache | None = None,
        progress: Progress | None = None,
        probes: bool = True,
        label_map: LabelMap | Mapping[str, Any] | None = None,
    ) -> Evaluation:
        """Return the figures on a labelled set; `cache` keeps features for the next time.

        With `probes`, the strongest shortcut probe on the same images stands in `extra` under
        `shortcut_probe`: what a classifier gets that reads no cell. `label_map` says what the
        labels of another set mean to this model: `{"hem": "Benign", "all": "malignant"}`.

        Raises `DatasetError` when an image is unreadable or a label is none of the model's. The
        notes of the result say when the figures are worth less than they look: images that were
        trained on, a division by image, drawn images.
        """
        if label_map is not None:
            known = label_map if isinstance(label_map, LabelMap) else LabelMap.of(label_map)
            mapped = known.apply(dataset, self.classes)
            require_labels(mapped.dataset, mapped.classes)
            judged = self.judge(mapped.dataset, cache=cache, progress=progress)
            notes = cautions(self.info, self.training, mapped.dataset)
            return mapped_figures(mapped, judged, notes, probes=probes)
        require_labels(dataset, self.classes)
        judged = self.judge(dataset, cache=cache, progress=progress)
        notes = cautions(self.info, self.training, dataset)
        return figures_of(dataset, judged, self.classes, notes, probes=probes)

    def judge(
        self,
        dataset: Dataset,
        *,
        cache: FeatureCache | None = None,
        progress: Progress | None = None,
    ) -> Judged:
        """Return probabilities and decisions on every image of a set; labels are not looked at.

        Raises `DatasetError` when it is empty or an image is unreadable.
        """
        if len(dataset) == 0:
            raise DatasetError(f"{dataset.name} holds no images to evaluate.")
        outputs = self._from_features(self.features(dataset, cache=cache, progress=progress))
        statistics = dataset_statistics(dataset, cache=cache, progress=progress)
        probabilities, decisions = self.trust.judge(outputs, statistics)
        sets = self.trust.sets(probabilities) if self.trust.calibrated else None
        return Judged(probabilities, decisions, sets)

    def features(
        self,
        dataset: Dataset,
        *,
        cache: FeatureCache | None = None,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the features `(N, D)` that the heads see of every image of a set.

        Raises `DatasetError` that lists every unreadable image.
        """
        extractor = self._extractor
        extractor = Extractor(
            extractor.backbone, extractor.spec, extractor.identity, self.device, cache=cache
        )
        return extractor.extract(dataset, progress=progress, label="features")

    # ── explaining ─────────────────────────────────────────────────────────────────────────

    def explain(
        self,
        image: str | Path | bytes | npt.NDArray[np.uint8],
        *,
        target: str | None = None,
        method: str = "auto",
        check: bool = True,
        data: Dataset | None = None,
        cache: FeatureCache | None = None,
    ) -> Explanation:
        """Show where the network looked for an answer, and whether that map can be believed.

        `target` is the class to explain, by default the answer's. `method` is `hirescam` or
        `gradcam` where the backbone names a layer for it, `occlusion`, or `auto`. `check`
        measures whether the map is faithful. With `data`, a set that holds the training images,
        the nearest of these are shown; their features come from `cache`. Safe to call from
        several threads.

        Raises `ImageError`, `ConfigError` for an unknown class or method, and `DatasetError` when
        no image of `data` was trained on.
        """
        name = str(image) if isinstance(image, (str, Path)) else "image 0"
        pixels = read_image(image, name=name)
        outputs = self.outputs([pixels])
        (answer,) = answers([(name, pixels)], outputs, self.trust)
        chosen = target or str(answer.label)
        if chosen not in self.classes:
            raise ConfigError(
                f"The model knows no class {chosen!r}. It knows: {', '.join(self.classes)}."
            )
        way = self._mapper.choose(method)
        inputs = self._standardise(torch.from_numpy(pixels[None]).to(self.device))
        index = self.classes.index(chosen)
        found = self._mapper.map(inputs, index, way)
        large = enlarge(found, (pixels.shape[0], pixels.shape[1]))
        cells = cell_mask(pixels)
        notes = []
        if not found.any():
            notes.append("The map is empty: no place speaks for this class.")
        if method == "auto" and way == "occlusion":
            notes.append("This backbone names no layer for maps, so squares were covered instead.")
        return Explanation(
            answer=answer, target=chosen, method=way,
            layer=None if way == "occlusion" else self._mapper.layer,
            map=large, image=pixels, on_cells=share_on(large, cells),
            cell_area=float(cells.mean()),
            check=self._mapper.check(inputs, index, way, found) if check and found.any() else None,
            neighbours=self._neighbours(outputs, data, cache) if data is not None else (),
            notes=tuple(notes),
        )  # fmt: skip

    def _neighbours(
        self, outputs: Outputs, data: Dataset, cache: FeatureCache | None, count: int = 5
    ) -> tuple[Example, ...]:
        """Return the nearest images that were trained on, in the space of familiarity."""
        trained = set(self.info.data.images_sha256)
        learnt = [i for i, digest in enumerate(data.hashes) if digest in trained]
        if not learnt:
            raise DatasetError(
                f"None of the {len(data)} images of {data.name} was trained on. Give the images "
                f"that the model was trained on."
            )
        data = data.subset(learnt)
        extractor = self._extractor
        extractor = Extractor(
            extractor.backbone, extractor.spec, extractor.identity, self.device, cache=cache
        )
        features = extractor.extract(data, label="features")
        own, others = signed_root(outputs.features), signed_root(features)
        if self.trust.content is not None:
            own, others = (
                own @ self.trust.content.projection,
                others @ self.trust.content.projection,
            )
        distances = np.sqrt(((others - own) ** 2).sum(axis=1))
        return tuple(
            Example(data.samples[i].image, data.samples[i].label, float(distances[i]), data.read(i))
            for i in np.argsort(distances, kind="stable")[:count].tolist()
        )

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
        }
        arrays |= {f"data.{name}": torch.from_numpy(array) for name, array in self.training.items()}
        arrays |= {
            name: torch.from_numpy(np.ascontiguousarray(array))
            for name, array in self.trust.to_arrays().items()
        }
        card = model_card(self.info.model_dump(mode="json"), self.trust.summary())
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
        trusted = {
            name: array.numpy()
            for name, array in arrays.items()
            if name.startswith(("calibration.", "familiarity."))
        }
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
        trust = Trust.from_arrays(info.classes, trusted)
        return cls(network, info, trust=trust, device=device, training=training)

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
        """Return the whole way from `(N, H, W, 3)` uint8 pixels, on the CPU.

        Its outputs: probabilities and logits `(N, K)`, features `(N, D)`.
        """
        # A copy: moving the network itself would take it away from whoever answers with it.
        return Pipeline(self.spec, copy.deepcopy(self.network).cpu(), self.trust).eval()


def _empty_network(backbone: torch.nn.Module, info: ModelInfo) -> Network:
    """Return the network that the arrays of a model folder fit."""
    parts = info.backbone
    if parts.cut is not None:
        trunk, tail = cut(backbone, parts.cut)
        backbone = Branches(trunk, [copy.deepcopy(tail) for _ in range(parts.members)])
    heads = [Head(parts.width, len(info.classes)) for _ in range(parts.members)]
    return Network(backbone, heads, orientations=parts.orientations)


AGREEMENT = 1e-4


def _layer_for_maps(backbone: str) -> str | None:
    record: Backbone = registry().get("backbone", backbone)
    return record.cam_layer


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
