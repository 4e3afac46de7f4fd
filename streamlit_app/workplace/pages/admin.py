"""People, settings, targets, backups and the audit; for admins only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from allkit.clinic.access import change_settings, settings_of
from allkit.clinic.audit import export_events, export_lines
from allkit.clinic.facts import facts
from allkit.clinic.outbox import dead, retry, set_target, waiting
from allkit.clinic.store.backup import backup
from allkit.clinic.store.verify import verify
from allkit.clinic.targets import targets
from workplace.components.rows import Column, Row, rows
from workplace.pages.acting import acting, done, tell_done
from workplace.pages.common import may, small, when
from workplace.pages.people import show_people

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["show"]

AUDIT = "admin.audit"
FOUND = "admin.verified"


def show(here: Here) -> None:
    """Show the page to an admin, and to others a sentence."""
    say = here.say
    tell_done()
    st.header(say("admin.title"), anchor=False)
    if not may(here, "admin"):
        st.write(say("admin.only"))
        return
    parts = {
        "people": show_people,
        "settings": _settings,
        "targets": _targets,
        "store": _store,
    }
    # A tab that is not open is not run: each asks the clinic.
    tabs = st.tabs([say(f"admin.{name}") for name in parts], on_change="rerun", key="admin_tabs")
    for tab, part in zip(tabs, parts.values(), strict=True):
        if tab.open:
            with tab:
                part(here)


def _settings(here: Here) -> None:
    say = here.say
    now = None
    with acting(here):
        now = settings_of(here.user)
    if now is None:
        return
    with st.form("admin.settings"):
        laboratory = st.text_input(say("admin.laboratory"), now["laboratory"], key="set.laboratory")
        idle = st.number_input(say("admin.idle"), 1, 1440, int(now["idle_minutes"]), key="set.idle")
        confirm = st.number_input(
            say("admin.confirm"), 1, 1440, int(now["confirm_signature_minutes"]), key="set.confirm"
        )
        blind = st.checkbox(say("admin.blind"), now["blind_first"], key="set.blind")
        second = st.checkbox(say("admin.second"), now["second_reader"], key="set.second")
        sent = st.form_submit_button(say("admin.save"), type="primary")
    if not sent:
        return
    wanted = {
        "laboratory": laboratory,
        "idle_minutes": int(idle),
        "confirm_signature_minutes": int(confirm),
        "blind_first": blind,
        "second_reader": second,
    }
    changed = {name: value for name, value in wanted.items() if value != now[name]}
    with acting(here) as outcome:
        change_settings(here.user, changed)
    if outcome.done:
        done(say("admin.saved", n=len(changed)))


def _targets(here: Here) -> None:
    say = here.say
    with acting(here):
        with here.user.read("admin") as connection:
            known = targets(here.place.store, connection)
        rows(
            [Column(name, say(f"admin.{name}")) for name in ("target", "host", "port")],
            [
                Row(name, {"target": name, "host": one.host, "port": str(one.port)})
                for name, one in known.items()
            ],
            key="admin_targets",
            label=say("admin.targets"),
            direction=say.direction,
        )
        _add_target(here, list(known))
        _outbox(here)


def _add_target(here: Here, known: list[str]) -> None:
    say = here.say
    left, right = st.columns(2)
    with left, st.form("admin.target"):
        name = st.text_input(say("admin.target"), key="target.name")
        host = st.text_input(say("admin.host"), key="target.host")
        port = st.number_input(say("admin.port"), 1, 65535, 2575, key="target.port")
        sent = st.form_submit_button(say("admin.add_target"), type="primary")
    if sent:
        with acting(here) as outcome:
            values = {"kind": "mllp", "host": host.strip(), "port": int(port)}
            set_target(here.user, name.strip(), values)
        if outcome.done:
            done(say("admin.target_added", name=name.strip()))
    with right, st.form("admin.no_target"):
        gone = st.selectbox(say("admin.target"), known, index=None, key="target.gone")
        small(say("admin.remove_target_text"))
        sent = st.form_submit_button(say("admin.remove_target"))
    if sent and gone is not None:
        with acting(here) as outcome:
            set_target(here.user, gone, None)
        if outcome.done:
            done(say("admin.target_removed", name=gone))


def _outbox(here: Here) -> None:
    say = here.say
    st.subheader(say("admin.outbox"), anchor=False)
    wait, lost = waiting(here.user), dead(here.user)
    if not wait and not lost:
        st.write(say("admin.outbox_empty"))
        return
    names = ("target", "case", "attempts", "next", "error")
    rows(
        [Column(name, say(f"admin.{name}")) for name in names],
        [
            Row(
                one.id,
                {
                    "target": one.target,
                    "case": one.case,
                    "attempts": str(one.attempts),
                    "next": when(one.next_at) if one.state == "waiting" else "",
                    "error": one.error or "",
                },
                tone="refused" if one.state == "dead" else "waiting",
                word=say(f"report.state_{one.state}"),
            )
            for one in (*lost, *wait)
        ],
        key="admin_outbox",
        label=say("admin.outbox"),
        mark=say("common.state"),
        direction=say.direction,
    )
    if lost and st.button(say("admin.retry_all", n=len(lost)), key="admin.retry"):
        with acting(here) as outcome:
            for one in lost:
                retry(here.user, one.id)
        if outcome.done:
            done(say("report.retried"))


def _store(here: Here) -> None:
    say, store = here.say, here.place.store
    with acting(here):
        held = facts(here.user)
        st.text(say("start.database", place=store.place))
        st.text(say("start.images", place=str(store.blobs.folder.resolve())))
        st.text(say("admin.cases", n=held.cases))
        st.text(say("admin.fields", n=held.fields))
        st.text(say("admin.size", images=held.images, size=f"{held.bytes / 1e6:.1f}"))
        st.text(say("admin.reports", n=held.reports))
        st.text(say("admin.head", seq=held.audit[0], hash=held.audit[1]))
        if held.backup is None:
            st.warning(say("admin.no_backup"))
        else:
            st.text(say("admin.last_backup", at=when(held.backup[0]), place=held.backup[1]))
    _backup(here)
    _verify(here)
    _audit(here)


def _backup(here: Here) -> None:
    say = here.say
    with st.form("admin.backup"):
        st.subheader(say("admin.backup"), anchor=False)
        small(say("admin.backup_text"))
        folder = st.text_input(say("admin.folder"), key="backup.folder")
        sent = st.form_submit_button(say("admin.back_up"), type="primary")
    if sent and not Path(folder.strip()).is_absolute():
        st.error(say("admin.say_folder"))
    elif sent:
        with acting(here), st.spinner(say("admin.backing_up")):
            with here.user.read("admin"):
                pass
            made = backup(here.place.store, Path(folder.strip()), who=here.user.name)
            st.success(say("admin.backed_up", images=made["images"]))
            head = made["audit"]
            st.text(say("admin.head", seq=head["seq"], hash=head["hash"]))


def _verify(here: Here) -> None:
    say = here.say
    st.subheader(say("admin.verify"), anchor=False)
    small(say("admin.verify_text"))
    if st.button(say("admin.verify"), key="admin.verify"):
        with acting(here), st.spinner(say("admin.verifying")):
            with here.user.read("admin"):
                pass
            problems = verify(here.place.store)
            if not problems:
                st.success(say("admin.whole"))
            else:
                st.error(say("admin.broken", n=len(problems)))
            for problem in problems[:100]:
                st.text(problem)


def _audit(here: Here) -> None:
    """Write the audit to a file when it is asked for: that it went out stands in it, too."""
    say = here.say
    st.subheader(say("admin.audit"), anchor=False)
    format = st.segmented_control(
        say("report.format"),
        ["lines", "fhir"],
        default="lines",
        required=True,
        format_func=lambda name: say(f"admin.audit_{name}"),
        key="audit.format",
    )
    if st.button(say("report.prepare"), key="audit.prepare"):
        with acting(here):
            rows_of = export_events if format == "fhir" else export_lines
            st.session_state[AUDIT] = (format, "".join(rows_of(here.user)))
    held = st.session_state.get(AUDIT)
    if held is not None and held[0] == format:
        st.download_button(
            say("report.download", format=say(f"admin.audit_{format}")),
            held[1],
            file_name="audit.ndjson" if format == "fhir" else "audit.jsonl",
            mime="application/x-ndjson",
            on_click="ignore",
            type="primary",
            key="audit.download",
        )
