"""What pages ask the clinic for: drafts and versions of reports, deliveries, refusals, facts."""

import pytest

from allkit.clinic import access, cases, facts, fields, outbox, quality, reading, search, signing
from allkit.clinic.models import told_by
from allkit.clinic.records import Identifier
from allkit.clinic.reporting import frozen, versions
from allkit.clinic.signing import Statement
from allkit.clinic.store import chain
from allkit.clinic.store.backup import backup
from allkit.clinic.store.verify import verify
from allkit.clinic.view import look, open_case
from allkit.errors import AccessError, ClinicError
from clinic_places import BLOOD, Scripted, incoming, new_store, with_model

SIGNS = Statement("Pro", refused=1, limits_read=True)


@pytest.fixture
def anna(tmp_path):
    store = new_store(tmp_path / "clinic")
    yield access.first_person(store, "anna", "Dr. Anna")
    store.close()


@pytest.fixture
def case(anna, tmp_path):
    images = [incoming(i) for i in range(3)]
    verdicts = [("accepted", "Pro"), ("review", "Pre"), ("refused", "Early")]
    said = {image.sha256: verdict for image, verdict in zip(images, verdicts, strict=True)}
    _, worker = with_model(anna, tmp_path / "model.onnx", Scripted(said))
    made = cases.create(anna, specimen_=BLOOD, order=Identifier("LAB-1"), patient="P-1")
    fields.add(anna, made, images)
    assert worker.drain() == (1, 0)
    return made


def read_all(user, case):
    for field in open_case(user, case).fields:
        reading.relabel(user, field.id, "Pro", why="seen under oil")


def rows_of(store, what):
    with store.read() as connection:
        return [row for row in chain.rows(connection) if row.what == what]


def test_a_draft_is_what_a_signature_freezes_and_is_not_given_before_it_may_be(anna, case):
    with pytest.raises(ClinicError, match="need to be read"):
        signing.draft(anna, case, SIGNS)
    read_all(anna, case)
    draft = signing.draft(anna, case, SIGNS)
    assert (draft.kind, draft.result, draft.signer) == ("preliminary", "Pro", None)
    assert draft == signing.draft(anna, case, SIGNS)
    assert versions(anna, case) == ()
    assert signing.sign(anna, case, SIGNS).fields == draft.fields


def test_what_changed_since_its_report_was_shown_is_not_signed(anna, case):
    read_all(anna, case)
    seen = signing.draft(anna, case, SIGNS).sha256
    reading.add_note(anna, "look again", case=case)
    reading.relabel(anna, open_case(anna, case).fields[0].id, "Early", why="nucleoli")
    with pytest.raises(ClinicError, match="changed since its report was shown"):
        signing.sign(anna, case, SIGNS, seen=seen)
    assert versions(anna, case) == ()
    seen = signing.draft(anna, case, SIGNS).sha256
    assert signing.sign(anna, case, SIGNS, seen=seen).kind == "final"


def test_what_a_signer_is_asked(anna, case):
    asked = signing.to_sign(anna, case)
    assert asked.results == ("Benign", "Early", "Pre", "Pro", "other", "inadequate")
    assert (asked.refused, asked.model.name, asked.again) == (1, "model", "")
    read_all(anna, case)
    signing.sign(anna, case, SIGNS)
    signing.reopen(anna, case, why="second look")
    assert signing.to_sign(anna, case).again == "second look"


def test_all_versions_of_a_report_are_there_and_looking_at_one_is_noted(anna, case):
    read_all(anna, case)
    signing.sign(anna, case, SIGNS)
    signing.withdraw(anna, case, why="wrong patient")
    assert [report.kind for report in versions(anna, case)] == ["withdrawn", "final"]
    assert frozen(anna, case, 1).kind == "final"
    with pytest.raises(ClinicError, match="no report of version 3"):
        frozen(anna, case, 3)
    assert len(rows_of(anna.store, "report.seen")) == 1
    assert verify(anna.store) == []


def test_looking_again_is_not_noted_and_hides_what_opening_hides(anna, case):
    reading.read_blind(anna, case, blind=True)
    seen = len(rows_of(anna.store, "case.seen"))
    assert look(anna, case) == open_case(anna, case)
    assert all(field.hidden for field in look(anna, case).fields)
    assert len(rows_of(anna.store, "case.seen")) == seen + 1


def test_reading_blind_is_chosen_before_somebody_reads(anna, case):
    reading.read_blind(anna, case, blind=True)
    assert search.find(anna).rows[0].review == 3
    reading.read_blind(anna, case, blind=False)
    assert search.find(anna).rows[0].review == 2
    read_all(anna, case)
    with pytest.raises(ClinicError, match="has read in the case"):
        reading.read_blind(anna, case, blind=True)
    assert verify(anna.store) == []


def test_a_second_reader_is_wanted_until_one_has_the_case(anna, case):
    reading.want_second(anna, case, wanted=True)
    reading.want_second(anna, case, wanted=False)
    reading.want_second(anna, case, wanted=True)
    assert [row.detail["wanted"] for row in rows_of(anna.store, "case.second_wanted")] == [
        True,
        False,
        True,
    ]
    read_all(anna, case)
    assert reading.finish(anna, case) == "second"
    with pytest.raises(ClinicError, match="with its second reader"):
        reading.want_second(anna, case, wanted=False)


def test_cases_that_need_review_are_found_alone(anna, case):
    other = cases.create(anna, specimen_=BLOOD)
    assert [row.id for row in search.find(anna, search.Filter(review=True)).rows] == [case]
    assert [row.id for row in search.find(anna, search.Filter(review=False)).rows] == [other]


def test_a_list_that_refreshes_itself_does_not_make_a_person_less_idle(anna, case):
    now = [0.0]
    user = access.sign_in(anna.store, "anna", clock=lambda: now[0])
    now[0] = 600.0
    search.find(user, polling=True)
    search.counts(user, polling=True)
    look(user, case, polling=True)
    assert user.active == 0.0
    search.find(user)
    assert user.active == 600.0


def test_deliveries_of_a_case_are_told_with_their_state(anna, case):
    outbox.set_target(anna, "lis", {"kind": "mllp", "host": "lis.example", "port": 2575})
    assert outbox.of_case(anna, case) == []
    read_all(anna, case)
    signing.sign(anna, case, SIGNS)
    assert [(one.target, one.version, one.state) for one in outbox.of_case(anna, case)] == [
        ("lis", 1, "waiting")
    ]


def test_refusals_are_counted_by_model_and_too_few_give_no_share(anna, case, tmp_path):
    (share,) = quality.refusals(anna).values()
    assert (share.hits, share.n, share.share, share.too_few) == (1, 3, None, True)


def test_the_facts_name_the_newest_backup_and_the_end_of_the_audit(anna, case, tmp_path):
    assert facts.facts(anna).backup is None
    backup(anna.store, tmp_path / "backup", who="anna")
    held = facts.facts(anna)
    assert (held.cases, held.fields, held.images, held.reports) == (1, 3, 3, 0)
    assert held.bytes == sum(incoming(i).data.__len__() for i in range(3))
    assert held.backup[1] == str(tmp_path / "backup")
    with anna.store.read() as connection:
        assert held.audit == chain.head(connection)[:2]
    access.add_person(anna, "scanner", ["system"])
    with pytest.raises(AccessError):
        facts.facts(access.sign_in(anna.store, "scanner"))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"data": null}', '{"data": {"counts": 3}}'])
def test_a_model_folder_that_says_nothing_of_its_figures_is_only_there(tmp_path, content):
    (tmp_path / "model.json").write_text(content)
    told = told_by(tmp_path)
    assert (told.there, told.measured, told.counts) == (True, (), ())
    assert not told_by(tmp_path / "gone").there
