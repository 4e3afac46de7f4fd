"""What all pictures have in common: an empty figure, its colours, and how curves are told apart.

They are drawn without pyplot, so that drawing changes no global state and may be done in any thread.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

from allkit.shown.text import printable
from allkit.telemetry import import_silent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FONT", "INK", "MUTED", "TRAIN", "VAL", "figure_of", "labelled", "lines", "plain", "png"]

INK, MUTED, TRAIN, VAL = "#1f2933", "#616e7c", "#3e6fb0", "#c2571a"
FONT = 9.5
"""Points of what is written; pictures are shown in the size in which they are drawn."""
DOTS = 130

# Colours that are told apart with any colour vision (Okabe & Ito 2008), and a pattern for each: a
# print in grey still tells them apart. Of curves that coincide, the thinner ones lie on the wider ones.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_PATTERNS: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_WIDTHS = (3.4, 2.6, 2.0, 1.5)


def figure_of(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches, without pyplot; a notebook shows it all the same."""
    canvas = import_silent("matplotlib.backends.backend_agg").FigureCanvasAgg
    figure: Figure = import_silent("matplotlib.figure").Figure(
        figsize=(width, height), dpi=DOTS, layout="constrained"
    )
    canvas(figure)
    # A notebook shows figures of itself only once pyplot was imported there.
    figure._repr_png_ = partial(png, figure)  # type: ignore[attr-defined] # what IPython looks for
    return figure


def plain(axes: Any) -> None:
    """Take frame and ticks from axes."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, labelsize=FONT - 0.5, colors=INK)


def labelled(axes: Any, title: str, x: str = "", y: str = "") -> None:
    """Write the title and the names of both axes; a `$` in them is a sign like others."""
    axes.set_title(printable(title), loc="left", fontsize=FONT + 1, color=INK, parse_math=False)
    axes.set_xlabel(printable(x), fontsize=FONT, color=INK, parse_math=False)
    axes.set_ylabel(printable(y), fontsize=FONT, color=INK, parse_math=False)
    plain(axes)


def lines() -> Iterator[dict[str, Any]]:
    """Yield how one curve after another is drawn, each unlike those before."""
    for number, colour in enumerate(cycle(_COLOURS)):
        yield {
            "color": colour,
            "linestyle": _PATTERNS[number % len(_PATTERNS)],
            "linewidth": _WIDTHS[min(number, len(_WIDTHS) - 1)],
        }


def png(figure: Figure, *, transparent: bool = False) -> bytes:
    """Return a figure as the bytes of a PNG file; a `transparent` one takes the ground of its page."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None}, transparent=transparent)
    return stream.getvalue()
