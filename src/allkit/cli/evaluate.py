"""`allkit evaluate` and `allkit explain`."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.cli.judge import load_folder, open_model
from allkit.cli.progress import bars, say
from allkit.cli.reports import require_places, write_report
from allkit.cli.train import needs_training_packages, told
from allkit.data.labels import display_name
from allkit.errors import ConfigError, DatasetError
from allkit.evaluation.text import evaluation_lines
from allkit.files import require_free

if TYPE_CHECKING:
    from allkit.data.dataset import Dataset
    from allkit.data.mapping import LabelMap
    from allkit.evaluation.compare import Comparison
    from allkit.evaluation.result import Evaluation
    from allkit.model.classifier import Classifier
    from allkit.records import Predictor
    from allkit.training.unseen import Unseen

__all__ = ["EvaluateOptions", "run_evaluate", "run_explain", "summary"]

PARTS = ("all", "train", "val", "test")
EXPORTED = (
    "An exported file does not keep which images it was trained on: if these were among them, the "
    "figures are too high."
)
NO_PROBES = "What is reached without reading a cell was not measured: that takes pip install 'allkit[train]'."


@dataclass(frozen=True)
class EvaluateOptions:
    """What `allkit evaluate` was asked for, beside model and data."""

    part: str | None = None
    leave_out: str | None = None
    weights: str | None = None
    compare: Path | None = None
    json_file: Path | None = None
    html_file: Path | None = None
    card: bool = False
    device: str = "auto"
    label_map: Path | None = None
    pattern: str | None = None


def run_evaluate(model_path: Path, data: Path, options: EvaluateOptions) -> None:
    """Judge a model on the images of `data` and print the figures."""
    _check(model_path, options)
    if not model_path.is_file():
        needs_training_packages()
    from allkit.data.dataset import Dataset
    from allkit.data.mapping import LabelMap

    dataset = Dataset.open(data)
    if options.pattern is not None:
        dataset = dataset.with_groups(options.pattern)
    told(dataset)
    label_map = None if options.label_map is None else LabelMap.read(options.label_map)
    default = "test" if dataset.has_parts and options.leave_out is None else "all"
    chosen = options.part or default
    title = f"{dataset.name}, part: {chosen}"
    if options.label_map is not None:
        title += f", labels by {options.label_map.name}"
    if chosen != "all":
        dataset = _part(dataset, chosen)
    further: dict[str, Any] = {"part": chosen}
    compared = None
    with bars() as progress:
        if model_path.is_file():
            figures = _of_file(open_model(model_path), dataset, label_map, progress)
            values = figures.to_dict()
        else:
            from allkit.features import FeatureCache

            model = load_folder(model_path, options.device)
            if options.leave_out is not None:
                unseen = _unseen(model, dataset, options, progress)
                figures, values = unseen.figures, unseen.to_dict()
                sys.stdout.write(unseen.to_text() + "\n")
            else:
                figures = model.evaluate(
                    dataset, cache=FeatureCache(), progress=progress, label_map=label_map
                )
                values = figures.to_dict()
            if options.compare is not None:
                compared = _compare(model, dataset, options, progress)
                further["comparison"] = compared.to_dict() | {"with": options.compare.name}
    if label_map is not None:
        further["label_map"] = label_map.to_dict()
    sys.stdout.write(summary(figures, title))
    if compared is not None:
        sys.stdout.write(f"\nthis model less {options.compare}\n" + compared.to_text())
    write_report(options.json_file, json.dumps(values | further, indent=1) + "\n")
    if options.html_file is not None:
        from allkit.report.evaluation import evaluation_page

        names = {name: display_name(name) for name in figures.classes}
        text = evaluation_page(
            values, title=f"{model_path.name} on {title}",
            lead=f"allkit {version('allkit')}. Research use only; not a diagnosis.",
            names=names, comparison=further.get("comparison"),
        )  # fmt: skip
        write_report(options.html_file, text)
    if options.card:
        from allkit.model.folder import read_card, write_card
        from allkit.report.card import judged_card

        write_card(model_path, judged_card(read_card(model_path), title, values))
        say(f"Wrote the figures into {model_path / 'README.md'}.")


def _check(model_path: Path, options: EvaluateOptions) -> None:
    if options.part is not None and options.part not in PARTS:
        raise ConfigError(f"--part is {options.part!r}. It is one of: {', '.join(PARTS)}.")
    require_places(options.json_file, options.html_file)
    retrained = options.leave_out or options.compare or options.card
    if model_path.is_file() and retrained:
        raise ConfigError(
            f"{model_path} is an exported file, which cannot be trained again, compared, or given "
            f"a card. Give the model folder that it was exported from."
        )
    if options.compare is not None and not options.compare.is_dir():
        raise ConfigError(
            f"{options.compare} is no model folder. Give --compare the folder of another model."
        )
    if options.label_map is not None and (options.leave_out or options.compare):
        raise ConfigError(
            "--map judges a model on another set; it goes neither with --leave-one-group-out nor "
            "with --compare. Give one of them."
        )
    if options.leave_out is not None and options.compare is not None:
        raise ConfigError(
            "--leave-one-group-out and --compare exclude each other. Compare the two JSON files."
        )


def _of_file(
    file: Predictor, dataset: Dataset, label_map: LabelMap | None, progress: Any
) -> Evaluation:
    from allkit.evaluation.evaluate import ask, evaluation_of, evaluation_of_mapped, require_labels

    if label_map is not None:
        mapped = label_map.apply(dataset, file.classes)
        require_labels(mapped.dataset, mapped.classes)
        return evaluation_of_mapped(mapped, ask(file, mapped.dataset, progress), [EXPORTED])
    require_labels(dataset, file.classes)
    # The core answers and judges; what reads no cell is measured where training is installed.
    probes = all(importlib.util.find_spec(name) for name in ("cv2", "sklearn"))
    notes = [EXPORTED] if probes else [EXPORTED, NO_PROBES]
    return evaluation_of(dataset, ask(file, dataset, progress), file.classes, notes, probes=probes)


def _unseen(model: Classifier, dataset: Dataset, options: EvaluateOptions, progress: Any) -> Unseen:
    from allkit.features import FeatureCache
    from allkit.training.unseen import leave_one_group_out

    config = _retraining(model, options)
    return leave_one_group_out(
        config, dataset, str(options.leave_out), cache=FeatureCache(), progress=progress
    )


def _retraining(model: Classifier, options: EvaluateOptions) -> Any:
    """Return the settings of the model, ready to train again."""
    config = model.info.config
    if options.weights is not None:
        config = config.model_copy(update={"weights": options.weights})
    elif config.weights not in ("default", "none"):
        raise ConfigError(
            f"The model began with the weights file {config.weights}, which its folder does not "
            f"hold. Give it with --weights PATH to train again without one {options.leave_out}."
        )
    return config.model_copy(update={"device": options.device})


def _compare(
    model: Classifier, dataset: Dataset, options: EvaluateOptions, progress: Any
) -> Comparison:
    from allkit.evaluation.compare import compare
    from allkit.evaluation.evaluate import as_answers
    from allkit.features import FeatureCache

    other = load_folder(Path(str(options.compare)), options.device)
    if other.classes != model.classes:
        raise ConfigError(
            f"{options.compare} knows other classes ({', '.join(other.classes)}); two models are "
            f"compared on the same ones."
        )
    cache = FeatureCache()
    first, second = (
        as_answers(dataset, m.judge(dataset, cache=cache, progress=progress), m.classes)
        for m in (other, model)
    )
    return compare(first, second, dataset.units if dataset.has_groups else None)


def _part(dataset: Dataset, name: str) -> Dataset:
    if not dataset.has_parts:
        raise DatasetError(f"{dataset.name} has no split column, so there is no part {name!r}.")
    chosen = dataset.part(name)
    if not len(chosen):
        raise DatasetError(
            f"No row of {dataset.name} has the split {name!r}. --part all takes all."
        )
    return chosen


def summary(figures: Evaluation, title: str) -> str:
    """Return the figures as text, cautions first."""
    lines = [title, "", *evaluation_lines(figures.to_dict())]
    names = [display_name(name) for name in figures.classes]
    width = max(len(name) for name in names) + 2
    lines += ["", f"{'':<{width}}precision  recall     F1  images  recall, 95 % interval"]
    for key, name in zip(figures.classes, names, strict=True):
        row = figures.per_class[key]
        cells = [
            f"{row[k]:>9.3f}" if row[k] is not None else "        –"
            for k in ("precision", "recall")
        ]
        f1 = f"{row['f1']:.3f}" if row["f1"] is not None else "–"
        recall = figures.class_intervals.get(key, {}).get("recall")
        shown = "" if recall is None else f"  {recall[0]:.3f}–{recall[1]:.3f}"
        lines.append(f"{name:<{width}}{cells[0]}{cells[1]:>8}{f1:>7}{row['support']:>8}{shown}")
    lines += ["", "confusion (rows true, columns predicted)"]
    for name, cells_ in zip(names, figures.confusion, strict=True):
        lines.append(f"{name:<{width}}" + "".join(f"{count:>7}" for count in cells_))
    return "\n".join(lines) + "\n"


def run_explain(
    model_path: Path,
    image: str,
    out: Path,
    *,
    target: str | None,
    method: str,
    data: Path | None,
    json_file: Path | None,
    device: str,
    overwrite: bool,
) -> None:
    """Explain the answer for one image as a picture."""
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out is {out}; the explanation is written as a .png file.")
    require_free(out, overwrite=overwrite)
    require_places(out, json_file)
    model = load_folder(model_path, device)
    examples = cache = None
    if data is not None:
        from allkit.data.dataset import Dataset
        from allkit.features import FeatureCache

        examples, cache = Dataset.open(data), FeatureCache()
    found = model.explain(image, target=target, method=method, data=examples, cache=cache)
    found.save(out, model.info.display_names)
    write_report(json_file, json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n")
    for line in found.lines(model.info.display_names):
        say(line)
    say(f"Saved {out}.")
