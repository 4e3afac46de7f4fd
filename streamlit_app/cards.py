"""How one answer looks."""

from __future__ import annotations

import html

import streamlit as st
from answers import (
    VERDICTS,
    Field,
    group_line,
    may_be_shown,
    measurements,
    plain,
    probability,
    reasons_in_words,
    sentence,
)

STRONG, FAINT, TRACK = "#1f5f7a", "#9fb3bf", "#e8edf0"


def heading_of(field: Field, names: dict[str, str]) -> tuple[str, bool]:
    """Return what stands above an answer, and whether that is a class.

    Only an accepted answer is read first as a class: whoever sees a name and a high probability
    on a slide that the model does not know has seen a wrong answer, whatever stands below it.
    """
    answer = field.answer
    if answer.verdict == "accepted" and answer.label is not None:
        return names.get(answer.label, answer.label), True
    return ("No answer" if answer.verdict == "refused" else "Look at this field yourself"), False


def bars(field: Field, names: dict[str, str], *, strong: bool = True) -> str:
    """Return HTML with one bar per class; the widest text decides where the bars begin."""
    rows = []
    for label, value in field.answer.probabilities.items():
        best = strong and label == field.answer.label
        weight, colour = ("600", STRONG) if best else ("400", FAINT)
        rows.append(
            f'<div style="font-weight:{weight};overflow-wrap:anywhere">'
            f"{html.escape(names.get(label, label))}</div>"
            f'<div style="background:{TRACK};height:0.7rem;border-radius:2px" aria-hidden="true">'
            f'<div style="background:{colour};height:100%;border-radius:2px;'
            f'width:{100 * value:.1f}%"></div></div>'
            f'<div style="font-weight:{weight};text-align:right;'
            f'font-variant-numeric:tabular-nums">{html.escape(probability(value))}</div>'
        )
    return (
        '<div style="display:grid;grid-template-columns:minmax(6rem,max-content) 1fr 3rem;'
        'gap:0.4rem 0.8rem;align-items:center;max-width:36rem">' + "".join(rows) + "</div>"
    )


def show(field: Field, names: dict[str, str]) -> None:
    """Show one answer: picture, class, probabilities, verdict with its reasons."""
    answer = field.answer
    if field.picture is None or answer.label is None:
        st.error(sentence(answer.error or f"{field.name} could not be read."))
        return
    with st.container(border=True):
        left, right = st.columns([2, 3], gap="medium")
        left.image(field.picture, width="stretch", alt=f"Field {field.name}")
        with right:
            st.text(field.name)
            heading, sure = heading_of(field, names)
            group = group_line(answer)
            if group:
                st.subheader(plain(group), anchor=False)
            if sure and group:
                st.markdown(f"**{plain(heading)}**")
            elif not group:
                st.subheader(plain(heading), anchor=False)
            verdict = VERDICTS.get(answer.verdict, answer.verdict)
            if group and not sure:
                verdict = f"The class: {verdict.lower()}"
            st.markdown(f"**{verdict}.** {plain(reasons_in_words(answer))}")
            if measurements(answer):
                st.caption(plain(measurements(answer)))
            if not may_be_shown(answer):
                st.caption("What the model would answer is not shown, but is in the download.")
                return
            best = plain(probability(answer.probabilities[answer.label]))
            if sure:
                st.markdown(f"Probability **{best}**")
            else:
                likely = plain(names.get(answer.label, answer.label))
                st.markdown(f"Most probable: {likely}, probability {best}")
            st.html(bars(field, names, strong=sure))
            if len(answer.prediction_set) > 1:
                possible = ", ".join(names.get(name, name) for name in answer.prediction_set)
                st.caption(f"Cannot be ruled out: {plain(possible)}")
