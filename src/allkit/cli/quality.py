"""`allkit check` and `allkit audit`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from allkit.cli.progress import bars, say
from allkit.cli.reports import require_places, write_report
from allkit.cli.train import needs_training_packages, told
from allkit.errors import ConfigError
from allkit.files import require_free

if TYPE_CHECKING:
    from allkit.evaluation.shortcuts import Probe
    from allkit.quality.audit import Audit
    from allkit.quality.check import Check

__all__ = ["run_audit", "run_check"]

_SHOWN = 10  # lines of a list on the terminal; `--json` and `--html` hold all


def run_check(
    data: Path,
    backbone: str | None,
    weights: str,
    pattern: str | None,
    suggest: Path | None,
    json_file: Path | None,
    html_file: Path | None,
    overwrite: bool,
) -> int:
    """Look at a set and print what was found; return 1 when there is something to fix."""
    require_places(json_file, html_file)
    if suggest is not None:
        require_free(suggest, overwrite=overwrite)
    needs_training_packages()
    from allkit.quality.check import check
    from allkit.quality.pages import check_page

    with bars() as progress:
        found = check(data, backbone=backbone, weights=weights, pattern=pattern, progress=progress)
    if suggest is not None and found.suggestion is None:
        raise ConfigError(
            f"{data} has groups already, so none are suggested. Leave --suggest-groups out."
        )
    sys.stdout.write(check_text(found))
    write_report(json_file, json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n")
    if html_file is not None:
        write_report(html_file, check_page(found))
    if suggest is not None and found.suggestion is not None:
        found.suggestion.to_csv(suggest)
        say(f"Saved {suggest}: a guess. Look at its evidence before you train on it.")
    return 0 if found.ok else 1


def check_text(found: Check) -> str:
    """Return the check as text for a terminal."""
    data = found.data
    lines = [f"{data.name}: {len(data) + len(found.unreadable):,} images", ""]
    width = max(len(name) for name in data.classes) + 2
    lines += [f"  {name:<{width}}{data.counts[name]:>8,}" for name in data.classes]
    known = data.origins
    facts = [
        ("sizes", ", ".join(f"{s} ({n:,})" for s, n in list(found.sizes.items())[:4])),
        ("groups", f"{len(known):,}" if known else "none are known"),
        ("unreadable", f"{len(found.unreadable):,}"),
        ("blank", f"{len(found.blank):,}"),
        ("byte-identical pairs", f"{len(found.duplicates):,}"),
        ("near-duplicate pairs", f"{len(found.near_duplicate_pairs):,} (these included)"),
        ("overlapping pairs", f"{len(found.overlapping_pairs):,} (less is shared)"),
        ("marks at one place", f"{len(found.burnt_in):,}"),
        (
            "label suspects",
            "not looked for (--backbone NAME does)"
            if found.label_suspects is None
            else f"{len(found.label_suspects):,}",
        ),
    ]
    lines += ["", *(f"  {name:<24}{value}" for name, value in facts)]
    if found.suggestion is not None:
        kinds, groups = len(set(found.suggestion.series)), len(set(found.suggestion.groups))
        lines += [
            "",
            f"By light, stain and order of the names there seem to be {kinds:,} acquisitions and "
            f"{groups:,} groups. That is a guess; `--suggest-groups FILE.csv` writes it down.",
        ]
    for suspect in (found.label_suspects or ())[:_SHOWN]:
        lines.append(
            f"  {suspect['image']}: labelled {suspect['label']}, looks like {suspect['suggested']}"
        )
    lines += ["", "To fix:" if found.findings else "Nothing was found that has to be fixed."]
    lines += [f"- {line}" for line in found.findings[: 2 * _SHOWN]]
    if len(found.findings) > 2 * _SHOWN:
        lines.append(f"- … and {len(found.findings) - 2 * _SHOWN:,} more (--json has all)")
    return "\n".join(lines) + "\n"


def run_audit(
    data: Path,
    model_path: Path | None,
    column: str | None,
    pattern: str | None,
    json_file: Path | None,
    html_file: Path | None,
) -> None:
    """Measure the shortcut probes of a set and print them with the verdict."""
    require_places(json_file, html_file)
    needs_training_packages()
    from allkit.cli.judge import load_folder
    from allkit.data.dataset import Dataset
    from allkit.quality.audit import audit
    from allkit.quality.pages import audit_page

    model = None if model_path is None else load_folder(model_path)
    dataset = Dataset.open(data)
    if pattern is not None:
        dataset = dataset.with_groups(pattern)
    told(dataset)
    with bars() as progress:
        found = audit(dataset, model, column=column, progress=progress)
    sys.stdout.write(audit_text(found))
    write_report(json_file, json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n")
    if html_file is not None:
        write_report(html_file, audit_page(found, dataset.name))


def audit_text(found: Audit) -> str:
    """Return the audit as text for a terminal."""

    def row(name: str, probe: Probe) -> str:
        filled = round(30 * probe.balanced_accuracy)
        drawn = "█" * filled + "·" * (30 - filled)
        return f"  {name:<20}{probe.balanced_accuracy:>7.3f}  ({probe.low:.3f}–{probe.high:.3f})  {drawn}"

    lines = [f"Balanced accuracy by cross-validation, every {found.unit} kept whole"]
    for title, blind in (("Blind to cells", True), ("Coarse: cells only as colour", False)):
        own = [probe for probe in found.probes if probe.blind is blind]
        if own:
            lines += ["", title, *(row(probe.name, probe) for probe in own)]
    lines += ["", f"  {'chance':<20}{found.chance:>7.3f}"]
    if found.model is not None:
        lines.append(f"  {'the model':<20}{found.model:>7.3f}")
    if found.left_out is not None:
        lines.append(
            f"  {found.probes[0].name}, each {found.column} left out in turn: "
            f"{found.left_out.balanced_accuracy:.3f} "
            f"({found.left_out.low:.3f}–{found.left_out.high:.3f})"
        )
    lines += ["", f"{found.verdict.upper()}  {found.message}"]
    lines += [f"CAUTION  {note}" for note in found.model_notes]
    lines += [f"- {line}" for line in found.advice]
    return "\n".join(lines) + "\n"
