"""The pages as reader, signer and admin see them, on a real clinic."""

import ast
import importlib
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("streamlit")
pytest.importorskip("pypdfium2")

from allkit.clinic import access, cases, fields, models, outbox, reading, search, signing
from allkit.clinic.records import Identifier, Specimen
from allkit.clinic.reporting import versions
from allkit.clinic.signing import Statement
from allkit.clinic.store import chain
from allkit.clinic.store.verify import verify
from allkit.clinic.view import open_case
from clinic_places import BLOOD, Scripted, incoming, new_store, with_model
from workplace_places import before, page, ran, words

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "streamlit_app" / "workplace" / "pages"
LIS = Identifier("LAB-2026-00417", "LIS")
SIGNS = Statement("Pro", refused=1, limits_read=True)


@pytest.fixture(autouse=True)
def _no_others(monkeypatch):
    """Components of other packages are not looked for: none is used, and the search takes long."""
    place = "streamlit.components.v2.manifest_scanner.scan_component_manifests"
    monkeypatch.setattr(place, lambda *_, **__: [])


@pytest.fixture
def anna(tmp_path):
    store = new_store(tmp_path / "clinic")
    yield access.first_person(store, "anna", "Dr. Anna")
    store.close()


@pytest.fixture
def bert(anna):
    access.add_person(anna, "bert", ["reader"], display="Bert")
    return access.sign_in(anna.store, "bert")


@pytest.fixture
def case(anna, tmp_path):
    """A case of three fields: one accepted as Pro, one for review, one refused."""
    images = [incoming(i) for i in range(3)]
    verdicts = [("accepted", "Pro"), ("review", "Pre"), ("refused", "Early")]
    said = {image.sha256: verdict for image, verdict in zip(images, verdicts, strict=True)}
    _, worker = with_model(anna, tmp_path / "model.onnx", Scripted(said))
    made = cases.create(anna, specimen_=BLOOD, order=LIS, patient="P-1")
    fields.add(anna, made, images)
    assert worker.drain() == (1, 0)
    return made


@pytest.fixture
def tables(monkeypatch):
    """What each table was given, by its key; `opened` is the row that a click opens."""
    from workplace.components import rows

    drawn = {}

    def draw(*, data, key, on_open_change):
        (drawn[key],) = data
        return SimpleNamespace(open=drawn.pop("opened", None))

    monkeypatch.setattr(rows, "_component", lambda: draw)
    return drawn


@pytest.fixture
def desk(monkeypatch):
    """What is pressed on the desk in the next run."""
    pressed = []

    def stand_in(here, case, *, key):
        return SimpleNamespace(ask=pressed.pop() if pressed else None)

    monkeypatch.setattr(importlib.import_module("workplace.components.desk"), "desk", stand_in)
    return pressed


@pytest.fixture
def unseen(monkeypatch):
    """Reports are not drawn: for what does not look at them."""
    from workplace.pages import report, signing

    for module in (report, signing):
        monkeypatch.setattr(module, "pages_of", lambda *_: [])


def read_all(user, case, label="Pro"):
    for field in open_case(user, case).fields:
        reading.relabel(user, field.id, label, why="seen under oil")


def texts_of(table):
    return [{name: cell["text"] for name, cell in row["cells"].items()} for row in table["rows"]]


def audit(store, what):
    with store.read() as connection:
        return [row for row in chain.rows(connection) if row.what == what]


# ── the worklist ──────────────────────────────────────────────────────────────────────────────


def test_the_worklist_has_urgent_cases_first_with_the_word(anna, case, tables):
    cases.create(anna, specimen_=Specimen("marrow"), patient="P-0")
    page("worklist", before(anna))
    first, second = tables["worklist_rows"]["rows"]
    assert (first["id"], first["tone"], first["pinned"]) == (case, "urgent", True)
    assert first["word"] == "Urgent: New"
    assert (second["tone"], second["word"], second["pinned"]) == ("waiting", "New", False)
    shown = texts_of(tables["worklist_rows"])[0]
    assert shown["patient"] == "P-1"
    assert (shown["order"], shown["fields"], shown["review"]) == ("LAB-2026-00417", "3", "2")
    assert shown["age"] == "just now"


def test_the_worklist_is_filtered_by_text_and_chips(anna, bert, case, tables):
    other = cases.create(anna, specimen_=Specimen("marrow"), patient="P-0")
    cases.assign(anna, other, reader="bert")
    at = page("worklist", before(bert))

    def found():
        ran(at)
        return [row["id"] for row in tables["worklist_rows"]["rows"]]

    assert found() == [case, other]
    at.text_input("worklist_search").set_value("00417")
    assert found() == [case]
    at.text_input("worklist_search").set_value("")
    for only, wanted in ((["mine"], other), (["review"], case), (["urgent"], case)):
        at.button_group("worklist_only").set_value(only)
        assert found() == [wanted], only
    at.button_group("worklist_only").set_value([])
    at.button_group("worklist_states").set_value(["signed"])
    assert found() == []
    assert "No case is found" in words(at)


def test_a_row_opens_its_case_by_the_id_and_nothing_of_the_patient_is_in_the_address(
    anna, case, tables
):
    here = before(anna)
    tables["opened"] = case
    page("worklist", here)
    assert here.gone == [("case", {"case": case})]


def test_many_cases_are_turned_page_by_page(anna, tables):
    made = [cases.create(anna, specimen_=BLOOD) for _ in range(53)]
    at = page("worklist", before(anna))
    ran(at.button("worklist.next").click())
    assert [row["id"] for row in tables["worklist_rows"]["rows"]] == made[50:]
    ran(at.button("worklist.back").click())
    assert len(tables["worklist_rows"]["rows"]) == 50


def test_a_list_that_refreshes_itself_keeps_nobody_signed_in(anna, case, tables):
    from streamlit.testing.v1 import AppTest

    clock = SimpleNamespace(now=0.0)
    user = access.sign_in(anna.store, "anna", clock=lambda: clock.now)
    here = before(user)
    page("worklist", here)
    assert user.active == 0.0

    def alone(here):
        from workplace.pages.worklist import _list

        from allkit.clinic.search import Filter

        _list(here, Filter())

    clock.now = 14 * 60.0
    at = AppTest.from_function(alone, args=(here,), default_timeout=20)
    assert "1 case is not signed" in words(ran(at))
    assert user.active == 0.0
    clock.now = 16 * 60.0
    assert "did nothing for more than 15 minutes" in words(ran(at)).replace("\\", "")
    assert at.button("common.sign_in_again")


def test_a_case_by_hand_needs_its_specimen_and_then_opens(anna, tables):
    here = before(anna)
    at = page("worklist", here)
    at.text_input("new.order").set_value("LAB-9")
    at.text_input("new.stain").set_value("MGG")
    ran(at.form_submit_button[0].click())
    assert "blood or marrow" in at.error[0].value
    at.button_group("new.kind").set_value("marrow")
    ran(at.form_submit_button[0].click())
    (row,) = search.find(anna).rows
    assert here.gone == [("case", {"case": row.id})]
    assert (row.order, row.specimen) == ("LAB-9", "marrow")
    assert row.pseudonym.startswith("P-")


def test_what_the_clinic_refuses_is_a_sentence_and_no_traceback(anna, case, tables):
    at = page("worklist", before(anna))
    at.text_input("new.order").set_value(LIS.value)
    at.button_group("new.kind").set_value("blood")
    cases.create(anna, specimen_=BLOOD, order=Identifier("LAB-9"))
    at.text_input("new.order").set_value("LAB-9")
    ran(at.form_submit_button[0].click())
    assert "has a case already" in at.error[0].value.replace("\\", "")


# ── a case ────────────────────────────────────────────────────────────────────────────────────


def test_the_heading_of_a_case_says_whose_it_is_and_how_it_stands(anna, bert, case, desk):
    other = cases.create(anna, specimen_=Specimen("marrow", "2025-12-24"), patient="P-1")
    cases.assign(anna, case, reader="bert", second="anna")
    here = before(bert)
    at = page("case", here, case=case)
    said = words(at)
    for part in ("P-1", "Order LAB-2026-00417", "▲ Urgent: New", "Reader: Bert", "Dr. Anna"):
        assert part in said, part
    assert "2025-12-24 Marrow, New" in said
    ran(at.button(f"case.previous.{other}").click())
    assert here.gone == [("case", {"case": other})]


def test_that_a_case_was_seen_is_noted_once_and_not_at_each_run(anna, bert, case, desk):
    seen = len(audit(anna.store, "case.seen"))
    at = page("case", before(bert), case=case)
    ran(ran(at))
    assert len(audit(anna.store, "case.seen")) == seen + 1


def test_a_case_that_is_not_there_is_said_in_a_sentence(anna, desk):
    for name in ("case", "report"):
        here = before(anna)
        at = page(name, here, case="01NOTHING")
        assert "There is no such case" in words(at)
        assert not at.error
        ran(at.button("case.to_worklist").click())
        assert here.gone == [("worklist", {})]
    assert "Choose one in the worklist" in words(page("case", before(anna)))


def told_by_the_clinic():
    """Every text of the clinic's sources that names a command, with X for its values."""
    for path in sorted((ROOT / "src" / "allkit" / "clinic").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Raise | ast.Return) and node is not None:
                for part in ast.walk(node):
                    pieces = part.values if isinstance(part, ast.JoinedStr) else [part]
                    text = "".join(str(getattr(p, "value", "X")) if isinstance(p, ast.Constant)
                                   else "X" for p in pieces)  # fmt: skip
                    if re.search(r"\ballkit [a-z]+ [a-z]", text):
                        yield path.name, text


def test_no_page_gives_advice_for_the_command_line():
    from workplace.plain import in_the_browser

    found = [one for one in told_by_the_clinic() if "allkit clinic" in one[1]]
    assert len(found) >= 10
    for name, text in found:
        said = in_the_browser(text)
        assert "allkit clinic" not in said, (name, text)
        assert said.endswith("."), (name, said)
    assert in_the_browser("There is no patient 'x'. Find the case: allkit clinic list") == (
        "There is no patient 'x'. Find the case."
    )
    assert in_the_browser("Take it over first (allkit clinic assign).") == "Take it over first."


def test_a_signed_case_shows_its_result_by_whom_and_when_and_leads_to_the_report(anna, case, desk):
    assert "Signed:" not in words(page("case", before(anna), case=case))
    read_all(anna, case)
    signing.sign(anna, case, SIGNS)
    here = before(anna)
    at = page("case", here, case=case)
    button = at.button("case.signed")
    said = button.label.replace("\\", "")
    report = versions(anna, case)[0]
    day = report.signed_at[:16].replace("T", " ")
    assert said == f"Signed: Pro-B, by Dr. Anna, {day} (UTC), version 1. Open the report"
    ran(button.click())
    assert here.gone == [("report", {"case": case})]


def test_a_case_whose_model_failed_is_marked_in_the_list_and_tried_again_by_a_button(
    anna, tmp_path, tables, desk
):
    path = tmp_path / "model.onnx"
    _, worker = with_model(anna, path, Scripted())
    made = cases.create(anna, specimen_=BLOOD)
    fields.add(anna, made, [incoming(7)])
    path.unlink()
    worker.drain()
    page("worklist", before(anna))
    (row,) = tables["worklist_rows"]["rows"]
    assert (row["tone"], row["word"]) == ("refused", "New, the model failed")
    at = page("case", before(anna), case=made)
    path.write_bytes(b"a model")
    ran(at.button("case.retry").click())
    assert open_case(anna, made).job["state"] == "queued"
    assert worker.drain() == (1, 0)
    page("worklist", before(anna))
    assert tables["worklist_rows"]["rows"][0]["word"] == "New"
    assert not [b for b in page("case", before(anna), case=made).button if b.key == "case.retry"]


def test_a_pseudonym_is_shown_as_it_is_written(anna, desk):
    name = "**bold** [x](http://evil) <b>:smile:"
    case = cases.create(anna, specimen_=BLOOD, patient=name)
    at = page("case", before(anna), case=case)
    assert name in [text.value for text in at.text]
    assert not [one for one in (*at.markdown, *at.caption) if "evil" in one.value]


def test_a_reader_who_finishes_too_early_is_told_what_is_left(anna, case, desk):
    at = page("case", before(anna), case=case)
    desk.append({"what": "finish"})
    ran(at)
    assert "2 fields of the case" in at.error[0].value
    read_all(anna, case)
    desk.append({"what": "finish"})
    ran(at)
    assert [one.value for one in at.toast] == ["All fields are read\\. The case can be signed\\."]


def act(at, case, name):
    at.session_state["case.action"] = (case, name)
    return ran(at)


def test_the_menu_offers_what_may_be_done_now(anna, bert, case):
    from workplace.pages.actions import _possible

    def offered(user):
        return set(_possible(before(user), open_case(user, case)))

    assert {"take", "blind", "second", "lower", "erase", "note"} <= offered(bert)
    read_all(anna, case)
    assert "blind" not in offered(anna)
    signing.sign(anna, case, SIGNS)
    assert {"reopen", "withdraw", "erase"} <= offered(anna)
    assert not {"reopen", "withdraw", "erase", "note", "take"} & offered(bert)


def test_a_case_is_taken_over_read_blind_and_by_two(anna, bert, case, desk):
    at = page("case", before(bert), case=case)
    for name in ("take", "blind", "second"):
        ran(act(at, case, name).button(f"case.{name}.go").click())
    view = open_case(bert, case)
    assert (view.reader.name, view.blind, view.second_wanted) == ("bert", True, True)
    assert view.fields[0].hidden
    assert "Read blind first" in words(at)


def test_a_case_leaves_the_top_only_with_a_reason(anna, case, desk):
    at = page("case", before(anna), case=case)
    act(at, case, "lower")
    ran(at.form_submit_button[0].click())
    assert "Say why" in words(at)
    assert open_case(anna, case).priority == 1
    at.text_input("reason.lower.why").set_value("known patient")
    ran(at.form_submit_button[0].click())
    assert open_case(anna, case).priority == 0


def test_a_field_is_moved_to_the_case_that_is_named_whole(anna, case, desk):
    other = cases.create(anna, specimen_=BLOOD, order=Identifier("LAB-8"))
    field = open_case(anna, case).fields[1].id
    at = page("case", before(anna), case=case)
    act(at, case, "move")
    at.selectbox("move.field").set_value(field)
    at.text_input("move.to").set_value("LAB")
    at.text_input("move.why").set_value("wrong folder")
    ran(at.form_submit_button[0].click())
    assert "No case is found" in words(at)
    at.text_input("move.to").set_value("LAB-8")
    ran(at.form_submit_button[0].click())
    assert [one.id for one in open_case(anna, other).fields] == [field]


def test_a_case_of_the_wrong_patient_is_given_to_the_right_one_with_a_reason(anna, case, desk):
    at = page("case", before(anna), case=case)
    act(at, case, "patient")
    at.text_input("patient.to").set_value("P-RIGHT")
    ran(at.form_submit_button[0].click())
    assert open_case(anna, case).patient != "P-RIGHT"
    at.text_input("patient.why").set_value("labels were swapped")
    ran(at.form_submit_button[0].click())
    assert open_case(anna, case).patient == "P-RIGHT"


def test_a_case_is_erased_with_a_reason_and_a_tick(anna, case, desk):
    at = page("case", before(anna), case=case)
    act(at, case, "erase")
    at.text_input("reason.erase.why").set_value("consent was withdrawn")
    ran(at.form_submit_button[0].click())
    assert "Tick the sentence" in words(at)
    at.checkbox("reason.erase.agree").check()
    ran(at.form_submit_button[0].click())
    assert search.find(anna).rows == ()
    assert "was erased" in words(ran(at))


# ── signing ───────────────────────────────────────────────────────────────────────────────────


def signing_page(user, case, desk, **place):
    here = before(user, **place)
    at = page("case", here, case=case)
    desk.append({"what": "sign", "at": 1})
    return here, ran(at)


def test_a_reader_is_told_to_ask_a_signer(anna, bert, case, desk):
    _, at = signing_page(bert, case, desk)
    assert "Ask a signer" in at.error[0].value
    assert not at.radio


def test_the_drawer_says_what_stands_against_a_signature_and_chooses_nothing(anna, case, desk):
    _, at = signing_page(anna, case, desk)
    assert at.radio[0].value is None
    assert at.radio[0].options == ["Benign", "Early pre-B", "Pre-B", "Pro-B", "Other", "Inadequate"]
    said = words(at)
    assert "□ 2 fields need to be read: field 1.png, field 2.png." in said
    assert "□ One field has no answer of the model that could be used. Acknowledge" in said
    assert "□ The limits of the model are to be read." in said
    assert "□ No result is chosen." in said
    assert at.button("sign.sign").disabled
    assert "You cannot sign yet" in said
    assert not at.get("image")


def test_a_benign_result_against_the_model_needs_a_comment_in_the_clinics_words(anna, case, desk):
    read_all(anna, case, "Benign")
    _, at = signing_page(anna, case, desk)
    ran(at.radio[0].set_value("Benign"))
    assert (
        "□ The model accepted a malignant class here. The comment must say why the result is Benign."
        in words(at)
    )
    ran(at.text_area(f"sign.comment.{case}").set_value("regenerating marrow"))
    assert "malignant class" not in words(at)


def test_a_signer_sees_the_report_before_it_is_signed(anna, case, desk):
    read_all(anna, case)
    here, at = signing_page(anna, case, desk)
    at.radio[0].set_value("Pro")
    at.checkbox(f"sign.refused.{case}").check()
    ran(at.checkbox(f"sign.limits.{case}").check())
    assert "✓ Nothing stands against a signature." in words(at)
    assert len(at.get("image")) >= 1
    assert versions(anna, case) == ()
    ran(at.button("sign.sign").click())
    assert here.gone == [("report", {"case": case})]
    (report,) = versions(anna, case)
    assert (report.kind, report.result, report.signer.display) == ("final", "Pro", "Dr. Anna")


def test_what_changed_after_the_report_was_shown_is_shown_again_and_not_signed(
    anna, case, desk, unseen
):
    read_all(anna, case)
    _, at = signing_page(anna, case, desk)
    at.radio[0].set_value("Pro")
    at.checkbox(f"sign.refused.{case}").check()
    ran(at.checkbox(f"sign.limits.{case}").check())
    reading.relabel(anna, open_case(anna, case).fields[0].id, "Early", why="nucleoli")
    ran(at.button("sign.sign").click())
    assert "changed since its report was shown" in words(at).replace("\\", "")
    assert versions(anna, case) == ()
    ran(at.button("sign.sign").click())
    assert versions(anna, case)[0].fields[0].reader == "Early"


def test_who_signed_in_too_long_ago_proves_anew_who_they_are(anna, case, desk, unseen):
    from workplace.settings import Login

    read_all(anna, case)
    asked = []
    here, at = signing_page(anna, case, desk, login=Login())
    anna.confirmed -= 3600
    type(here).confirm_identity, kept = lambda self: asked.append(1), type(here).confirm_identity
    try:
        at.radio[0].set_value("Pro")
        at.checkbox(f"sign.refused.{case}").check()
        ran(at.checkbox(f"sign.limits.{case}").check())
        with pytest.raises(KeyError):
            at.button("sign.sign")
        ran(at.button("sign.confirm").click())
    finally:
        type(here).confirm_identity = kept
    assert asked == [1]
    assert versions(anna, case) == ()


def test_readings_on_their_way_stand_against_a_signature(anna, case, desk):
    read_all(anna, case)
    at = page("case", before(anna), case=case)
    desk.append({"what": "sign", "unsaved": 2})
    ran(at)
    assert "□ 2 readings are not saved yet." in words(at)


# ── the report ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def signed(anna, case):
    read_all(anna, case)
    signing.sign(anna, case, SIGNS)
    return case


def test_the_report_is_shown_with_its_history_and_its_files_only_when_asked(anna, signed, tables):
    here = before(anna)
    at = page("report", here, case=signed)
    assert "Result: Pro-B. Signed by Dr. Anna" in words(at)
    assert len(at.get("image")) >= 1
    assert texts_of(tables["report_history"])[0]["kind"] == "final"
    ran(at)
    assert len(audit(anna.store, "report.seen")) == 1
    assert audit(anna.store, "report.exported") == []
    for format, begins in (("pdf", b"%PDF"), ("hl7", b"MSH|"), ("csv", b"field,")):
        at.selectbox("report.format").set_value(format)
        ran(at.button("report.prepare").click())
        _, name, data = at.session_state["report.file"]
        assert data.startswith(begins)
        assert name.startswith(f"report-{signed}-1")
        assert "P-1" not in name
    assert len(audit(anna.store, "report.exported")) == 3


def test_a_signer_withdraws_and_a_reader_cannot(anna, bert, signed, tables, unseen):
    assert "Withdraw the report" not in words(page("report", before(bert), case=signed))
    at = page("report", before(anna), case=signed)
    at.text_input("reason.withdraw.why").set_value("wrong patient")
    sent = [b for b in at.form_submit_button if b.label == "Withdraw the report"]
    ran(sent[0].click())
    assert "✕ Withdrawn: version 1 must not be used. Reason: wrong patient" in words(at)
    assert versions(anna, signed)[0].kind == "withdrawn"


def test_a_signer_opens_the_case_again_with_a_reason(anna, signed, tables, unseen):
    here = before(anna)
    at = page("report", here, case=signed)
    at.text_input("reason.amend.why").set_value("second look")
    sent = [b for b in at.form_submit_button if b.label == "Amend the report"]
    ran(sent[0].click())
    assert open_case(anna, signed).status == "reading"
    assert here.gone == [("case", {"case": signed})]


def test_what_was_sent_where_stands_below_the_report(anna, case, tables, unseen):
    outbox.set_target(anna, "lis", {"kind": "mllp", "host": "lis.example", "port": 2575})
    read_all(anna, case)
    signing.sign(anna, case, SIGNS)
    page("report", before(anna), case=case)
    (row,) = tables["report_sent"]["rows"]
    assert (row["word"], row["cells"]["target"]["text"]) == ("Waiting", "lis")


# ── quality, models, admin, start, help ───────────────────────────────────────────────────────


def test_shares_have_their_number_and_interval_and_too_few_are_said(anna, case, tables):
    read_all(anna, case)
    page("quality", before(anna))
    changed = [row["cells"]["changed"] for row in tables["quality_by_class"]["rows"]]
    assert {cell["text"] for cell in changed} == {"too few (0 of 1)", "too few (1 of 1)"}
    assert all(cell["drawn"] is None for cell in changed)


def test_a_share_of_enough_fields_is_drawn_with_its_interval(anna):
    from workplace.pages.common import share_cell

    from allkit.clinic.shares import share_of

    cell = share_cell(before(anna).say, share_of(10, 40))
    assert cell.text == "10 of 40: 25 % (14–40 %)"
    assert cell.drawn == pytest.approx((0.142, 0.25, 0.402), abs=0.001)


def test_a_model_that_is_gone_is_said_and_only_an_admin_makes_another_answer(
    anna, bert, case, tmp_path, tables
):
    second, _ = with_model(anna, tmp_path / "other.onnx", Scripted(), content=b"another")
    (tmp_path / "model.onnx").unlink()
    said = words(page("models", before(bert)))
    assert "gone from its place" in said
    assert said.count("Answers now") == 1  # the other one, which is there
    assert "Does not answer" not in said
    assert str(tmp_path) not in said
    assert str(tmp_path) in words(page("models", before(anna)))
    assert "Refused in this laboratory: too few (1 of 3)" in said
    assert "Let it answer" not in said
    first = next(m["id"] for m in models.models(anna) if not m["default"])
    at = page("models", before(anna))
    assert "Every case that is not signed is answered anew" in words(at)
    ran(at.button(f"models.default.{first}").click())
    assert next(m["id"] for m in models.models(anna) if m["default"]) == first != second


def test_the_figures_of_a_model_folder_are_shown_with_their_protocol(anna, tmp_path, tables):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.json").write_text(
        '{"data": {"counts": {"Benign": 5, "Pro": 7}, "drawn": true}, "trust_notes": [],'
        '"validation": {"protocol": "Divided by slide", "n": 12, "accuracy": 1.0, "ece": 0.02,'
        '"intervals": {"accuracy": [1.0, 1.0], "ece": [0.01, 0.05]}, "notes": [],'
        '"exact": {"accuracy": "no error in 4 groups; up to 53 % wrong possible"}}}'
    )
    (folder / "model.safetensors").write_bytes(b"arrays")
    (folder / "SHA256SUMS").write_text("")
    id = models.add_model(anna, folder, Scripted())
    said = words(page("models", before(anna)))
    assert "Divided by slide: 12 images" in said
    assert "Trained on: Benign 5, Pro-B 7" in said
    assert "drawn by a program" in said
    figures = {row["figure"]: row["interval"] for row in texts_of(tables[f"models_{id}"])}
    assert figures["Accuracy"] == "no error in 4 groups; up to 53 % wrong possible"
    assert figures["Calibration error (ECE)"] == "0.010–0.050"


def test_who_is_no_admin_gets_a_sentence(bert):
    at = page("admin", before(bert))
    assert "for admins of the clinic" in words(at)
    assert not at.form_submit_button


def admin_page(user, tab):
    at = page("admin", before(user))
    at.session_state["admin_tabs"] = before(user).say(f"admin.{tab}")
    return ran(at)


def test_an_admin_adds_people_and_changes_their_roles(anna, tables):
    at = admin_page(anna, "people")
    at.text_input("add.name").set_value("cleo")
    at.multiselect("add.roles").set_value(["reader"])
    ran(at.form_submit_button[0].click())
    assert access.sign_in(anna.store, "cleo").person.roles == ("reader",)
    at.text_input("add.name").set_value("anna")
    at.multiselect("add.roles").set_value(["reader"])
    ran(at.form_submit_button[0].click())
    assert "signs in by this name already" in words(at)
    ran(at.selectbox("change.name").set_value("cleo"))
    key = next(one.key for one in at.multiselect if one.key.startswith("change.roles."))
    at.multiselect(key).set_value(["reader", "signer"])
    ran(next(b for b in at.form_submit_button if b.label == "Change roles").click())
    assert access.sign_in(anna.store, "cleo").person.roles == ("reader", "signer")


def test_an_admin_changes_settings_and_targets(anna, tables):
    at = admin_page(anna, "settings")
    at.number_input("set.idle").set_value(30)
    at.checkbox("set.blind").check()
    ran(at.form_submit_button[0].click())
    now = access.settings_of(anna)
    assert (now["idle_minutes"], now["blind_first"], now["second_reader"]) == (30, True, False)
    at = admin_page(anna, "targets")
    at.text_input("target.name").set_value("lis")
    at.text_input("target.host").set_value("no host !")
    ran(at.form_submit_button[0].click())
    assert "no name of a host" in words(at)
    at.text_input("target.host").set_value("lis.example")
    ran(at.form_submit_button[0].click())
    assert texts_of(tables["admin_targets"]) == [
        {"target": "lis", "host": "lis.example", "port": "2575"}
    ]


def test_an_admin_backs_up_checks_and_exports_the_audit(anna, case, tmp_path, tables):
    at = admin_page(anna, "store")
    assert "There is no backup yet" in words(at)
    at.text_input("backup.folder").set_value("relative")
    ran(at.form_submit_button[0].click())
    assert "whole path" in words(at)
    at.text_input("backup.folder").set_value(str(tmp_path / "backup"))
    ran(at.form_submit_button[0].click())
    assert (tmp_path / "backup" / "manifest.json").is_file()
    ran(at.button("admin.verify").click())
    assert "Everything is whole" in words(at)
    ran(at.button("audit.prepare").click())
    assert '"what":"case.created"' in at.session_state["admin.audit"][1]
    assert verify(anna.store) == []


def test_the_start_says_what_is_stored_where_and_takes_up_a_model_in_its_own_process(
    anna, bert, tables, monkeypatch, tmp_path
):
    at = page("start", before(anna))
    said = words(at)
    assert anna.store.place in said
    assert at.code[0].value == "allkit app --demo"
    at.text_input("start.path").set_value(str(tmp_path / "nothing.onnx"))
    ran(at.form_submit_button[0].click())
    assert "was not taken up" in words(at)
    assert "does not exist" in words(at)
    assert "Only an admin can take up a model" in words(page("start", before(bert)))


def test_the_help_has_every_topic_and_the_sheet_for_the_bench(anna):
    here = before(anna)
    at = page("help", here)
    topics = {name.partition(".")[0] for name in here.say.section("help.topics")}
    assert len(at.subheader) == len(topics) > 10
    assert at.get("download_button")


# ── texts ─────────────────────────────────────────────────────────────────────────────────────


def test_every_text_that_a_page_asks_for_is_there(anna):
    say = before(anna).say
    asked = set()
    for path in PAGES.glob("*.py"):
        asked |= set(re.findall(r'say\(\s*"([a-z_]+\.[^"]+)"', path.read_text("utf-8")))
    assert len(asked) > 150
    assert [key for key in sorted(asked) if not say.has(key)] == []


@pytest.mark.parametrize("name", ["start", "worklist", "quality", "models", "admin", "help"])
def test_a_page_can_be_shown_in_a_language_that_runs_from_right_to_left(anna, case, tables, name):
    page(name, before(anna, language="xx"))
    assert all(data["direction"] == "rtl" for data in tables.values())


def test_every_entry_of_the_menu_has_its_words_and_its_form(anna):
    from workplace.pages.actions import FORMS, _possible

    view = SimpleNamespace(status="new", reader=None, fields=(), second_wanted=False, blind=False)
    view.priority = 0
    assert set(_possible(before(anna), view)) <= set(FORMS)
    say = before(anna).say
    for name in FORMS:
        assert all(say.has(f"case.{kind}_{name}") for kind in ("do", "about", "did")), name


# ── what the desk is told ─────────────────────────────────────────────────────────────────────


def test_a_second_reader_is_told_what_is_left_and_finishes_before_anybody_signs(anna, bert, case):
    from workplace.screens import screen
    from workplace.texts import texts

    say = texts("en")
    cases.assign(anna, case, reader="anna", second="bert")
    read_all(anna, case)
    first = screen(anna, case, say)
    assert (first["unread"], first["last"]) == (0, "finish")
    reading.finish(anna, case)
    left = screen(bert, case, say)
    assert (left["unread"], left["last"]) == (3, "finish")
    assert left["unread_words"] == "3 fields still need to be read"
    assert all(field["state"] == "hidden" and field["other"] is None for field in left["fields"])
    read_all(bert, case)
    reading.finish(bert, case)
    again = screen(anna, case, say)
    assert (again["unread"], again["last"]) == (0, "sign")


def test_a_marrow_case_says_that_nothing_was_measured_on_marrow(anna, case, desk):
    assert not page("case", before(anna), case=case).warning
    other = cases.create(anna, specimen_=Specimen("marrow", "2025-12-24"), patient="P-2")
    (said,) = page("case", before(anna), case=other).warning
    assert "peripheral blood only" in said.value
