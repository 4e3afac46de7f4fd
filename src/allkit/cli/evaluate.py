"""`allkit evaluate`: a model judged on labelled images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from allkit.cli.data import announce_slides, open_data
from allkit.cli.extras import missing_modules, require_training_packages
from allkit.cli.models import load_folder, open_model
from allkit.cli.options import (
    BY,
    Data,
    Device,
    GroupPattern,
    Html,
    Json,
    Model,
    SlidePattern,
    StartWeights,
)
from allkit.cli.progress import bars, put, say
from allkit.cli.reports import require_places, write_report
from allkit.cli.summaries import evaluation_summary
from allkit.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from allkit.config import TrainConfig
    from allkit.data.dataset import Dataset
    from allkit.data.mapping import LabelMap
    from allkit.evaluation.compare import Comparison
    from allkit.evaluation.result import Evaluation
    from allkit.evaluation.units import Unit
    from allkit.model.classifier import Classifier
    from allkit.records import Predictor
    from allkit.training.unseen import Unseen
    from allkit.types import Progress

__all__ = ["evaluate"]

EXPORTED = (
    "An exported file does not keep which images it was trained on: if these were among them, the "
    "figures are too high."
)
NO_PROBES = "What is reached without reading a cell was not measured: that takes pip install 'allkit[train]'."


def evaluate(
    model: Model,
    data: Data,
    part: Annotated[
        Literal["all", "train", "val", "test"] | None,
        typer.Option(help="of a set that is divided", show_default="test, or all"),
    ] = None,
    by: Annotated[
        Literal["field", "slide", "case"],
        typer.Option(help=BY, metavar="field | slide | case"),
    ] = "field",
    leave_out: Annotated[
        str | None,
        typer.Option(
            "--leave-one-group-out",
            metavar="COLUMN",
            help="train the model's settings again without one value of COLUMN at a time",
        ),
    ] = None,
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="YAML or CSV: what the labels of another set mean to this model",
        ),
    ] = None,
    group_pattern: GroupPattern = None,
    slide_pattern: SlidePattern = None,
    weights: StartWeights = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="another model, image by image")
    ] = None,
    json_file: Json = None,
    html_file: Html = None,
    card: Annotated[
        bool, typer.Option("--card", help="write the figures into the model card too")
    ] = False,
    device: Device = "auto",
) -> None:
    """Judge a model on labelled images.

    Example:
    allkit evaluate model split.csv --html figures.html --json figures.json
    allkit evaluate model smears.csv --leave-one-group-out series
    """
    require_places(json_file, html_file)
    _require_folder(model, needed=bool(leave_out or compare or card))
    _require_one_way(leave_out=leave_out, compare=compare, map_file=map_file)
    if by != "field" and (leave_out or compare):
        raise ConfigError(
            f"--by {by} counts {by}s in place of images; it goes neither with "
            f"--leave-one-group-out nor with --compare. Give one of them."
        )
    if not model.is_file():
        require_training_packages()
    from allkit.data.mapping import LabelMap

    dataset = open_data(data, group_pattern, slide_pattern)
    announce_slides(dataset)
    label_map = None if map_file is None else LabelMap.read(map_file)
    chosen = part or ("test" if dataset.has_parts and leave_out is None else "all")
    title = f"{dataset.name}, part: {chosen}"
    if by != "field":
        title += f", by {by}"
    if map_file is not None:
        title += f", labels by {map_file.name}"
    if chosen != "all":
        dataset = _part(dataset, chosen)
    further: dict[str, Any] = {"part": chosen}
    comparison = None
    with bars() as progress:
        if model.is_file():
            file = open_model(model, device)
            figures = _judge_file(file, dataset, label_map, progress=progress, by=by)
            values = figures.to_dict()
        else:
            from allkit.features import FeatureCache

            classifier = load_folder(model, device)
            if leave_out is not None:
                config = _retraining_config(classifier, leave_out, weights, device)
                unseen = _judge_unseen(config, dataset, leave_out, progress)
                figures, values = unseen.figures, unseen.to_dict()
                put(unseen.to_text() + "\n")
            else:
                figures = classifier.evaluate(
                    dataset,
                    cache=FeatureCache(),
                    progress=progress,
                    label_map=label_map,
                    by=by,
                )
                values = figures.to_dict()
            if compare is not None:
                other = _load_other(compare, classifier, device)
                comparison = _compare(classifier, other, dataset, progress)
                further["comparison"] = comparison.to_dict() | {"with": compare.name}
    if label_map is not None:
        further["label_map"] = label_map.to_dict()
    put(evaluation_summary(figures, title))
    if comparison is not None:
        put("\n" + comparison.to_text(first=str(compare), second=str(model)))
    write_report(json_file, json.dumps(values | further, indent=1) + "\n")
    if html_file is not None:
        title_of_page = f"{model.name} on {title}"
        compared = None if comparison is None else further["comparison"] | {"model": model.name}
        write_report(html_file, _page(title_of_page, values, figures, compared))
    if card:
        _write_card(model, title, values)


def _require_folder(model: Path, *, needed: bool) -> None:
    if needed and model.is_file():
        raise ConfigError(
            f"{model} is an exported file, which cannot be trained again, compared, or given "
            f"a card. Give the model folder that it was exported from."
        )


def _require_one_way(*, leave_out: str | None, compare: Path | None, map_file: Path | None) -> None:
    """Raise `ConfigError` for options that exclude each other."""
    if compare is not None and not compare.is_dir():
        raise ConfigError(
            f"{compare} is no model folder. Give --compare the folder of another model."
        )
    if map_file is not None and (leave_out or compare):
        raise ConfigError(
            "--map judges a model on another set; it goes neither with --leave-one-group-out nor "
            "with --compare. Give one of them."
        )
    if leave_out is not None and compare is not None:
        raise ConfigError(
            "--leave-one-group-out and --compare exclude each other. Compare the two JSON files."
        )


def _part(dataset: Dataset, name: str) -> Dataset:
    if not dataset.has_parts:
        raise DatasetError(f"{dataset.name} has no split column, so there is no part {name!r}.")
    chosen = dataset.part(name)
    if not len(chosen):
        raise DatasetError(
            f"No row of {dataset.name} has the split {name!r}. --part all takes all."
        )
    return chosen


def _judge_file(
    file: Predictor,
    dataset: Dataset,
    label_map: LabelMap | None,
    *,
    progress: Progress,
    by: Unit,
) -> Evaluation:
    from allkit.evaluation.evaluate import (
        PROBED,
        ask,
        evaluation_of,
        evaluation_of_mapped,
        require_labels,
    )

    # The core answers and judges; what reads no cell is measured where training is installed.
    probes = not missing_modules(("cv2", "sklearn"))
    notes = [EXPORTED] if probes or by != "field" else [EXPORTED, NO_PROBES]
    probes = probes and by == "field"
    # Only what comes with allkit has it; a plugin's file need not.
    trust = getattr(file, "trust", None)
    also = PROBED if probes else ()
    if label_map is not None:
        mapped = label_map.apply(dataset, file.classes)
        require_labels(mapped.dataset, mapped.classes)
        judged = ask(file, mapped.dataset, progress, also=also)
        return evaluation_of_mapped(
            mapped,
            judged,
            notes,
            classes=file.classes,
            probes=probes,
            by=by,
            trust=trust,
        )
    require_labels(dataset, file.classes)
    judged = ask(file, dataset, progress, also=also)
    return evaluation_of(dataset, judged, file.classes, notes, probes=probes, by=by, trust=trust)


def _retraining_config(
    model: Classifier, left_out: str, weights: str | None, device: str
) -> TrainConfig:
    """Return the settings of the model, ready to train again."""
    config = model.info.config
    if weights is not None:
        config = config.model_copy(update={"weights": weights})
    elif config.weights not in ("default", "none"):
        raise ConfigError(
            f"The model began with the weights file {config.weights}, which its folder does not "
            f"hold. Give it with --weights PATH to train again without one {left_out}."
        )
    return config.model_copy(update={"device": device})


def _judge_unseen(
    config: TrainConfig, dataset: Dataset, left_out: str, progress: Progress
) -> Unseen:
    """Train again without one value of the column at a time, and judge each on that one."""
    from allkit.features import FeatureCache
    from allkit.training.unseen import leave_one_group_out

    return leave_one_group_out(config, dataset, left_out, cache=FeatureCache(), progress=progress)


def _load_other(path: Path, model: Classifier, device: str) -> Classifier:
    other = load_folder(path, device)
    if other.classes != model.classes:
        raise ConfigError(
            f"{path} knows other classes ({', '.join(other.classes)}); two models are "
            f"compared on the same ones."
        )
    return other


def _compare(
    model: Classifier, other: Classifier, dataset: Dataset, progress: Progress
) -> Comparison:
    """Compare the model with another one, image by image: the other is the first, the model the second."""
    from allkit.evaluation.compare import compare
    from allkit.evaluation.evaluate import as_answers
    from allkit.features import FeatureCache

    cache = FeatureCache()
    first, second = (
        as_answers(dataset, m.judge(dataset, cache=cache, progress=progress), m.classes)
        for m in (other, model)
    )
    return compare(first, second, dataset.units if dataset.has_groups else None)


def _page(
    title: str,
    values: dict[str, Any],
    figures: Evaluation,
    comparison: dict[str, Any] | None,
) -> str:
    from allkit.data.labels import display_name
    from allkit.evaluation.page import evaluation_page

    return evaluation_page(
        values,
        title=title,
        names={name: display_name(name) for name in figures.classes},
        comparison=comparison,
        images=figures.images,
    )


def _write_card(model: Path, title: str, values: dict[str, Any]) -> None:
    from allkit.model.folder import read_card, write_card
    from allkit.report.card import judged_card

    write_card(model, judged_card(read_card(model), title, values))
    say(f"Wrote the figures into {model / 'README.md'}.")
