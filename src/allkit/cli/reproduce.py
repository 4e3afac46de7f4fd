"""`allkit reproduce`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from allkit.cli.progress import bars
from allkit.cli.reports import require_places, write_report

__all__ = ["run_reproduce"]


def run_reproduce(
    model: Path, data: Path, weights: str | None, device: str | None, json_file: Path | None
) -> int:
    """Train again as the model says; return 1 when the result is different."""
    from allkit.cli.train import needs_training_packages, parts, told

    require_places(json_file)
    needs_training_packages()
    from allkit.data.dataset import Dataset
    from allkit.model.classifier import Classifier
    from allkit.training.reproduce import reproduce

    saved = Classifier.load(model)
    dataset = Dataset.open(data)
    told(dataset)
    train, val = parts(dataset, saved.info.config)
    with bars() as progress:
        result, _ = reproduce(saved, train, val, weights=weights, device=device, progress=progress)
    write_report(json_file, json.dumps(result.to_dict(), indent=1) + "\n")
    sys.stdout.write(f"{result.verdict}: {result.message}\n")
    if result.retrained:
        for reason in result.reasons:
            sys.stdout.write(f"  differs: {reason}\n")
    return int(result.verdict == "different")
