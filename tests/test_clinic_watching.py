"""A watched folder: everything in it is taken or refused with a text, and nothing is lost."""

import io
import threading
import time
import zipfile

import numpy as np
import pytest
import sqlalchemy as sa

from allkit.clinic import access, cases, watching
from allkit.clinic.records import Identifier
from allkit.clinic.store import chain
from allkit.clinic.store import tables as t
from allkit.clinic.store.verify import verify
from allkit.clinic.watching import look, watch
from allkit.errors import ConfigError, StoreError
from clinic_places import BLOOD, Clock, new_store, picture

ORDER = "\r".join((
    "MSH|^~\\&|LIS|LAB|ALLKIT|HAEM|20260131101500+0100||OML^O21^OML_O21|M-1|P|2.5.1",
    "PID|1||P-1^^^HOSP^MR||Doe^Jane",
    "ORC|NW|A-1^LIS",
    "OBR|1|A-1^LIS||SMEAR^Smear^L",
    "SPM|1|||BLD^Whole blood^HL70487",
    "ORC|NW|A-2^LIS",
    "OBR|2|A-2^LIS||SMEAR^Smear^L",
    "SPM|2|||BMA^Marrow^HL70487",
))  # fmt: skip


class Watched:
    """A clinic and a folder that is watched."""

    def __init__(self, store, user, folder):
        self.store, self.user, self.folder = store, user, folder
        self.seen, self.told = {}, []
        folder.mkdir()

    def case(self, number="LAB-2026-00417", **options):
        return cases.create(self.user, specimen_=BLOOD, order=Identifier(number, "LIS"), **options)

    def put(self, name, data):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def looks(self, times=2):
        return sum(
            look(self.store, self.folder, self.seen, tell=self.told.append) for _ in range(times)
        )

    def files(self):
        """The files in the folder, by their paths in it."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [path.relative_to(self.folder).as_posix() for path in found]

    def text(self, name):
        return (self.folder / name).read_text("utf-8")

    def fields(self, case=None):
        with self.store.read() as connection:
            rows = connection.execute(sa.select(t.fields)).all()
        return [row.name for row in rows if case in (None, row.case_id)]

    def orders(self):
        with self.store.read() as connection:
            return sorted(connection.scalars(sa.select(t.cases.c.order_number)))


@pytest.fixture
def watched(tmp_path):
    with new_store(tmp_path / "clinic", now=Clock()) as store:
        yield Watched(store, access.first_person(store, "anna"), tmp_path / "in")


def dicom(accession):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
    made.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.77.1.2")
    made.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    made.SOPClassUID, made.SOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.77.1.2"), UID("2.25.1")
    made.Rows = made.Columns = 40
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PatientName, made.AccessionNumber = "Doe^Jane", accession
    seed = sum(accession.encode())
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    made.PixelData = pixels.tobytes()
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def zipped(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
    return stream.getvalue()


# ── whose an image is ─────────────────────────────────────────────────────────────────────────


def test_a_folder_named_like_an_order_number_or_a_case_is_that_case(watched):
    one, two = watched.case(), watched.case("B-2")
    watched.put("LAB-2026-00417/a.png", picture(1))
    watched.put(f"{two.lower()}/deep/b.png", picture(2))
    assert watched.looks(1) == 0  # it may still be written
    assert watched.looks(1) == 2
    assert (watched.fields(one), watched.fields(two)) == (["a.png"], ["b.png"])
    assert set(watched.files()) == {f"taken/{two.lower()}/deep/b.png", "taken/LAB-2026-00417/a.png"}
    assert watched.looks(3) == 0


@pytest.mark.parametrize("name", ["00417", "LAB-2026", "lab-2026-00417x", "nobody"])
def test_a_part_of_a_number_is_no_number(watched, name):
    watched.case()
    watched.put(f"{name}/a.png", picture(1))
    watched.looks()
    assert watched.fields() == []
    assert watched.files() == [f"refused/{name}/a.png", f"refused/{name}/a.png.txt"]
    assert "Open the case first" in watched.text(f"refused/{name}/a.png.txt")


def test_a_number_of_two_senders_is_refused_with_both_cases(watched):
    one = watched.case("17")
    two = cases.create(watched.user, specimen_=BLOOD, order=Identifier("17", "other"))
    watched.put("17/a.png", picture(1))
    watched.looks()
    assert watched.fields() == []
    assert all(case in watched.text("refused/17/a.png.txt") for case in (one, two))


def test_an_image_that_does_not_say_whose_it_is_is_refused(watched):
    watched.case()
    watched.put("a.png", picture(1))
    watched.looks()
    assert watched.files() == ["refused/a.png", "refused/a.png.txt"]
    assert "named like its order number" in watched.text("refused/a.png.txt")


def test_a_dicom_goes_to_its_order_and_is_refused_where_the_folder_says_another(watched):
    one, two = watched.case("A-1"), watched.case("A-2")
    watched.put("photo", dicom("A-1"))
    watched.put("A-2/right", dicom("A-2"))
    watched.put("A-2/wrong", dicom("A-1"))
    watched.put("lost", dicom("A-9"))
    watched.looks()
    assert (watched.fields(one), watched.fields(two)) == (["photo"], ["right"])
    assert "another order" in watched.text("refused/A-2/wrong.txt")
    assert "no order number here" in watched.text("refused/lost.txt")
    assert "Doe" not in watched.text("refused/lost.txt")


def test_each_order_of_a_message_opens_a_case_before_the_images_that_came_with_it(watched):
    watched.put("A-2/a.png", picture(1))
    watched.put("z-order.hl7", ORDER.encode())
    assert watched.looks() == 2
    assert watched.orders() == ["A-1", "A-2"]
    assert watched.fields() == ["a.png"]
    watched.put("again.hl7", ORDER.encode())
    watched.looks()
    assert watched.orders() == ["A-1", "A-2"]
    assert watched.files() == ["taken/A-2/a.png", "taken/again.hl7", "taken/z-order.hl7"]


# ── what cannot be taken ──────────────────────────────────────────────────────────────────────


def test_a_zip_of_which_a_part_is_bad_is_refused_and_says_what_was_taken(watched):
    case = watched.case()
    watched.put("LAB-2026-00417/a.zip", zipped(one__png=picture(1), two__png=b"no image"))
    watched.looks()
    assert len(watched.fields(case)) == 1
    text = watched.text("refused/LAB-2026-00417/a.zip.txt")
    assert text.startswith("1 parts of this file were taken")
    assert "two.png" in text


def test_helper_files_in_a_zip_are_told_and_refuse_nothing(watched):
    watched.case()
    watched.put("LAB-2026-00417/a.zip", zipped(one__png=picture(1), __DS_Store=b"x"))
    watched.looks()
    assert watched.files()[0] == "taken/LAB-2026-00417/a.zip"
    assert "left out" in watched.text("taken/LAB-2026-00417/a.zip.txt")


def test_an_image_that_another_case_has_is_taken_and_told(watched):
    one, two = watched.case("A-1"), watched.case("A-2")
    watched.put("A-1/a.png", picture(1))
    watched.looks()
    watched.put("A-2/a.png", picture(1))
    watched.looks()
    assert len(watched.fields(two)) == 1
    assert one in watched.text("taken/A-2/a.png.txt")


def test_an_image_for_a_signed_case_is_refused(watched):
    case = watched.case()
    with watched.user.change("admin") as change:
        change.update(t.cases, case, status="signed")
        change.log("case.signed", case)
    watched.put("LAB-2026-00417/a.png", picture(1))
    watched.looks()
    assert "allkit clinic reopen" in watched.text("refused/LAB-2026-00417/a.png.txt")


@pytest.mark.parametrize(
    ("name", "data"), [("LAB-2026-00417/notes.txt", b"hello"), ("order.hl7", b"MSH|^~\\&|broken")]
)
def test_what_is_neither_image_nor_order_is_refused_with_a_text(watched, name, data):
    watched.case()
    watched.put(name, data)
    watched.looks()
    assert watched.files() == [f"refused/{name}", f"refused/{name}.txt"]
    assert watched.text(f"refused/{name}.txt").strip()


def test_a_folder_that_is_not_there_is_named(watched, tmp_path):
    with pytest.raises(ConfigError, match="no folder"):
        watch(watched.store, tmp_path / "nowhere")


# ── what goes wrong meanwhile ─────────────────────────────────────────────────────────────────


def test_a_file_that_could_not_be_moved_after_the_commit_is_there_once(watched, monkeypatch):
    case = watched.case()
    watched.put("LAB-2026-00417/a.png", picture(1))
    watched.looks(1)

    def fails(*_, **__):
        raise OSError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(watching, "set_aside", fails)
        assert watched.looks(1) == 0
    assert "Permission denied" in watched.told[0]
    assert watched.files() == ["LAB-2026-00417/a.png"]
    assert watched.looks() == 1
    assert watched.fields(case) == ["a.png"]


@pytest.mark.parametrize("error", [StoreError("away"), OSError(28, "No space left")])
def test_while_the_database_is_away_or_the_disk_full_files_wait(watched, monkeypatch, error):
    case = watched.case()
    for number in range(3):
        watched.put(f"LAB-2026-00417/{number}.png", picture(number))
    watched.looks(1)
    add, calls = watching.fields.add, []

    def fails(*arguments):
        calls.append(1)
        if len(calls) > 1:
            raise error
        return add(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(watching.fields, "add", fails)
        assert watched.looks(1) == 1
    assert len(calls) == 2  # one failure is enough to wait
    assert watched.told[0].startswith("2 files in")
    assert watched.looks() == 2
    assert len(watched.fields(case)) == 3
    assert not [name for name in watched.files() if name.startswith("refused")]


def test_the_program_that_may_not_work_refuses_nothing_of_others(watched):
    watched.case()
    with watched.user.change("admin") as change:
        worker = access.person(change.connection, access.WORKER)
        change.update(t.people, worker.id, active=False)
        change.log("person.changed", worker.id)
    watched.put("LAB-2026-00417/a.png", picture(1))
    assert watched.looks() == 0
    assert watched.files() == ["LAB-2026-00417/a.png"]
    assert "may not sign in" in watched.told[0]


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_it_watches_until_it_is_stopped_in_the_name_of_the_program(watched):
    case, stop = watched.case(), threading.Event()
    thread = threading.Thread(
        target=watch, args=(watched.store, watched.folder), kwargs={"stop": stop, "poll": 0.02}
    )
    thread.start()
    try:
        watched.put("LAB-2026-00417/a.png", picture(1))
        wait_for(lambda: watched.files() == ["taken/LAB-2026-00417/a.png"])
    finally:
        stop.set()
        thread.join()
    assert watched.fields(case) == ["a.png"]
    with watched.store.read() as connection:
        assert {row.who for row in chain.rows(connection) if row.what == "field.added"} == {
            "allkit"
        }


@pytest.mark.slow
def test_a_server_that_is_stopped_and_started_again_loses_nothing(tmp_path, postgres):
    with new_store(tmp_path / "clinic", postgres.database(), now=Clock()) as store:
        watched = Watched(store, access.first_person(store, "anna"), tmp_path / "in")
        case = watched.case()
        watched.put("LAB-2026-00417/a.png", picture(1))
        watched.looks(1)
        postgres.stop()
        try:
            watched.put("LAB-2026-00417/b.png", picture(2))
            assert watched.looks(2) == 0
        finally:
            postgres.start()
        assert "cannot be used now" in watched.told[0]
        assert watched.looks(2) == 2
        assert sorted(watched.fields(case)) == ["a.png", "b.png"]
        assert verify(store) == []
