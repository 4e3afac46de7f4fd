"""`allkit check`: what is wrong with a set of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from allkit.cli.completion import complete_backbone
from allkit.cli.extras import require_training_packages
from allkit.cli.options import Data, GroupPattern, Html, Json, Overwrite, SlidePattern, Weights
from allkit.cli.progress import bars, put, say
from allkit.cli.reports import require_places, write_report
from allkit.errors import ConfigError
from allkit.files import require_free
from allkit.shown.text import how_many

if TYPE_CHECKING:
    from allkit.data.dataset import Dataset
    from allkit.quality.check import Check

__all__ = ["check"]

SHOWN = 10
"""Lines of a list on the terminal; `--json` and `--html` hold all."""


def check(
    data: Data,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="look for wrong labels with this backbone's features",
            autocompletion=complete_backbone,
        ),
    ] = None,
    weights: Weights = "default",
    group_pattern: GroupPattern = None,
    slide_pattern: SlidePattern = None,
    suggest_groups: Annotated[
        Path | None, typer.Option(help="write the guessed groups as a CSV to look at")
    ] = None,
    write_slides: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="write the suggested slides as a CSV with a column slide"
        ),
    ] = None,
    json_file: Json = None,
    html_file: Html = None,
    overwrite: Overwrite = False,
) -> None:
    """Look for what is wrong with a set of images.

    Exit status 1 when there is something to fix.

    Example:
    allkit check smears --html check.html
    allkit check smears.csv --backbone vgg16 --json check.json
    """
    require_places(json_file, html_file)
    if suggest_groups is not None:
        require_free(suggest_groups, overwrite=overwrite)
    if write_slides is not None:
        require_free(write_slides, overwrite=overwrite)
    require_training_packages()
    from allkit.quality.check import check as check_set
    from allkit.quality.pages import check_page

    with bars() as progress:
        report = check_set(
            data,
            backbone=backbone,
            weights="default" if weights is None else weights,
            pattern=group_pattern,
            slide=slide_pattern,
            progress=progress,
        )
    if suggest_groups is not None and report.suggestion is None:
        raise ConfigError(
            f"{data} has groups already, so none are suggested. Leave --suggest-groups out."
        )
    if write_slides is not None and report.slide_suggestion is None:
        raise ConfigError(
            f"{data} has slides already, so none are suggested. Leave --write-slides out."
        )
    put(_text(report))
    write_report(json_file, json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n")
    if html_file is not None:
        write_report(html_file, check_page(report))
    if suggest_groups is not None and report.suggestion is not None:
        report.suggestion.to_csv(suggest_groups)
        say(f"Saved {suggest_groups}: a guess. Look at its evidence before you train on it.")
    if write_slides is not None and report.slide_suggestion is not None:
        report.slide_suggestion.to_csv(write_slides)
        say(
            f"Saved {write_slides}: suggested slides, not known ones, as its column slide_source "
            f"says. Correct what you know better."
        )
    raise typer.Exit(0 if report.ok else 1)


def _text(report: Check) -> str:
    """Return the check as text for a terminal."""
    data = report.data
    lines = [f"{data.name}: {how_many(len(data) + len(report.unreadable), 'image')}", ""]
    width = max(len(name) for name in data.classes) + 2
    lines += [f"  {name:<{width}}{data.counts[name]:>8,}" for name in data.classes]
    origins = data.origins
    facts = [
        ("sizes", ", ".join(f"{s} ({n:,})" for s, n in list(report.sizes.items())[:4])),
        ("groups", f"{len(origins):,}" if origins else "none are known"),
        ("slides", _slides(data)),
        ("unreadable", f"{len(report.unreadable):,}"),
        ("blank", f"{len(report.blank):,}"),
        *_profiles(report),
        ("byte-identical pairs", f"{len(report.duplicates):,}"),
        ("near-duplicate pairs", _near(report)),
        ("overlapping pairs", f"{len(report.overlapping_pairs):,} (less is shared)"),
        ("marks at one place", f"{len(report.burnt_in):,}"),
        (
            "label suspects",
            "not looked for (--backbone NAME does)"
            if report.label_suspects is None
            else f"{len(report.label_suspects):,}",
        ),
    ]
    lines += ["", *(f"  {name:<24}{value}" for name, value in facts)]
    if report.suggestion is not None:
        kinds, groups = len(set(report.suggestion.series)), len(set(report.suggestion.groups))
        lines += [
            "",
            f"By light, stain and order of the names there seem to be {kinds:,} acquisitions and "
            f"{groups:,} groups. That is a guess; `--suggest-groups FILE.csv` writes it down.",
        ]
    if report.slide_suggestion is not None:
        lines += [
            "",
            f"{report.slide_suggestion.in_words}. That is a suggestion, in "
            f"doubt one slide rather than two; `--write-slides FILE.csv` writes it down.",
        ]
    for suspect in (report.label_suspects or ())[:SHOWN]:
        lines.append(
            f"  {suspect['image']}: labelled {suspect['label']}, looks like {suspect['suggested']}"
        )
    lines += ["", "To fix:" if report.findings else "Nothing was found that has to be fixed."]
    lines += [f"- {line}" for line in report.findings[: 2 * SHOWN]]
    if len(report.findings) > 2 * SHOWN:
        lines.append(f"- … and {len(report.findings) - 2 * SHOWN:,} more (--json has all)")
    return "\n".join(lines) + "\n"


def _near(report: Check) -> str:
    """Return the number of pairs, and how many fields these are: three images of one are three pairs."""
    from allkit.quality.pictures import groups_of

    fields = groups_of(report.near_duplicate_pairs)
    pairs = f"{len(report.near_duplicate_pairs):,}"
    images = sum(map(len, fields))
    return (
        f"{pairs} (these included): {how_many(len(fields), 'field')}, {how_many(images, 'image')}"
        if fields
        else pairs
    )


def _profiles(report: Check) -> list[tuple[str, str]]:
    """Return how many images have a colour profile that is not applied; nothing where none has."""
    count = len(report.colour_profiles)
    names = list(dict.fromkeys(name for _, name in report.colour_profiles))
    shown = f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
    return [("colour profiles", f"{count:,} not sRGB, not applied ({shown})")] if count else []


def _slides(data: Dataset) -> str:
    """Return the number of slides in words."""
    if not data.slide_names:
        return "none are known"
    unknown = sum(sample.slide is None for sample in data)
    words = f"{len(data.slide_names):,}{' (suggested)' if data.slides_suggested else ''}"
    return f"{words}, unknown for {unknown:,} images" if unknown else words
