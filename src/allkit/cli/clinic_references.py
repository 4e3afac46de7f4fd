"""`allkit clinic references`: labelled images of a model's training, to look at beside a field."""

from __future__ import annotations

from typing import Annotated

import typer

from allkit.cli.clinic_options import As, Url, Where, signed_in
from allkit.cli.models import open_model
from allkit.cli.options import Data, Model
from allkit.cli.progress import say
from allkit.errors import ClinicError

__all__ = ["references"]


def references(
    model: Model,
    data: Data,
    per_class: Annotated[
        int | None,
        typer.Option(min=1, help="images of each class", show_default="500 over all classes"),
    ] = None,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Keep labelled images of a model's training, in place of those it had: 500 at most.

    Beside a field the clinic then shows the three that are nearest, and a typical
    one of each class. A model folder is given only images that it was trained on;
    an exported file does not say which these are.

    Example:
    allkit clinic references model.onnx training.csv
    """
    from allkit.clinic.models import models
    from allkit.clinic.references import add_references, references_of
    from allkit.data.dataset import Dataset
    from allkit.files import model_hash

    with signed_in(store, url, as_) as user:
        predictor = open_model(model)
        sha256 = model_hash(model.resolve())
        known = [row["id"] for row in models(user) if row["sha256"] == sha256]
        if not known:
            raise ClinicError(
                f"The clinic does not know the model {model}. Add it: allkit clinic model {model}"
            )
        count = add_references(user, known[0], predictor, Dataset.open(data), per_class=per_class)
        shown = references_of(user, known[0])
    say(f"{count} labelled images are kept for {model}, of {len(shown)} classes.")
    if not all(one.typical for one in shown):
        say(
            "The model gives no features: none can be named as the nearest to a field, or as typical."
        )
