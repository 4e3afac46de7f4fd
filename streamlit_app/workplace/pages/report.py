"""The report of a case: its versions as pictures, its files, what was sent where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from allkit.clinic.cases import SIGNED
from allkit.clinic.outbox import of_case, retry
from allkit.clinic.records import CaseReport
from allkit.clinic.reporting import export, frozen, versions
from allkit.clinic.reports.formats import FORMATS, render
from allkit.clinic.signing import reopen, withdraw
from allkit.clinic.view import CaseView, look
from workplace.components.rows import Cell, Column, Row, rows
from workplace.pages.acting import acting, done, known, tell_done, to_worklist
from workplace.pages.common import may, small, when
from workplace.pages.pictures import WIDTH, pages_of
from workplace.pages.reasons import with_reason
from workplace.telling import display_of

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["show"]

SEEN = "report.seen"
FILE = "report.file"


def show(here: Here) -> None:
    """Show the page of the case that the address names."""
    say = here.say
    tell_done()
    case = st.query_params.get("case", "")
    if not case:
        to_worklist(here, "none")
        return
    with acting(here):
        if not known(here, case):
            to_worklist(here, "unknown")
            return
        view, found = look(here.user, case), versions(here.user, case)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.header(say("report.title"), anchor=False)
            st.text(view.patient or say("worklist.no_patient"))
            if st.button(say("report.to_case"), key="report.to_case"):
                here.go("case", case=case)
        if not found:
            st.write(say("report.none"))
            _file(here, view, None)
            return
        chosen = _version(here, found)
        st.text(_standing(here, chosen, newest=chosen is found[0]))
        left, right = st.columns([3, 2])
        with left:
            _pictures(here, chosen)
        with right:
            _file(here, view, chosen.version)
            _sent(here, case)
            _again(here, view, found[0])
        _history(here, found)


def _version(here: Here, found: tuple[CaseReport, ...]) -> CaseReport:
    if len(found) == 1:
        return found[0]
    say = here.say
    return st.selectbox(
        say("report.version"),
        found,
        format_func=lambda one: say(
            "report.version_one",
            version=one.version,
            kind=say(f"report.kind_{one.kind}"),
            at=when(one.made_at),
        ),
        key=f"report.version.{found[0].case}",
    )


def _standing(here: Here, report: CaseReport, *, newest: bool) -> str:
    """Return the reader's result in a sentence, and whether it may still be used."""
    say = here.say
    result = display_of(say, report.result or "")
    who = "" if report.signer is None else report.signer.display
    said = say("report.said", result=result, name=who, at=when(report.signed_at or ""))
    if report.kind == "withdrawn":
        return say("report.withdrawn", version=report.replaces, why=report.reason)
    return said if newest else f"{say('report.replaced')} {said}"


def _pictures(here: Here, report: CaseReport) -> None:
    seen = (here.user.id, report.id)
    if st.session_state.get(SEEN) != seen:  # once in the audit, not at each run of the page
        frozen(here.user, report.case, report.version)
        st.session_state[SEEN] = seen
    pages = pages_of(report, here.place.store)
    for number, page in enumerate(pages, start=1):
        alt = here.say("report.page", page=number, pages=len(pages))
        st.image(page, width=WIDTH, alt=alt)


def _file(here: Here, view: CaseView, version: int | None) -> None:
    """Write a file when it is asked for: each is noted in the audit."""
    say = here.say
    if not view.fields:
        return
    st.subheader(say("report.files"), anchor=False)
    small(say("report.files_text" if version else "report.files_preliminary"))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        format = st.selectbox(
            say("report.format"),
            list(FORMATS),
            format_func=lambda name: say(f"report.format_{name}"),
            key="report.format",
        )
        key = (view.id, version, format)
        if st.button(say("report.prepare"), key="report.prepare"):
            with acting(here):
                report = export(here.user, view.id, version=version, preliminary=version is None)
                data = render(report, format, image_of=here.place.store.blobs.get)
                # The name of a file travels: it holds the id of the case, nothing of the patient.
                name = f"report-{report.case}-{report.version}{FORMATS[format].suffix}"
                st.session_state[FILE] = (key, name, data)
        held = st.session_state.get(FILE)
        if held is not None and held[0] == key:
            st.download_button(
                # Named by its format: what stands there from before is another button.
                say("report.download", format=say(f"report.format_{format}")),
                held[2],
                file_name=held[1],
                mime=FORMATS[format].media_type,
                on_click="ignore",
                type="primary",
                key=f"report.download.{format}",
            )


def _history(here: Here, found: tuple[CaseReport, ...]) -> None:
    say = here.say
    st.subheader(say("report.history"), anchor=False)
    names = ("version", "kind", "at", "result", "signer", "reason", "sha256")
    rows(
        [Column(name, say(f"report.{name}")) for name in names],
        [
            Row(
                one.id,
                {
                    "version": Cell(str(one.version), sort=one.version),
                    "kind": say(f"report.kind_{one.kind}"),
                    "at": when(one.made_at),
                    "result": display_of(say, one.result or ""),
                    "signer": "" if one.signer is None else one.signer.display,
                    "reason": one.reason,
                    "sha256": one.sha256,
                },
            )
            for one in found
        ],
        key="report_history",
        label=say("report.history"),
        direction=say.direction,
    )


TONES = {"waiting": "waiting", "sent": "done", "dead": "refused"}


def _sent(here: Here, case: str) -> None:
    say = here.say
    found = of_case(here.user, case)
    st.subheader(say("report.sent"), anchor=False)
    if not found:
        st.write(say("report.sent_nowhere"))
        return
    names = ("target", "version", "attempts", "error")
    rows(
        [Column(name, say(f"report.{name}")) for name in names],
        [
            Row(
                one.id,
                {
                    "target": one.target,
                    "version": str(one.version),
                    "attempts": str(one.attempts),
                    "error": one.error or "",
                },
                tone=TONES[one.state],
                word=say(f"report.state_{one.state}"),
            )
            for one in found
        ],
        key="report_sent",
        label=say("report.sent"),
        mark=say("common.state"),
        direction=say.direction,
    )
    for one in found:
        if one.state != "dead":
            continue
        words = say("report.retry", target=one.target, version=one.version)
        if st.button(words, key=f"report.retry.{one.id}"):
            with acting(here) as outcome:
                retry(here.user, one.id)
            if outcome.done:
                done(say("report.retried"))


def _again(here: Here, view: CaseView, newest: CaseReport) -> None:
    """Offer a signer to open the case again, or to withdraw the report."""
    say = here.say
    if not may(here, "signer"):
        return
    with st.container(horizontal=True):
        if view.status in SIGNED:
            with st.popover(say("report.amend")):
                small(say("case.about_reopen"))
                why = with_reason(here, "amend", say("report.amend"))
                if why is not None:
                    with acting(here) as outcome:
                        reopen(here.user, view.id, why=why)
                    if outcome.done:
                        st.session_state["workplace.done"] = say("case.did_reopen")
                        here.go("case", case=view.id)
        if newest.kind != "withdrawn":
            with st.popover(say("report.withdraw")):
                small(say("case.about_withdraw"))
                why = with_reason(here, "withdraw", say("report.withdraw"))
                if why is not None:
                    with acting(here) as outcome:
                        withdraw(here.user, view.id, why=why)
                    if outcome.done:
                        done(say("case.did_withdraw"))
