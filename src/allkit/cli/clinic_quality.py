"""`allkit clinic quality, overridden`: how the model fares in this clinic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from allkit.cli.clinic_options import As, Url, Where, print_json, signed_in, table
from allkit.cli.options import AsJson, Overwrite
from allkit.cli.progress import put_all, say

if TYPE_CHECKING:
    from allkit.clinic.quality import Quality
    from allkit.clinic.shares import Share

__all__ = ["overridden", "quality"]


def quality(
    since: Annotated[str | None, typer.Option(help="from this day on, as 2026-01-31")] = None,
    until: Annotated[str | None, typer.Option(help="up to this day")] = None,
    as_json: AsJson = False,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Show how the model fares in this clinic: overrides, calibration, agreement, drift.

    Each share has its number and a 95 % interval; under 20 there are too few for
    one.

    Example:
    allkit clinic quality
    """
    from allkit.clinic.quality import summary

    with signed_in(store, url, as_) as user:
        found = summary(user, since=since, until=until)
    if as_json:
        print_json(found.to_dict())
        return
    put_all(_parts(found))


def _parts(found: Quality) -> Iterator[str]:
    for title, overrides in (
        ("Overrides, by the model's class", found.overrides_by_class),
        ("Overrides, by month", found.overrides_by_month),
    ):
        rows = [
            (o.model[:12], o.of, o.verdict, "blind" if o.blind else "seen", _share(o.changed))
            for o in overrides.rows
        ]
        yield from _part(title, ("model", overrides.by, "answer", "reader", "other class"), rows)
    bands = [
        (b.model[:12], f"{b.low:.2f}-{b.high:.2f}", f"{b.mean:.3f}", _share(b.right))
        for b in found.calibration.rows
    ]
    yield from _part("Calibration, signed cases", ("model", "probability", "mean", "right"), bands)
    both = found.agreement
    kappa = "too few" if both.kappa is None else f"{both.kappa:.2f} ({both.low}-{both.high})"
    yield f"Second readers: {both.n} fields of {both.cases} cases, kappa {kappa}\n\n"
    months = [
        (
            d.month,
            d.model[:12],
            str(d.n),
            *(_share(d.verdicts[name]) for name in ("accepted", "refused")),
            _share(d.unfamiliar),
            "" if d.ood_median is None else f"{d.ood_median:.2f}",
            _colours(d.background),
            _colours(d.cells),
        )
        for d in found.drift
    ]
    verdicts = ("accepted", "refused", "unlike training")
    head = ("month", "model", "fields", *verdicts, "OOD median", "background r g b", "cells r g b")
    yield from _part("Answers, by month", head, months)
    yield from (f"{note}\n" for note in found.notes)


def _part(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"{title}\n"
    yield table(rows, head) if rows else "  nothing yet\n"
    yield "\n"


def _colours(densities: tuple[float, ...] | None) -> str:
    return "" if densities is None else " ".join(f"{value:.2f}" for value in densities)


def _share(share: Share) -> str:
    if share.share is None:
        return f"{share.hits} of {share.n}, too few"
    return f"{share.share:.2f} ({share.low:.2f}-{share.high:.2f}) of {share.n}"


def overridden(
    out: Annotated[Path, typer.Option(help="the folder to write")],
    only: Annotated[
        Literal["overridden", "signed"],
        typer.Option(help="fields that the reader gave another class, or all of signed cases"),
    ] = "overridden",
    since: Annotated[str | None, typer.Option(help="read on this day or later")] = None,
    overwrite: Overwrite = False,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Write fields with the reader's classes as a set of images, for `allkit adapt` and `train`.

    Example:
    allkit clinic overridden --out corrected
    """
    from allkit.clinic.overridden import write_overridden

    with signed_in(store, url, as_) as user:
        written = write_overridden(user, out, only=only, since=since, overwrite=overwrite)
    counts = ", ".join(f"{number} {name}" for name, number in written.classes.items())
    say(f"Saved {written.table}: {counts}; {written.patients} patients, {written.cases} cases.")
    left = ", ".join(f"{number} {why}" for why, number in written.left_out.items() if number)
    if left:
        say(f"Left out: {left}.")
