"""The clinic over HTTP: keys, cases and orders in, results out, and what no request may do."""

import contextlib
import io
import json
import logging
import shutil
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("httpx", reason="the extra `dev` is not installed")

from fastapi.testclient import TestClient

from allkit.clinic import access, cases, fields, reading, routes, signing
from allkit.clinic.records import Identifier
from allkit.clinic.reports.formats import FORMATS
from allkit.clinic.signing import Statement
from allkit.clinic.store.store import Store
from allkit.clinic.store.verify import verify
from allkit.errors import AllkitError, StoreError
from allkit.serving.app import Limits, create_app
from clinic_places import (
    BLOOD,
    Clock,
    Scripted,
    incoming,
    new_store,
    picture,
    with_model,
)

SERVER_KEY = "the-key-of-the-server"
HL7 = {"Content-Type": "application/hl7-v2"}
ORDER = (
    b"MSH|^~\\&|LIS|KH|ALLKIT||20260201080000+0000||ORM^O01^ORM_O01|M1|P|2.5.1\r"
    b"PID|1||PAT-77^^^KH||Muster^Erika\rORC|NW|A-1^LIS\rOBR|1|A-1^LIS||SMEAR^Smear^L\r"
    b"SPM|1|S-1||BLD^Blood^HL70487\r"
)
REQUEST = {
    "resourceType": "ServiceRequest", "status": "active", "intent": "order",
    "identifier": [{"system": "LIS", "value": "F-1"}],
    "subject": {"identifier": {"system": "KH", "value": "PAT-77"}},
    "specimen": [{"reference": "#s"}],
    "contained": [{"resourceType": "Specimen", "id": "s", "type": {"coding": [{"code": "BMA"}]}}],
}  # fmt: skip
BLOOD_JSON = {"specimen": {"kind": "blood", "collected": "2026-01-31"}}


class Nothing:
    """A model that is never asked, but to warm up."""

    classes = ("Benign", "Early", "Pre", "Pro")

    def predict(self, images, *, batch_size=16):
        return []


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A clinic with people and their keys, to be copied: (folder, key by name)."""
    folder = tmp_path_factory.mktemp("template") / "clinic"
    with new_store(folder, now=Clock()) as store:
        anna = access.first_person(store, "anna", "Dr. Anna Berg")
        for name, role in (("bert", "reader"), ("boss", "admin"), ("lis", "system")):
            access.add_person(anna, name, [role])
        keys = {name: access.add_key(anna, name) for name in ("anna", "bert", "boss", "lis")}
    return folder, keys


class Clinic:
    """A served clinic: `call` asks in somebody's name."""

    def __init__(self, store, keys, client):
        self.store, self.keys, self.client = store, keys, client
        self.anna = access.sign_in(store, "anna")

    def call(self, method, path, who="lis", headers=None, **further):
        headers = {"X-API-Key": self.keys.get(who, who)} | (headers or {})
        return self.client.request(method, f"/clinic{path}", headers=headers, **further)

    def get(self, path, who="lis", **further):
        return self.call("GET", path, who, **further)

    def post(self, path, who="lis", **further):
        return self.call("POST", path, who, **further)

    def case(self, number=None, images=1, **options):
        order = None if number is None else Identifier(number, "LIS")
        case = cases.create(self.anna, specimen_=BLOOD, order=order, **options)
        fields.add(self.anna, case, [incoming(i) for i in range(images)])
        return case

    def signed(self, number=None):
        case = self.case(number)
        for field in self.get(f"/cases/{case}", "anna").json()["fields"]:
            reading.relabel(self.anna, field["field"], "Pro", why="chromatin")
        signing.sign(self.anna, case, Statement("Pro"))
        return case


@contextlib.contextmanager
def serving(template, place):
    folder, keys = template
    shutil.copytree(folder, place)
    limits = Limits(images=8, request_bytes=200_000)
    with Store.open(place, now=Clock("2026-02-02")) as store:
        router = routes.clinic_router(store, limits=limits)
        app = create_app(Nothing(), key=SERVER_KEY, limits=limits, local=False, routers=[router])
        with TestClient(app) as client:
            yield Clinic(store, keys, client)
        assert verify(store) == []


@pytest.fixture
def served(template, tmp_path):
    """A served clinic of one's own."""
    with serving(template, tmp_path / "clinic") as clinic:
        yield clinic


@pytest.fixture(scope="module")
def empty(template, tmp_path_factory):
    """A served clinic for what leaves nothing behind."""
    with serving(template, tmp_path_factory.mktemp("empty") / "clinic") as clinic:
        yield clinic


@pytest.fixture(scope="module")
def kept(template, tmp_path_factory):
    """A served clinic with a case without fields and a signed one, which stay as they are."""
    with serving(template, tmp_path_factory.mktemp("kept") / "clinic") as clinic:
        yield clinic, clinic.case(images=0), clinic.signed()


def told(answer):
    """The one sentence of an error."""
    (key,) = set(answer.json()) & {"error"}
    return answer.json()[key]


# ── keys and roles ────────────────────────────────────────────────────────────────────────────


EVERY = [
    ("POST", "/orders"), ("POST", "/cases"), ("GET", "/cases"), ("GET", "/cases/X"),
    ("POST", "/cases/X/fields"), ("GET", "/cases/X/report"), ("GET", "/audit"), ("GET", "/reports"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), EVERY)
def test_every_route_wants_a_key_of_the_clinic_and_the_servers_is_none(empty, method, path):
    for key in ("", "wrong", SERVER_KEY, "ü" * 10_000):
        got = empty.call(method, path, headers={"X-API-Key": key.encode("latin-1")})
        assert got.status_code == 401, key[:20]
        assert "key is missing or wrong" in told(got)
        assert got.headers["www-authenticate"] == "Bearer"


def test_a_key_is_taken_as_bearer_and_not_any_more_when_it_was_revoked(served):
    bearer = {"Authorization": f"Bearer {served.keys['lis']}"}
    assert served.client.get("/clinic/cases", headers=bearer).status_code == 200
    access.revoke_keys(served.anna, "lis")
    assert served.client.get("/clinic/cases", headers=bearer).status_code == 401
    access.add_person(served.anna, "bert", [])
    assert served.get("/cases", "bert").status_code == 401


def test_the_servers_other_routes_keep_their_own_key(empty):
    assert empty.client.get("/metrics").status_code == 401
    assert empty.client.get("/metrics", headers={"X-API-Key": SERVER_KEY}).status_code == 200
    key = {"X-API-Key": empty.keys["boss"]}
    assert empty.client.get("/metrics", headers=key).status_code == 401


def test_who_lacks_the_role_is_told_which_it_needs(served):
    case = served.case()
    for method, path, who, further in [
        ("POST", "/orders", "boss", {"content": ORDER, "headers": HL7}),
        ("POST", "/orders", "boss", {"json": REQUEST}),
        ("POST", "/cases", "boss", {"json": BLOOD_JSON}),
        ("GET", f"/cases/{case}", "boss", {}),
        ("POST", f"/cases/{case}/fields", "boss", {"content": b"x"}),
        ("GET", f"/cases/{case}/report", "boss", {}),
        ("GET", "/reports", "boss", {}),
        ("GET", "/audit", "lis", {}),
        ("GET", "/audit", "bert", {}),
    ]:
        got = served.call(method, path, who, **further)
        assert got.status_code == 403, (path, got.text)
        assert "this needs" in told(got)


# ── orders ────────────────────────────────────────────────────────────────────────────────────


def test_an_order_in_hl7_gets_its_acknowledgement(served):
    for kind in ("application/hl7-v2", "text/plain; charset=utf-8"):
        got = served.post("/orders", content=ORDER, headers={"Content-Type": kind})
        assert (got.status_code, got.headers["content-type"]) == (200, "application/hl7-v2")
        assert b"\rMSA|AA|M1" in got.content
    (row,) = served.get("/cases", params={"text": "A-1"}).json()["cases"]
    assert (row["order"], row["state"], row["specimen"]) == ("A-1", "new", "blood")
    other = ORDER.replace(b"PAT-77", b"PAT-99").replace(b"|M1|", b"|M2|")
    got = served.post("/orders", content=other, headers=HL7)
    assert got.status_code == 422
    assert b"\rMSA|AR|M2" in got.content
    assert b"PAT-" not in got.content


def test_an_order_in_fhir_gets_an_outcome_with_its_case(served):
    got = served.post("/orders", json=REQUEST, headers={"Content-Type": "application/fhir+json"})
    assert got.status_code == 200
    assert got.json()["resourceType"] == "OperationOutcome"
    (made,) = got.json()["cases"]
    assert made["new"]
    assert served.post("/orders", json=REQUEST).json()["cases"] == [made | {"new": False}]
    assert served.get(f"/cases/{made['case']}").json()["specimen"]["kind"] == "marrow"
    other = REQUEST | {"subject": {"identifier": {"system": "KH", "value": "PAT-99"}}}
    got = served.post("/orders", json=other)
    assert (got.status_code, "another patient" in told(got)) == (409, True)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/fhir+json", 422),
        (b"{", "application/json", 422),
        (b"[" * 50_000, "application/json", 422),
        (b'{"resourceType": "Patient"}', "application/json", 422),
        (b'{"resourceType": "ServiceRequest", "status": ' + b"9" * 10_000 + b"}", "application/json", 422),
        (json.dumps(REQUEST | {"identifier": [{"value": "9" * 10_000}]}).encode(), "application/json", 422),
        (json.dumps(REQUEST | {"identifier": [{"value": "a\x00b"}]}).encode(), "application/json", 422),
        (json.dumps(REQUEST | {"identifier": [{"value": "\ud800"}]}).encode(), "application/json", 422),
        (ORDER, "image/png", 415),
        (ORDER, "", 415),
        (b"x" * 300_000, "application/json", 413),
        (b"x" * 300_000, "text/plain", 413),
    ],
)  # fmt: skip
def test_a_hostile_order_is_refused_in_a_sentence(empty, body, kind, status):
    got = empty.post("/orders", content=body, headers={"Content-Type": kind})
    assert (got.status_code, len(told(got)) < 300) == (status, True), got.text
    assert empty.get("/cases").json()["cases"] == []


# ── cases ─────────────────────────────────────────────────────────────────────────────────────


def test_a_case_is_opened_shown_and_found(served):
    asked = {
        "specimen": {"kind": "marrow", "collected": "2026-01-31", "stain": "MGG", "number": "S-9"},
        "order": {"value": "LAB-2026-00417", "issuer": "LIS"},
        "identifiers": [{"value": "PAT-77", "issuer": "KH"}],
        "patient": "P-1", "second_reader": True, "blind_first": False,
    }  # fmt: skip
    got = served.post("/cases", json=asked)
    assert got.status_code == 201
    case = got.json()["case"]
    shown = served.get(f"/cases/{case}").json()
    for name in ("specimen", "order", "identifiers", "patient", "second_reader", "blind_first"):
        assert shown[name] == asked[name]
    assert (shown["state"], shown["fields"], shown["report"], shown["job"]) == (
        "new",
        [],
        None,
        None,
    )
    for query in (
        {"text": "00417"},
        {"specimen": "marrow"},
        {"state": ["new", "reading"]},
        {"since": "2026-02-02"},
    ):
        assert [row["case"] for row in served.get("/cases", params=query).json()["cases"]] == [case]
    for query in (
        {"text": "00418"},
        {"specimen": "blood"},
        {"state": "signed"},
        {"until": "2026-02-01"},
        {"urgent": "true"},
        {"reader": "bert"},
    ):
        assert served.get("/cases", params=query).json()["cases"] == []
    again = served.post("/cases", json=asked)
    assert (again.status_code, case in told(again)) == (409, True)


def test_a_list_is_read_page_by_page(served):
    made = [served.post("/cases", json=BLOOD_JSON).json()["case"] for _ in range(5)]
    seen, after = [], None
    while True:
        page = served.get(
            "/cases", params={"limit": 2} | ({"after": after} if after else {})
        ).json()
        seen += [row["case"] for row in page["cases"]]
        after = page["next"]
        if after is None:
            break
    assert seen == made


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b"\xff\xfe", b"{" * 10_000, b'{"a":' * 10_000,
        b'{"specimen": {"kind": "urine"}}', b'{"specimen": "blood"}', b'{"specimen": {"kind": 5}}',
        b'{"specimen": {"kind": "blood", "collected": "yesterday"}}',
        b'{"specimen": {"kind": "blood", "collected": ' + b"9" * 10_000 + b"}}",
        b'{"specimen": {"kind": "blood"}, "order": "A-1"}',
        b'{"specimen": {"kind": "blood"}, "order": {"value": ""}}',
        b'{"specimen": {"kind": "blood"}, "order": {"value": "' + b"9" * 10_000 + b'"}}',
        b'{"specimen": {"kind": "blood"}, "order": {"value": "a\\u0000b"}}',
        b'{"specimen": {"kind": "blood"}, "order": {"value": "\\ud800"}}',
        b'{"specimen": {"kind": "blood"}, "patient": ["P-1"]}',
        b'{"specimen": {"kind": "blood"}, "second_reader": "yes"}',
        b'{"specimen": {"kind": "blood"}, "name": "Erika Muster"}',
        b'{"specimen": {"kind": "blood"}, "identifiers": {"value": "1"}}',
    ],
)  # fmt: skip
def test_a_hostile_case_is_refused_in_a_sentence(empty, body):
    got = empty.post("/cases", content=body, headers={"Content-Type": "application/json"})
    assert got.status_code == 422, got.text
    assert 10 < len(told(got)) < 300
    assert "Muster" not in got.text
    assert empty.get("/cases").json()["cases"] == []


@pytest.mark.parametrize(
    "query",
    [
        "text=%00", "text=" + "x" * 10_000, "state=gone", "specimen=urine", "since=yesterday",
        "until=" + "9" * 10_000, "limit=0", "limit=" + "9" * 10_000, "limit=ten", "urgent=perhaps",
        "after=x", "after=%C2%B2|x|y", "after=" + "9" * 5_000 + "|x|y", "reader=nobody", "reader=%00",
    ],
)  # fmt: skip
def test_a_hostile_filter_is_refused_in_a_sentence(empty, query):
    got = empty.get(f"/cases?{query}")
    assert got.status_code == 422, got.text
    assert len(told(got)) < 300


@pytest.mark.parametrize("case", ["x", "X" * 26, "0" * 26, "%00", "..%2f..%2fetc", "9" * 10_000])
@pytest.mark.parametrize("path", ["", "/report", "/fields"])
def test_a_case_that_is_unknown_is_told(empty, case, path):
    got = empty.call("POST" if path == "/fields" else "GET", f"/cases/{case}{path}")
    assert got.status_code == 404
    assert len(told(got)) < 300


def test_a_machine_sees_the_state_and_the_models_part_but_no_reading(served, tmp_path):
    said = {incoming(0).sha256: ("accepted", "Pro")}
    _, worker = with_model(served.anna, tmp_path / "model.onnx", Scripted(said))
    case = served.case("A-1", images=2)
    waiting = served.get(f"/cases/{case}").json()
    assert (waiting["job"]["state"], waiting["answer"]) == ("queued", None)
    worker.drain()
    (first, _) = served.get(f"/cases/{case}").json()["fields"]
    reading.relabel(served.anna, first["field"], "Pre", why="nucleoli")
    for who in ("lis", "bert"):
        shown = served.get(f"/cases/{case}", who).json()
        assert (shown["state"], shown["job"]["state"]) == ("reading", "done")
        assert (shown["job"]["done"], shown["job"]["total"]) == (2, 2)
        assert shown["answer"]["status"] == "preliminary"
        assert [f["model"]["status"] for f in shown["fields"]] == ["preliminary"] * 2
        assert (shown["fields"][0]["reading"] is None) == (who == "lis")
        assert ("nucleoli" in json.dumps(shown)) == (who == "bert")
    (row,) = served.get("/cases").json()["cases"]
    assert (row["reader"], row["review"]) == (None, None)
    with served.store.read() as connection:
        from allkit.clinic.store import chain

        seen = [(r.who, r.object) for r in chain.rows(connection) if r.what == "case.seen"]
    assert ("lis", case) in seen


def test_of_a_blind_case_nobody_gets_the_models_part_before_its_time(served, tmp_path):
    _, worker = with_model(served.anna, tmp_path / "model.onnx", Scripted())
    case = served.case(blind_first=True)
    worker.drain()
    for who in ("lis", "bert"):
        shown = served.get(f"/cases/{case}", who).json()
        assert (shown["answer"], shown["fields"][0]["model"]) == (None, None)
        assert shown["fields"][0]["hidden"]
    got = served.get(f"/cases/{case}/report?preliminary=true&format=csv", "bert")
    assert (got.status_code, "blind" in told(got)) == (409, True)


# ── fields ────────────────────────────────────────────────────────────────────────────────────


def files_of(*named):
    return [("files", (name, data, "application/octet-stream")) for name, data in named]


def test_images_come_as_a_form_as_a_body_and_as_a_zip(served):
    case = served.case(images=0)
    path = f"/cases/{case}/fields"
    got = served.post(
        path, files=files_of(("a.png", picture(1)), ("b.png", picture(2)), ("c.txt", b"no"))
    )
    assert got.status_code == 200
    assert "error" not in got.json()
    assert [one["name"] for one in got.json()["added"]] == ["a.png", "b.png"]
    ((refused,),) = (got.json()["refused"],)
    assert (refused["name"], refused["code"]) == ("c.txt", "not_an_image")
    got = served.post(path, files=files_of(("a.png", picture(1))))
    assert (got.json()["added"], len(got.json()["again"])) == ([], 1)
    got = served.post(path, content=picture(3), headers={"Content-Type": "image/png"})
    assert len(got.json()["added"]) == 1
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("in/d.png", picture(4))
        archive.writestr("order.hl7", ORDER)
    got = served.post(path, content=stream.getvalue(), headers={"Content-Type": "application/zip"})
    assert [one["name"] for one in got.json()["added"]] == ["image/in/d.png"]
    assert "/clinic/orders" in got.json()["refused"][0]["error"]
    assert len(served.get(f"/cases/{case}").json()["fields"]) == 4
    other = served.case(images=0)
    got = served.post(f"/cases/{other}/fields", files=files_of(("a.png", picture(1))))
    assert got.json()["elsewhere"] == [{"name": "a.png", "cases": [case]}]


def test_a_dicom_file_comes_as_its_own_media_type(served):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    data.PatientName, data.PatientID, data.Modality = "Muster^Erika", "PAT-77", "OT"
    data.Rows = data.Columns = 48
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = np.random.default_rng(1).integers(0, 255, 48 * 48 * 3, np.uint8).tobytes()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    case = served.case(images=0)
    kind = {"Content-Type": "application/dicom"}
    got = served.post(f"/cases/{case}/fields", content=stream.getvalue(), headers=kind)
    assert (got.status_code, len(got.json()["added"])) == (200, 1), got.text
    (field,) = served.get(f"/cases/{case}").json()["fields"]
    assert "PatientName" in field["removed"]
    assert "Muster" not in json.dumps(field)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd.png", "etc/passwd.png"),
        ("C:\\Users\\Muster\\a.png", "C:/Users/Muster/a.png"),
        ("/", "a file without a name"),
        ("<b>a</b>.png", "<b>a</b>.png"),
        ("ä\u202egnp.exe", "ä\N{REPLACEMENT CHARACTER}gnp.exe"),
    ],
)
def test_a_name_is_shown_only_and_leads_nowhere(served, tmp_path, name, shown):
    case = served.case(images=0)
    before = sorted(p for p in tmp_path.rglob("*") if "images" not in p.parts)
    got = served.post(f"/cases/{case}/fields", files=files_of((name, picture(1))))
    (added,) = got.json()["added"]
    assert added["name"] == shown or name.startswith("<") or "C:" in name
    assert "\u202e" not in got.text
    assert ".." not in added["name"]
    assert sorted(p for p in tmp_path.rglob("*") if "images" not in p.parts) == before


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"files": [("files", ("a.txt", b"text"))]}, 422),
        ({"files": [("files", ("a.png", b""))]}, 422),
        ({"files": [("files", ("a.png", picture(1)[:60]))]}, 422),
        ({"content": b"PK\x03\x04broken", "headers": {"Content-Type": "application/zip"}}, 422),
        ({"content": b"no", "headers": {"Content-Type": "application/dicom"}}, 422),
        ({"files": {"a": (None, "text")}}, 400),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        ({"content": b"--x\r\n\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400),
        ({"files": [("f", (f"{i}.png", b"x")) for i in range(9)]}, 400),
        ({"json": {}}, 415),
        ({"content": b"x"}, 415),
        ({"content": b"x", "headers": {"Content-Encoding": "gzip", "Content-Type": "image/png"}}, 415),
        ({"content": bytes(200_001), "headers": {"Content-Type": "image/png"}}, 413),
        ({"content": iter([bytes(100_000)] * 3), "headers": {"Content-Type": "image/png"}}, 413),
    ],
)  # fmt: skip
def test_a_hostile_file_is_refused_in_a_sentence(kept, sent, status):
    clinic, case, _ = kept
    got = clinic.post(f"/cases/{case}/fields", **sent)
    assert (got.status_code, len(told(got)) < 300) == (status, True), got.text
    assert clinic.get(f"/cases/{case}").json()["fields"] == []


def test_a_signed_case_takes_no_image(kept):
    clinic, _, case = kept
    got = clinic.post(f"/cases/{case}/fields", files=files_of(("a.png", picture(7))))
    assert (got.status_code, "opened again" in told(got)) == (409, True)


def test_a_full_disk_and_a_database_that_is_away_are_told_without_their_words(served, monkeypatch):
    case = served.case(images=0)

    def fails_with(error):
        def put(*_):
            raise error

        monkeypatch.setattr(type(served.store.blobs), "put", put)
        return served.post(f"/cases/{case}/fields", files=files_of(("a.png", picture(7))))

    got = fails_with(AllkitError("No space left in /srv/Muster."))
    assert (got.status_code, "Muster" in got.text) == (507, False)
    got = fails_with(StoreError("Key (order_number)=(Muster) exists."))
    assert (got.status_code, "Muster" in got.text) == (503, False)
    assert got.headers["retry-after"]


# ── results ───────────────────────────────────────────────────────────────────────────────────


def test_a_report_is_final_or_none_unless_a_preliminary_one_is_asked_for(served):
    case = served.case("A-1")
    got = served.get(f"/cases/{case}/report?format=csv", "bert")
    assert (got.status_code, "no signed report" in told(got)) == (409, True)
    got = served.get(f"/cases/{case}/report?format=csv&preliminary=true", "bert")
    assert (got.status_code, got.headers["x-report-kind"]) == (200, "preliminary")
    got = served.get(f"/cases/{case}/report?format=csv&preliminary=true")
    assert (got.status_code, "readings" in told(got)) == (403, True)
    case = served.signed("A-2")
    for who in ("lis", "bert"):
        got = served.get(f"/cases/{case}/report?format=csv&preliminary=true", who)
        assert (got.headers["x-report-kind"], got.headers["x-report-version"]) == ("final", "1")
        assert got.headers["content-type"] == "text/csv; charset=utf-8"
        assert got.headers["content-disposition"] == f'attachment; filename="{case}-1.csv"'
    beginnings = {
        "fhir": b"{",
        "hl7": b"MSH|",
        "pdf": b"%PDF",
        "xlsx": b"PK",
        "sr": bytes(128) + b"DICM",
    }
    for name, beginning in beginnings.items():
        form = served.get(f"/cases/{case}/report?format={name}")
        assert form.content.startswith(beginning), form.text[:200]
        assert form.headers["content-type"] == FORMATS[name].media_type
    pdf = served.get(f"/cases/{case}/report?format=pdf")
    assert pdf.content.startswith(b"%PDF")
    assert pdf.headers["x-report-sha256"] == got.headers["x-report-sha256"]
    signing.withdraw(served.anna, case, why="another patient")
    assert served.get(f"/cases/{case}/report?format=csv").headers["x-report-kind"] == "withdrawn"
    first = served.get(f"/cases/{case}/report?format=csv&version=1")
    assert first.headers["x-report-kind"] == "final"
    assert served.get(f"/cases/{case}").json()["report"]["kind"] == "withdrawn"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("format=docx", 422), ("format=%00", 422), ("format=" + "x" * 10_000, 422), ("version=0", 422),
        ("version=" + "9" * 10_000, 422), ("version=x", 422), ("version=-1", 422), ("version=7", 404),
        ("preliminary=perhaps", 422), ("version=" + "9" * 15, 422),
    ],
)  # fmt: skip
def test_a_report_that_cannot_be_is_refused_in_a_sentence(kept, query, status):
    clinic, _, case = kept
    got = clinic.get(f"/cases/{case}/report?{query}")
    assert (got.status_code, len(told(got)) < 300) == (status, True), got.text


def test_a_system_that_polls_gets_each_new_report_once(served):
    assert served.get("/reports").json()["reports"] == []
    after = served.get("/reports").json()["next"]
    first, second = served.signed("A-1"), served.signed("A-2")
    page = served.get("/reports", params={"after": after}).json()
    assert [(r["case"], r["order"]["value"], r["kind"]) for r in page["reports"]] == [
        (first, "A-1", "final"), (second, "A-2", "final"),
    ]  # fmt: skip
    assert served.get("/reports", params={"after": page["next"]}).json()["reports"] == []
    signing.withdraw(served.anna, first, why="another patient")
    page = served.get("/reports", params={"after": page["next"]}).json()
    assert [(r["case"], r["version"], r["kind"]) for r in page["reports"]] == [
        (first, 2, "withdrawn")
    ]
    for bad in ("-1", "x", "9" * 10_000, "9" * 15):
        assert served.get(f"/reports?after={bad}").status_code == 422


def test_long_lists_of_reports_come_in_pages(served, monkeypatch):
    from allkit.clinic import results

    monkeypatch.setattr(results, "REPORT_ROWS", 2)
    made = [served.signed(f"A-{i}") for i in range(3)]
    seen, after = [], 0
    for _ in range(3):
        page = served.get("/reports", params={"after": after}).json()
        seen += [row["case"] for row in page["reports"]]
        after = page["next"]
    assert seen == made


def test_an_admin_gets_the_audit_as_lines_from_where_they_were(served):
    served.case("A-1")
    got = served.get("/audit", "boss")
    assert got.headers["content-type"].startswith("application/x-ndjson")
    rows = [json.loads(line) for line in got.text.splitlines()]
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert {"at", "who", "what", "object", "detail", "prev", "hash"} <= set(rows[0])
    (new,) = served.get("/audit", "boss", params={"after": rows[-1]["seq"]}).text.splitlines()
    assert json.loads(new)["what"] == "audit.exported"
    assert served.get("/audit?after=" + "9" * 5000, "boss").status_code == 422


# ── the whole ─────────────────────────────────────────────────────────────────────────────────


def test_the_description_names_every_route_with_its_media_types_and_errors(empty):
    described = empty.client.get("/openapi.json", headers={"X-API-Key": SERVER_KEY}).json()
    paths = {p: v for p, v in described["paths"].items() if p.startswith("/clinic")}
    found = {
        (m.upper(), p.removeprefix("/clinic").replace("{case}", "X"))
        for p, v in paths.items()
        for m in v
    }
    assert found == set(EVERY)
    for path, methods in paths.items():
        for method, route in methods.items():
            codes = set(route["responses"])
            assert {"401", "403", "422", "503"} <= codes, path
            assert codes & {"200", "201"}
            assert route["summary"].endswith(".")
            assert route["security"], path
            for code, answer in route["responses"].items():
                assert answer["description"], (path, code)
                assert answer["content"], (path, code)
            if method == "post":
                assert {"413", "415", "408", "409"} <= codes
                assert route["requestBody"]["content"]
    orders = paths["/clinic/orders"]["post"]
    assert {"application/hl7-v2", "text/plain", "application/fhir+json"} <= set(
        orders["requestBody"]["content"]
    )
    assert {"application/hl7-v2", "application/json"} <= set(orders["responses"]["200"]["content"])
    fields_ = paths["/clinic/cases/{case}/fields"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "image/*", "application/dicom", "application/zip"} <= set(
        fields_
    )
    made = paths["/clinic/cases/{case}/report"]["get"]
    assert set(made["responses"]["200"]["content"]) == {f.media_type for f in FORMATS.values()}
    (formats,) = [p["schema"]["enum"] for p in made["parameters"] if p["name"] == "format"]
    assert set(formats) == set(FORMATS)
    # Every reference leads somewhere.
    text = json.dumps(described)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in described["components"]["schemas"]


def test_nothing_of_a_patient_is_in_the_log_of_a_failure(served, monkeypatch):
    words = " ".join(["patient", "Erika", "Muster"])
    written = []

    class Kept(logging.Handler):
        def emit(self, record):
            written.append(record.getMessage())

    def fails(*_, **__):
        raise RuntimeError(words)

    log, handler = logging.getLogger("uvicorn.error"), Kept()
    monkeypatch.setattr(log, "disabled", False)
    monkeypatch.setattr(log, "level", logging.ERROR)
    monkeypatch.setattr("allkit.clinic.search.find", fails)
    log.addHandler(handler)
    try:
        got = served.get("/cases?text=Muster")
    finally:
        log.removeHandler(handler)
    assert got.status_code == 500
    assert "Muster" not in got.text + "".join(written)
    assert any("RuntimeError" in text for text in written)


def test_what_is_too_much_at_once_is_told_to_come_again(template, tmp_path, monkeypatch):
    inside, go = threading.Event(), threading.Event()

    def slow(user, data):
        inside.set()
        assert go.wait(20)
        return []

    monkeypatch.setattr("allkit.clinic.exchange.take_bundle", slow)
    folder, keys = template
    shutil.copytree(folder, tmp_path / "clinic")
    limits = Limits(request_bytes=1000, memory=10)
    key = {"X-API-Key": keys["lis"]}
    with Store.open(tmp_path / "clinic") as store:
        router = routes.clinic_router(store, limits=limits)
        app = create_app(Nothing(), limits=limits, local=False, routers=[router])
        with TestClient(app) as client, ThreadPoolExecutor(1) as pool:
            # One that is alone is let in whatever it holds.
            first = pool.submit(client.post, "/clinic/orders", json={}, headers=key)
            assert inside.wait(20)
            got = client.post("/clinic/cases", json=BLOOD_JSON, headers=key)
            assert (got.status_code, got.headers["retry-after"]) == (503, "1")
            go.set()
            assert first.result().status_code == 200
            got = client.post("/clinic/cases", json=BLOOD_JSON, headers=key)
            assert got.status_code == 201


def test_the_command_serves_the_clinic_where_that_is_asked_for(
    cli, template, tmp_path, monkeypatch
):
    folder, keys = template
    answers = []

    def answer(app, bound):
        with TestClient(app, base_url="http://localhost") as client:
            key = {"X-API-Key": keys["lis"]}
            answers.append(client.get("/clinic/cases", headers=key).status_code)
        return True

    monkeypatch.setattr("allkit.serving.run.serve", answer)
    monkeypatch.setattr("allkit.cli.serve.open_model", lambda *_: Nothing())
    monkeypatch.setenv("ALLKIT_CLINIC", str(tmp_path / "none"))
    (tmp_path / "model.onnx").write_bytes(b"model")
    serve = ("serve", tmp_path / "model.onnx", "--port", "0")
    status, _, err = cli(*serve, "--clinic")
    assert (status, "allkit clinic init" in err, answers) == (2, True, [])
    shutil.copytree(folder, tmp_path / "clinic")
    monkeypatch.setenv("ALLKIT_CLINIC", str(tmp_path / "clinic"))
    status, _, err = cli(*serve, "--clinic")
    assert (status, "The clinic is at /clinic" in err, answers) == (0, True, [200])
    status, _, err = cli(*serve)
    assert (status, "/clinic" in err, answers) == (0, False, [200, 404])
