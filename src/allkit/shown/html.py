"""One HTML page that needs nothing but itself: no script, no font, no file from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

from allkit.shown.text import printable

__all__ = ["bar", "escaped", "page", "paragraph", "picture", "section", "table"]

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; margin: 0 auto; max-width: 68rem;
  padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .4rem 0; max-width: 48rem; } .muted { color: #616e7c; }
.caution { border-left: 4px solid #c2571a; background: #fdf3ec; padding: .5rem .8rem; }
.good { border-left: 4px solid #2f7d4f; background: #eef7f1; padding: .5rem .8rem; }
table { border-collapse: collapse; margin: .5rem 0; } td, th { padding: .25rem .8rem .25rem 0;
  text-align: left; vertical-align: top; border-bottom: 1px solid #e4e7eb; }
th { font-weight: 600; color: #52606d; } td.number, th.number { text-align: right;
  font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: .3rem .6rem .6rem 0; vertical-align: top; }
figure img { display: block; max-width: 100%; } figcaption { font-size: .75rem; color: #616e7c;
  max-width: 22rem; overflow-wrap: anywhere; }
.bar { display: inline-block; height: .7rem; background: #3e6fb0; vertical-align: middle; }
.bar.strong { background: #c2571a; }
.scale { display: inline-block; width: 14rem; background: #eef1f4; line-height: .7rem; }
"""


def escaped(text: str) -> str:
    """Return text for a page: nothing in it is markup, and nothing turns round what stands beside it."""
    return html.escape(printable(text))


def page(title: str, lead: str, sections: Iterable[str]) -> str:
    """Return the whole page; `lead` is text, `sections` are HTML made by the other functions."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{_STYLE}</style></head>\n<body>"
        f'<h1>{escaped(title)}</h1><p class="muted">{escaped(lead)}</p>\n'
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Return a titled section of HTML parts."""
    return f"<h2>{escaped(title)}</h2>\n" + "\n".join(parts)


def paragraph(text: str, kind: str = "") -> str:
    """Return text as a paragraph; `kind` is `caution`, `good`, `muted` or nothing."""
    return f'<p class="{kind}">{escaped(text)}</p>' if kind else f"<p>{escaped(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; numbers are set to the right, and a cell made by `bar` is taken as it is."""

    def cell(value: object, tag: str = "td") -> str:
        if isinstance(value, _Html):
            return f"<{tag}>{value}</{tag}>"
        text = f"{value:,}" if isinstance(value, int) else "–" if value is None else value
        text = f"{text:.3f}" if isinstance(text, float) else str(text)
        kind = ' class="number"' if isinstance(value, (int, float)) else ""
        return f"<{tag}{kind}>{escaped(text)}</{tag}>"

    head = "".join(cell(name, "th") for name in header)
    body = "\n".join(f"<tr>{''.join(cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


class _Html(str):
    __slots__ = ()


def bar(share: float, *, strong: bool = False) -> str:
    """Return a bar for a share from 0 to 1, for a cell of a `table`."""
    width = 14 * min(1.0, max(0.0, share))
    kind = "bar strong" if strong else "bar"
    return _Html(
        f'<span class="scale"><span class="{kind}" style="width:{width:.2f}rem"></span></span>'
    )


def picture(data: bytes, caption: str = "", *, width: int | None = None) -> str:
    """Return a PNG or JPEG, inside the page, with its caption."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    code = base64.b64encode(data).decode()
    size = f' width="{width}"' if width else ""
    text = escaped(caption)
    return (
        f'<figure><img alt="{text}"{size} src="data:image/{kind};base64,{code}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
