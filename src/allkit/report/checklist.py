"""The items of the reporting guidelines, filled in where the training knows the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["NOT_RUN", "RUN", "checklist", "shown_to"]

TO_FILL = "not known to the training; fill in"
NOT_RUN = "`allkit evaluate --leave-one-group-out`, not run"
RUN = "`allkit evaluate --leave-one-group-out`, above"


def checklist(info: Mapping[str, Any], trust: Mapping[str, Any]) -> str:
    """Return the items of CLAIM 2024 and TRIPOD+AI as a Markdown table, in the order of a report.

    Tejani et al., Radiology AI 2024; Collins et al., BMJ 2024;385:e078378. The items are in our
    words; those that ask for the same are joined.
    """
    rows = [f"| {item} | {asked} | {answer} |" for item, asked, answer in _items(info, trust)]
    missing = sum(TO_FILL in row for row in rows)
    return (
        "## Reporting checklist\n\n"
        f"Items of CLAIM 2024 (C) and TRIPOD+AI (T), in short; {len(rows) - missing} of "
        f"{len(rows)} are filled by the training. Who publishes the model fills in the others.\n\n"
        "| item | asked by | here |\n|---|---|---|\n" + "\n".join(rows)
    )


def _items(info: Mapping[str, Any], trust: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    data, config, backbone = info["data"], info["config"], info["backbone"]
    figures = info["validation"]
    names = info["display_names"]
    count = sum(data["counts"].values())
    how = {"group": "by group", "image": "by image (leaks)", None: "given by the user"}
    if config["folds"]:
        choice = "cross-validation, last epoch"
    elif config.get("head_solver") == "lbfgs":
        choice = "none was made: the loss has one minimum"
    else:
        choice = "best validation loss"
    calibrated = trust["temperature"] is not None
    return [
        ("title names the method and the task", "C T", f"`{backbone['name']}` classifier, above"),
        ("clinical background and role", "C T", TO_FILL),
        ("objective and hypothesis", "C T", TO_FILL),
        ("prospective or retrospective; ethics", "C T", TO_FILL),
        ("source of the data, dates, places", "C T", TO_FILL),
        ("inclusion and exclusion of patients", "C T", TO_FILL),
        ("demographics and clinical characteristics", "C T", TO_FILL),
        ("fairness across groups of patients", "T", TO_FILL),
        ("de-identification", "C", "file names and groups are kept as hashes only"),
        ("image acquisition: stain, microscope, magnification", "C", TO_FILL),
        ("preprocessing", "C T",
         f"{shown_to(backbone)}; mean and deviation in `model.json`"),
        ("missing data", "C T", "none is tolerated: an unreadable image or label stops the training"),
        ("reference standard and who set it", "C T", TO_FILL),
        ("agreement between and within raters", "C", TO_FILL),
        ("classes", "C T", ", ".join(names[c] for c in info["classes"])),
        ("sample size", "C T", f"{count:,} images; how it was chosen: {TO_FILL}"),
        ("partitions and what keeps them disjoint", "C T", f"divided {how[data['split_by']]}"),
        ("model", "C T", f"{backbone['width']} features, {backbone['members']} head(s)"),
        ("software", "C T", ", ".join(f"{n} {v}" for n, v in info["versions"].items())),
        ("initial weights", "C",
         f"`{config['weights']}`, SHA-256 `{backbone['weights_sha256'][:16]}…`, licence "
         f"{backbone['license']}"),
        ("training: augmentation, settings, seed", "C T", "`config` in `model.json`"),
        ("choice of the final model", "C T", choice),
        ("ensemble", "C", f"mean of {backbone['members']}" if backbone["members"] > 1 else "none"),
        ("metrics and their intervals", "C T",
         "none" if figures is None else f"above; bootstrap over {figures['interval_unit']}s"),
        ("calibration", "T", "temperature and prediction sets" if calibrated else "not calibrated"),
        ("robustness and failure analysis", "C", NOT_RUN),
        ("explanation", "C", "`allkit explain`, with a check of each map"),
        ("internal evaluation", "C T", "none" if figures is None else figures["protocol"]),
        ("external evaluation", "C T", TO_FILL),
        ("limitations", "C T", "above: *What it is for, and what not*"),
        ("implications and use", "C T", "research only"),
        ("registration and protocol", "C T", TO_FILL),
        ("code and model", "C T", f"allkit {info['allkit']}; this folder, sealed by `SHA256SUMS`"),
        ("patients and public involved", "T", TO_FILL),
        ("funding and interests", "C T", TO_FILL),
    ]  # fmt: skip


def shown_to(backbone: Mapping[str, Any]) -> str:
    """Say what of an image the network is shown, and in which sizes."""
    side, cell = backbone["size"], backbone["cell_size"]
    field = f"the whole field resized to {side} × {side}"
    order = "evenly from the largest to the smallest" if backbone["spread"] else "the largest"
    cells = f"white cells, {cell} × {cell} each (mean of at most {backbone['max_cells']}, {order})"
    return {"field": field, "cells": f"its {cells}", "both": f"{field} and of its {cells}"}[
        backbone["bag"]
    ]
