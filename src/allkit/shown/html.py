"""HTML that needs nothing but itself: pieces, a whole page, and what a notebook shows of an object.

No script, no font, no file from elsewhere. Pieces look right on light and on dark: pages follow the
reader's setting, notebooks their own colours.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from allkit.shown.text import printable, shortened

if TYPE_CHECKING:  # the command line shows its help without NumPy
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "bar",
    "card",
    "escaped",
    "fragment",
    "grid",
    "items",
    "page",
    "paragraph",
    "picture",
    "section",
    "shaded",
    "table",
    "thumbnail",
    "tile",
    "tiles_in_rows",
    "with_code",
]

# Colours that are seen on white and on black: lines and grounds let through what is behind them.
_PIECES = """
.allkit { --blue: #3f7fcb; --orange: #c8601c; --green: #3a8f5c; --line: rgba(127,127,127,.32);
  --ground: rgba(127,127,127,.1); --muted: currentColor; --paper: #fff; font: 15px/1.5 system-ui, sans-serif;
  overflow-wrap: break-word; }
.allkit p { margin: .4rem 0; max-width: 60rem; } .allkit .muted { color: var(--muted); opacity: .8; }
.allkit .caution, .allkit .good { border-left: 4px solid var(--orange); padding: .5rem .8rem;
  background: rgba(200,96,28,.13); max-width: 58rem; }
.allkit .good { border-color: var(--green); background: rgba(58,143,92,.13); }
.allkit ul { margin: .4rem 0; padding-left: 1.2rem; max-width: 60rem; }
.allkit code { font: .92em ui-monospace, monospace; background: var(--ground); padding: 0 .25em;
  border-radius: 3px; }
.allkit .scroll { overflow-x: auto; }
.allkit table { border-collapse: collapse; margin: .5rem 0; font-size: 14px; background: none; }
.allkit caption { caption-side: bottom; text-align: left; padding: .4rem 0; font-size: 13px; }
.allkit td, .allkit th { padding: .28rem 1rem .28rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); background: none; white-space: normal; }
.allkit th { font-weight: 600; vertical-align: bottom; }
.allkit td.number, .allkit th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.allkit .matrix td { vertical-align: middle; padding-left: .4rem; }
.allkit .matrix th { padding-left: .4rem; text-align: center; }
.allkit .matrix th:first-child, .allkit .matrix td:first-child { text-align: left; padding-left: 0; }
.allkit .matrix td.shaded { padding: 0; border: 1px solid var(--line); }
.allkit td.shaded span.wrong { font-weight: 600; box-shadow: inset 0 0 0 2px var(--orange); }
.allkit td.shaded span { display: block; padding: .5rem .9rem; text-align: center; min-width: 2.5rem;
  font-variant-numeric: tabular-nums; }
.allkit td.barred { min-width: 10rem; width: 34%; vertical-align: middle; }
.allkit .grid { display: flex; flex-wrap: wrap; gap: .8rem; margin: .6rem 0; align-items: flex-start; }
.allkit figure { margin: 0; max-width: 100%; break-inside: avoid; }
.allkit figure img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
.allkit figure.plot img { box-sizing: border-box; padding: .5rem; border: 1px solid var(--line);
  border-radius: 6px; background: var(--paper); }
.allkit figcaption { font-size: 13px; line-height: 1.35; margin-top: .25rem; overflow-wrap: anywhere; }
.allkit .card { width: 11.5rem; border: 1px solid var(--line); border-radius: 6px; padding: .5rem;
  background: var(--ground); box-sizing: border-box; }
.allkit .card img { width: 100%; } .allkit .card.strong { border: 2px solid var(--orange); }
.allkit .card strong { display: block; font-size: 14px; overflow-wrap: break-word; }
.allkit .card .gone { font-size: 13px; padding: 1.5rem .5rem; border: 1px dashed var(--line); }
.allkit .set { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .6rem; }
.allkit .set > .grid { margin: .3rem 0 0; gap: .5rem; } .allkit .set .card { width: 9.2rem; }
.allkit .tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr));
  gap: .8rem; margin: .6rem 0; }
.allkit .tile { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .8rem;
  background: var(--ground); break-inside: avoid; }
.allkit .tile strong { display: block; font-size: 1.5rem; line-height: 1.25; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.allkit .tile small { display: block; font-size: 13px; line-height: 1.35; }
.allkit .scale { display: block; position: relative; height: .85rem; background: var(--ground);
  border-radius: 2px; min-width: 6rem; }
.allkit .scale i { position: absolute; top: 0; bottom: 0; left: 0; background: var(--blue);
  border-radius: 2px; }
.allkit .scale.strong i { background: var(--orange); }
.allkit .scale u { position: absolute; top: 45%; height: 2px; background: currentColor; }
.allkit .scale u::before, .allkit .scale u::after { content: ""; position: absolute; top: -4px;
  height: 10px; width: 2px; background: currentColor; left: 0; }
.allkit .scale u::after { left: auto; right: 0; }
.allkit .scale s { position: absolute; top: -3px; bottom: -3px; width: 0;
  border-left: 2px dotted currentColor; }
"""
_PAGE = """
:root { color-scheme: light dark; }
body { margin: 0; padding: 1.2rem clamp(.9rem, 3vw, 3rem) 3rem; background: #fff; color: #1f2933; }
body.allkit { --muted: #46525e; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; break-after: avoid; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; break-after: avoid; }
nav { margin: .8rem 0 0; font-size: 14px; }
nav a { margin-right: 1rem; color: inherit; display: inline-block; }
@media (prefers-color-scheme: dark) {
  body { background: #15191e; color: #e6e9ed; } body.allkit { --muted: #b3bdc7; --paper: #cfd6dd; }
}
@media (max-width: 30rem) {
  .allkit .card { width: calc(50% - .4rem); } .allkit .set .card { width: calc(50% - .25rem); }
}
@media print {
  @page { margin: 14mm; }
  :root { color-scheme: light; } nav { display: none; }
  body { background: #fff; color: #000; padding: 0; }
  body.allkit { --muted: #333; --paper: #fff; font-size: 12px; }
  .allkit * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .allkit tr, .allkit .card, .allkit .set { break-inside: avoid; }
  .allkit .scroll { overflow: visible; } .allkit table { font-size: 11px; }
  .allkit .card { width: 9.5rem; } .allkit figure:not(.card) { max-width: 48% !important; }
}
"""
LEAST = 0.3
"""How strong the ground of a wrong cell is at least, from 0 to 1."""
_NUMBERS = re.compile(r"[-+−–]?\d[\d.,]*( to [-+−–]?\d[\d.,]*)?")
"""A number as text, or an interval."""
_CODE = re.compile(r"`([^`\n]+)`")


class _Html(str):
    """Text that is HTML already."""

    __slots__ = ("kind",)
    kind: str

    def __new__(cls, text: str, kind: str = "") -> _Html:
        """Take the text, and the class of the table's cell that holds it."""
        made = super().__new__(cls, text)
        made.kind = kind
        return made


class _Section(str):
    """A section, which knows its title: a page lists what it holds."""

    __slots__ = ("heading",)
    heading: str


def escaped(text: str) -> str:
    """Return text for a page: nothing in it is markup, and nothing turns round what stands beside it."""
    return html.escape(printable(text))


def with_code(text: str) -> str:
    """Return the same, with what stands between backticks as code."""
    return _CODE.sub(r"<code>\1</code>", escaped(text))


def page(title: str, lead: str, sections: Iterable[str]) -> str:
    """Return the whole page; `lead` is text, `sections` are HTML made by the other functions."""
    parts = list(sections)
    titles = [part.heading for part in parts if isinstance(part, _Section)]
    links = "".join(f'<a href="#{_anchor(name)}">{escaped(name)}</a>' for name in titles)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{_PIECES}{_PAGE}</style></head>\n"
        f'<body class="allkit"><h1>{escaped(title)}</h1><p class="muted">{with_code(lead)}</p>\n'
        + (f"<nav>{links}</nav>\n" if len(titles) > 2 else "")
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def fragment(*parts: str) -> str:
    """Return parts as a notebook shows them behind a cell, in the notebook's own colours."""
    return f'<div class="allkit"><style>{_PIECES}</style>\n' + "\n".join(parts) + "</div>"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def section(title: str, *parts: str) -> str:
    """Return a titled section of HTML parts."""
    made = _Section(f'<h2 id="{_anchor(title)}">{escaped(title)}</h2>\n' + "\n".join(parts))
    made.heading = title
    return made


def paragraph(text: str, kind: str = "") -> str:
    """Return text as a paragraph; `kind` is `caution`, `good`, `muted` or nothing."""
    return f'<p class="{kind}">{with_code(text)}</p>' if kind else f"<p>{with_code(text)}</p>"


def items(lines: Iterable[str]) -> str:
    """Return texts as a list with dots."""
    return "<ul>" + "".join(f"<li>{with_code(line)}</li>" for line in lines) + "</ul>"


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "", *, kind: str = ""
) -> str:
    """Return a table; numbers are set to the right, and what `bar` and `shaded` make is taken as it is.

    `kind` is `matrix` for one of `shaded` cells.
    """

    def is_number(value: object) -> bool:
        return isinstance(value, (int, float)) or bool(_NUMBERS.fullmatch(str(value)))

    def cell(value: object) -> str:
        if isinstance(value, _Html):
            return f'<td class="{value.kind}">{value}</td>' if value.kind else f"<td>{value}</td>"
        text = f"{value:,}" if isinstance(value, int) else "–" if value is None else value
        text = f"{text:.3f}" if isinstance(text, float) else str(text)
        shape = ' class="number"' if is_number(value) else ""
        return f"<td{shape}>{with_code(text)}</td>"

    lines = [list(row) for row in rows]
    numeric = [
        any(is_number(row[at]) for row in lines if at < len(row)) for at in range(len(header))
    ]
    head = "".join(
        f"<th{' class=number' if right else ''}>{escaped(name)}</th>"
        for name, right in zip(header, numeric, strict=True)
    )
    body = "\n".join(f"<tr>{''.join(cell(value) for value in row)}</tr>" for row in lines)
    below = f"<caption>{with_code(caption)}</caption>" if caption else ""
    of_kind = f' class="{kind}"' if kind else ""
    return f'<div class="scroll"><table{of_kind}>{below}<tr>{head}</tr>\n{body}</table></div>'


def bar(
    share: float,
    *,
    strong: bool = False,
    interval: Sequence[float] | None = None,
    mark: float | None = None,
) -> str:
    """Return a bar for a share from 0 to 1, for a cell of a `table`.

    With the line of an `interval`, and a dotted `mark` (such as chance) to compare it with.
    """

    def percent(value: float) -> str:
        return f"{100 * min(1.0, max(0.0, value)):.1f}%"

    parts = [f'<i style="width:{percent(share)}"></i>']
    if interval is not None:
        low, high = (min(1.0, max(0.0, end)) for end in interval)
        parts.append(f'<u style="left:{percent(low)};width:{percent(high - low)}"></u>')
    if mark is not None:
        parts.append(f'<s style="left:{percent(mark)}"></s>')
    kind = "scale strong" if strong else "scale"
    return _Html(f'<span class="{kind}">{"".join(parts)}</span>', "barred")


def shaded(text: str, share: float, *, wrong: bool = False) -> str:
    """Return a cell of a `table` with a ground as strong as a share from 0 to 1; orange if `wrong`.

    A wrong one is never weak, however small its share, and has a frame: one error of many is seen.
    """
    colour = "200,96,28" if wrong else "63,127,203"
    depth = 0.6 * min(1.0, max(0.0, share)) if share else 0.0
    kind = ""
    if wrong and share:
        depth, kind = max(LEAST, depth), ' class="wrong"'
    ground = f"background: rgba({colour},{depth:.2f})"
    return _Html(f'<span{kind} style="{ground}">{escaped(text)}</span>', "shaded")


def thumbnail(image: npt.NDArray[np.uint8], side: int = 160) -> bytes:
    """Return `image` `(H, W, 3)` as a small JPEG with `side` as the longer side, for a page."""
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=82)
    return stream.getvalue()


def _image(data: bytes, text: str, size: str = "") -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    code = base64.b64encode(data).decode()
    return f'<img alt="{text}"{size} src="data:image/{kind};base64,{code}">'


def picture(data: bytes, caption: str = "", *, width: int | None = None) -> str:
    """Return a PNG or JPEG, inside the page, with its caption; one with a `width` is a plot, on paper."""
    size = f' width="{width}"' if width else ""
    room = f' style="max-width:{width}px"' if width else ""
    below = f"<figcaption>{with_code(caption)}</figcaption>" if caption else ""
    kind = ' class="plot"' if width else ""
    return f"<figure{kind}{room}>{_image(data, escaped(caption), size)}{below}</figure>"


def card(data: bytes | None, title: str, lines: Sequence[str] = (), *, strong: bool = False) -> str:
    """Return an image with a title in bold and lines below; `None` says that its file has gone."""
    texts = [shortened(line, 160) for line in lines if line]
    shown = (
        '<div class="gone">The image cannot be read any more.</div>'
        if data is None
        else _image(data, escaped(title or " ".join(texts)))
    )
    head = f"<strong>{escaped(title)}</strong>" if title else ""
    text = "<br>".join(map(with_code, texts))
    kind = "card strong" if strong else "card"
    return f'<figure class="{kind}">{shown}<figcaption>{head}{text}</figcaption></figure>'


def grid(*parts: str, title: str = "") -> str:
    """Return parts side by side, as many as there is room for; with a `title`, in a frame."""
    row = f'<div class="grid">{"".join(parts)}</div>'
    return f'<div class="set">{with_code(title)}{row}</div>' if title else row


def tiles_in_rows(*tiles: str) -> str:
    """Return what `tile` makes side by side, all of one width."""
    return f'<div class="tiles">{"".join(tiles)}</div>'


def tile(value: str, name: str, *below: str) -> str:
    """Return one number in large type, with its name above and what belongs to it below."""
    lines = "".join(f"<small>{with_code(line)}</small>" for line in below if line)
    return f'<div class="tile"><small>{escaped(name)}</small><strong>{escaped(value)}</strong>{lines}</div>'
