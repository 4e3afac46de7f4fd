"""What stands on every page: the thin line with the limits, the model and the person, and the sign-in."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from PIL import Image, ImageDraw

from allkit.clinic.models import model_of_case
from allkit.errors import AccessError, AllkitError, SignedOutError
from workplace import signing_in
from workplace.here import Here
from workplace.plain import in_the_browser, plain
from workplace.sessions import SESSIONS
from workplace.settings import Place
from workplace.texts import Texts, languages, negotiate, texts
from workplace.words import calibration_of, model_words

__all__ = ["entered", "frame", "icon", "language", "style"]

STYLE = """
<style>
/* Above: Streamlit's bar with the menu, 48 px; below it one thin line that stays in sight. The two colours
   are those of the page in .streamlit/config.toml. */
.stAppHeader { height: 3rem; min-height: 3rem; }
.stMainBlockContainer { padding: 3rem 2rem 2rem; max-width: 1800px; }
.stMainBlockContainer .stVerticalBlock, .stDialog .stVerticalBlock { gap: 0.65rem; }
.stElementContainer:has(> .stHtml > style) { display: none; }
/* Streamlit puts each row into a box as high as itself, so that is what has to stay. */
[data-testid="stLayoutWrapper"]:has(> .st-key-frame) { position: sticky; top: 3rem; z-index: 90; }
[data-testid="stLayoutWrapper"]:has(> .st-key-case_top) { position: sticky; top: 5.25rem; z-index: 89;
  background: light-dark(#ffffff, #12181c); padding-bottom: 0.25rem; }
:root { --desk-top: 8rem; }
.st-key-frame { min-height: 2.25rem; padding: 0.15rem 0;
  gap: 0.5rem 1rem; background: light-dark(#ffffff, #12181c);
  border-bottom: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
.st-key-frame .stMarkdown p { font-size: 0.85rem; line-height: 1.3; margin: 0; }
.st-key-frame [data-testid="stMarkdownContainer"] { margin: 0; }
.st-key-frame button { min-height: 1.75rem; padding: 0 0.5rem; font-size: 0.85rem;
  border-color: transparent; }
.stMainBlockContainer h2 { font-size: 1.4rem; padding: 0.25rem 0; }
.stMainBlockContainer h3 { font-size: 1.1rem; padding: 0.25rem 0; }
.st-key-case_heading { gap: 0.25rem 1rem; }
.st-key-case_heading .stText { font-size: 0.9rem; line-height: 1.4; }
.st-key-case_heading > :first-child .stText { font-weight: 650; }
.st-key-case_top > * { flex: 0 1 auto; width: auto; min-width: 0; }
.st-key-case_buttons button { min-height: 2rem; padding: 0 0.6rem; font-size: 0.9rem; }
/* What is chosen is told by its edge and weight; the colour of buttons is too dark for text at night. */
.stTabs [aria-selected="true"] p, .stButtonGroup [aria-checked="true"] p { color: inherit; font-weight: 650; }
.stTabs [aria-selected="true"], .stButtonGroup [aria-checked="true"] { color: light-dark(#1c2a33, #e8eef2); }
.stCaptionContainer, .stCaptionContainer p { color: light-dark(#4d5a63, #b4c0c8); }
@media (max-width: 1200px) { .st-key-case_heading { gap: 0.25rem 0.7rem; } }
@media (max-width: 800px) {
  [data-testid="stLayoutWrapper"]:has(> .st-key-case_top) { position: static; }
  :root { --desk-top: 5.25rem; }
  .stMainBlockContainer { padding-inline: 0.75rem; }
  .st-key-frame { flex-wrap: nowrap; gap: 0.25rem; }
  .st-key-frame .stMarkdown p { font-size: 0.74rem; white-space: nowrap; }
  .st-key-frame .st-key-frame_demo { display: none; }
  .st-key-frame .stPopover { max-width: 5.6rem; }
  .st-key-case_heading { gap: 0.15rem 0.7rem; }
}
</style>
"""
RIGHT_TO_LEFT = """
<style>
.stApp { direction: rtl; }
.stHeading, .stText, .stMarkdown, .stCaptionContainer { text-align: right; }
</style>
"""


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
        st.error(plain(in_the_browser(str(error))))
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
            with st.container(key="frame_demo", width="content"):
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
    short = say(f"frame.{calibration_of(identity.calibrated, identity.limits)}")
    with st.popover(f"{plain(chip)} · {plain(short)}", width="content"):
        st.text(f"{words.name} {words.version}\n{identity.sha256}\n{words.calibrated_words}")
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
        if here.place.login is not None:  # whoever sits at this computer would be back at once
            st.button(say("frame.sign_out"), key="sign_out", on_click=_leave(here), width="stretch")


def _speak() -> None:
    st.session_state["language"] = st.session_state["language_choice"]


def _leave(here: Here) -> Callable[[], None]:
    def leave() -> None:
        signing_in.leave(here.session, here.place)

    return leave
