"""The models of the clinic, a card each, and which one answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from allkit.clinic.models import Told, models, set_default, told_by
from allkit.clinic.quality import refusals
from allkit.clinic.shares import Share, share_of
from workplace.components.rows import Column, Row, rows
from workplace.limits import limit_words
from workplace.pages.acting import acting, done, tell_done
from workplace.pages.common import may, share_cell
from workplace.plain import plain
from workplace.telling import display_of
from workplace.words import calibration_of

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["show"]


def show(here: Here) -> None:
    """Show the page."""
    say = here.say
    tell_done()
    st.header(say("models.title"), anchor=False)
    with acting(here):
        found = models(here.user)
        refused = refusals(here.user)
        if not found:
            st.write(say("models.none"))
            if st.button(say("models.to_start"), key="models.start"):
                here.go("start")
        for model in found:
            with st.container(border=True):
                _card(here, model, refused.get(model["id"], share_of(0, 0)))


def _card(here: Here, model: dict[str, Any], refused: Share) -> None:
    say = here.say
    st.subheader(_heading(model), anchor=False)
    classes = ", ".join(display_of(say, name) for name in json.loads(model["classes"]))
    told, admin = told_by(Path(model["path"])), may(here, "admin")
    limits = json.loads(model["limits"])
    lines = [
        *_answers(here, model, told),
        say("models.version", version=model["version"], added=model["added"][:10]),
        say("models.hash", hash=model["sha256"]),
        say(f"models.{calibration_of(model['calibrated'], limits)}"),
        say("models.classes", classes=classes),
    ]
    if not told.there:
        st.error(say("models.gone"))
    if admin:  # where it lies on the server is nothing that others need
        lines.append(say("models.path", path=model["path"]))
    lines.append(say("models.refused", share=share_cell(say, refused).text))
    lines += [f"– {limit_words(say, limit)}" for limit in limits]
    st.text("\n".join(lines))
    _figures(here, model, told)
    if not model["default"] and admin:
        _make_default(here, model["id"])


def _answers(here: Here, model: dict[str, Any], told: Told) -> list[str]:
    """Say whether the model answers; of one that is gone it is said above that it cannot."""
    if not told.there:
        return []
    return [here.say("models.default" if model["default"] else "models.not_default")]


def _heading(model: dict[str, Any]) -> str:
    return plain(f"{model['name']}  {model['sha256'][:12]}")


def _figures(here: Here, model: dict[str, Any], told: Told) -> None:
    """Show the figures as they are stored, with what they were measured on."""
    say = here.say
    if not told.there:
        return
    if told.drawn:
        st.warning(say("models.drawn"))
    if told.counts:
        counts = ", ".join(f"{display_of(say, name)} {n}" for name, n in told.counts)
        st.text(say("models.trained", counts=counts))
    # No model says which stain it knows; silence about it would look like "all".
    st.text(say("models.stain_unknown"))
    if not told.measured:
        st.text(say("models.no_figures"))
        return
    st.text(say("models.protocol", protocol=told.protocol, n=told.images))
    names = ("figure", "value", "interval")
    rows(
        [Column(name, say(f"models.{name}"), end=name == "value") for name in names],
        [
            Row(
                name,
                {
                    "figure": say(f"models.measure_{name}"),
                    "value": f"{value:.3f}",
                    "interval": words or say("models.no_interval"),
                },
            )
            for name, value, words in told.measured
        ],
        key=f"models_{model['id']}",
        label=say("models.figures"),
        direction=say.direction,
    )
    stored = set(json.loads(model["limits"]))
    for note in told.notes:
        if note not in stored:  # these stand above
            st.text(f"– {limit_words(say, note)}")


def _make_default(here: Here, id: str) -> None:
    say = here.say
    with st.popover(say("models.make_default")):
        st.write(say("models.make_default_text"))
        if st.button(say("models.make_default_yes"), key=f"models.default.{id}", type="primary"):
            with acting(here) as outcome:
                set_default(here.user, id)
            if outcome.done:
                done(say("models.made_default"))
