"""Draw `docs/result.svg`, the picture in the README: what a model's evaluation shows, on drawn smears.

    python docs/result.py [FILE.svg]

The network is tiny and has random weights: it needs no download, and makes errors that can be looked at.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import allkit

MOST = 120_000
"""Bytes that the picture may take."""


def picture() -> str:
    """Return the figure of an evaluation on drawn smears as SVG, with letters as text."""
    import matplotlib

    data = allkit.Dataset.sample(72, groups=24, seed=1)
    split = data.split(test=0.5, by="group", seed=0)
    trainer = allkit.Trainer(backbone="timm:test_resnet", weights="none")
    result = trainer.fit(split.train).evaluate(split.test)
    # The same figure gives the same file: no date, and no random names of its parts.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "allkit"}):
        figure = result.plot()
        figure.text(
            0.5,
            -0.03,
            "Synthetic smears and a tiny network with random weights: nothing follows for real ones.",
            ha="center",
            fontsize=9,
            color="#a33",
        )
        file = io.StringIO()
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    return re.sub(r"[ \t]+$", "", file.getvalue(), flags=re.MULTILINE)


def main(arguments: list[str] | None = None) -> int:
    """Write the picture; return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    out = Path(given[0]) if given else Path(__file__).with_name("result.svg")
    text = picture()
    if len(text.encode()) > MOST:
        sys.stderr.write(f"Error: the picture takes {len(text.encode()):,} bytes.\n")
        return 1
    out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
