"""The clinic's store: nothing lost, nothing changed behind the audit's back, on both databases."""

import json
import re
import sqlite3

import pytest
import sqlalchemy as sa

from allkit.clinic import access, cases, erasure, fields, identity, reading, search
from allkit.clinic.records import Identifier, Specimen
from allkit.clinic.store import backup, chain, schema
from allkit.clinic.store import tables as t
from allkit.clinic.store.engine import writing
from allkit.clinic.store.store import Store
from allkit.clinic.store.verify import verify
from allkit.errors import AllkitError, ConfigError, StoreError
from clinic_places import BLOOD, Clock, incoming, new_store


def rows(store, table):
    with store.read() as connection:
        return connection.execute(sa.select(table)).all()


def a_case(user, images=2, **options):
    case = cases.create(user, specimen_=BLOOD, **options)
    fields.add(user, case, [incoming(i) for i in range(images)])
    return case


# ── the tables and their versions ─────────────────────────────────────────────────────────────


def test_the_migrations_make_the_tables_that_the_code_knows(clinic):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    store, _ = clinic
    with store.engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), t.metadata)
        assert schema.revision_of(connection) == schema.HEAD
    assert found == []


def test_a_store_of_the_first_version_is_brought_up_to_date_with_all_it_holds(tmp_path, database):
    old = Store.create(tmp_path / "old", database, revision="0001", now=Clock())
    with old.change("anna") as change:
        change.insert(t.patients, id="P" * 26, pseudonym="P-OLD", created=change.now)
        change.log("patient.added", "P" * 26)
    old.close()
    with pytest.raises(StoreError, match=r"earlier allkit .*allkit clinic init"):
        Store.open(tmp_path / "old", database)
    Store.create(tmp_path / "old", database).close()
    with Store.open(tmp_path / "old", database) as store:
        assert [row.pseudonym for row in rows(store, t.patients)] == ["P-OLD"]
        assert rows(store, t.deliveries) == []
        assert verify(store) == []


def test_a_store_of_a_newer_version_is_left_alone(clinic, tmp_path, database):
    store, _ = clinic
    with writing(store.engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")
    for make in (Store.open, Store.create):
        with pytest.raises(StoreError, match=r"newer allkit|does not know.*Update allkit"):
            make(tmp_path / "clinic", database)


def test_a_folder_without_a_clinic_says_how_to_make_one(tmp_path):
    with pytest.raises(StoreError, match="allkit clinic init"):
        Store.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["mysql://u@h/d", "no url at all", "sqlite:///x.db"])
def test_a_url_of_another_kind_of_database_is_refused(tmp_path, url):
    with pytest.raises(ConfigError, match="postgresql://"):
        Store(tmp_path, url)


def test_a_damaged_database_is_told_without_a_traceback(tmp_path):
    new_store(tmp_path).close()
    for file in tmp_path.glob("clinic.sqlite3*"):
        file.write_bytes(b"this is no database at all" * 400)
    with pytest.raises(StoreError, match="cannot be used"):
        Store.open(tmp_path)


# ── the audit ─────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_in_the_audit_is_not_changed(clinic):
    store, user = clinic
    before = len(rows(store, t.patients))
    with user.change("reader") as change:
        change.insert(t.patients, id="Q" * 26, pseudonym="P-X", created=change.now)
    assert len(rows(store, t.patients)) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET who = 'nobody'",
        "DELETE FROM audit",
        "UPDATE readings SET label = 'Benign'",
        "DELETE FROM readings",
    ],
)
def test_the_database_itself_keeps_rows_as_they_are(clinic, statement):
    store, user = clinic
    case = a_case(user)
    with store.read() as connection:
        field = connection.scalar(sa.select(t.fields.c.id).where(t.fields.c.case_id == case))
    reading.relabel(user, field, "Pro")
    with pytest.raises(StoreError, match="kept as they are"), writing(store.engine) as connection:
        connection.exec_driver_sql(statement)
    assert verify(store) == []


def test_an_altered_a_missing_and_a_cut_off_row_are_found(clinic):
    store, user = clinic
    a_case(user)
    with store.read() as connection:
        seq, head, _ = chain.head(connection)
    with writing(store.engine) as connection:
        if store.engine.dialect.name == "sqlite":
            connection.exec_driver_sql("DROP TRIGGER keep_audit_update")
            connection.exec_driver_sql("DROP TRIGGER keep_audit_delete")
        else:
            connection.exec_driver_sql("DROP TRIGGER keep_audit ON audit")
    for statement, found in (
        ("UPDATE audit SET who = 'nobody' WHERE seq = 3", "Row 3 of the audit was altered"),
        ("DELETE FROM audit WHERE seq = 4", "Rows 4 to 4 of the audit are missing"),
        (f"DELETE FROM audit WHERE seq = {seq}", f"ends with row {seq - 1}"),
    ):
        with writing(store.engine) as connection:
            connection.exec_driver_sql(statement)
        assert any(found in text for text in verify(store, known={seq: head}))


def test_a_clock_that_went_back_leaves_times_in_order_and_says_so(clinic):
    store, user = clinic
    store.now.day = "2026-01-15"
    case = cases.create(user, specimen_=Specimen("blood"))
    with store.read() as connection:
        found = list(chain.rows(connection))
    assert [row.at for row in found] == sorted(row.at for row in found)
    assert found[-1].object == case
    assert found[-1].detail["clock"].startswith("2026-01-15")
    assert verify(store) == []


# ── images ────────────────────────────────────────────────────────────────────────────────────


def test_the_same_field_comes_once_and_in_another_case_it_is_told(clinic):
    store, user = clinic
    case = a_case(user)
    again = fields.add(user, case, [incoming(0), incoming(2)])
    assert [a.new for a in again] == [False, True]
    other = cases.create(user, specimen_=BLOOD)
    (found,) = fields.add(user, other, [incoming(1)])
    assert found.new
    assert found.elsewhere == (case,)
    assert len(rows(store, t.blobs)) == 3


def test_an_altered_and_a_missing_image_are_found(clinic):
    store, user = clinic
    a_case(user)
    first, second = (row.sha256 for row in rows(store, t.blobs))
    store.blobs.path(first).write_bytes(b"something else")
    store.blobs.path(second).unlink()
    found = " ".join(verify(store))
    assert f"{first[:12]} in the clinic's folder was altered" in found
    assert f"{second[:12]} cannot be read" in found


def test_an_image_that_was_damaged_is_written_anew_when_it_comes_again(clinic):
    store, user = clinic
    case = a_case(user, images=1)
    (row,) = rows(store, t.blobs)
    store.blobs.path(row.sha256).write_bytes(b"damaged")
    (again,) = fields.add(user, cases.create(user, specimen_=BLOOD), [incoming(0)])
    assert again.elsewhere == (case,)
    assert verify(store) == []


def test_a_full_disk_loses_nothing_that_was_acknowledged(clinic, monkeypatch):
    store, user = clinic
    case = a_case(user, images=1)

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        "os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(AllkitError, match="No space left"):
        fields.add(user, case, [incoming(7)])
    monkeypatch.undo()
    assert len(rows(store, t.fields)) == 1
    assert verify(store) == []
    fields.add(user, case, [incoming(7)])
    assert len(rows(store, t.fields)) == 2


# ── backup, erasing ───────────────────────────────────────────────────────────────────────────


def test_a_backup_is_restored_into_either_database(clinic, tmp_path, postgres):
    store, user = clinic
    a_case(user, patient="P-ÄÖ <b>=1+1")
    manifest = backup.backup(store, tmp_path / "copy", who=user.name)
    assert manifest["images"] == 2
    for number, url in enumerate((None, postgres.database())):
        with backup.restore(tmp_path / "copy", tmp_path / f"again{number}", url) as again:
            assert verify(again) == []
            for table in t.ORDER:
                before = {tuple(row) for row in rows(store, table)}
                assert {tuple(row) for row in rows(again, table)} == before, table.name
            anna = access.sign_in(again, "anna")
            assert search.find(anna).rows[0].pseudonym == "P-ÄÖ <b>=1+1"
            fields.add(anna, search.find(anna).rows[0].id, [incoming(9)])
        with pytest.raises(StoreError, match="holds a clinic"):
            backup.restore(tmp_path / "copy", tmp_path / f"again{number}", url)


def test_a_damaged_backup_is_refused_and_leaves_nothing(clinic, tmp_path):
    store, user = clinic
    a_case(user)
    backup.backup(store, tmp_path / "copy", who=user.name)
    file = tmp_path / "copy" / "tables" / "patients.jsonl"
    file.write_text(file.read_text("utf-8").replace("P-", "Q-"), "utf-8")
    with pytest.raises(StoreError, match="altered after the backup"):
        backup.restore(tmp_path / "copy", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_an_erased_case_leaves_ids_and_hashes_only(clinic, tmp_path):
    store, user = clinic
    secret = "Zebedee-4711"
    case = a_case(user, patient=f"P-{secret}")
    kept = cases.create(user, specimen_=BLOOD)
    fields.add(user, kept, [incoming(1), incoming(5)])
    with store.read() as connection:
        field = connection.scalar(sa.select(t.fields.c.id).where(t.fields.c.case_id == case))
    reading.add_note(user, f"note on {secret}", case=case, field=field)
    backup.backup(store, tmp_path / "copy", who=user.name)
    done = erasure.erase(user, case, why=f"{secret} wants it")
    assert (done.fields, done.backups) == (2, (str(tmp_path / "copy"),))
    for table in t.ORDER:
        text = json.dumps([list(map(str, row)) for row in rows(store, table)])
        assert secret not in text, table.name
    if store.engine.dialect.name == "sqlite":
        for file in store.folder.glob("clinic.sqlite3*"):
            assert secret.encode() not in file.read_bytes()
    assert len(list(store.blobs.there())) == 2  # one image is also in the case that is kept
    assert verify(store) == []
    assert search.find(user).rows[0].id == kept


def test_what_was_joined_and_reassigned_is_erased_too(clinic):
    store, user = clinic
    case = cases.create(
        user, specimen_=BLOOD, patient="P-OLD", identifiers=[Identifier("HOSP-ZEBRA", "KIS")]
    )
    identity.reassign(user, case, patient="P-NEW", why="Zebraname was mixed up")
    identity.join_patients(user, "P-NEW", into=new_patient(user), why="Zebraname is one person")
    for row in search.find(user).rows:
        erasure.erase(user, row.id, why="Zebraname wants it")
    for table in t.ORDER:
        text = str(rows(store, table))
        for secret in ("ZEBRA", "Zebraname", "P-OLD", "P-NEW"):
            assert secret not in text, table.name
    assert verify(store) == []


def new_patient(user):
    cases.create(user, specimen_=BLOOD, patient="P-2")
    return "P-2"


FORGED = {
    "UPDATE reports SET kind = 'preliminary'": "report 1 of the case .* was altered",
    "DELETE FROM reports": "of reports is missing",
    "UPDATE signatures SET result = 'Benign'": "of signatures was altered",
    "UPDATE readings SET label = 'Benign'": "of readings was altered",
    "DELETE FROM readings": "of readings is missing",
    "UPDATE reasons SET why = 'nothing'": "of reasons was altered",
    "UPDATE people SET roles = '[\"admin\"]'": "roles of anna",
    "UPDATE cases SET patient_id = NULL": "patient of the case",
    "UPDATE cases SET status = 'new'": "state of the case",
}


@pytest.mark.parametrize("statement", FORGED)
def test_what_is_changed_behind_the_programs_back_is_found(tmp_path, statement):
    from allkit.clinic.signing import Statement, reopen, sign

    with new_store(tmp_path, now=Clock()) as store:
        user = access.first_person(store, "anna")
        case = a_case(user)
        for row in rows(store, t.fields):
            reading.relabel(user, row.id, "Pro")
        sign(user, case, Statement("Pro"))
        reopen(user, case, why="look again")
        assert verify(store) == []
        with writing(store.engine) as connection:
            for (name,) in connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).all():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
            connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
            connection.exec_driver_sql(statement)
        assert any(re.search(FORGED[statement], text) for text in verify(store))


def test_a_report_that_was_forged_with_its_hash_is_found(tmp_path):
    from dataclasses import replace

    from allkit.clinic.records import CaseReport
    from allkit.clinic.signing import Statement, sign

    with new_store(tmp_path, now=Clock()) as store:
        user = access.first_person(store, "anna")
        case = a_case(user)
        for row in rows(store, t.fields):
            reading.relabel(user, row.id, "Pro")
        report = replace(sign(user, case, Statement("Pro")), result="Benign")
        assert CaseReport.from_json(report.to_json()) == report
        with writing(store.engine) as connection:
            connection.exec_driver_sql("DROP TRIGGER keep_reports_update")
            connection.execute(
                t.reports.update().values(content=report.to_json(), sha256=report.sha256)
            )
        assert any("of reports was altered" in text for text in verify(store))


def test_a_backup_replaces_a_backup_and_nothing_else(clinic, tmp_path):
    store, user = clinic
    a_case(user)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    for place in (store.folder, store.folder / "inside", tmp_path, foreign):
        with pytest.raises(StoreError, match="Choose another place"):
            backup.backup(store, place, who=user.name, overwrite=True)
    assert (foreign / "thesis.txt").read_text() == "years of work"
    for _ in range(2):
        backup.backup(store, tmp_path / "copy", who=user.name, overwrite=True)
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0
    assert verify(store) == []


def test_a_backup_that_lacks_an_image_leaves_nothing_that_looks_like_a_clinic(clinic, tmp_path):
    store, user = clinic
    a_case(user)
    backup.backup(store, tmp_path / "copy", who=user.name)
    next((tmp_path / "copy" / "images").glob("*/*")).unlink()
    with pytest.raises(StoreError, match="is gone or was altered after the backup"):
        backup.restore(tmp_path / "copy", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_new_clinic_is_closed_to_others(tmp_path):
    with new_store(tmp_path / "clinic") as store:
        user = access.first_person(store, "anna")
        a_case(user)
        for path in (store.blobs.folder, *store.folder.glob("clinic.sqlite3*")):
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_change_behind_the_programs_back_is_not_possible_in_sqlite(tmp_path):
    store = new_store(tmp_path)
    access.first_person(store, "anna")
    store.close()
    with sqlite3.connect(tmp_path / "clinic.sqlite3") as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        with pytest.raises(sqlite3.IntegrityError, match="kept as they are"):
            raw.execute("DELETE FROM audit")
    raw.close()


def test_an_altered_image_of_a_backup_is_told_with_the_backup(clinic, tmp_path):
    store, user = clinic
    a_case(user)
    backup.backup(store, tmp_path / "copy", who=user.name)
    image = next(path for path in (tmp_path / "copy" / "images").rglob("*") if path.is_file())
    image.chmod(0o600)
    image.write_bytes(b"other")
    with pytest.raises(StoreError, match=r"of the backup .*copy is gone or was altered"):
        backup.restore(tmp_path / "copy", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_backup_is_restored_into_an_empty_folder_only(clinic, tmp_path):
    store, user = clinic
    backup.backup(store, tmp_path / "copy", who=user.name)
    (tmp_path / "again" / "theirs").mkdir(parents=True)
    with pytest.raises(StoreError, match="is not empty: it holds theirs"):
        backup.restore(tmp_path / "copy", tmp_path / "again")
    assert [one.name for one in (tmp_path / "again").iterdir()] == ["theirs"]
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    backup.restore(tmp_path / "copy", tmp_path / "disk").close()
