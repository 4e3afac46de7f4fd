"""An answer as HTML, for the end of a notebook's cell: its picture, verdict, bars and reasons."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from allkit.shown.html import escaped
from allkit.shown.text import how_many

__all__ = ["answer_html", "answers_html", "share_text"]

_WORDS = {
    "accepted": ("accepted", "#2f7d4f"),
    "review": ("for review", "#b45309"),
    "refused": ("refused", "#b91c1c"),
    "unreadable": ("unreadable", "#6b7280"),
}
"""What each verdict is called, and its colour, which is read on white and on black."""


def answer_html(answer: Mapping[str, Any], picture: bytes = b"") -> str:
    """Return an answer, in the form of `to_dict`, with a JPEG of its image where there is one.

    Its colours are those of the notebook, which may be light or dark. It has no script.
    """
    word, colour = _WORDS.get(answer["verdict"], (str(answer["verdict"]), "#6b7280"))
    name = escaped(str(answer.get("image", answer.get("case", ""))))
    parts = [
        f'<div style="overflow-wrap:anywhere;opacity:.75;font-size:12px">{name}</div>',
        f'<div><b style="color:{colour}">{escaped(word)}</b>{_label(answer)}</div>',
        *(_line(reason) for reason in answer["reasons"] if reason != word),
    ]
    if answer.get("error"):
        parts.append(_line(answer["error"]))
    parts += [
        _bar(label, share, best=label == answer["label"])
        for label, share in answer["probabilities"].items()
    ]
    if answer.get("white_cells") is not None:
        parts.append(_line(_counted(answer["white_cells"])))
    return (
        '<div style="display:flex;gap:12px;align-items:flex-start;margin:8px 0;font:13px/1.45 '
        'system-ui,sans-serif">'
        f"{_picture(picture)}<div style='min-width:260px;max-width:460px'>{''.join(parts)}</div></div>"
    )


def answers_html(lead: str, answers: Iterable[str]) -> str:
    """Return several answers of `answer_html` below a sentence."""
    text = f'<p style="margin:4px 0;opacity:.75">{escaped(lead)}</p>'
    cards = "".join(answers)
    return f'<div>{text}<div style="display:flex;flex-wrap:wrap;gap:4px 24px">{cards}</div></div>'


def _label(answer: Mapping[str, Any]) -> str:
    if answer["label"] is None:
        return ""
    text = f": {answer['label']} {share_text(answer['probability'])}"
    if answer.get("coarse"):
        word = _WORDS.get(str(answer["coarse_verdict"]), (str(answer["coarse_verdict"]), ""))[0]
        text += f" · {answer['coarse']} {share_text(answer['coarse_probability'])}, {word}"
    return escaped(text)


def share_text(value: float | None) -> str:
    """Return a probability as it is shown: never certainty."""
    if value is None:
        return ""
    return "> 0.99" if value >= 0.995 else f"{value:.2f}"


def _line(text: str) -> str:
    return f'<div style="font-size:12px;opacity:.85">{escaped(text)}</div>'


def _counted(cells: int) -> str:
    return how_many(cells, "white cell")


def _bar(label: str, share: float, *, best: bool) -> str:
    weight = "600" if best else "400"
    return (
        f'<div style="display:flex;align-items:center;gap:8px;font-weight:{weight}">'
        f'<span style="flex:0 0 96px;overflow:hidden;text-overflow:ellipsis">{escaped(label)}</span>'
        '<span style="flex:1;height:9px;background:rgba(128,128,128,.22)"><span style="display:block;'
        f'height:9px;width:{100 * min(1.0, max(0.0, share)):.1f}%;background:#3e6fb0"></span></span>'
        f'<span style="flex:0 0 44px;text-align:right;font-variant-numeric:tabular-nums">'
        f"{escaped(share_text(share))}</span></div>"
    )


def _picture(data: bytes) -> str:
    if not data:
        return ""
    code = base64.b64encode(data).decode()
    return f'<img alt="" src="data:image/jpeg;base64,{code}" style="flex:none;max-width:192px">'
