"""What is tried against allkit, and counted: each module is a row of the table of attacks.

A module has `TITLE`, the name of its row, and `run(scale, folder)`, which tries everything in an
empty folder and returns the counts of each line of the row. With the scale "short" that takes
seconds, as in `make test`; "long" is what `make nightly` runs and what the page states.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Counts", "Scale"]

Scale = Literal["short", "long"]


@dataclass
class Counts:
    """What came of the attempts of one line: each was right, refused with one error, or failed."""

    right: int = 0
    """Answered, and rightly."""
    refused: int = 0
    """Ended with one error of allkit that names the thing."""
    failed: list[str] = field(default_factory=list)
    """Anything else, in words: a wrong answer, a foreign exception, a hang, a dead process."""
    measured: dict[str, float] = field(default_factory=dict)
    """What was measured beside the counts, by name and unit: `{"most seconds": 1.2}`."""

    @property
    def tried(self) -> int:
        """How many attempts there were."""
        return self.right + self.refused + len(self.failed)

    def require_none_failed(self) -> None:
        """Raise `AssertionError` that shows the first failures, or says that nothing was tried."""
        assert self.tried, "nothing was tried"
        shown = "\n".join(self.failed[:10])
        assert not self.failed, f"{len(self.failed)} of {self.tried} failed:\n{shown}"
