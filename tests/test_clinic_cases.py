"""From a case to a signed report, and back: who may what, what is refused, what is never lost."""

import contextlib
import dataclasses
from pathlib import Path

import pytest
import sqlalchemy as sa

from allkit.clinic import access, cases, fields, identity, jobs, models, reading, search, signing
from allkit.clinic.reading import Sent
from allkit.clinic.records import CaseReport, Identifier, Order, Specimen
from allkit.clinic.reporting import export, last_report
from allkit.clinic.signing import Statement
from allkit.clinic.store import chain
from allkit.clinic.store import tables as t
from allkit.clinic.store.verify import verify
from allkit.clinic.view import open_case, view_of
from allkit.clinic.worker import Worker
from allkit.errors import AccessError, AllkitError, ClinicError
from clinic_places import BLOOD, Scripted, incoming, with_model

LIS = Identifier("LAB-2026-00417", "LIS")


def names(store, user, what):
    with store.read() as connection:
        return [row.what for row in chain.rows(connection) if row.what.startswith(what)]


@pytest.fixture
def bert(clinic):
    _, anna = clinic
    access.add_person(anna, "bert", ["reader"])
    return access.sign_in(anna.store, "bert")


@pytest.fixture
def answered(clinic, tmp_path):
    """A case of three fields: one accepted as Pro, one for review, one refused; with its model."""
    store, anna = clinic
    images = [incoming(i) for i in range(3)]
    said = dict(zip((i.sha256 for i in images), [
        ("accepted", "Pro"), ("review", "Pre"), ("refused", "Early")], strict=True))  # fmt: skip
    _, worker = with_model(anna, tmp_path / "model.onnx", Scripted(said))
    case = cases.create(anna, specimen_=BLOOD, order=LIS, patient="P-1")
    fields.add(anna, case, images)
    assert worker.drain() == (1, 0)
    return store, anna, case, worker


def ids(store, case):
    with store.read() as connection:
        return [f.id for f in view_of(connection, case).fields]


def read_all(user, case, label="Pro"):
    for field in ids(user.store, case):
        reading.relabel(user, field, label, why="seen under oil")


SIGNS = Statement("Pro", refused=1, limits_read=True)


# ── opening and finding cases ─────────────────────────────────────────────────────────────────


def test_a_case_is_found_by_the_beginning_of_any_number(clinic):
    _, anna = clinic
    case = cases.create(
        anna,
        specimen_=BLOOD,
        order=LIS,
        patient="P-Ä1",
        identifiers=[Identifier("0815/4711", "KIS")],
    )
    for _ in range(3):
        cases.create(anna, specimen_=Specimen("marrow"))
    for text in ("LAB-2026-00417", "lab-2026", "00417", "p-ä", "4711", "S-17", "0815"):
        assert [row.id for row in search.find(anna, search.Filter(text)).rows] == [case], text
        assert search.resolve(anna, text) == case
    assert search.find(anna, search.Filter("%")).rows == ()
    assert len(search.find(anna, search.Filter(specimen="marrow")).rows) == 3
    with pytest.raises(ClinicError, match="No case is found"):
        search.resolve(anna, "nothing like it")


def test_pages_of_cases_follow_one_another_without_gap(clinic):
    _, anna = clinic
    made = [cases.create(anna, specimen_=BLOOD) for _ in range(7)]
    seen, after = [], None
    while True:
        page = search.find(anna, after=after, limit=3)
        seen += [row.id for row in page.rows]
        after = page.next
        if after is None:
            break
    assert seen == made
    with pytest.raises(ClinicError, match="no place in a list"):
        search.find(anna, after="x|y")


def test_an_order_opens_its_case_once_and_contradictions_are_refused(clinic):
    _, anna = clinic
    order = Order(LIS, (Identifier("4711", "KIS"),), BLOOD, message="M1", sender="LIS")
    case, new = cases.open_order(anna, order, sha256="a" * 64)
    assert new
    assert cases.open_order(anna, order, sha256="a" * 64) == (case, False)
    assert cases.open_order(anna, dataclasses.replace(order, message="M2")) == (case, False)
    with pytest.raises(ClinicError, match="with another content"):
        cases.open_order(anna, order, sha256="b" * 64)
    for wrong, said in (
        ({"patient": (Identifier("9999", "KIS"),)}, "another patient"),
        ({"specimen": Specimen("marrow", "2026-01-31", None, "S-17")}, "another kind"),
        ({"specimen": Specimen("blood", "2026-01-31", None, "S-18")}, "another number"),
    ):
        with pytest.raises(ClinicError, match=said):
            cases.open_order(anna, dataclasses.replace(order, message="", **wrong))
    cases.open_order(anna, dataclasses.replace(order, message="M3", action="cancel"))
    assert open_case(anna, case).order_cancelled


@pytest.mark.parametrize(
    "text", ["", "   ", "x" * 257, "a\x00b", "a\nb", "\u202edrow", "\ud800"], ids=ascii
)
def test_a_number_that_cannot_be_shown_is_refused_and_changes_nothing(clinic, text):
    store, anna = clinic
    with pytest.raises(ClinicError, match=r"empty|characters|cannot be shown"):
        cases.create(anna, specimen_=BLOOD, order=Identifier(text))
    assert search.find(anna).rows == ()
    assert verify(store) == []


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "=1+1", "a|b^c~d\\e&f", "Ω – ß", "💉"]
)
def test_a_number_with_signs_of_other_languages_stays_as_it_is(clinic, text):
    _, anna = clinic
    case = cases.create(anna, specimen_=BLOOD, order=Identifier(text, text), patient=text)
    view = open_case(anna, case)
    assert (view.order, view.patient) == (Identifier(text, text), text)


def test_two_numbers_of_two_patients_do_not_make_one(clinic):
    _, anna = clinic
    for value in ("1", "2"):
        cases.create(anna, specimen_=BLOOD, identifiers=[Identifier(value, "KIS")])
    with pytest.raises(ClinicError, match="different patients"):
        cases.create(
            anna, specimen_=BLOOD, identifiers=[Identifier("1", "KIS"), Identifier("2", "KIS")]
        )


def test_previous_samples_of_a_patient_stand_beside_a_case(clinic):
    _, anna = clinic
    first, second, _ = (cases.create(anna, specimen_=BLOOD, patient=p) for p in ("A", "A", "B"))
    assert [row.id for row in search.previous(anna, second)] == [first]


# ── answers ───────────────────────────────────────────────────────────────────────────────────


def test_a_case_is_answered_and_an_accepted_malignant_answer_rises(answered):
    store, anna, case, _ = answered
    quiet = cases.create(anna, specimen_=BLOOD)
    view = open_case(anna, case)
    assert [f.answer.verdict for f in view.fields] == ["accepted", "review", "refused"]
    assert [f.needs_reading for f in view.fields] == [False, True, True]
    assert (view.slide.fields, view.slide.used, view.model.name) == (3, 1, "model")
    assert view.job["state"] == "done"
    assert (view.job["done"], view.job["total"]) == (3, 3)
    listed = search.find(anna).rows
    assert [(row.id, row.priority, row.review) for row in listed] == [(case, 1, 2), (quiet, 0, 0)]
    cases.lower_priority(anna, case, why="seen, known patient")
    assert "case.lowered" in names(store, anna, "case")


def test_a_job_of_a_killed_process_is_taken_up_where_it_was(answered, monkeypatch):
    store, anna, case, _ = answered
    fields.add(anna, case, [incoming(8), incoming(9)])
    model = Scripted()
    dead = Worker(access.worker(store), lambda path: model)
    dead.name = "a process that was killed"

    def killed(self, change, job, *rest, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "_conclude", killed)
    with pytest.raises(KeyboardInterrupt):
        dead.step()
    monkeypatch.undo()
    again = Worker(access.worker(store), lambda path: model)
    assert again.step() is False  # it is held still
    store.now.milliseconds += 1000 * (jobs.LEASE + 1)
    assert again.step() is True
    assert len(model.asked) == 2  # each new image once, the answered ones not again
    assert open_case(anna, case).job["state"] == "done"
    assert open_case(anna, case).slide.fields == 5


def test_a_case_that_kills_the_program_again_and_again_is_given_up(answered):
    store, anna, case, _ = answered
    fields.add(anna, case, [incoming(70)])
    system = access.worker(store)
    for _ in range(jobs.ATTEMPTS):
        assert jobs.claim(system, "killed each time") is not None
        store.now.milliseconds += 1000 * (jobs.LEASE + 1)
    assert jobs.claim(system, "another") is None
    assert "begun 3 times" in open_case(anna, case).job["error"]


def test_a_model_that_vanished_or_was_altered_is_told_in_the_case(answered, tmp_path):
    store, anna, case, _ = answered
    for change, said in (
        (lambda: (tmp_path / "model.onnx").write_bytes(b"other"), "was changed since"),
        (lambda: (tmp_path / "model.onnx").unlink(), "is gone"),
    ):
        change()
        fields.add(anna, case, [incoming(20 + len(said))])
        Worker(access.worker(store), lambda path: Scripted()).drain()
        job = open_case(anna, case).job
        assert job["state"] == "failed"
        assert said in job["error"]
    with pytest.raises(ClinicError, match="does not exist"):
        models.add_model(anna, Path("gone.onnx"), Scripted())


def failed_case(anna, tmp_path):
    """A case whose model is gone, and the worker that tried."""
    path = tmp_path / "model.onnx"
    _, worker = with_model(anna, path, Scripted())
    case = cases.create(anna, specimen_=BLOOD)
    fields.add(anna, case, [incoming(1)])
    path.unlink()
    worker.drain()
    assert open_case(anna, case).job["state"] == "failed"
    return path, case, worker


def test_a_reader_tries_a_failed_case_again_when_the_model_is_back(clinic, tmp_path):
    _, anna = clinic
    path, case, worker = failed_case(anna, tmp_path)
    assert jobs.failed(anna, [case]) == {case}
    path.write_bytes(b"a model")
    job = jobs.retry(anna, case)
    assert jobs.retry(anna, case) == job  # pressed twice, it waits once
    assert jobs.failed(anna, [case]) == frozenset()
    assert worker.drain() == (1, 0)
    assert open_case(anna, case).job["state"] == "done"
    with pytest.raises(ClinicError, match="nothing to try again"):
        jobs.retry(anna, case)


def test_only_a_reader_tries_again_and_no_closed_case_is(clinic, tmp_path):
    _, anna = clinic
    path, case, worker = failed_case(anna, tmp_path)
    access.add_person(anna, "admin", ["admin"])
    with pytest.raises(AccessError):
        jobs.retry(access.sign_in(anna.store, "admin"), case)
    path.write_bytes(b"a model")
    jobs.retry(anna, case)
    worker.drain()
    signing.sign(anna, case, Statement("Benign", limits_read=True))
    with pytest.raises(ClinicError, match="opened again"):
        jobs.retry(anna, case)


@pytest.mark.parametrize("known", [True, False])
def test_a_model_that_is_taken_up_again_answers_what_it_failed_on(clinic, tmp_path, known):
    _, anna = clinic
    _, case, worker = failed_case(anna, tmp_path)
    elsewhere = tmp_path / "elsewhere.onnx"
    elsewhere.write_bytes(b"a model")
    if known:
        assert models.known_model(anna, elsewhere, default=True)
    else:
        models.add_model(anna, elsewhere, Scripted(), default=False)
    assert open_case(anna, case).job["state"] == "queued"
    assert worker.drain() == (1, 0)
    assert open_case(anna, case).job["state"] == "done"


def test_a_new_model_answers_anew_and_reopens_what_is_not_signed(answered, tmp_path, bert):
    store, anna, case, worker = answered
    signed = cases.create(anna, specimen_=BLOOD)
    fields.add(anna, signed, [incoming(30)])
    worker.drain()
    signing.sign(anna, signed, Statement("Benign", limits_read=True))
    cases.assign(anna, case, second="bert")
    read_all(anna, case)
    assert reading.finish(anna, case) == "second"
    before = open_case(anna, case)
    _, newer = with_model(anna, tmp_path / "newer.onnx", Scripted(), b"newer")
    assert newer.drain() == (1, 0)
    after = open_case(anna, case)
    assert (after.status, after.model.name) == ("reading", "newer")
    assert after.model.sha256 != before.model.sha256
    assert [f.first.label for f in after.fields] == ["Pro"] * 3  # readings stay
    assert open_case(anna, signed).model.name == "model"
    with store.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(t.answers)) == 7


def test_a_model_that_fails_on_anything_fails_the_job_and_not_the_process(clinic, tmp_path):
    _, anna = clinic

    class Broken(Scripted):
        def stream(self, images, *, batch_size=16):
            raise MemoryError("too much")
            yield

    _, worker = with_model(anna, tmp_path / "m.onnx", Broken())
    case = cases.create(anna, specimen_=BLOOD)
    fields.add(anna, case, [incoming(1)])
    assert worker.drain() == (0, jobs.ATTEMPTS)
    job = open_case(anna, case).job
    assert (job["state"], "MemoryError" in job["error"]) == ("failed", True)


def test_a_real_exported_model_answers_cases(clinic, tiny_onnx, drawn, tmp_path):
    from allkit.clinic.intake.unpack import unpack
    from allkit.runtime.onnx import OnnxPredictor

    store, anna = clinic
    models.add_model(anna, tiny_onnx, OnnxPredictor(tiny_onnx))
    case = cases.create(anna, specimen_=BLOOD)
    images = sorted(drawn.parent.rglob("*.png"))[:3]
    fields.add(anna, case, [one for path in images for one in unpack(path)])
    Worker(access.worker(store), OnnxPredictor).drain()
    view = open_case(anna, case)
    wanted = OnnxPredictor(tiny_onnx).predict(images)
    assert [f.answer.label for f in view.fields] == [p.label for p in wanted]
    assert view.slide.fields == 3
    assert view.model.classes == OnnxPredictor(tiny_onnx).classes


# ── readings ──────────────────────────────────────────────────────────────────────────────────


def test_a_resend_changes_nothing_and_a_number_stands_for_one_thing(answered):
    store, anna, case, _ = answered
    field = ids(store, case)[1]
    sent = Sent("browser 1", 7)
    first = reading.relabel(anna, field, "Early", sent=sent)
    assert reading.relabel(anna, field, "Early", sent=sent) == first
    with pytest.raises(ClinicError, match="number 7 before, with something else"):
        reading.relabel(anna, field, "Pro", sent=sent)
    assert names(store, anna, "reading") == ["reading.label"]


def test_undo_brings_back_the_class_before_and_is_a_row_of_its_own(answered):
    store, anna, case, _ = answered
    field = ids(store, case)[1]
    for label in ("Early", "Pre"):
        reading.relabel(anna, field, label)
    reading.undo(anna, field)
    assert open_case(anna, case).fields[1].first.label == "Early"
    reading.undo(anna, field)
    assert open_case(anna, case).fields[1].first is None
    with pytest.raises(ClinicError, match="no class of yours"):
        reading.undo(anna, field)
    with store.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(t.readings)) == 4


def test_against_an_accepted_answer_a_reason_is_needed(answered):
    store, anna, case, _ = answered
    field = ids(store, case)[0]
    with pytest.raises(ClinicError, match="Say why"):
        reading.relabel(anna, field, "Benign")
    reading.relabel(anna, field, "Benign", why="hematogones by flow")
    with pytest.raises(ClinicError, match="no class here"):
        reading.relabel(anna, field, "Basophil")
    assert open_case(anna, case).fields[0].first.person.display == "Dr. Anna Berg"


def test_blind_first_covers_the_model_until_the_reader_has_said_a_class(clinic, tmp_path):
    _, anna = clinic
    _, worker = with_model(anna, tmp_path / "m.onnx", Scripted())
    case = cases.create(anna, specimen_=BLOOD, blind_first=True)
    fields.add(anna, case, [incoming(1), incoming(2)])
    worker.drain()
    view = open_case(anna, case)
    assert [(f.answer, f.hidden) for f in view.fields] == [(None, True)] * 2
    assert view.slide is None
    with pytest.raises(ClinicError, match="none to accept"):
        reading.accept(anna, view.fields[0].id)
    reading.relabel(anna, view.fields[0].id, "Pro")  # it cannot need a reason: nothing was shown
    view = open_case(anna, case)
    assert (view.fields[0].answer.label, view.fields[0].first.blind) == ("Benign", True)
    assert view.fields[1].hidden
    assert view.slide is None
    with pytest.raises(ClinicError, match="1 fields need to be read"):
        signing.sign(anna, case, Statement("Pro", comment="x", limits_read=True))


def test_a_second_reader_reads_without_seeing_the_first_and_agreement_is_told(answered, bert):
    store, anna, case, _ = answered
    cases.assign(anna, case, second="bert")
    with pytest.raises(ClinicError, match="has not finished"):
        reading.relabel(bert, ids(store, case)[0], "Pro")
    read_all(anna, case)
    with pytest.raises(ClinicError, match="second reader has not read"):
        signing.sign(anna, case, SIGNS)
    assert reading.finish(anna, case) == "second"
    hidden = open_case(bert, case)
    assert all(f.hidden and f.first is None and f.answer is None for f in hidden.fields)
    for field, label in zip(ids(store, case), ("Pro", "Pro", "Early"), strict=True):
        reading.relabel(bert, field, label)
    assert open_case(bert, case).fields[0].first.label == "Pro"
    assert reading.finish(bert, case) == "reading"
    report = signing.sign(anna, case, SIGNS)
    assert (report.second_reader.name, report.agreement) == ("bert", 0.0)
    with pytest.raises(ClinicError, match="another person"):
        cases.assign(anna, cases.create(anna, specimen_=BLOOD), reader="anna", second="anna")


def test_what_is_left_to_be_read_is_cut_with_a_mark(clinic):
    _, anna = clinic
    case = cases.create(anna, specimen_=BLOOD)
    fields.add(anna, case, [incoming(i) for i in range(6)])
    with pytest.raises(
        ClinicError, match=r"^6 fields of the case .* still need to be read: .*, …\.$"
    ):
        reading.finish(anna, case)


def test_whoever_comes_as_the_second_reader_sees_nothing_of_the_first(answered, bert):
    store, anna, case, _ = answered
    reading.want_second(anna, case, True)
    read_all(anna, case)
    assert reading.finish(anna, case) == "second"
    hidden = open_case(bert, case)
    assert all(f.hidden and f.first is None and f.answer is None for f in hidden.fields)
    assert open_case(anna, case).fields[0].first.label == "Pro"
    reading.relabel(bert, ids(store, case)[0], "Early")
    assert open_case(bert, case).fields[0].first.label == "Pro"


def test_a_case_is_read_by_its_reader_until_another_takes_it_over(answered, bert):
    store, anna, case, _ = answered
    reading.relabel(anna, ids(store, case)[1], "Pro")
    with pytest.raises(AccessError, match="somebody else"):
        reading.relabel(bert, ids(store, case)[2], "Pro")
    cases.assign(bert, case, reader="bert")
    reading.relabel(bert, ids(store, case)[2], "Pro")
    reading.add_note(anna, "please look at the nucleoli", case=case)
    assert open_case(bert, case).notes[0][2] == "please look at the nucleoli"


# ── signing ───────────────────────────────────────────────────────────────────────────────────


def test_everything_that_stands_against_a_signature_is_said_at_once(answered):
    store, anna, case, _ = answered
    fields.add(anna, case, [incoming(40)])
    found = " ".join(signing.gate(anna, case, Statement("Early", unsaved=2)))
    for part in (
        "2 readings are not saved", "1 jobs of the model", "3 fields need to be read",
        "1 fields have no answer", "limits of the model", "No field is Early",
    ):  # fmt: skip
        assert part in found
    with pytest.raises(ClinicError, match="cannot be signed"):
        signing.sign(anna, case, SIGNS)
    assert open_case(anna, case).status == "new"
    assert names(store, anna, "signature") == []


def test_a_signature_freezes_a_report_and_an_amendment_is_a_new_version(answered):
    store, anna, case, _ = answered
    read_all(anna, case)
    first = signing.sign(anna, case, SIGNS)
    assert (first.kind, first.version, first.result, first.signer.name) == (
        "final",
        1,
        "Pro",
        "anna",
    )
    assert open_case(anna, case).status == "signed"
    for refused in (
        lambda: reading.relabel(anna, ids(store, case)[0], "Pre", why="x"),
        lambda: fields.add(anna, case, [incoming(50)]),
        lambda: signing.sign(anna, case, SIGNS),
    ):
        with pytest.raises(ClinicError, match=r"is signed|opened again"):
            refused()
    signing.reopen(anna, case, why="flow cytometry came")
    assert export(anna, case) == first  # it stays valid until the next is signed
    reading.relabel(anna, ids(store, case)[1], "Early")
    second = signing.sign(anna, case, dataclasses.replace(SIGNS, result="Early"))
    assert (second.kind, second.version, second.replaces) == ("corrected", 2, 1)
    assert second.reason == "flow cytometry came"
    assert open_case(anna, case).status == "amended"
    assert export(anna, case, version=1) == first
    assert CaseReport.from_json(second.to_json()) == second
    assert first.readings_sha256 != second.readings_sha256
    assert verify(store) == []


def test_a_case_without_white_cells_is_inadequate_and_never_benign(clinic, tmp_path):
    _, anna = clinic
    _, worker = with_model(anna, tmp_path / "m.onnx", Scripted(cells=0))
    case = cases.create(anna, specimen_=BLOOD)
    fields.add(anna, case, [incoming(1)])
    worker.drain()
    with pytest.raises(ClinicError, match="inadequate, never benign"):
        signing.sign(anna, case, Statement("Benign", limits_read=True, comment="looks fine"))
    assert (
        signing.sign(anna, case, Statement("inadequate", limits_read=True)).result == "inadequate"
    )


def test_white_cells_count_by_the_groups_of_the_model_and_where_they_were_sought(clinic, tmp_path):
    """Classes of another laboratory, and a field that could not be read beside empty ones."""
    _, anna = clinic

    class Groups:
        names, of_class = ("benign", "malignant"), (0, 1)

    class Trust:
        groups, classes, calibrated, slides = Groups, ("Normal", "Blast"), True, None

    class Other(Scripted):
        classes, trust = ("Normal", "Blast"), Trust

        def stream(self, images, *, batch_size=16):
            for number, answer in enumerate(super().stream(images)):
                yield answer if number else dataclasses.replace(answer, white_cells=None)

    model = Other(otherwise=("review", "Normal"), cells=0)
    path = tmp_path / "m.onnx"
    path.write_bytes(b"other classes")
    models.add_model(anna, path, model)
    model.trust = None  # what is combined is not what is tested here
    case = cases.create(anna, specimen_=BLOOD)
    fields.add(anna, case, [incoming(1), incoming(2)])
    Worker(access.worker(anna.store), lambda place: model).drain()
    read_all(anna, case, "Normal")
    with pytest.raises(ClinicError, match="inadequate, never benign"):
        signing.sign(anna, case, Statement("Normal", comment="x", limits_read=True))


def test_benign_against_an_accepted_malignant_answer_needs_words(answered):
    _, anna, case, _ = answered
    read_all(anna, case, "Benign")
    benign = dataclasses.replace(SIGNS, result="Benign")
    with pytest.raises(ClinicError, match="must say why the result is Benign"):
        signing.sign(anna, case, benign)
    report = signing.sign(anna, case, dataclasses.replace(benign, comment="hematogones by flow"))
    assert [f.changed for f in report.fields] == [True, True, False]  # one had no usable answer


def test_a_report_that_cannot_be_printed_is_not_signed(answered):
    _, anna, case, _ = answered
    read_all(anna, case)
    with pytest.raises(ClinicError, match="font lacks"):
        signing.sign(anna, case, dataclasses.replace(SIGNS, comment="白血病"))


def test_a_withdrawn_report_says_so_and_the_case_waits_for_another(answered):
    _, anna, case, _ = answered
    read_all(anna, case)
    first = signing.sign(anna, case, SIGNS)
    gone = signing.withdraw(anna, case, why="sent to the wrong ward")
    assert (gone.kind, gone.version, gone.patient) == ("withdrawn", 2, first.patient)
    assert open_case(anna, case).status == "reading"
    with pytest.raises(ClinicError, match="no report that could be withdrawn"):
        signing.withdraw(anna, case, why="again")
    assert signing.sign(anna, case, SIGNS).version == 3


# ── who may ───────────────────────────────────────────────────────────────────────────────────


def test_each_role_may_what_it_is_for_and_nothing_else(answered, bert):
    store, anna, case, _ = answered
    access.add_person(anna, "lis", ["system"])
    access.add_person(anna, "root", ["admin"])
    lis, root = access.sign_in(store, "lis"), access.sign_in(store, "root")
    field = ids(store, case)[1]
    for user, refused in (
        (lis, lambda: reading.relabel(lis, field, "Pro")),
        (lis, lambda: open_case(lis, case)),
        (lis, lambda: access.add_person(lis, "x", ["admin"])),
        (root, lambda: reading.relabel(root, field, "Pro")),
        (root, lambda: signing.sign(root, case, SIGNS)),
        (bert, lambda: signing.sign(bert, case, SIGNS)),
        (bert, lambda: access.add_person(bert, "x", ["admin"])),
        (bert, lambda: jobs.claim(bert, "me")),
    ):
        with pytest.raises(AccessError, match=f"{user.name} has the roles"):
            refused()
    assert cases.create(lis, specimen_=BLOOD)
    with pytest.raises(ClinicError, match="no role 'king'"):
        access.add_person(root, "x", ["king"])


def test_who_loses_a_role_loses_it_at_once(clinic, bert):
    _, anna = clinic
    cases.create(bert, specimen_=BLOOD)
    access.add_person(anna, "bert", [])
    with pytest.raises(AccessError, match="may not sign in any more"):
        cases.create(bert, specimen_=BLOOD)
    with pytest.raises(AccessError, match="may not sign in any more"):
        access.sign_in(anna.store, "bert")
    with pytest.raises(AccessError, match="knows nobody"):
        access.sign_in(anna.store, "carl")
    with pytest.raises(ClinicError, match="keeps its roles"):
        access.add_person(anna, "anna", ["reader"])


def test_who_is_idle_is_signed_out_and_who_signs_shows_anew_who_they_are(answered):
    store, _, case, _ = answered
    now = [0.0]
    anna = access.sign_in(store, "anna", clock=lambda: now[0])
    read_all(anna, case)
    now[0] += 6 * 60
    with pytest.raises(AccessError, match="Show anew who you are"):
        signing.sign(anna, case, SIGNS)
    now[0] += 16 * 60
    with pytest.raises(AccessError, match="is signed out"):
        open_case(anna, case)
    anna.confirm()
    for minutes in (10, 10):  # a page that asks by itself keeps nobody signed in
        now[0] += minutes * 60
        with contextlib.suppress(AccessError), anna.read("reader", polling=True):
            pass
    with pytest.raises(AccessError, match="is signed out"):
        open_case(anna, case)
    anna.confirm()
    assert signing.sign(anna, case, SIGNS).kind == "final"


def test_a_key_is_shown_once_and_can_be_revoked(clinic):
    store, anna = clinic
    access.add_person(anna, "lis", ["system"])
    key = access.add_key(anna, "lis")
    assert access.sign_in_by_key(store, key).name == "lis"
    assert access.sign_in_by_key(store, key + "x") is None
    with store.read() as connection:
        assert key not in str(connection.execute(sa.select(t.keys)).all())
    assert access.revoke_keys(anna, "lis") == 1
    assert access.sign_in_by_key(store, key) is None


def test_the_audit_says_who_saw_answered_overrode_signed_and_exported(answered):
    store, anna, case, _ = answered
    open_case(anna, case)
    read_all(anna, case, "Early")
    signing.sign(anna, case, dataclasses.replace(SIGNS, result="Early"))
    export(anna, case)
    with store.read() as connection:
        found = [(row.who, row.what, row.detail) for row in chain.rows(connection)]
    by = {(who, what) for who, what, _ in found}
    assert {
        ("anna", "case.seen"), ("allkit", "answer.made"), ("anna", "reading.label"),
        ("anna", "signature.made"), ("anna", "report.exported"),
    } <= by  # fmt: skip
    overrides = [d["overrides"] for _, what, d in found if what == "reading.label"]
    assert overrides == [True, True, False]  # the refused answer was Early too


# ── identity ──────────────────────────────────────────────────────────────────────────────────


def test_a_field_of_another_case_is_moved_and_both_are_read_anew(answered):
    store, anna, case, worker = answered
    read_all(anna, case)
    signing.sign(anna, case, SIGNS)
    other = cases.create(anna, specimen_=BLOOD, patient="P-2")
    field = ids(store, case)[2]
    with pytest.raises(ClinicError, match="reason is empty"):
        identity.move_field(anna, field, to=other, why=" ")
    made = identity.move_field(anna, field, to=other, why="wrong folder")
    assert [m.to_sign for m in made] == [True, False]
    assert [r.kind for r in made[0].reports] == ["withdrawn"]
    assert (open_case(anna, case).status, len(ids(store, case))) == ("reading", 2)
    worker.drain()
    view = open_case(anna, other)
    assert (view.fields[0].id, view.fields[0].first) == (field, None)
    assert view.fields[0].answer.verdict == "refused"
    assert open_case(anna, case).slide.fields == 2
    report = signing.sign(anna, case, dataclasses.replace(SIGNS, refused=0))
    assert (report.kind, report.reason, len(report.fields)) == ("corrected", "wrong folder", 2)
    signing.reopen(anna, case, why="it was right before")
    identity.move_field(anna, field, to=case, why="it was right before")
    assert open_case(anna, case).fields[-1].first is None  # what was read before does not count


def test_a_case_rises_by_a_malignant_field_that_is_moved_into_it(answered):
    store, anna, case, worker = answered
    other = cases.create(anna, specimen_=BLOOD, patient="P-2")
    identity.move_field(anna, ids(store, case)[0], to=other, why="wrong folder")
    worker.drain()
    assert open_case(anna, other).priority == 1


def test_two_patients_are_joined_and_parted_and_reports_are_made_again(answered):
    store, anna, case, _ = answered
    read_all(anna, case)
    first = signing.sign(anna, case, SIGNS)
    cases.create(anna, specimen_=BLOOD, patient="P-2", identifiers=[Identifier("77", "KIS")])
    (made,) = identity.join_patients(anna, "P-1", into="P-2", why="same person, two numbers")
    assert [r.kind for r in made.reports] == ["withdrawn", "corrected"]
    withdrawn, again = made.reports
    assert (withdrawn.patient, again.patient) == ("P-1", "P-2")
    assert (again.result, again.signer, again.readings_sha256) == (
        first.result, first.signer, first.readings_sha256)  # fmt: skip
    assert again.patient_identifiers == (Identifier("77", "KIS"),)
    assert open_case(anna, case).status == "amended"
    assert len(search.find(anna, search.Filter("P-2")).rows) == 2
    assert cases.create(anna, specimen_=BLOOD, patient="P-1")  # the old name leads to the new one
    assert len(search.find(anna, search.Filter("P-2")).rows) == 3
    (parted,) = identity.part_patients(
        anna,
        "P-2",
        cases=[case],
        to="P-3",
        identifiers=[Identifier("77", "KIS")],
        why="they are two",
    )
    assert [(r.kind, r.patient) for r in parted.reports] == [
        ("withdrawn", "P-2"),
        ("corrected", "P-3"),
    ]
    assert open_case(anna, case).identifiers == (Identifier("77", "KIS"),)
    with pytest.raises(ClinicError, match="is of P-2"):
        identity.part_patients(anna, "P-2", cases=[case], why="again")
    assert verify(store) == []


def test_a_report_to_the_wrong_patient_is_withdrawn_and_made_for_the_right_one(answered, bert):
    store, anna, case, _ = answered
    read_all(anna, case)
    signing.sign(anna, case, SIGNS)
    with pytest.raises(AccessError, match="signer"):
        identity.reassign(bert, case, patient="P-9", why="mixed up")
    assert open_case(anna, case).patient == "P-1"
    done = identity.reassign(anna, case, patient="P-9", why="mixed up")
    assert [(r.kind, r.version, r.patient) for r in done.reports] == [
        ("withdrawn", 2, "P-1"), ("corrected", 3, "P-9")]  # fmt: skip
    with store.read() as connection:
        assert last_report(connection, case).patient == "P-9"


def test_only_an_admin_erases_what_was_signed(answered, bert):
    from allkit.clinic.erasure import erase

    store, anna, case, _ = answered
    read_all(anna, case)
    signing.sign(anna, case, SIGNS)
    with pytest.raises(AccessError, match="admin"):
        erase(bert, case, why="clean up")
    assert erase(anna, case, why="the patient wants it").reports == 1
    for refused in (lambda: export(anna, case), lambda: erase(anna, case, why="again")):
        with pytest.raises(AllkitError, match="was erased"):
            refused()
    assert verify(store) == []


# ── what must not be got around ───────────────────────────────────────────────────────────────


def test_a_malignant_field_that_is_moved_in_while_the_model_is_gone_is_not_signed_benign(
    clinic, tmp_path
):
    store, anna = clinic
    bad, good = incoming(1), incoming(2)
    said = {bad.sha256: ("accepted", "Pre")}
    _, worker = with_model(anna, tmp_path / "model.onnx", Scripted(said))
    first, second = (cases.create(anna, specimen_=BLOOD, patient=p) for p in ("P-1", "P-2"))
    fields.add(anna, first, [bad])
    fields.add(anna, second, [good])
    worker.drain()
    (tmp_path / "model.onnx").unlink()
    (field,) = ids(store, first)
    identity.move_field(anna, field, to=second, why="wrong folder")
    Worker(access.worker(store), lambda path: Scripted()).drain()
    view = open_case(anna, second)
    assert view.priority == 1
    assert view.slide is None  # the answer for the slide was for other fields
    with pytest.raises(ClinicError, match="accepted a malignant class here"):
        signing.sign(anna, second, Statement("Benign", limits_read=True))


@pytest.mark.parametrize("result", ["Benign", "inadequate", "other"])
def test_no_result_passes_over_what_speaks_for_a_malignant_class_without_words(clinic, result):
    store, anna = clinic
    case = cases.create(anna, specimen_=BLOOD)
    fields.add(anna, case, [incoming(1), incoming(2)])
    first, second = ids(store, case)
    reading.relabel(anna, first, "Pro")
    reading.relabel(anna, second, "Benign")
    with pytest.raises(ClinicError, match=f"read as malignant here; .* why the result is {result}"):
        signing.sign(anna, case, Statement(result, comment=" . "))
    assert signing.sign(anna, case, Statement(result, comment="an artefact of the stain"))


def test_a_cancelled_order_is_seen_in_the_list_and_not_signed_without_words(clinic):
    _, anna = clinic
    order = Order(LIS, (), BLOOD)
    case, _ = cases.open_order(anna, order)
    cases.open_order(anna, dataclasses.replace(order, action="cancel"))
    assert search.find(anna).rows[0].cancelled
    fields.add(anna, case, [incoming(1)])
    read_all(anna, case)
    with pytest.raises(ClinicError, match="order was cancelled"):
        signing.sign(anna, case, Statement("Pro"))
    cases.open_order(anna, order)  # it stands again
    assert signing.sign(anna, case, Statement("Pro"))


def test_a_signed_case_leaves_the_top_of_the_list_and_the_audit_says_so(answered):
    store, anna, case, _ = answered
    read_all(anna, case)
    signing.sign(anna, case, SIGNS)
    assert search.find(anna).rows[0].priority == 0
    assert "case.lowered" in names(store, anna, "case")
    signing.reopen(anna, case, why="look again")
    with pytest.raises(ClinicError, match="accepted a malignant class"):  # it is not forgotten
        signing.sign(anna, case, dataclasses.replace(SIGNS, result="inadequate"))


def test_readings_count_after_the_clock_went_back(answered):
    store, anna, case, _ = answered
    store.now.day = "2026-01-20"
    read_all(anna, case, "Early")
    assert [f.first.label for f in open_case(anna, case).fields] == ["Early"] * 3


def test_a_job_that_was_taken_while_the_clock_was_wrong_is_taken_up_again(answered):
    store, anna, case, worker = answered
    fields.add(anna, case, [incoming(80)])
    store.now.day = "2026-08-01"
    assert jobs.claim(access.worker(store), "a process that is gone") is not None
    store.now.day = "2026-02-01"
    assert worker.drain() == (1, 0)


def test_a_blind_reader_is_told_nothing_of_what_the_model_accepted(clinic, tmp_path):
    _, anna = clinic
    _, worker = with_model(anna, tmp_path / "m.onnx", Scripted())
    case = cases.create(anna, specimen_=BLOOD, blind_first=True)
    fields.add(anna, case, [incoming(1), incoming(2)])
    worker.drain()
    assert search.find(anna).rows[0].review == 2
    assert not any("model accepted" in text for text in signing.gate(anna, case, Statement("Pro")))


@pytest.mark.parametrize(
    "wrong", [Statement(None), Statement("Pro", comment=5), Statement("Pro", refused="1")]
)
def test_a_statement_of_wrong_types_is_an_error_in_words(answered, wrong):
    _, anna, case, _ = answered
    for ask in (signing.gate, signing.sign):
        with pytest.raises(ClinicError, match="made of texts"):
            ask(anna, case, wrong)


def test_a_number_of_a_client_that_no_database_holds_is_refused(answered):
    store, anna, case, _ = answered
    with pytest.raises(ClinicError, match="is none from 0"):
        reading.relabel(anna, ids(store, case)[1], "Pro", sent=Sent("x", 2**70))


def test_a_specimen_of_the_future_and_a_reason_without_a_word_are_refused(clinic):
    _, anna = clinic
    with pytest.raises(ClinicError, match="not come yet"):
        cases.create(anna, specimen_=Specimen("blood", "2099-01-01"))
    case = cases.create(anna, specimen_=BLOOD)
    with pytest.raises(ClinicError, match="reason is empty"):
        cases.change_specimen(anna, case, BLOOD, why=" .\u2800")
