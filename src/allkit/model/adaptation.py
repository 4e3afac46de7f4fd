"""The record of an adaptation: what a laboratory's images changed, and whether that helped."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from allkit.runtime.fields import Flag, Hex, Name, Number, Text, Whole
from allkit.shown.html import fragment, items, paragraph, table

__all__ = ["Adaptation", "Claim"]

Claim = Literal["better", "no difference shown", "worse", "cannot be told", "not judged"]
SHOWN = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "accepted_share": "share accepted",
    "accepted_accuracy": "right when accepted",
    "silent_error_rate": "silent errors",
}


class Adaptation(BaseModel):
    """What one `allkit.adapt` did. It is saved with the model, without any name of a file.

    `before`, `after` and `differences` hold metrics by name, on images whose groups were not adapted
    with; `intervals` are the 95 % intervals of the differences, over groups. `claim` is what may be
    concluded from them, `message` explains it, and `notes` say what was not changed and why.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    created: Name
    images: Whole
    counts: dict[Name, Whole]
    """Images of each class; empty where they had no labels."""
    groups: Whole
    fingerprint: Hex
    labelled: Flag
    strength: Text
    """How far the head went: unchanged, weak, medium, strong; or aligned, without labels."""
    claim: Claim
    message: Text
    judged: Whole = 0
    protocol: Text = ""
    before: dict[Name, Number | None] = {}
    after: dict[Name, Number | None] = {}
    differences: dict[Name, Number] = {}
    intervals: dict[Name, Annotated[list[Number], Field(min_length=2, max_length=2)]] = {}
    interval_unit: Text = "group"
    notes: tuple[Text, ...] = ()

    def __repr__(self) -> str:
        kind = "labelled" if self.labelled else "without labels"
        return f"<Adaptation: {self.images:,} fields {kind}, {self.groups:,} groups; {self.claim}>"

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        kind = {"better": "good", "worse": "caution", "cannot be told": "caution"}.get(
            self.claim, ""
        )
        rows = []
        for key, name in self._shown().items():
            low_high = self.intervals.get(key)
            shown = "" if low_high is None else f"{low_high[0]:+.3f} to {low_high[1]:+.3f}"
            change = self.differences.get(key)
            difference = "" if change is None else f"{change:+.3f}"
            rows.append((name, self.before.get(key), self.after.get(key), difference, shown))
        head = ["", "before", "after", "difference", "95 % interval"]
        caption = f"{self.judged:,} fields. {self.protocol}"
        return fragment(
            paragraph(repr(self).strip("<>"), "muted"),
            paragraph(f"{self.claim.capitalize()}. {self.message}", kind),
            table(head, rows, caption) if rows else "",
            items(self.notes) if self.notes else "",
        )

    def to_text(self) -> str:
        """Return the table before and after, and what may be concluded, for a terminal."""
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items() if count)
        kind = f"labelled fields ({counts})" if self.labelled else "fields without labels"
        groups = f"{self.groups} groups" if self.groups else "no known groups"
        lines = [f"{self.images} {kind}, {groups}; the head: {self.strength}", ""]
        if self.before:
            lines.append(f"{'':<22}before   after   difference")
            lines += [self._row(key, name) for key, name in self._shown().items()]
            lines += ["", f"{self.judged} fields. {self.protocol}", ""]
        lines += [f"{self.claim.upper()}  {self.message}", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def _shown(self) -> dict[str, str]:
        recalls = {key: f"recall {key[7:]}" for key in self.before if key.startswith("recall ")}
        return {k: v for k, v in (SHOWN | recalls).items() if self.before.get(k) is not None}

    def _row(self, key: str, name: str) -> str:
        values = [self.before.get(key), self.after.get(key)]
        shown = "".join("      – " if v is None else f"{v:>8.3f}" for v in values)
        if key not in self.differences:
            return f"{name:<20}{shown}"
        low, high = self.intervals.get(key, (float("nan"), float("nan")))
        return f"{name:<20}{shown}   {self.differences[key]:+.3f}   ({low:+.3f} to {high:+.3f})"
