"""A clinic of drawn smears: every state of a case, made by the functions that a laboratory uses."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from allkit.clinic import access, demo, explanations, models, quality, references, search
from allkit.clinic.store import chain
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Store
from allkit.clinic.store.verify import verify
from allkit.clinic.view import view_of
from allkit.clinic.worker import Worker
from allkit.data.rows import Sample
from allkit.data.sources import BytesSource, says_drawn
from allkit.errors import ClinicError, ConfigError
from allkit.records import Prediction
from clinic_places import Scripted, picture


class Sure(Scripted):
    """A model that accepts everything as Pro, and can be explained."""

    def __init__(self):
        super().__init__(otherwise=("accepted", "Pro"))

    def probabilities(self, images):
        return np.tile(np.array([0.01, 0.01, 0.01, 0.97], np.float32), (len(images), 1))


class Moody(Sure):
    """A model whose answers follow nothing but the bytes of the file."""

    def stream(self, images, *, batch_size=16):
        for image in images:
            first, second = hashlib.sha256(Path(image).read_bytes()).digest()[:2]
            verdict = ("accepted", "review", "refused")[first % 3]
            label = self.classes[second % 4]
            p = {name: 0.91 if name == label else 0.03 for name in self.classes}
            yield Prediction(
                str(image), verdict, (), label=label, probability=0.91, probabilities=p,
                white_cells=first % 2,
            )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of a demonstration, beside what a killed run had left."""
    folder = tmp_path_factory.mktemp("demo")
    file = folder / "model.onnx"
    file.write_bytes(b"a model")
    (folder / ".clinic.killed.part").mkdir()
    labelled = [Sample(f"{i}.png", BytesSource(picture(i)), "Pro") for i in range(3)]
    demo.make_demo(folder / "clinic", file, Sure(), labelled, who="mara")
    return folder / "clinic"


@pytest.fixture
def clinic(place):
    """The store and its first person."""
    with Store.open(place) as store:
        yield store, access.sign_in(store, "mara")


def views(store, user, viewer=None):
    with user.read("reader") as connection:
        rows = search.find(user).rows
        return [view_of(connection, row.id, viewer=viewer) for row in rows]


def test_it_is_a_whole_clinic_in_a_folder_with_nothing_beside_it(place, clinic):
    assert sorted(path.name for path in place.parent.iterdir()) == ["clinic", "model.onnx"]
    assert (place / "images").stat().st_mode & 0o077 == 0
    assert verify(clinic[0]) == []


def test_ten_cases_are_in_every_state_that_a_page_shows(clinic):
    store, user = clinic
    found = views(store, user)
    assert len(found) == 10
    states = [view.status for view in found]
    assert {state: states.count(state) for state in set(states)} == {
        "new": 2, "reading": 3, "second": 1, "signed": 3, "amended": 1,
    }  # fmt: skip
    assert [view.blind for view in found].count(True) == 1
    assert [view.order_cancelled for view in found].count(True) == 1
    assert all(view.order is not None and view.specimen.stain for view in found)
    waiting = [view for view in found if view.job["state"] == "queued"]
    assert [field.answer for view in waiting for field in view.fields] == [None] * 6
    with store.read() as connection:
        kinds = list(connection.scalars(sa.select(t.reports.c.kind)))
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "final": 5, "corrected": 1, "withdrawn": 1,
    }  # fmt: skip


def test_the_urgent_case_stands_alone_at_the_top(clinic):
    store, user = clinic
    rows = search.find(user).rows
    assert [row.priority for row in rows] == [1] + [0] * 9
    assert (rows[0].status, views(store, user)[0].slide.label) == ("new", "Pro")


def test_two_cases_are_of_one_patient(clinic):
    store, user = clinic
    patients = [view.patient for view in views(store, user)]
    (twice,) = {one for one in patients if patients.count(one) > 1}
    of_both = [view.id for view in views(store, user) if view.patient == twice]
    earlier = [row.id for row in search.previous(user, of_both[-1])]
    assert set(earlier) | {of_both[-1]} == set(of_both)


def test_who_opens_it_meets_a_blind_case_and_one_to_read_second(clinic):
    store, user = clinic
    seen = views(store, user, viewer=user.id)
    hidden = {view.status: sum(field.hidden for field in view.fields) for view in seen}
    assert (hidden["reading"], hidden["second"]) != (0, 0)
    blind = next(view for view in seen if view.blind)
    assert [field.hidden for field in blind.fields] == [False] * 4 + [True] * 4


def test_everybody_has_a_part_and_the_laboratory_says_that_nothing_is_real(clinic):
    store, user = clinic
    with store.read() as connection:
        roles = {one.name: one.roles for one in access.people(connection)}
    assert roles["mara"] == ("reader", "signer", "admin")
    assert (roles["demo-lind"], roles["demo-admin"]) == (("reader",), ("admin",))
    assert "drawn" in access.settings_of(user)["laboratory"]
    with store.read() as connection:
        images = list(connection.scalars(sa.select(t.fields.c.sha256)))
    assert len(images) > 60
    assert all(says_drawn(BytesSource(store.blobs.get(sha256))) for sha256 in images)


def test_every_answer_was_made_by_the_worker_and_every_reading_has_its_row_in_the_audit(clinic):
    store, _ = clinic
    with store.read() as connection:
        audit = list(chain.rows(connection))
        answers = connection.scalar(sa.select(sa.func.count()).select_from(t.answers))
        readings = connection.scalar(sa.select(sa.func.count()).select_from(t.readings))
    assert sum(row.what == "answer.made" and row.who == access.WORKER for row in audit) == answers
    assert sum(row.what.startswith("reading.") for row in audit) == readings
    assert not [row.seq for row in audit if "clock" in row.detail]


def test_quality_has_something_to_show(clinic):
    store, user = clinic
    found = quality.summary(user)
    assert not found.agreement.too_few
    assert found.agreement.kappa is not None
    assert any(not row.changed.too_few for row in found.overrides_by_month.rows)
    created = sorted(view.created for view in views(store, user))
    assert created[0][:10] < created[-1][:10]


def test_references_and_an_explanation_are_there_and_work_goes_on(clinic):
    store, user = clinic
    (model,) = models.models(user)
    assert [one.label for one in references.references_of(user, model["id"])] == ["Pro"]
    done = [
        field.id for view in views(store, user) for field in view.fields
        if explanations.explanation(user, field.id).state == "done"
    ]  # fmt: skip
    assert len(done) == 2
    assert explanations.ask(user, done[0]).state == "done"


def test_whatever_a_model_answers_the_clinic_can_be_made_and_is_answered_on(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "FIELDS", 4)
    file = tmp_path / "model.onnx"
    file.write_bytes(b"another model")
    demo.make_demo(tmp_path / "clinic", file, Moody())
    with Store.open(tmp_path / "clinic") as store:
        assert verify(store) == []
        assert Worker(access.worker(store), lambda path: Moody()).drain() == (1, 0)
        assert verify(store) == []


def test_a_run_that_fails_leaves_nothing_and_a_folder_that_exists_is_left_alone(
    tmp_path, monkeypatch
):
    (tmp_path / "model.onnx").write_bytes(b"a model")
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        demo.make_demo(tmp_path / "mine", tmp_path / "model.onnx", Sure())
    monkeypatch.setattr(demo, "_past", lambda made: 1 / 0)
    monkeypatch.setattr(demo, "FIELDS", 1)
    with pytest.raises(ZeroDivisionError):
        demo.make_demo(tmp_path / "clinic", tmp_path / "model.onnx", Sure())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "model.onnx"]


def test_a_model_that_fails_on_the_drawn_fields_is_told(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"a model")
    monkeypatch.setattr(demo, "FIELDS", 1)
    broken = Sure()
    monkeypatch.setattr(broken, "stream", lambda images, batch_size: 1 / 0)
    with pytest.raises(ClinicError, match=r"does not answer drawn smears: .*ZeroDivisionError"):
        demo.make_demo(tmp_path / "clinic", tmp_path / "model.onnx", broken)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_it_is_never_made_in_the_database_of_a_laboratory(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLKIT_CLINIC_URL", "postgresql://clinic@db/clinic")
    with pytest.raises(ConfigError, match="Unset it first"):
        demo.make_demo(tmp_path / "clinic", tmp_path / "model.onnx", Sure())
    assert list(tmp_path.iterdir()) == []
