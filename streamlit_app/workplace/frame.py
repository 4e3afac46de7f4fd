"""What stands on every page: the thin line with the limits, the model and the person, and the sign-in."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from PIL import Image, ImageDraw

from allkit.clinic.models import model_of_case
from allkit.errors import AccessError, AllkitError, SignedOutError
from workplace import signing_in
from workplace.here import Here
from workplace.plain import plain
from workplace.sessions import SESSIONS
from workplace.settings import Place
from workplace.texts import Texts, languages, negotiate, texts
from workplace.words import model_words

__all__ = ["entered", "frame", "icon", "language", "style"]

STYLE = """
<style>
.stMainBlockContainer { padding-top: 3.6rem; padding-bottom: 2rem; max-width: 1800px; }
.st-key-frame { position: sticky; top: 3.25rem; z-index: 90; background: var(--background-color, inherit);
  border-bottom: 1px solid color-mix(in srgb, currentColor 18%, transparent); padding: 0.1rem 0; }
.st-key-frame [data-testid="stMarkdownContainer"] p { font-size: 0.85rem; margin: 0; }
.st-key-frame button { min-height: 1.8rem; padding: 0 0.5rem; font-size: 0.85rem; }
@media (max-width: 800px) { .stMainBlockContainer { padding-inline: 0.75rem; } }
</style>
"""
RIGHT_TO_LEFT = "<style>.stApp { direction: rtl; }</style>"


def icon() -> Image.Image:
    """Draw the page's icon here: a named one would be asked for at a server of fonts."""
    image = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(image)
    draw.ellipse((4, 4, 60, 60), fill="#e9c9d6")
    draw.ellipse((16, 14, 54, 52), fill="#5b3a86")
    return image


def language() -> str:
    """Return the language of the page: what was chosen, else what the browser asks for."""
    chosen = st.session_state.get("language") or st.query_params.get("lang")
    return negotiate(chosen or st.context.headers.get("Accept-Language"))


def style(say: Texts) -> None:
    """Write the few rules of the page's look."""
    st.html(STYLE + (RIGHT_TO_LEFT if say.direction == "rtl" else ""))


def entered(place: Place) -> Here | None:
    """Return the page's surroundings; `None` where the sign-in is shown instead."""
    spoken = language()
    say = texts(spoken)
    try:
        session = signing_in.enter(place, spoken)
        here = Here(session, say, place)
        if not here.roles:
            raise AccessError(say("frame.no_role", name=session.user.name))
        return here
    except SignedOutError:
        _sign_in(place, say)
    except AccessError as error:
        st.error(plain(str(error)))
        if place.login is not None:
            st.button(say("frame.sign_out"), on_click=st.logout)
    return None


def _sign_in(place: Place, say: Texts) -> None:
    """Show the sign-in; without a login one press is enough, and the page says what that is worth."""
    st.title(say("frame.name"), anchor=False)
    st.markdown(f"**{plain(say('frame.research_use'))}**")
    claims = dict(st.user) if place.login is not None else {}
    was_in = bool(claims.get("is_logged_in")) or place.login is None
    if was_in:
        st.info(plain(say("frame.signed_out")))
    if place.login is None:
        st.caption(plain(say("frame.local_only", name=place.name)))
        st.button(
            say("frame.sign_in"), type="primary", on_click=_begin_again, args=(signing_in.LOCAL,)
        )
    elif st.button(say("frame.sign_in"), type="primary"):
        if was_in:
            SESSIONS.end(signing_in.identity_of(claims))
        # Who was idle has to prove who they are, and not only that this browser knows them.
        st.login(signing_in.AGAIN if was_in else None)


def _begin_again(identity: str) -> None:
    SESSIONS.end(identity, again=True)
    st.session_state.pop("session", None)


def frame(here: Here, case: str | None) -> None:
    """Show the line above every page: what this is not, the model, the person."""
    say = here.say
    with st.container(horizontal=True, vertical_alignment="center", key="frame", gap="small"):
        st.markdown(f"**{plain(say('frame.research_use'))}**", width="stretch")
        if here.place.demo:
            st.markdown(plain(say("frame.demo")), width="content")
        _model(here, case)
        _person(here)


def _model(here: Here, case: str | None) -> None:
    say = here.say
    try:
        identity = model_of_case(here.user, case)
    except AllkitError:
        identity = None
    words = model_words(say, identity)
    if identity is None:
        st.markdown(plain(say("frame.no_model")), width="content")
        return
    chip = say("frame.model_chip", name=words.name, version=words.version, hash=words.short_hash)
    with st.popover(f"{plain(chip)} · {plain(words.calibrated_words)}", width="content"):
        st.text(f"{words.name} {words.version}\n{identity.sha256}")
        st.markdown(f"**{plain(say('server.limits'))}**")
        for limit in words.limits or (say("server.no_limits"),):
            st.markdown(f"- {plain(limit)}")


def _person(here: Here) -> None:
    say, person = here.say, here.user.person
    with st.popover(plain(person.display), width="content"):
        if here.place.login is None:
            st.caption(plain(say("frame.local_only", name=person.display)))
        else:
            st.caption(plain(say("frame.signed_in", name=person.display)))
        st.caption(plain(", ".join(say(f"server.role.{role}") for role in here.roles)))
        offered = list(languages())
        if say.language not in offered:
            offered.append(say.language)
        st.selectbox(
            say("frame.language"),
            offered,
            index=offered.index(say.language),
            format_func=lambda code: say(f"frame.language_{code}"),
            key="language_choice",
            on_change=_speak,
        )
        st.button(say("frame.sign_out"), key="sign_out", on_click=_leave(here), width="stretch")


def _speak() -> None:
    st.session_state["language"] = st.session_state["language_choice"]


def _leave(here: Here) -> Callable[[], None]:
    def leave() -> None:
        signing_in.leave(here.session, here.place)

    return leave
