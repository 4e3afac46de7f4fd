"""A trained classifier: answer, judge, save, load, export."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import torch

from allkit.data.dataset import Dataset
from allkit.data.mapping import LabelMap
from allkit.data.measures import as_reasons, shortcomings_by, statistics_by
from allkit.data.passes import Measure
from allkit.data.relations import SAME_FIELD
from allkit.errors import DatasetError
from allkit.evaluation.evaluate import (
    PROBED,
    Judged,
    evaluation_of,
    evaluation_of_mapped,
    require_labels,
)
from allkit.evaluation.leakage import cautions
from allkit.evaluation.parity import ParityReport
from allkit.evaluation.result import Evaluation
from allkit.evaluation.text import accuracy_sentence
from allkit.evaluation.units import Unit, require_unit
from allkit.features import FeatureCache
from allkit.model.answering import Answering
from allkit.model.explain import Explainer
from allkit.model.explanation import Explanation
from allkit.model.export import Format, with_settings, write_export
from allkit.model.folder import write_model
from allkit.model.info import ModelInfo
from allkit.model.own import Given
from allkit.model.parts import arrays_of, packed, read_parts, unpacked, with_fingerprint
from allkit.network.around import ordinary
from allkit.network.device import choose_device
from allkit.network.hashes import tensor_bytes
from allkit.network.modules import Network
from allkit.network.pipeline import Pipeline
from allkit.report.card import model_card
from allkit.report.model_page import model_html
from allkit.report.pictures import training_pictures
from allkit.runtime.answers import refuse
from allkit.shown.progress import Asked, progress_of
from allkit.trust.verdict import Trust
from allkit.types import Progress

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Classifier"]


class Classifier(Answering):
    """A trained classifier of blood-smear images, from `Trainer.fit` or `Classifier.load`.

    Safe to share between threads; other processes are sent a copy. `info` describes it: classes,
    backbone, training data (as hashes), settings, metrics of the validation.
    """

    @ordinary()
    def __init__(
        self,
        network: Network,
        info: ModelInfo,
        *,
        trust: Trust | None = None,
        device: torch.device | str = "cpu",
        training: Mapping[str, npt.NDArray[Any]] | None = None,
        engine: str = "auto",
    ) -> None:
        self.info = info
        self.trust = trust or Trust(info.classes)
        self.network = network.eval().requires_grad_(False)
        self.training = dict(training or {})
        """Signatures of the training images, by which their fields are recognised (`kept_signatures`)."""
        self.engine = engine
        self.to(device)

    @ordinary()
    def to(self, device: torch.device | str) -> Self:
        """Move the classifier to a device (`cpu`, `cuda`, `cuda:1`, `mps`, `auto`), and return it.

        Do not move it while another thread asks it. Raises `ConfigError` for a device that this machine
        does not have.
        """
        self.device = choose_device(device)
        self.network.to(self.device)
        self._extractor = self._extractor_of("torch" if self.engine == "auto" else self.engine)
        self._explainer = Explainer(self.network, self.info, self._extractor.frozen, self.device)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        parts = packed(self.network, self.info, self.trust, self.training)
        return _received, (parts, str(self.device), self.engine)

    def __repr__(self) -> str:
        return f"<Classifier {self.info.backbone.name!r}: {', '.join(self.classes)}>"

    def _repr_html_(self) -> str:
        """Return the model for the end of a notebook's cell: what it is, how good, when it accepts."""
        return model_html(self.info.model_dump(mode="json"), self.trust.summary())

    @property
    def validation_sentence(self) -> str:
        """The accuracy on the validation part, with its interval and protocol, in words."""
        if self.info.validation is None:
            return "No figures: it was trained without a validation part."
        return accuracy_sentence(self.info.validation)

    @property
    def pictures(self) -> dict[str, bytes]:
        """PNG pictures of the training, by file name, as `save` puts them under `plots/`.

        They are drawn on each access, which takes half a second.
        """
        return training_pictures(self.info.model_dump(mode="json"))

    # ── judging ────────────────────────────────────────────────────────────────────────────

    def evaluate(
        self,
        dataset: Dataset | str | Path | pd.DataFrame,
        *,
        cache: FeatureCache | None = None,
        progress: Asked = "auto",
        probes: bool = True,
        also: Sequence[Measure] = (),
        label_map: LabelMap | Mapping[str, Any] | None = None,
        by: Unit = "field",
    ) -> Evaluation:
        """Return the metrics on a labelled set, or the path or data frame of one.

        `cache` keeps features for the next time.

        With `probes`, the strongest shortcut probe on the same images is in `extra` under
        `shortcut_probe`: how well a classifier does that sees no cell. `label_map` says which class
        each label of another set means: `{"hem": "Benign", "all": "malignant"}`. By `slide` or
        `case`, these are counted in place of images, each with the combined answer of its fields.

        Raises `DatasetError` when an image is unreadable or the model does not know a label. The
        notes of the result say why the metrics may be too high: images that were trained on, a
        division by image, drawn images.
        """
        require_unit(by)
        dataset, mapped = Dataset.of(dataset), None
        probes = probes and by == "field"  # a probe is measured on images
        also = (*(PROBED if probes else SAME_FIELD), *also)
        if label_map is not None:
            known = label_map if isinstance(label_map, LabelMap) else LabelMap.of(label_map)
            mapped = known.apply(dataset, self.classes)
            dataset = mapped.dataset
        require_labels(dataset, self.classes if mapped is None else mapped.classes)
        with progress_of(progress) as told:
            judged = self.judge(dataset, cache=cache, progress=told, also=also)
        notes = cautions(self.info.data, self.training, dataset)
        if mapped is None:
            return evaluation_of(
                dataset, judged, self.classes, notes, probes=probes, by=by, trust=self.trust
            )
        return evaluation_of_mapped(
            mapped,
            judged,
            notes,
            classes=self.classes,
            probes=probes,
            by=by,
            trust=self.trust,
        )

    def score(self, dataset: Any, labels: Sequence[Any] | None = None) -> float:
        """Return the accuracy on a labelled set, as in scikit-learn; every image counts.

        `dataset` is what `evaluate` takes, or images with their `labels` beside them. A number alone says
        little: `evaluate` gives its interval, what is accepted, and cautions.
        """
        if labels is not None:
            dataset = Dataset.from_arrays(dataset, labels)
        return self.evaluate(dataset, probes=False).accuracy

    @ordinary()
    def judge(
        self,
        dataset: Dataset,
        *,
        cache: FeatureCache | None = None,
        progress: Progress | None = None,
        also: Sequence[Measure] = (),
    ) -> Judged:
        """Return probabilities and decisions on every image of a set; labels are not used.

        Each image is decoded once; the measures `also` are taken in the same pass. Raises
        `DatasetError` when it is empty or an image is unreadable.
        """
        if len(dataset) == 0:
            raise DatasetError(f"{dataset.name} holds no images to evaluate.")
        of_cells = self.spec.bag != "field"
        statistics_measure = statistics_by(self.finder if of_cells else "")
        needed = [shortcomings_by(self.finder)] if of_cells else []
        measures = [statistics_measure, *needed, *also]
        features = self.features(dataset, cache=cache, progress=progress, also=measures)
        statistics, *rest = dataset.passes.measure(measures, cache=cache)
        outputs = self._from_features(features)
        probabilities, decisions = self.trust.judge(outputs, np.stack(statistics))
        if of_cells:
            decisions = refuse(decisions, as_reasons(rest[0]))
        sets = self.trust.sets(probabilities) if self.trust.calibrated else None
        return Judged(probabilities, decisions, sets)

    # ── explaining ─────────────────────────────────────────────────────────────────────────

    @ordinary()
    def explain(
        self,
        image: Any,
        *,
        target: str | None = None,
        method: str = "auto",
        check: bool = True,
        data: Dataset | None = None,
        cache: FeatureCache | None = None,
    ) -> Explanation:
        """Show where the network looked for an answer, and whether that map can be believed.

        `image` is one image, as `predict` takes it. `target` is the class to explain, by default the
        answer's. `method` is `hirescam` or `gradcam` where the backbone names a layer for it,
        `occlusion`, or `auto`; for a model that looks at cells it is `cells`, which leaves out one
        cell after another. `check` measures whether the map is faithful. With `data`, a set that
        holds the training images, the nearest of these are shown; their features come from `cache`.
        Safe to call from several threads.

        Raises `ImageError`, `ConfigError` for an unknown class or method, and `DatasetError` when
        no image of `data` was trained on.
        """
        return self._explainer.explain(
            self, image, target=target, method=method, check=check, data=data, cache=cache
        )

    # ── keeping ────────────────────────────────────────────────────────────────────────────

    @ordinary()
    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model folder, whole or not at all, and return its path; the model stays as it is.

        Raises `ConfigError` when it exists and `overwrite` is false.
        """
        folder, info = Path(folder), with_fingerprint(self.info, self.network.backbone)
        arrays = arrays_of(self.network, self.trust, self.training)
        card = model_card(info.model_dump(mode="json"), self.trust.summary())
        write_model(folder, info, arrays, card=card, pictures=self.pictures, overwrite=overwrite)
        return folder

    @classmethod
    @ordinary()
    def load(
        cls,
        folder: str | Path,
        *,
        device: torch.device | str = "cpu",
        engine: str = "auto",
        backbone: Given | None = None,
    ) -> Classifier:
        """Read a model folder; with the `device` `auto` the model answers on a graphics card if there is one.

        `engine` is what computes the backbone: `torch`, `openvino`, or `auto`: PyTorch for few images,
        and for 500 or more at once OpenVINO, where it is installed and agrees with PyTorch.

        `backbone` is needed for a model that was trained with an own backbone, whose code no folder holds:
        a module that is built like it, a function that makes one, or an `allkit.Backbone`. Its weights do
        not count.

        Raises `CheckpointError` when something is missing or altered, or the own backbone that is given
        is another one; `PluginError` that says what to install when the plugin of its backbone is
        missing, or that an own backbone has to be given; and `ConfigError` for a device that this
        machine does not have.
        """
        device = choose_device(device)
        network, info, trust, training = read_parts(Path(folder), backbone)
        return cls(network, info, trust=trust, device=device, training=training, engine=engine)

    @ordinary()
    def export(
        self,
        path: str | Path,
        *,
        format: Format = "onnx",
        settings: Mapping[str, Any] | None = None,
        precision: str = "float32",
        calibration: Dataset | Sequence[npt.NDArray[np.uint8]] | None = None,
        check: Dataset | Sequence[npt.NDArray[np.uint8]] | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> ParityReport:
        """Write the model as one file of another format, and compare its answers with the model's.

        The file computes everything from uint8 RGB pixels to calibrated probabilities, and holds
        the data of verdicts. `format` is `NAME` or `PACKAGE/NAME`, and `settings` are those of its exporter.
        `precision` is `float32`, or `int8` with training images as
        `calibration` (at least 32; 128 are used). The `check` images are a set, or `(H, W, 3)` uint8
        arrays; without them drawn images are compared, for int8 held-out calibration images. The
        parity report is returned and kept in the file.

        Raises `ExportError`, and leaves no file, when the answers do not agree, when the format
        cannot take the backbone, and when there are too few images to calibrate.
        """
        return write_export(
            self,
            Path(path),
            format=with_settings(format, settings or {}),
            precision=precision,
            calibration=calibration,
            check=check,
            overwrite=overwrite,
            progress=progress,
        )

    def content_hash(self) -> str:
        """Return a hash of everything that decides an answer: 32 hexadecimal digits."""
        digest = hashlib.sha256(self.trust.to_bytes())
        tiles = ("tiles",) if self.tiled else ()  # models of older versions keep their hash
        chosen = self.info.backbone.reference.settings_text
        further = (*tiles, *self.spec.of_cells, *((chosen,) if chosen else ()))
        form = (self.spec, self.info.backbone.finder, *further)
        digest.update(repr(form).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor_bytes(tensor))
        return digest.hexdigest()[:32]

    @ordinary()
    def pipeline(self) -> Pipeline:
        """Return the complete module from `(N, H, W, 3)` uint8 pixels to answers, on the CPU.

        Its outputs: probabilities and logits `(N, K)`, features `(N, D)`.
        """
        # A copy: moving the network itself would disturb threads that answer with it.
        network = copy.deepcopy(self.network).cpu()
        return Pipeline(self.spec, network, self.trust, tiled=self.tiled).eval()


def _received(parts: tuple[Any, ...], device: str, engine: str) -> Classifier:
    """Return the classifier that another process has sent."""
    network, info, trust, training = unpacked(*parts)
    return Classifier(network, info, trust=trust, device=device, training=training, engine=engine)
