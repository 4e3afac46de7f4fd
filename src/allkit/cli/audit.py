"""`allkit audit`: what can be told about the classes without reading a cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from allkit.cli.data import open_data
from allkit.cli.extras import require_training_packages
from allkit.cli.models import load_folder
from allkit.cli.options import Data, GroupPattern, Html, Json, SlidePattern
from allkit.cli.progress import bars, put
from allkit.cli.reports import require_places, write_report
from allkit.evaluation.probe_words import probe_words

if TYPE_CHECKING:
    from allkit.evaluation.shortcuts import Probe
    from allkit.quality.audit import Audit

__all__ = ["audit"]


def audit(
    data: Data,
    model: Annotated[Path | None, typer.Option(help="a model folder, to stand beside")] = None,
    column: Annotated[
        str | None,
        typer.Option(help="leave out each value of this column", show_default="group"),
    ] = None,
    group_pattern: GroupPattern = None,
    slide_pattern: SlidePattern = None,
    json_file: Json = None,
    html_file: Html = None,
) -> None:
    """Measure what can be told about the classes without reading a cell.

    Example:
    allkit audit smears.csv --html audit.html
    allkit audit smears.csv --model model
    """
    require_places(json_file, html_file)
    require_training_packages()
    from allkit.quality.audit import audit as audit_set
    from allkit.quality.pages import audit_page

    classifier = None if model is None else load_folder(model)
    dataset = open_data(data, group_pattern, slide_pattern)
    with bars() as progress:
        result = audit_set(dataset, classifier, column=column, progress=progress)
    put(_text(result))
    write_report(json_file, json.dumps(result.to_dict(), indent=1, ensure_ascii=False) + "\n")
    if html_file is not None:
        write_report(html_file, audit_page(result, dataset.name))


def _text(result: Audit) -> str:
    """Return the audit as text for a terminal."""

    def row(probe: Probe) -> str:
        filled = round(30 * probe.balanced_accuracy)
        drawn = "█" * filled + "·" * (30 - filled)
        interval = f"({probe.low:.3f}–{probe.high:.3f})"
        return (
            f"  {probe_words(probe.name):<26}{probe.balanced_accuracy:>6.3f}  {interval}  {drawn}"
        )

    groups = f"{result.groups:,} groups" if result.groups else "no groups known"
    lines = [
        f"{result.images:,} images, {groups}",
        f"Balanced accuracy by cross-validation, every {result.unit} kept whole",
    ]
    for title, blind in (("Without any cell", True), ("Cells only as colour", False)):
        probes = [probe for probe in result.probes if probe.blind is blind]
        if probes:
            lines += ["", title, *map(row, probes)]
    lines += ["", f"  {'chance':<26}{result.chance:>6.3f}"]
    if result.model is not None:
        lines.append(f"  {'the model':<26}{result.model:>6.3f}")
    if result.left_out is not None:
        lines.append(
            f"  the {probe_words(result.probes[0].name)}, each {result.column} left out in turn: "
            f"{result.left_out.balanced_accuracy:.3f} "
            f"({result.left_out.low:.3f}–{result.left_out.high:.3f})"
        )
    lines += ["", f"{result.verdict.upper()}  {result.message}"]
    lines += [f"CAUTION  {note}" for note in result.model_notes]
    lines += [f"- {line}" for line in result.advice]
    return "\n".join(lines) + "\n"
