"""The confusion matrix: a list of lists, which also shows itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from allkit.shown.html import fragment, shaded, table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Confusion", "confusion_table"]


class Confusion(list[list[int]]):
    """`(K, K)` counts, rows true and columns predicted: a list of lists.

    Called, it gives a data frame with the names of the classes; `plot()` gives a figure, and a notebook
    shows it as a table.
    """

    def __init__(self, rows: Iterable[Sequence[int]] = (), classes: Sequence[str] = ()) -> None:
        super().__init__([int(count) for count in row] for row in rows)
        self.classes = tuple(classes)

    def __call__(self) -> pd.DataFrame:
        """Return the counts as a data frame, true classes in rows, predicted ones in columns."""
        return self.to_frame()

    def to_frame(self) -> pd.DataFrame:
        """Return the same."""
        import pandas as pd

        return pd.DataFrame(
            [list(row) for row in self],
            index=pd.Index(self.classes, name="true"),
            columns=pd.Index(self.classes, name="predicted"),
        )

    def plot(self) -> Figure:
        """Return a matplotlib figure; the shade of a cell is its share of the row."""
        from allkit.evaluation.plots import confusion_figure

        return confusion_figure(self, self.classes, "Confusion")

    def to_list(self) -> list[list[int]]:
        """Return plain lists, as in `Evaluation.to_dict`."""
        return [list(row) for row in self]

    def _repr_html_(self) -> str:
        return fragment(confusion_table(self, self.classes))


def confusion_table(rows: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Return a confusion matrix as a table of HTML; the shade of a cell is its share of the row."""
    lines = []
    for at, (name, row) in enumerate(zip(names, rows, strict=True)):
        total = max(1, sum(row))
        cells = [
            shaded(f"{count:,}", count / total, wrong=at != column)
            for column, count in enumerate(row)
        ]
        lines.append((name, *cells, sum(row)))
    return table(
        ["true class", *(f"answered {name}" for name in names), "all"],
        lines,
        "Rows: what it is. Columns: what was answered. Blue is right, orange is wrong; the larger the "
        "share of its row, the stronger a cell.",
        kind="matrix",
    )
