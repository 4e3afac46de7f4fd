"""Measures one model in a process of its own, for `allkit benchmark`: started, not called.

    python -m allkit.cli.measurement MODEL FOLDER

FOLDER holds the images, named in their order. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from allkit.cli.models import open_model
from allkit.errors import AllkitError
from allkit.runtime.memory import peak_bytes

__all__ = ["measure"]

WARM_UP = 3
ALONE = 100
"""Images that are answered one at a time, at most."""


def measure(model_path: Path, images: list[str]) -> dict[str, Any]:
    """Open a model, answer, and return the moments and times, in seconds, and the answers."""
    model = open_model(model_path, "cpu")
    model.predict(images[:1])
    first = time.time()  # the clock of the machine: the parent noted by it when it began
    for image in images[:WARM_UP]:
        model.predict([image])
    alone = []
    for image in images[:ALONE]:
        begun = time.perf_counter()
        model.predict([image])
        alone.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    answers = list(model.stream(images))
    together = time.perf_counter() - begun
    return {
        "first": first,
        "alone": alone,
        "together": together,
        "peak_rss": peak_bytes(),
        "labels": [answer.label for answer in answers],
        "classes": list(model.classes),
    }


if __name__ == "__main__":
    try:
        measured = measure(Path(sys.argv[1]), sorted(map(str, Path(sys.argv[2]).iterdir())))
    except AllkitError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    sys.stdout.write(json.dumps(measured) + "\n")
