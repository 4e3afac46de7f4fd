"""Why the model answered so: asked for by a reader, made by the worker, kept; and references beside it."""

import io
import json

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from allkit.clinic import (
    access,
    asked,
    cases,
    erasure,
    explaining,
    explanations,
    fields,
    identity,
    jobs,
    models,
    reading,
    references,
)
from allkit.clinic.intake.incoming import take_image
from allkit.clinic.records import sha256_of
from allkit.clinic.store import backup, chain
from allkit.clinic.store import tables as t
from allkit.clinic.store.engine import writing
from allkit.clinic.store.store import Store
from allkit.clinic.store.verify import verify
from allkit.clinic.view import open_case
from allkit.clinic.worker import Worker
from allkit.data.rows import Sample
from allkit.data.sources import BytesSource
from allkit.errors import AccessError, ClinicError
from allkit.records import Cell, Prediction
from clinic_places import BLOOD, Clock, Scripted, incoming, new_store, picture

BLAST, QUIET = (60, 20, 120), (200, 120, 150)
CENTRES = [(16, 16), (16, 48), (16, 80), (48, 16), (48, 48), (48, 80), (80, 16), (80, 48)]


def smear(blasts, centres=CENTRES, shape=(96, 128)):
    """A field of light background with round cells, of which some are blasts: (H, W, 3)."""
    pixels = np.full((*shape, 3), 235, np.uint8)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    for number, (y, x) in enumerate(centres):
        inside = (rows - y) ** 2 + (columns - x) ** 2 <= 64
        pixels[inside] = BLAST if number in blasts else QUIET
    return pixels


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class Counting(Scripted):
    """A model that sees blasts: the log-odds of Pro are the number of blasts, by their colour."""

    def __init__(self, *, found=True, blind=False, **more):
        super().__init__(otherwise=("accepted", "Pro"), **more)
        self.found, self.blind, self.seen = found, blind, 0

    def probabilities(self, images):
        self.seen += len(images)
        rows = []
        for image in images:
            blasts = (np.abs(image.astype(int) - BLAST).sum(axis=2) == 0).sum() / 197
            pro = 0.7 if self.blind else 1 / (1 + np.exp(-blasts))
            rows.append([(1 - pro) / 3] * 3 + [pro])
        return np.array(rows, np.float32)

    def stream(self, images, *, batch_size=16):
        from dataclasses import replace

        cells = tuple(Cell(x, y, 16.0) for y, x in CENTRES) if self.found else ()
        for one in super().stream(images, batch_size=batch_size):
            yield replace(one, cells=cells, white_cells=len(cells) or None)


class Featured(Counting):
    """The same model, which also gives features: the mean colour of an image."""

    def outputs(self, images):
        from allkit.trust.verdict import Outputs

        features = np.stack([image.mean(axis=(0, 1)) - 128 for image in images])
        return Outputs(np.zeros((len(images), 4), np.float32), features.astype(np.float32))


class Place:
    """A clinic with a model and a case of one field that it answered."""

    def __init__(self, store, user, folder, model=None, blasts=(0, 1, 2), **case):
        self.store, self.user, self.model = store, user, model or Featured()
        file = folder / "model.onnx"
        file.write_bytes(b"a model")
        self.model_id = models.add_model(user, file, self.model)
        self.worker = Worker(access.worker(store), lambda path: self.model)
        self.case = cases.create(user, specimen_=BLOOD, **case)
        self.pixels = smear(blasts)
        added = fields.add(user, self.case, [take_image(png(self.pixels), "field.png")])
        self.field = added[0].field
        assert self.worker.drain() == (1, 0)

    def explained(self, user=None):
        explanations.ask(user or self.user, self.field)
        assert self.worker.drain() == (1, 0)
        return explanations.explanation(user or self.user, self.field)


@pytest.fixture
def place(clinic, tmp_path):
    return Place(*clinic, tmp_path)


@pytest.fixture
def lone(tmp_path):
    """An empty clinic on SQLite, for what no database decides: (store, user)."""
    with new_store(tmp_path / "lone", now=Clock()) as store:
        yield store, access.first_person(store, "anna")


@pytest.fixture
def lone_place(lone, tmp_path):
    return Place(*lone, tmp_path)


def rows(store, table):
    with store.read() as connection:
        return connection.execute(sa.select(table)).all()


def audited(store, begins):
    with store.read() as connection:
        return [row.what for row in chain.rows(connection) if row.what.startswith(begins)]


# ── asking and making ─────────────────────────────────────────────────────────────────────────


def test_a_reader_asks_why_and_sees_the_cells_that_speak_for_the_answer(place):
    user, field = place.user, place.field
    assert explanations.explanation(user, field).state == "none"
    assert explanations.ask(user, field).state == "queued"
    assert explanations.ask(user, field).state == "queued"  # asked twice, made once
    assert place.worker.drain() == (1, 0)
    found = explanations.explanation(user, field)
    assert (found.state, found.target, found.method, found.places) == ("done", "Pro", "cells", 8)
    picture = Image.open(io.BytesIO(explanations.map_of(user, field)))
    assert (picture.mode, picture.size) == ("RGBA", (128, 96))
    alpha = np.asarray(picture)[..., 3]
    assert [bool(alpha[y, x]) for y, x in CENTRES] == [True] * 3 + [False] * 5
    assert alpha[0, 0] == 0
    assert audited(place.store, "explanation") == [
        "explanation.asked", "explanation.begun", "explanation.made",
    ]  # fmt: skip
    assert verify(place.store) == []
    seen = place.model.seen
    assert explanations.ask(user, field).state == "done"
    assert (place.worker.drain(), place.model.seen) == ((0, 0), seen)


def test_a_map_is_called_faithful_only_where_that_was_measured(lone, tmp_path):
    place = Place(*lone, tmp_path, blasts=(0, 1))
    found = place.explained()
    assert found.faithful is True
    assert found.check["fall"] > found.check["highest_chance"]
    assert "was checked" in " ".join(found.in_words())


def test_a_model_that_looks_at_nothing_has_an_empty_map_that_is_not_to_be_relied_on(lone, tmp_path):
    place = Place(*lone, tmp_path, Featured(blind=True))
    found = place.explained()
    assert (found.faithful, found.has_map) == (None, False)
    assert "The map is empty" in found.in_words()[-2]
    assert not any("was checked" in sentence for sentence in found.in_words())
    with pytest.raises(ClinicError, match="no map"):
        explanations.map_of(place.user, place.field)


def test_where_no_cells_are_known_squares_of_the_field_are_covered(lone, tmp_path):
    place = Place(*lone, tmp_path, Featured(found=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("allkit.images.cells.find_cells", lambda pixels: type("N", (), {"cells": ()}))
        found = place.explained()
    assert (found.method, found.places) == ("squares", 35)  # 7 along the longer side
    assert found.faithful is True
    alpha = np.asarray(Image.open(io.BytesIO(explanations.map_of(place.user, place.field))))[..., 3]
    assert alpha[16, 16]
    assert not alpha[48:].any()


def test_with_few_cells_it_is_said_that_nothing_was_measured():
    pixels = smear([0], CENTRES[:3])
    cells = tuple(Cell(x, y, 16.0) for y, x in CENTRES[:3])
    answer = Prediction("x", "accepted", label="Pro", cells=cells, white_cells=3)
    made = explaining.explain(Counting(), pixels, answer, {})
    assert (made.faithful, made.notes) == (None, ["too_few_places"])


def test_a_group_that_was_accepted_alone_is_what_is_explained():
    groups = {"Benign": "benign", "Early": "malignant", "Pre": "malignant", "Pro": "malignant"}
    answer = Prediction(
        "x", "review", label="Pre", coarse="malignant", coarse_verdict="accepted", white_cells=0
    )
    target = explaining.Target.of(answer, groups, Counting.classes)
    assert target == explaining.Target("malignant", "group", (1, 2, 3))
    made = explaining.explain(Counting(), smear([0]), answer, groups)
    assert (made.method, made.target.name) == ("squares", "malignant")


def test_a_neighbour_of_a_cell_that_is_left_out_keeps_its_nucleus():
    first, second = Cell(40.0, 40.0, 20.0), Cell(54.0, 40.0, 12.0)
    (left_out, _) = explaining.cell_places([first, second], (96, 96))
    covered = np.zeros((96, 96), bool)
    covered[left_out.rows, left_out.columns] = left_out.mask
    assert covered[40, 40]
    assert covered[40, 26]  # its cytoplasm
    assert not covered[40, 55]
    assert explaining.cell_places([Cell(-90.0, -90.0, 4.0)], (96, 96)) == []


def test_a_large_map_is_made_smaller_in_its_proportions():
    strengths = np.zeros((600, 3000), np.float32)
    strengths[:300] = 1.0
    picture = Image.open(io.BytesIO(explaining.overlay(strengths)))
    assert picture.size == (1024, 205)
    pixels = np.asarray(picture)
    assert tuple(pixels[0, 0, :3]) == explaining.RAMP[-1]
    assert not pixels[-1].any()


def test_a_model_folder_explains_itself_and_its_check_is_taken_over(tiny, few):
    from allkit import Dataset

    pixels = Dataset.open(few).read(0)
    (answer,) = tiny.predict([pixels])
    made = explaining.explain(tiny, pixels, answer, {})
    own = tiny.explain(pixels, target=answer.label)
    assert made.method == own.method == "occlusion"
    assert np.array_equal(made.map, own.map)
    assert made.faithful is (None if own.check is None else own.check.faithful)


def test_an_exported_file_is_explained_with_its_nearest_training_images(
    lone, tiny_onnx, few, tmp_path
):
    from allkit import Dataset
    from allkit.clinic.intake.unpack import unpack
    from allkit.runtime.onnx import OnnxPredictor

    store, user = lone
    model = OnnxPredictor(tiny_onnx)
    id = models.add_model(user, tiny_onnx, model)
    data = Dataset.open(few)
    assert references.add_references(user, id, model, data, per_class=2) == 8
    case = cases.create(user, specimen_=BLOOD)
    (image,) = unpack(few.parent / data.samples[0].image)
    (added,) = fields.add(user, case, [image])
    worker = Worker(access.worker(store), OnnxPredictor)
    assert worker.drain() == (1, 0)
    explanations.ask(user, added.field)
    assert worker.drain() == (1, 0)
    found = explanations.explanation(user, added.field)
    assert found.state == "done"
    assert len(found.nearest) == 3
    distances = [one.distance for one in found.nearest]
    assert distances == sorted(distances)
    assert (found.nearest[0].same, distances[0]) == (True, 0.0)  # it was trained on this very field
    assert [one.label for one in references.references_of(user, id)] == list(model.classes)
    assert verify(store) == []


# ── who may ───────────────────────────────────────────────────────────────────────────────────


def test_read_blind_there_is_nothing_to_ask_until_a_class_is_given(clinic, tmp_path):
    place = Place(*clinic, tmp_path, blind_first=True)
    assert explanations.explanation(place.user, place.field).state == "hidden"
    with pytest.raises(ClinicError, match="hidden until you have given"):
        explanations.ask(place.user, place.field)
    assert audited(place.store, "explanation") == []
    reading.relabel(place.user, place.field, "Pre")
    assert place.explained().state == "done"


def test_what_the_first_reader_had_explained_is_hidden_from_the_second(place):
    anna, field = place.user, place.field
    access.add_person(anna, "bert", ["reader"])
    bert = access.sign_in(place.store, "bert")
    cases.assign(anna, place.case, second="bert")
    reading.accept(anna, field)
    assert place.explained().state == "done"
    assert reading.finish(anna, place.case) == "second"
    hidden = explanations.explanation(bert, field)
    assert hidden == explanations.Explanation(field, "hidden")
    for forbidden in (explanations.ask, explanations.map_of):
        with pytest.raises(ClinicError):
            forbidden(bert, field)
    reading.relabel(bert, field, "Pro")
    assert explanations.explanation(bert, field).state == "done"
    assert explanations.map_of(bert, field)


def test_who_does_not_read_may_not_ask_and_what_has_no_answer_is_not_explained(place):
    access.add_person(place.user, "lis", ["system"])
    machine = access.sign_in(place.store, "lis")
    for function in (explanations.ask, explanations.explanation, explanations.map_of):
        with pytest.raises(AccessError):
            function(machine, place.field)
        with pytest.raises(ClinicError, match="no field"):
            function(place.user, "nothing")
    (new,) = fields.add(place.user, place.case, [incoming(5)])
    with pytest.raises(ClinicError, match="no answer for this field"):
        explanations.ask(place.user, new.field)


def test_a_page_that_asks_again_by_itself_does_not_keep_a_person_signed_in(lone_place):
    minutes = [0.0]
    person = access.sign_in(lone_place.store, "anna", clock=lambda: minutes[0])
    for _ in range(20):
        minutes[0] += 60
        if minutes[0] <= 900:
            explanations.explanation(person, lone_place.field)
    with pytest.raises(AccessError, match="signed out"):
        explanations.explanation(person, lone_place.field)


# ── killed, failed, answered anew ─────────────────────────────────────────────────────────────


def test_cases_are_answered_before_explanations_are_made(lone_place):
    explanations.ask(lone_place.user, lone_place.field)
    other = cases.create(lone_place.user, specimen_=BLOOD)
    fields.add(lone_place.user, other, [incoming(9)])
    assert lone_place.worker.step()
    assert open_case(lone_place.user, other).fields[0].answer is not None
    assert explanations.explanation(lone_place.user, lone_place.field).state == "queued"
    assert lone_place.worker.step()
    assert explanations.explanation(lone_place.user, lone_place.field).state == "done"


def test_an_explanation_of_a_killed_process_is_made_by_another(place, monkeypatch):
    explanations.ask(place.user, place.field)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(asked, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            place.worker.step()
    again = Worker(access.worker(place.store), lambda path: place.model)
    again.name = "another process"
    assert again.step() is False  # it is held still
    assert explanations.explanation(place.user, place.field).state == "running"
    place.store.now.milliseconds += 1000 * (asked.LEASE + 1)
    assert again.step() is True
    assert explanations.explanation(place.user, place.field).state == "done"
    assert verify(place.store) == []


def test_who_lost_an_explanation_to_another_process_writes_nothing(place):
    explanations.ask(place.user, place.field)
    system = access.worker(place.store)
    slow = asked.claim(system, "slow")
    found = asked.make(system, slow, place.model, {})
    place.store.now.milliseconds += 1000 * (asked.LEASE + 1)
    quick = asked.claim(system, "quick")
    assert asked.keep(system, slow, found) is False
    asked.fail(system, slow, "too late", False)
    assert explanations.explanation(place.user, place.field).state == "running"
    assert asked.keep(system, quick, found) is True


def test_an_explanation_that_fails_says_why_and_can_be_asked_for_again(lone_place, monkeypatch):
    explanations.ask(lone_place.user, lone_place.field)
    with monkeypatch.context() as patch:
        patch.setattr(lone_place.model, "probabilities", lambda images: 1 / 0)
        assert lone_place.worker.drain() == (0, jobs.ATTEMPTS)
    failed = explanations.explanation(lone_place.user, lone_place.field)
    assert (failed.state, "ZeroDivisionError" in failed.error) == ("failed", True)
    assert lone_place.explained().state == "done"


def test_a_process_that_dies_of_an_explanation_each_time_gives_it_up(place):
    explanations.ask(place.user, place.field)
    system = access.worker(place.store)
    for _ in range(jobs.ATTEMPTS):
        assert asked.claim(system, "killed each time") is not None
        place.store.now.milliseconds += 1000 * (asked.LEASE + 1)
    assert asked.claim(system, "another") is None
    assert "begun 3 times" in explanations.explanation(place.user, place.field).error


def test_an_answer_of_another_model_has_an_explanation_of_its_own(lone_place, tmp_path):
    assert lone_place.explained().state == "done"
    (tmp_path / "newer.onnx").write_bytes(b"newer")
    models.add_model(lone_place.user, tmp_path / "newer.onnx", lone_place.model)
    lone_place.worker.drain()
    assert explanations.explanation(lone_place.user, lone_place.field).state == "none"
    assert lone_place.explained().state == "done"
    assert len(rows(lone_place.store, t.explanations)) == 2


# ── erased, moved, copied, altered ────────────────────────────────────────────────────────────


def test_with_a_case_its_explanations_and_maps_are_erased(place):
    place.explained()
    (row,) = rows(place.store, t.explanations)
    erasure.erase(place.user, place.case, why="asked for")
    assert rows(place.store, t.explanations) == []
    assert not place.store.blobs.path(row.map_sha256).exists()
    assert list(place.store.blobs.there()) == []
    assert verify(place.store) == []


def test_a_case_that_is_erased_while_it_is_explained_leaves_nothing(place):
    explanations.ask(place.user, place.field)
    system = access.worker(place.store)
    task = asked.claim(system, "worker")
    found = asked.make(system, task, place.model, {})
    erasure.erase(place.user, place.case, why="asked for")
    assert asked.keep(system, task, found) is False
    erasure.sweep(system)
    assert list(place.store.blobs.there()) == []


def test_an_explanation_goes_with_its_field_into_another_case(place):
    before = place.explained()
    other = cases.create(place.user, specimen_=BLOOD)
    identity.move_field(place.user, place.field, to=other, why="another slide")
    assert explanations.explanation(place.user, place.field) == before
    erasure.erase(place.user, place.case, why="asked for")
    assert explanations.map_of(place.user, place.field)
    assert verify(place.store) == []


def test_a_backup_holds_explanations_and_references(place, tmp_path, postgres):
    labelled(place)
    before = place.explained()
    backup.backup(place.store, tmp_path / "copy", who="anna")
    for number, url in enumerate((None, postgres.database())):
        with backup.restore(tmp_path / "copy", tmp_path / f"again{number}", url) as again:
            assert verify(again) == []
            anna = access.sign_in(again, "anna")
            assert explanations.explanation(anna, place.field) == before
            assert explanations.map_of(anna, place.field)
            assert references.reference_picture(anna, before.nearest[0].reference)


def test_a_store_of_the_second_version_gets_the_new_tables_and_keeps_all(tmp_path, database):
    old = Store.create(tmp_path / "old", database, revision="0002", now=Clock())
    user = access.first_person(old, "anna")
    case = cases.create(user, specimen_=BLOOD)
    fields.add(user, case, [incoming(1)])
    old.close()
    Store.create(tmp_path / "old", database).close()
    with Store.open(tmp_path / "old", database) as store:
        anna = access.sign_in(store, "anna")
        field = open_case(anna, case).fields[0].id
        assert explanations.explanation(anna, field).state == "none"
        assert rows(store, t.references) == []
        assert verify(store) == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE explanations SET data = replace(data, 'true', 'false')", "explanation .* audit"),
        ("DELETE FROM explanations", "explanation .* is missing"),
        ("""UPDATE "references" SET label = 'Benign'""", "references of the model"),
        ("""DELETE FROM "references" """, "references of the model"),
    ],
)
def test_what_is_changed_behind_the_programs_back_is_found(place, statement, found):
    import re

    labelled(place)
    place.explained()
    assert verify(place.store) == []
    with writing(place.store.engine) as connection:
        connection.exec_driver_sql(statement)
    assert any(re.search(found, text) for text in verify(place.store))


# ── references ────────────────────────────────────────────────────────────────────────────────


def sample(seed, label, **more):
    return Sample(f"{seed}.png", BytesSource(picture(seed)), label, **more)


def labelled(place, seeds=range(8), per_class=None):
    """Keep references of two classes: (how many, the samples)."""
    samples = [sample(seed, ("Pre", "Pro")[seed % 2], group=f"g{seed}") for seed in seeds]
    made = references.add_references(
        place.user, place.model_id, place.model, samples, per_class=per_class
    )
    return made, samples


def test_references_are_taken_evenly_and_one_of_each_class_is_shown(lone_place):
    made, samples = labelled(lone_place, per_class=3)
    assert made == 6
    kept = rows(lone_place.store, t.references)
    assert sorted(row.label for row in kept) == ["Pre"] * 3 + ["Pro"] * 3
    # The first, the middle and the last of each class, by its groups.
    wanted = {sha256_of(samples[i].source.read()) for i in (0, 4, 6, 1, 5, 7)}
    assert {row.sha256 for row in kept} == wanted
    shown = references.references_of(lone_place.user, lone_place.model_id)
    assert [(one.label, one.typical) for one in shown] == [("Pre", True), ("Pro", True)]
    data = references.reference_picture(lone_place.user, shown[0].id)
    assert data in [one.source.read() for one in samples]


def test_the_one_that_is_shown_lies_nearest_to_the_mean_of_its_class(lone_place):
    levels = [(40, 0, 0), (200, 190, 60), (210, 200, 70), (220, 215, 90)]
    samples = [
        Sample(f"{i}.png", BytesSource(png(np.full((32, 32, 3), colour, np.uint8))), "Pro")
        for i, colour in enumerate(levels)
    ]
    references.add_references(lone_place.user, lone_place.model_id, lone_place.model, samples)
    (shown,) = references.references_of(lone_place.user, lone_place.model_id)
    features = np.array(levels, float) - 128
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    mean = features.mean(axis=0) / np.linalg.norm(features.mean(axis=0))
    assert shown.sha256 == sha256_of(samples[int(np.argmax(features @ mean))].source.read())


def test_there_are_never_more_than_the_stated_number(lone_place, monkeypatch):
    monkeypatch.setattr(references, "MOST", 8)
    assert labelled(lone_place, range(20), per_class=50)[0] == 4  # two of each of four classes


def test_references_are_replaced_when_they_are_given_again(place):
    labelled(place)
    before = {row.sha256 for row in rows(place.store, t.references)}
    first = place.explained()
    assert [one.same for one in first.nearest] == [False] * 3
    assert labelled(place, range(20, 24))[0] == 4
    after = {row.sha256 for row in rows(place.store, t.references)}
    assert not before & after
    assert not any(place.store.blobs.path(sha256).exists() for sha256 in before)
    gone = explanations.explanation(place.user, place.field)
    assert (gone.nearest, gone.without_nearest) == ((), "replaced")
    with pytest.raises(ClinicError, match="were replaced"):
        references.reference_picture(place.user, first.nearest[0].reference)
    again = place.explained()
    assert len(again.nearest) == 3
    assert verify(place.store) == []


def test_a_field_that_is_also_a_reference_stays_when_references_are_replaced(lone_place):
    (twice,) = fields.add(lone_place.user, lone_place.case, [take_image(picture(0), "0.png")])
    labelled(lone_place)
    labelled(lone_place, range(20, 24))
    assert fields.image_of(lone_place.user, twice.field) == picture(0)


def test_without_features_no_image_is_called_near_and_none_typical(lone, tmp_path):
    place = Place(*lone, tmp_path, Counting())
    assert place.explained().without_nearest == "no_references"
    labelled(place)
    assert not any(one.typical for one in references.references_of(place.user, place.model_id))
    found = place.explained()
    assert (found.nearest, found.without_nearest) == ((), "no_features")
    assert "cannot be said" in found.in_words()[-1]


def test_references_lose_what_identifies_a_patient(lone_place):
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "Zebedee 4711"
    Image.fromarray(smear([1])).save(stream, "JPEG", exif=exif)
    named = Sample("a.jpg", BytesSource(stream.getvalue()), "Pro")
    references.add_references(lone_place.user, lone_place.model_id, lone_place.model, [named])
    (shown,) = references.references_of(lone_place.user, lone_place.model_id)
    assert b"Zebedee" not in references.reference_picture(lone_place.user, shown.id)
    assert "a.jpg" not in json.dumps(
        [list(map(str, r)) for r in rows(lone_place.store, t.references)]
    )


def test_references_that_do_not_fit_the_model_are_refused_and_nothing_changes(lone_place):
    access.add_person(lone_place.user, "bert", ["reader"])
    bert = access.sign_in(lone_place.store, "bert")
    give = references.add_references
    for user, model, samples, error in (
        (lone_place.user, lone_place.model_id, [sample(1, "Basophil")], "no class of this model"),
        (lone_place.user, lone_place.model_id, [sample(1, None)], "need one"),
        (lone_place.user, "unknown", [sample(1, "Pro")], "no model"),
        (bert, lone_place.model_id, [sample(1, "Pro")], "needs admin"),
    ):
        with pytest.raises(ClinicError, match=error):
            give(user, model, lone_place.model, samples)
    with pytest.raises(ClinicError, match="1 or more"):
        give(
            lone_place.user, lone_place.model_id, lone_place.model, [sample(1, "Pro")], per_class=0
        )
    assert rows(lone_place.store, t.references) == []


def test_images_that_a_model_was_not_trained_on_are_no_references(lone_place, tiny, few):
    from allkit import Dataset

    data = Dataset.open(few)
    with pytest.raises(ClinicError, match="trained on none of these"):
        references.add_references(lone_place.user, lone_place.model_id, tiny, [sample(1, "Pro")])
    trained = set(tiny.info.data.images_sha256)
    count = sum(sha256 in trained for sha256 in data.hashes)
    if count:
        assert references.add_references(lone_place.user, lone_place.model_id, tiny, data) == count


def test_a_map_that_could_not_be_relied_on_is_told_so():
    answer = Prediction("x", "accepted", label="Pro", white_cells=0)
    made = explaining.explain(Restless(), smear([0, 1]), answer, {})
    assert made.faithful is False


class Restless(Counting):
    """A model whose answer follows no place: it is another one for every picture."""

    def probabilities(self, images):
        shares = [int(sha256_of(image.tobytes())[:4], 16) / 70_000 + 0.03 for image in images]
        return np.array([[(1 - p) / 3] * 3 + [p] for p in shares], np.float32)
