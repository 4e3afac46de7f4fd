"""`allkit adapt`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from allkit.cli.judge import load_folder
from allkit.cli.progress import bars, say
from allkit.cli.reports import require_places, write_report
from allkit.cli.train import needs_training_packages, told
from allkit.errors import ConfigError
from allkit.files import require_free

__all__ = ["run_adapt"]


def run_adapt(
    model_path: Path,
    data: Path,
    out: Path,
    unlabelled: bool,
    column: str | None,
    pattern: str | None,
    strength: str | None,
    json_file: Path | None,
    device: str,
    overwrite: bool,
) -> None:
    """Adapt a model folder to the images of a laboratory and write it as another."""
    require_free(out, overwrite=overwrite)
    require_places(json_file)
    if out.resolve() == model_path.resolve():
        raise ConfigError(
            f"--out is the model that is adapted. Name another folder, so that {model_path} stays."
        )
    needs_training_packages()
    from allkit.adaptation.adapt import adapt
    from allkit.data.dataset import Dataset

    model = load_folder(model_path, device)
    dataset = Dataset.unlabelled(data) if unlabelled else Dataset.open(data)
    if pattern is not None:
        dataset = dataset.with_groups(pattern)
    if dataset.labelled:
        told(dataset)
    else:
        say(f"{dataset.name}: {len(dataset):,} images without labels.")
    with bars() as progress:
        adapted = adapt(model, dataset, column=column, strength=strength, progress=progress)
    adapted.save(out, overwrite=overwrite)
    record = adapted.info.adaptations[-1]
    sys.stdout.write(record.to_text())
    write_report(json_file, json.dumps(record.model_dump(mode="json"), indent=1) + "\n")
    say(f"Saved {out}.")
