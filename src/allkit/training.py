"""Training: features of the frozen backbone once, then a head on them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from allkit.checkpoint import FORMAT, BackboneInfo, DataInfo, ModelInfo
from allkit.classifier import IMAGE_LEVEL, Classifier, fingerprints, group_hash
from allkit.config import TrainConfig
from allkit.data.dataset import Dataset, Split
from allkit.data.labels import display_name
from allkit.errors import AllkitError, ConfigError, DatasetError
from allkit.features import Extractor, FeatureCache, Progress, native_bfloat16, weights_hash
from allkit.metrics import Evaluation, evaluate
from allkit.network import Head, Network, build_backbone, measure_width
from allkit.passport import arrays_hash, division_hash, issue
from allkit.plugins import registry, resolve_weights
from allkit.records import Augmentation, Backbone
from allkit.report.pictures import confusion_matrix, learning_curves

__all__ = ["Trainer", "choose_device"]

WORTH_AN_ENGINE = 500
History = list[dict[str, float]]


class Trainer:
    """Trains classifiers.

        model = allkit.Trainer(backbone="vgg16").fit(split.train, split.val)

    Settings are those of `allkit.config.TrainConfig`; unknown ones are refused. Features are kept
    in `cache`, by default the user's; `None` keeps none. `progress(what, done, total)` is called
    as the work goes on.
    """

    def __init__(
        self,
        config: TrainConfig | None = None,
        *,
        cache: FeatureCache | str | None = "default",
        progress: Progress | None = None,
        **settings: Any,
    ) -> None:
        values = (config.model_dump() if config else {}) | settings
        self.config = TrainConfig.parse(values, source="the settings of Trainer")
        self.cache = FeatureCache() if isinstance(cache, str) else cache
        self.progress = progress

    def fit(self, train: Dataset, val: Dataset | None = None) -> Classifier:
        """Train on `train` and return the classifier; `val` decides when to stop.

        Without `val`, the share `config.val` of the training images is kept for it, by group.
        With `config.folds` = k, k heads are trained, each with another k-th kept for validation,
        and the classifier answers with the mean of the k; its validation figure is pooled over
        the parts that each head did not see. The same images, settings and seed give the same
        weights on one kind of processor.

        Raises `DatasetError` (unreadable images, a class that cannot be on both sides),
        `ConfigError` and `PluginError`.
        """
        config = self.config
        if len(train) == 0:
            raise DatasetError(f"{train.name} holds no images to train on.")
        _check_classes(train)
        divisions, by = self._divide(train, val)
        record: Backbone = registry().get("backbone", config.backbone)
        provider = registry().provider("backbone", config.backbone)
        augment: list[Augmentation] = [registry().get("augmentation", n) for n in config.augment]
        sources = [f"{n} {registry().provider('augmentation', n).origin}" for n in config.augment]
        device = choose_device(config.device)
        backbone = build_backbone(
            record, resolve_weights(record.name, config.weights), provider.origin
        )
        width = measure_width(backbone, record.input, record.name)
        fingerprint = weights_hash(backbone)
        everything = train if val is None or config.folds else _joined(train, val)
        # To convert the network for another engine takes seconds, which few images do not repay.
        few = len(everything) * (1 + config.copies) < WORTH_AN_ENGINE and config.engine == "auto"
        extractor = Extractor(
            backbone, record.input,
            (record.name, provider.distribution, provider.version, fingerprint),
            device, _precision(config.precision, device), self.cache,
            "torch" if few else config.engine,
        )  # fmt: skip

        features = extractor.extract(everything, progress=self.progress, label="features")
        # Only images that some head learns from are ever shown augmented.
        learners = sorted({int(i) for learn, _ in divisions for i in learn})
        learning = everything.subset(learners)
        views = [features[learners]] + [
            extractor.extract(
                learning, augment=augment, names=sources, copy=copy, seed=config.seed,
                progress=self.progress, label=f"augmented copy {copy}",
            )
            for copy in range(1, config.copies + 1 if augment else 1)
        ]  # fmt: skip
        place = {index: position for position, index in enumerate(learners)}
        stack = torch.from_numpy(np.stack(views))
        labels = torch.from_numpy(everything.labels)

        heads, histories, held_out = [], [], np.zeros((len(everything), len(everything.classes)))
        for number, (learn, check) in enumerate(divisions):
            rows = torch.tensor([place[int(i)] for i in learn])
            head, history = self._fit_head(
                stack[:, rows], labels[torch.from_numpy(learn)],
                torch.from_numpy(features[check]), labels[torch.from_numpy(check)],
                len(everything.classes), number, len(divisions),
            )  # fmt: skip
            heads.append(head)
            histories.append(history)
            if len(check):
                with torch.inference_mode():
                    logits = head(torch.from_numpy(features[check]))
                held_out[check] = torch.softmax(logits, dim=1).numpy()

        checked = np.concatenate([check for _, check in divisions])
        figures = _figures(everything, held_out, checked, by, config) if len(checked) else None
        info = ModelInfo(
            allkit=_version("allkit"),
            format=FORMAT,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            classes=everything.classes,
            display_names={name: display_name(name) for name in everything.classes},
            backbone=BackboneInfo(
                name=record.name, distribution=provider.distribution, version=provider.version,
                width=width, members=len(heads), license=record.license,
                weights_sha256=fingerprint, size=record.input.size, mean=record.input.mean,
                std=record.input.std,
            ),
            plugins=_plugins(config),
            config=_shareable(config),
            data=_data_info(everything, by),
            validation=None if figures is None else figures.to_dict() | _protocol(by, config),
            history=tuple(tuple(history) for history in histories),
            versions={n: _version(n) for n in ("torch", "timm", "numpy", "pillow")}
            | {"python": platform.python_version()},
        )  # fmt: skip
        network = Network(backbone, heads)
        passport = issue(
            data=everything.fingerprint, division=division_hash(everything.hashes, divisions),
            seed=config.seed, weights=fingerprint, engine=extractor.frozen.signature,
            device=device, plugins=_plugins(config),
        )  # fmt: skip
        result = arrays_hash(network.state_dict())
        info = info.model_copy(update={"passport": passport.model_copy(update={"result": result})})
        return Classifier(
            network, info, device=device, pictures=_pictures(histories, figures, info),
            training=fingerprints(everything),
        )  # fmt: skip

    def _divide(
        self, train: Dataset, val: Dataset | None
    ) -> tuple[list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]], str | None]:
        """Return (learn, check) positions for every head, and how the two were divided."""
        config = self.config
        if config.folds == 1:
            raise ConfigError(
                "folds = 1 leaves nothing to train on. Give 2 or more, or 0 for none."
            )
        if config.folds:
            if val is not None:
                raise ConfigError(
                    "Folds and a validation part of your own exclude each other. Join the two "
                    "parts, or leave `folds` at 0."
                )
            splits = train.folds(config.folds, seed=config.seed)
            return [(_positions(s, "train"), _positions(s, "test")) for s in splits], splits[0].by
        if val is not None and len(val):
            learn = np.arange(len(train))
            return [(learn, len(train) + np.arange(len(val)))], train.split_by
        if config.val == 0:
            return [(np.arange(len(train)), np.array([], dtype=np.int64))], train.split_by
        split = train.split(test=0.0, val=config.val, seed=config.seed)
        # The images may have been divided by image before: then the figures stay inflated.
        by = "image" if train.split_by == "image" else split.by
        return [(_positions(split, "train"), _positions(split, "val"))], by

    def _fit_head(
        self,
        views: torch.Tensor,
        labels: torch.Tensor,
        val_features: torch.Tensor,
        val_labels: torch.Tensor,
        classes: int,
        number: int,
        total: int,
    ) -> tuple[Head, History]:
        """Train one head on `(V, N, D)` views of N images; return it at its best epoch."""
        config = self.config
        count = views.shape[1]
        weights = None
        if config.class_weights:
            sizes = torch.bincount(labels, minlength=classes).clamp(min=1)
            weights = count / (classes * sizes.float())
        steps = config.epochs * -(-count // config.batch_size)
        history: History = []
        best_loss, best_state, best_epoch = float("inf"), None, 0
        # Dropout and the first weights draw from torch's own generator: the user's is put back.
        with torch.random.fork_rng(devices=[]), _one_thread():
            torch.random.manual_seed(_seed(config.seed, number))
            head = Head(views.shape[2], classes, config.dropout)
            head.fit_scale(views.flatten(0, 1))
            optimiser = torch.optim.AdamW(
                head.linear.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
            )
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
            for epoch in range(1, config.epochs + 1):
                head.train()
                order = torch.randperm(count)
                view = torch.randint(len(views), (count,))
                loss_sum, hits = 0.0, 0
                for start in range(0, count, config.batch_size):
                    batch = order[start : start + config.batch_size]
                    logits = head(views[view[batch], batch])
                    loss = nn.functional.cross_entropy(logits, labels[batch], weights)
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                    schedule.step()
                    loss_sum += float(loss.detach()) * len(batch)
                    hits += int((logits.argmax(1) == labels[batch]).sum())
                entry = {"epoch": float(epoch), "train_loss": loss_sum / count,
                         "train_accuracy": hits / count}  # fmt: skip
                if not np.isfinite(loss_sum):
                    raise AllkitError(
                        f"The loss is no longer a number in epoch {epoch}. Lower the learning "
                        f"rate (now {config.learning_rate:g}) or check the backbone's features."
                    )
                if len(val_labels):
                    head.eval()
                    with torch.inference_mode():
                        logits = head(val_features)
                        entry["val_loss"] = float(
                            nn.functional.cross_entropy(logits, val_labels, weights)
                        )
                        entry["val_accuracy"] = float(
                            (logits.argmax(1) == val_labels).float().mean()
                        )
                history.append(entry)
                if self.progress:
                    self.progress("head", number * config.epochs + epoch, total * config.epochs)
                # In cross-validation the part that is held out gives the figure, so it may not
                # choose the epoch too.
                choosing = "val_loss" in entry and not config.folds
                watched = entry["val_loss"] if choosing else -float(epoch)
                if watched < best_loss:
                    best_loss, best_epoch = watched, epoch
                    best_state = {k: v.clone() for k, v in head.state_dict().items()}
                elif epoch - best_epoch >= config.patience:
                    break
        if best_state is not None:
            head.load_state_dict(best_state)
        if self.progress:
            self.progress("head", (number + 1) * config.epochs, total * config.epochs)
        return head.eval(), history


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    # A step of the head takes a fraction of a millisecond: threads that wait for each other made
    # it seven times slower (4 against 37 s of processor time for 40 epochs of 1,526 images).
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _positions(split: Split, part: str) -> npt.NDArray[np.int64]:
    return np.array([i for i, s in enumerate(split.whole) if s.part == part], dtype=np.int64)


def _joined(train: Dataset, val: Dataset) -> Dataset:
    strange = set(val.counts) - set(train.counts)
    if strange:
        raise DatasetError(
            f"{', '.join(sorted(strange))}: in the validation part only. Every class must be "
            f"trained on: divide again, or take the class out."
        )
    return Dataset(
        [*train.samples, *val.samples], train.classes, name=train.name, split_by=train.split_by
    )


def _check_classes(train: Dataset) -> None:
    counts = train.counts
    missing = [name for name in train.classes if not counts[name]]
    if missing:
        raise DatasetError(
            f"No training image has the label {', '.join(missing)}, which other parts of "
            f"{train.name} hold. Divide again so that every class is on every side."
        )
    if len(train.classes) < 2:
        raise DatasetError(
            f"{train.name} has one class only ({', '.join(train.classes)}); a classifier needs two."
        )
    single = [name for name in train.classes if counts[name] == 1]
    if single:
        raise DatasetError(
            f"{', '.join(single)}: one image only. Nothing can be learnt from it and judged too; "
            f"add images or take the class out."
        )


def choose_device(name: str) -> torch.device:
    """Return the named device, the best there is for `auto`; raise `ConfigError` if it fails."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"The device {name!r} cannot be used: {reason}. `auto` or `cpu` can."
        ) from None
    return device


def _precision(setting: str, device: torch.device) -> str:
    if setting == "auto":
        return "bfloat16" if native_bfloat16(device) else "float32"
    return setting


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _figures(
    dataset: Dataset,
    probabilities: npt.NDArray[np.float64],
    checked: npt.NDArray[np.int64],
    by: str | None,
    config: TrainConfig,
) -> Evaluation:
    part = dataset.subset(checked)
    return evaluate(
        part.labels, probabilities[checked], part.classes,
        verdicts=["review"] * len(part),
        units=part.units if part.has_groups else None,
        notes=[IMAGE_LEVEL] if by == "image" else [],
    )  # fmt: skip


def _protocol(by: str | None, config: TrainConfig) -> dict[str, str]:
    how = {"group": "by group", "image": "by image", None: "given by the user"}[by]
    if config.folds:
        return {"protocol": f"{config.folds}-fold cross-validation {how}, pooled"}
    return {"protocol": f"Validation part, divided {how}, also used to decide when to stop"}


def _data_info(dataset: Dataset, by: str | None) -> DataInfo:
    groups = {s.group or s.case for s in dataset} - {None}
    return DataInfo(
        fingerprint=dataset.fingerprint,
        counts={name: dataset.counts[name] for name in dataset.classes},
        images_sha256=tuple(sorted(set(dataset.hashes))),
        groups_sha256=tuple(sorted(group_hash(group) for group in groups)),
        split_by=by,
        drawn=dataset.drawn,
    )


def _shareable(config: TrainConfig) -> TrainConfig:
    """Return the settings as the model keeps them: the hash of the weights is, their folder is not."""
    return config.model_copy(update={"weights": Path(config.weights).name})


def _plugins(config: TrainConfig) -> dict[str, str]:
    host = registry()
    used = [host.provider("backbone", config.backbone)]
    used += [host.provider("augmentation", name) for name in config.augment]
    return {plugin.distribution: plugin.version for plugin in used}


def _pictures(
    histories: Sequence[History], figures: Evaluation | None, info: ModelInfo
) -> dict[str, bytes]:
    title = f"{info.backbone.name}, {sum(info.data.counts.values()):,} images"
    pictures = {"learning_curves.png": learning_curves(histories, title)}
    if figures is not None and info.validation is not None:
        names = [info.display_names[name] for name in info.classes]
        caption = "; ".join([info.validation["protocol"], *figures.notes])
        pictures["confusion.png"] = confusion_matrix(
            figures.confusion, names, f"Validation: accuracy {figures.accuracy:.3f}", caption
        )
    return pictures


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
