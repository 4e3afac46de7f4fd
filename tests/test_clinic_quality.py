"""What a clinic's store tells of its model and its readers, and the data set of overridden fields."""

import json
import random

import pytest
import sqlalchemy as sa

from allkit import Dataset
from allkit.clinic import access, cases, erasure, fields, identity, quality, reading
from allkit.clinic.agreement import kappa, wilson
from allkit.clinic.overridden import write_overridden
from allkit.clinic.records import canonical, sha256_of
from allkit.clinic.resampling import kappa_by_cases
from allkit.clinic.shares import share_of
from allkit.clinic.store import chain
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import new_id
from allkit.errors import AccessError, AllkitError, ClinicError, StoreError
from allkit.records import Prediction
from clinic_places import BLOOD, Clock, incoming, new_store

CLASSES = ("Benign", "Early", "Pre", "Pro")
MODEL = "m" * 64


class Place:
    """A clinic with a calibrated model, whose answers and readers' classes a test gives."""

    def __init__(self, store):
        self.store, self.user = store, access.first_person(store, "anna", "Dr. Anna Berg")
        self.seed = 0
        access.add_person(self.user, "ben", ["reader"])
        self.second = access.sign_in(self.store, "ben")
        self.model()

    def model(self, sha256=MODEL, *, calibrated=True):
        with self.user.change("admin") as change:
            change.insert(
                t.models, id=sha256[:26], sha256=sha256, name="model", version="1", path="/nowhere",
                classes=canonical(list(CLASSES)), groups="{}", limits="[]",
                calibrated=calibrated, added=change.now,
            )  # fmt: skip
            change.log("model.added", sha256[:26])

    def case(self, *answers, **options):
        """A case with a field for each answer (a `Prediction`'s values, or None): (case, field ids).

        The rows are those that taking and answering images leaves, in one transaction; no files.
        """
        case = cases.create(self.user, specimen_=BLOOD, **options)
        ids = []
        with self.user.change("admin") as change:
            for number, answer in enumerate(answers, start=1):
                ids.append(new_id())
                sha256 = sha256_of(ids[-1])
                change.insert(t.blobs, sha256=sha256, size=1, media="image/png", created=change.now)
                change.insert(
                    t.fields, id=ids[-1], case_id=case, sha256=sha256, number=number, name="x",
                    width=9, height=9, stripped="[]", stain="[0.1,0.1,0.1,0.6,0.9,0.4]", added=change.now,
                )  # fmt: skip
                if answer is not None:
                    self.write_answer(change, ids[-1], **answer)
            change.log("field.added", case)
        return case, ids

    def images(self, *answers, seeds=None, **options):
        """A case with images that are there: (case, field ids)."""
        case = cases.create(self.user, specimen_=BLOOD, **options)
        start = self.seed
        self.seed += 0 if seeds else len(answers)
        taken = [incoming(seed) for seed in seeds or range(start, self.seed)]
        ids = [added.field for added in fields.add(self.user, case, taken)]
        with self.user.change("admin") as change:
            for field, answer in zip(ids, answers, strict=True):
                self.write_answer(change, field, **answer)
            change.log("answer.made", case)
        return case, ids

    def write_answer(
        self, change, field, label="Pre", *, verdict="review", probability=0.9, model=MODEL, **more
    ):
        said = Prediction("x", verdict, label=label, probability=probability, **more)
        change.insert(
            t.answers, id=model[0] + field[1:], field_id=field, model_id=model[:26],
            verdict=verdict, label=label, probability=probability,
            data=json.dumps(said.to_dict()), at=change.now,
        )  # fmt: skip

    def read_all(self, case, labels, *, round=1):
        """Give fields of a case classes, as readings leave them, in one transaction."""
        with self.user.change("admin") as change:
            answered = sa.select(t.fields.c.id, t.answers.c.id.label("answer")).outerjoin(
                t.answers, t.answers.c.field_id == t.fields.c.id
            )
            rows = change.connection.execute(answered).all()
            answers = {row.id: row.answer for row in rows}
            seq = change.connection.scalar(sa.select(sa.func.max(t.readings.c.seq))) or 0
            for number, (field, label) in enumerate(labels, start=seq + 1):
                change.insert(
                    t.readings, seq=number, case_id=case, field_id=field, round=round,
                    person_id=(self.user if round == 1 else self.second).id, kind="label",
                    label=label, why="", blind=round == 2, answer_id=answers[field],
                    client=f"c{number}", client_seq=0, at=change.now,
                )  # fmt: skip
            change.log("reading.label", case)

    def sign(self, case):
        """What a signature leaves in the tables that the figures read."""
        with self.user.change("admin") as change:
            change.insert(
                t.signatures, id=case, case_id=case, version=1, person_id=self.user.id,
                at=change.now, readings_sha256="", result="Pre", comment="",
            )  # fmt: skip
            change.update(t.cases, case, status="signed")
            change.log("case.signed", case)

    def reads(self, field, label):
        return reading.relabel(self.user, field, label, why="seen so")

    def reads_second(self, field, label):
        return reading.relabel(self.second, field, label, why="seen so")

    def audit(self, what):
        with self.store.read() as connection:
            return [row for row in chain.rows(connection) if row.what == what]


@pytest.fixture
def place(tmp_path):
    with new_store(tmp_path / "clinic", now=Clock()) as store:
        yield Place(store)


# ── shares ────────────────────────────────────────────────────────────────────────────────────


def test_under_twenty_fields_no_share_is_given_and_from_twenty_on_one_with_its_interval():
    few, enough = share_of(3, 19), share_of(20, 20)
    assert (few.hits, few.n, few.share, few.low, few.too_few) == (3, 19, None, None, True)
    assert (enough.share, enough.too_few) == (1.0, False)
    assert (enough.low, enough.high) == wilson(20, 20)
    assert enough.low < 0.85  # twenty of twenty promise no certainty


# ── overrides ─────────────────────────────────────────────────────────────────────────────────


def test_overrides_tell_accepted_from_review_and_blind_from_seen(place):
    case, seen = place.case(
        *[{"label": "Pre", "verdict": "accepted"}] * 11, *[{"label": "Pro"}] * 11
    )
    labels = ["Pre"] * 11 + ["Early", "inadequate"] + ["Pro"] * 9
    place.read_all(case, zip(seen, labels, strict=True))
    _, blind = place.case({"label": "Pre", "verdict": "accepted"}, blind_first=True)
    place.reads(blind[0], "Benign")
    found = quality.overrides(place.user)
    rows = [
        (r.of, r.verdict, r.blind, r.changed.hits, r.changed.n, r.unclassed) for r in found.rows
    ]
    assert rows == [
        ("Pre", "accepted", False, 0, 11, 0),
        ("Pre", "accepted", True, 1, 1, 0),
        ("Pro", "review", False, 2, 11, 1),
    ]
    assert {row.model for row in found.rows} == {MODEL}
    assert all(row.changed.too_few for row in found.rows)
    assert [row.cases for row in found.rows] == [1, 1, 1]
    by_month = quality.overrides(place.user, by="month").rows
    assert [(r.of, r.verdict, r.changed.n) for r in by_month] == [
        ("2026-02", "accepted", 11), ("2026-02", "accepted", 1), ("2026-02", "review", 11),
    ]  # fmt: skip


def test_only_the_first_readers_class_that_stands_counts_beside_the_answer_of_then(place):
    case, (one, two) = place.case({"label": "Pre"}, {"label": "Pre"}, second_reader=True)
    place.reads(one, "Pre")
    place.reads(one, "Pro")
    reading.undo(place.user, one)
    place.reads(two, "Pre")
    place.reads(two, "Pro")
    reading.finish(place.user, case)
    place.reads_second(one, "Benign")
    # A newer model agrees with the reader; the reading stood beside the older one's answer.
    place.model("n" * 64)
    with place.user.change("admin") as change:
        place.write_answer(change, two, "Pro", model="n" * 64)
        change.log("answer.made", two)
    (row,) = quality.overrides(place.user).rows
    assert (row.model, row.changed.hits, row.changed.n) == (MODEL, 1, 2)


def test_overrides_of_a_field_that_was_moved_do_not_stand_any_more(place):
    _, (one,) = place.case({"label": "Pre"})
    place.reads(one, "Pro")
    other, _ = place.case(None)
    identity.move_field(place.user, one, to=other, why="wrong slide")
    assert quality.overrides(place.user).rows == ()


def test_fields_that_were_read_without_a_usable_answer_are_counted_apart(place):
    _, ids = place.case(
        {"verdict": "refused"}, {"label": None, "probability": None, "verdict": "unreadable"}, None
    )
    for field in ids:
        place.reads(field, "Pro")
    found = quality.overrides(place.user)
    assert found.rows == ()
    assert found.left_out == {"none": 1, "refused": 1, "unreadable": 1}


def test_overrides_by_month_and_between_two_days(place):
    for day in ("2026-02-27", "2026-03-02"):
        place.store.now.day = day
        _, (field,) = place.case({"label": "Pre"})
        place.reads(field, "Pro")
    rows = quality.overrides(place.user, by="month").rows
    assert [(row.of, row.changed.n) for row in rows] == [("2026-02", 1), ("2026-03", 1)]
    (row,) = quality.overrides(place.user, by="month", since="2026-02-27", until="2026-02-27").rows
    assert row.of == "2026-02"
    with pytest.raises(ClinicError, match="no date"):
        quality.overrides(place.user, since="yesterday")
    with pytest.raises(ClinicError, match="class or month"):
        quality.overrides(place.user, by="reader")


# ── calibration ───────────────────────────────────────────────────────────────────────────────


def test_calibration_rests_on_signed_cases_and_says_what_is_in_no_band(place):
    answers = [{"probability": 0.92}] * 20 + [
        {"probability": 0.995},
        {"verdict": "refused"},
        {"verdict": "accepted"},
        {"probability": 0.5},
    ]
    case, ids = place.case(*answers)
    labels = ["Pre"] * 18 + ["other"] * 2 + ["Pre", "Pre", "inadequate"]
    place.read_all(case, zip([*ids[:22], ids[23]], labels, strict=True))
    assert quality.calibration(place.user).rows == ()  # not signed yet
    place.sign(case)
    found = quality.calibration(place.user)
    first, second = found.rows
    assert (first.low, first.high, first.right.n, first.right.share) == (0.99, 1.0, 1, None)
    assert (second.low, second.high, second.right.hits, second.right.n) == (0.9, 0.95, 18, 20)
    assert second.mean == pytest.approx(0.92)
    assert (second.right.low, second.right.high) == wilson(18, 20)
    assert second.blind.n == 0
    assert found.left_out == {
        "not_calibrated": 0, "refused": 1, "unreadable": 0, "unread": 1, "inadequate": 1,
    }  # fmt: skip
    with place.user.change("signer") as change:
        change.update(t.cases, case, status="reading")
        change.log("case.reopened", case)
    assert quality.calibration(place.user).rows == ()


def test_a_model_without_calibration_has_no_bands(place):
    place.model("u" * 64, calibrated=False)
    case, (field,) = place.case({"model": "u" * 64})
    place.reads(field, "Pre")
    place.sign(case)
    found = quality.calibration(place.user)
    assert (found.rows, found.left_out["not_calibrated"]) == ((), 1)


# ── agreement ─────────────────────────────────────────────────────────────────────────────────


def read_twice(place, pairs):
    case, ids = place.case(*[None] * len(pairs), second_reader=True)
    for number in (1, 2):
        labels = [(field, pair[number - 1]) for field, pair in zip(ids, pairs, strict=True)]
        place.read_all(case, labels, round=number)


def test_agreement_is_cohens_kappa_of_both_readers_and_too_few_under_twenty(place):
    pairs = [("Pre", "Pre")] * 5 + [("Pro", "Pro")] * 4 + [("Pre", "Pro")]
    read_twice(place, pairs)
    place.case(None)
    found = quality.agreement(place.user)
    assert (found.n, found.cases, found.kappa, found.too_few) == (10, 1, None, True)
    read_twice(place, pairs)
    found = quality.agreement(place.user)
    assert (found.n, found.cases, found.too_few) == (20, 2, False)
    assert found.kappa == pytest.approx(kappa(pairs * 2))
    assert (found.same.hits, found.same.n) == (18, 20)
    assert found.low is None  # two cases that are the same show nothing of others
    assert found == quality.agreement(place.user)


def test_the_interval_of_kappa_draws_whole_cases_and_is_the_same_for_the_same_seed():
    rng = random.Random(0)
    alike = {(("Pre", "Pre", 10),): 12, (("Pro", "Pre", 10),): 4, (("Pro", "Pro", 10),): 12}
    value, (low, high) = kappa_by_cases(alike)
    assert value == pytest.approx(
        kappa([("Pre", "Pre")] * 120 + [("Pro", "Pre")] * 40 + [("Pro", "Pro")] * 120)
    )
    assert low < value < high
    each = [kind[0] for kind, number in alike.items() for _ in range(number)]
    draws = [rng.choices(each, k=len(each)) for _ in range(400)]
    plain = sorted(kappa([(a, b) for a, b, n in draw for _ in range(n)]) for draw in draws)
    assert (low, high) == pytest.approx((plain[10], plain[389]), abs=0.07)
    assert kappa_by_cases(alike) == (value, (low, high))
    assert kappa_by_cases(alike, seed=1)[1] != (low, high)
    # As many fields that are independent: the interval is narrower.
    mixed = {}
    for _ in range(28):
        case = [rng.choices(("aa", "ba", "bb"), (12, 4, 12))[0] for _ in range(10)]
        kind = tuple(sorted((pair[0], pair[1], case.count(pair)) for pair in set(case)))
        mixed[kind] = mixed.get(kind, 0) + 1
    _, (inner_low, inner_high) = kappa_by_cases(mixed)
    assert inner_high - inner_low < 0.6 * (high - low)


@pytest.mark.parametrize(
    ("cases", "kappa_"),
    [
        ({}, None),
        ({(("Pre", "Pre", 30),): 9}, None),
        ({(("Pre", "Pre", 30), ("Pro", "Pro", 3)): 1}, 1.0),
        ({(("Pre", "Pre", 30), ("Pro", "Pro", 3)): 9}, 1.0),
    ],
)
def test_kappa_promises_no_interval_where_the_cases_show_none(cases, kappa_):
    assert kappa_by_cases(cases) == (kappa_, None)


# ── drift, and all together ───────────────────────────────────────────────────────────────────


def test_drift_tells_each_month_and_model_with_its_stains(place):
    unlike = {"reason_codes": ("unlike_training",), "reasons": ("x",), "ood_score": 9.0}
    for day, answers in (
        (
            "2026-02-03",
            [{"verdict": "accepted", "ood_score": 1.0, "white_cells": 3}] * 21
            + [{"label": None, "probability": None, "verdict": "unreadable"}],
        ),
        ("2026-03-03", [{"verdict": "refused", "white_cells": 0, **unlike}] * 20),
    ):
        place.store.now.day = day
        place.case(*answers)
    february, march = quality.drift(place.user)
    assert (february.month, february.n, february.ood_median) == ("2026-02", 22, 1.0)
    assert february.verdicts["accepted"].share == 21 / 22
    assert (february.unfamiliar.hits, february.unfamiliar.n) == (0, 21)
    assert (march.verdicts["refused"].hits, march.unfamiliar.hits, march.ood_median) == (
        20,
        20,
        9.0,
    )
    assert (march.without_white_cells.hits, march.without_white_cells.n) == (20, 20)
    assert march.reasons == {"unlike_training": 20}
    assert march.stains == {"May-Grünwald-Giemsa": 1}
    assert (march.background, march.cells) == ((0.1, 0.1, 0.1), (0.6, 0.9, 0.4))
    assert quality.drift(place.user, since="2026-03-01") == (march,)


def test_an_answer_of_an_older_allkit_without_these_measurements_is_counted_all_the_same(place):
    _, (field,) = place.case(None)
    with place.user.change("admin") as change:
        change.insert(
            t.answers, id="A" * 26, field_id=field, model_id=MODEL[:26], verdict="review",
            label="Pre", probability=0.5, data='{"image": "x", "verdict": "review"}', at=change.now,
        )  # fmt: skip
        change.log("answer.made", field)
    (row,) = quality.drift(place.user)
    assert (row.n, row.ood_n, row.ood_median, row.without_white_cells.n) == (1, 0, None, 0)


def test_the_summary_is_plain_values_for_readers_signers_and_admins_only(place):
    _, (field,) = place.case({"label": "Pre"})
    place.reads(field, "Pro")
    whole = quality.summary(place.user)
    plain = json.loads(json.dumps(whole.to_dict()))
    assert plain["overrides_by_class"]["rows"][0]["changed"]["too_few"]
    assert plain["drift"][0]["n"] == 1
    assert any("blind" in note for note in plain["notes"])
    assert quality.summary(place.second).agreement.too_few
    with pytest.raises(AccessError, match="this needs reader or signer or admin"):
        quality.summary(access.worker(place.store))


def test_both_databases_give_the_same_figures(tmp_path, postgres):
    told = []
    for name, url in (("one", None), ("two", postgres.database())):
        with new_store(tmp_path / name, url, now=Clock()) as store:
            place = Place(store)
            answers = [{"label": "Pre"}] * 12 + [{"verdict": "accepted", "ood_score": 2.0}] * 12
            for number in range(2):
                case, ids = place.case(*answers, second_reader=True)
                place.read_all(case, [(ids[0], "Pro")])
                reading.undo(place.user, ids[0])
                labels = ["Pre"] * (20 + number) + ["Pro", "other", "inadequate"]
                place.read_all(case, zip(ids, labels, strict=False))
                place.read_all(case, zip(ids, ["Pre"] * 22, strict=False), round=2)
                if number:
                    place.sign(case)
            _, (image,) = place.images({"label": "Early"})
            place.reads(image, "Pro")
            whole = quality.summary(place.user, since="2026-02-01", until="2026-02-01").to_dict()
            done = write_overridden(place.user, tmp_path / f"{name}-ours", since="2026-02-01")
            told.append((whole, done.classes, done.left_out))
    assert told[0] == told[1]
    assert told[0][0]["calibration"]["rows"][0]["right"]["n"] == 23
    assert told[0][0]["agreement"]["n"] == 44
    assert told[0][1] == {"Pro": 1}


def test_an_empty_clinic_has_figures_without_shares(place):
    whole = quality.summary(place.user)
    assert whole.overrides_by_class.rows == whole.calibration.rows == whole.drift == ()
    assert (whole.agreement.n, whole.agreement.kappa) == (0, None)


def test_what_was_erased_is_in_no_figure(place):
    case, (field,) = place.case({"label": "Pre"})
    place.reads(field, "Pro")
    erasure.erase(place.user, case, why="asked for")
    whole = quality.summary(place.user)
    assert whole.overrides_by_class.rows == whole.drift == ()


# ── overridden fields as a data set ───────────────────────────────────────────────────────────


def test_overridden_fields_are_a_data_set_that_splits_by_patient(place, tmp_path):
    for patient in ("P-one", "P-two", "P-three", "P-four"):
        for _ in range(2):
            case, ids = place.images({}, {}, {}, {"label": "Pro"}, patient=patient)
            place.read_all(case, zip(ids, ("Pro", "Benign", "Pre", "Benign"), strict=True))
    done = write_overridden(place.user, tmp_path / "ours")
    assert (done.classes, done.patients, done.cases) == ({"Pro": 8, "Benign": 16}, 4, 8)
    data = Dataset.open(done.table)
    assert data.counts == {"Pro": 8, "Benign": 16}
    assert set(data.hashes) == {path.stem for path in (tmp_path / "ours" / "images").iterdir()}
    assert len(data.slide_names) == 8
    split = data.split(test=0.5, seed=0)
    assert len(split.train)
    assert len(split.test)
    groups = [{s.group for s in part.samples} for part in (split.train, split.test)]
    assert not groups[0] & groups[1]
    assert set(data.column("model_label")) == {"Pre", "Pro"}


def test_no_pseudonym_and_no_id_leaves_and_two_exports_cannot_be_joined(place, tmp_path):
    case, (field,) = place.images({"label": "Pre"}, patient="P-Zebedee")
    place.reads(field, "Pro")
    first = write_overridden(place.user, tmp_path / "first")
    second = write_overridden(place.user, tmp_path / "second")
    with place.store.read() as connection:
        patient = connection.scalar(sa.select(t.patients.c.id))
    text = "".join(
        path.read_text("utf-8") for path in first.table.parent.iterdir() if path.is_file()
    )
    for secret in ("Zebedee", case, field, patient, "May-Grünwald", place.user.name):
        assert secret not in text
    assert Dataset.open(first.table).origins.isdisjoint(Dataset.open(second.table).origins)


def test_what_teaches_nothing_is_left_out_and_counted(place, tmp_path):
    case, ids = place.images(*[{"label": "Pre"}] * 5, second_reader=True)
    labels = ("Pro", "Pro", "other", "inadequate", "Pre")
    place.read_all(case, zip(ids, labels, strict=True))
    place.read_all(case, zip(ids, ("Pro", "Early"), strict=False), round=2)
    # The same image in two cases: once under two classes, once under one.
    _, ids = place.images({"label": "Pre"}, {"label": "Pre"}, seeds=(900, 901))
    _, again = place.images({"label": "Pre"}, {"label": "Pre"}, seeds=(900, 901))
    for field, label in zip([*ids, *again], ("Pro", "Early", "Pre", "Early"), strict=True):
        place.reads(field, label)
    done = write_overridden(place.user, tmp_path / "ours")
    assert done.classes == {"Pro": 1, "Early": 1}
    assert done.left_out == {
        "other": 1, "inadequate": 1, "second_reader": 1, "conflict": 1, "unread": 0,
    }  # fmt: skip
    assert done.conflicts == (incoming(900).sha256,)
    told = json.loads((tmp_path / "ours" / "left-out.json").read_text("utf-8"))
    assert told["conflicts"] == [incoming(900).sha256]
    assert len(Dataset.open(done.table)) == 2


def test_signed_cases_give_every_field_that_a_person_read(place, tmp_path):
    case, ids = place.images(*[{"label": "Pre", "verdict": "accepted"}] * 3)
    for field, label in zip(ids[:2], ("Pre", "Pro"), strict=True):
        place.reads(field, label)
    with pytest.raises(ClinicError, match="Nothing was written"):
        write_overridden(place.user, tmp_path / "ours", only="signed")
    place.sign(case)
    done = write_overridden(place.user, tmp_path / "ours", only="signed")
    assert (done.classes, done.left_out["unread"]) == ({"Pre": 1, "Pro": 1}, 1)
    with pytest.raises(ClinicError, match="overridden or signed"):
        write_overridden(place.user, tmp_path / "more", only="all")


def test_an_export_is_in_the_audit_with_its_cases_and_needs_a_role(place, tmp_path):
    case, (field,) = place.images({"label": "Pre"})
    place.reads(field, "Pro")
    write_overridden(place.user, tmp_path / "ours", since="2026-02-01")
    (row,) = place.audit("images.exported")
    assert (row.who, row.detail["images"], row.detail["cases"]) == ("anna", 1, [case])
    with pytest.raises(AccessError):
        write_overridden(access.worker(place.store), tmp_path / "more")
    with pytest.raises(ClinicError, match="no such field"):
        write_overridden(place.user, tmp_path / "more", since="2026-02-02")
    assert not (tmp_path / "more").exists()


def test_an_altered_image_and_a_taken_place_stop_the_export_whole(place, tmp_path):
    _, (field,) = place.images({"label": "Pre"})
    place.reads(field, "Pro")
    (tmp_path / "taken").mkdir()
    with pytest.raises(AllkitError, match="exists already"):
        write_overridden(place.user, tmp_path / "taken")
    sha256 = incoming(0).sha256
    place.store.blobs.path(sha256).write_bytes(b"something else")
    with pytest.raises(StoreError, match="altered"):
        write_overridden(place.user, tmp_path / "ours")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clinic", "taken"]
    assert place.audit("images.exported") == []


def test_an_edited_image_of_an_export_leaves_the_clinics_own_as_it_is(place, tmp_path):
    _, (field,) = place.images({"label": "Pre"})
    place.reads(field, "Pro")
    write_overridden(place.user, tmp_path / "ours")
    (image,) = (tmp_path / "ours" / "images").iterdir()
    with image.open("r+b") as stream:
        stream.write(b"edited in place")
    assert fields.image_of(place.user, field) == incoming(0).data
