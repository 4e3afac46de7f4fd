"""What the pages ask the server for: who may ask, what is answered, what is refused."""

import contextlib
import io
import zipfile

import pytest
from PIL import Image

pytest.importorskip("streamlit", reason="the app extra is not installed")
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.testclient import TestClient
from workplace import uploads
from workplace.headers import SameOrigin, SecurityHeaders, inline_scripts
from workplace.pictures import Pictures, jpeg
from workplace.routes import HEADER, MOST_ITEMS, routes
from workplace.sessions import SESSIONS, Sessions

from allkit.clinic import access, cases, fields, view
from allkit.clinic.reading import relabel
from allkit.errors import SignedOutError
from clinic_places import BLOOD, Clock, Scripted, incoming, new_store, picture, with_model


@pytest.fixture
def anna(tmp_path):
    with new_store(tmp_path / "clinic", now=Clock()) as store:
        yield access.first_person(store, "anna", "Dr. Anna Berg")


@pytest.fixture
def ask(anna):
    """Ask in the name of a user: `ask(user).get(…)`."""
    middleware = [
        Middleware(SecurityHeaders),
        Middleware(TrustedHostMiddleware, allowed_hosts=["testserver"]),
        Middleware(SameOrigin),
    ]
    app = Starlette(routes=routes(), middleware=middleware)

    def by(user=anna, language="en"):
        session = SESSIONS.open(("test", user.name), user, language)
        return TestClient(app, headers={HEADER: session.token})

    yield by
    SESSIONS.end(("test", "anna"), again=True)


@pytest.fixture
def case(anna, tmp_path):
    """A case of three fields that a model has answered: accepted, for review, accepted."""
    id = cases.create(anna, specimen_=BLOOD)
    fields.add(anna, id, [incoming(n) for n in range(3)])
    with anna.read("reader") as connection:
        hashes = [f.sha256 for f in view.view_of(connection, id).fields]
    said = {hashes[1]: ("review", "Pre")}
    _, worker = with_model(anna, tmp_path / "model", Scripted(said, ("accepted", "Pro")))
    worker.drain()
    return id


def ids_of(user, case):
    with user.read("reader") as connection:
        return [field.id for field in view.view_of(connection, case).fields]


def sent(*items):
    whole = [{"seq": n, "kind": "label", "why": "", **item} for n, item in enumerate(items)]
    return {"client": "page-1", "items": whole}


# ── who may ask ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("route", routes(), ids=lambda route: route.path)
@pytest.mark.parametrize("token", ["", "made-up"])
def test_no_route_answers_without_the_token_of_a_page(ask, route, token):
    client = ask()
    client.headers[HEADER] = token
    for method in route.methods - {"HEAD"}:
        answer = client.request(method, route.path)
        assert answer.status_code == 401, (method, route.path)
        assert answer.json()["code"] == "signed_out"


def test_who_has_no_role_sees_no_case(ask, anna, case):
    access.add_person(anna, "eve", ["admin"])
    answer = ask(access.sign_in(anna.store, "eve")).get(f"/clinic/cases/{case}")
    assert answer.status_code == 403
    assert "fields" not in answer.json()


def test_a_role_that_is_taken_away_is_gone_at_once(ask, anna, case):
    access.add_person(anna, "bert", ["reader"])
    client = ask(access.sign_in(anna.store, "bert"))
    assert client.get(f"/clinic/cases/{case}").status_code == 200
    access.add_person(anna, "bert", [])
    assert client.get(f"/clinic/cases/{case}").status_code == 401


def test_who_was_idle_is_signed_out_though_the_page_goes_on_asking(ask, anna, case):
    now = [0.0]
    user = access.sign_in(anna.store, "anna", clock=lambda: now[0])
    client = ask(user)
    for minute in range(0, 14, 2):
        now[0] = 60 * minute
        assert client.get(f"/clinic/cases/{case}").status_code == 200
    now[0] = 60 * 15.1
    answer = client.get(f"/clinic/cases/{case}")
    assert (answer.status_code, answer.json()["code"]) == (401, "signed_out")


def test_a_page_that_was_signed_out_does_not_come_back_with_its_old_sign_in(anna):
    sessions = Sessions()
    user = sessions.user("id", lambda: anna)
    page = sessions.open("id", user, "en")
    assert sessions.of(page.token).user is anna
    sessions.end("id")
    with pytest.raises(SignedOutError):
        sessions.of(page.token)
    with pytest.raises(SignedOutError):
        sessions.user("id", lambda: anna)


def test_two_pages_of_one_sign_in_are_idle_together_and_two_sign_ins_are_not_mixed(anna):
    sessions = Sessions()
    first = sessions.user(("anna", "1"), lambda: access.sign_in(anna.store, "anna"))
    same = sessions.user(("anna", "1"), lambda: access.sign_in(anna.store, "anna"))
    other = sessions.user(("anna", "2"), lambda: access.sign_in(anna.store, "anna"))
    assert first is same
    assert first is not other
    one, two = sessions.open(("anna", "1"), first, "en"), sessions.open(("anna", "2"), other, "en")
    sessions.end(("anna", "1"))
    assert sessions.of(two.token).user is other
    with pytest.raises(SignedOutError):
        sessions.of(one.token)


# ── headers ───────────────────────────────────────────────────────────────────────────────────


def test_what_begins_with_the_server_begins_behind_all_that_stands_before_it():
    begun = []

    @contextlib.asynccontextmanager
    async def lifespan(_):
        begun.append(1)
        yield

    layers = [Middleware(SecurityHeaders), Middleware(SameOrigin)]
    with TestClient(Starlette(routes=routes(), middleware=layers, lifespan=lifespan)):
        assert begun == [1]


def test_every_answer_forbids_what_comes_from_elsewhere(ask):
    headers = ask().get("/clinic/cases/x").headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "'unsafe-eval'" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "https:" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_the_policy_names_the_script_of_the_streamlit_that_is_installed(ask):
    from pathlib import Path

    import streamlit

    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text()
    found = inline_scripts(page)
    assert found, "Streamlit's page has no inline script any more; is the hash still needed?"
    policy = ask().get("/clinic/cases/x").headers["Content-Security-Policy"]
    assert all(one in policy for one in found)


def test_a_foreign_host_is_refused(ask, case):
    answer = ask().get(f"/clinic/cases/{case}", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("origin", ["http://testserver:81", "https://evil.example", "null"])
def test_a_page_of_another_origin_changes_nothing(ask, case, origin):
    place = f"/clinic/cases/{case}/readings"
    body = {"client": "x", "items": []}
    assert ask().post(place, json=body, headers={"Origin": origin}).status_code == 403
    assert ask().post(place, json=body, headers={"Origin": "http://testserver"}).status_code == 200
    assert ask().get("/_stcore/metrics").status_code == 404


# ── a case ────────────────────────────────────────────────────────────────────────────────────


def test_a_case_is_told_in_words_and_only_when_it_changed(ask, anna, case):
    client = ask()
    answer = client.get(f"/clinic/cases/{case}")
    screen = answer.json()
    assert [f["state"] for f in screen["fields"]] == ["accepted", "review", "accepted"]
    assert screen["unread"] == 1
    assert screen["may_read"] is True
    assert [c["name"] for c in screen["classes"]][-2:] == ["other", "inadequate"]
    tag = {"If-None-Match": answer.headers["ETag"]}
    assert client.get(f"/clinic/cases/{case}", headers=tag).status_code == 304
    relabel(anna, screen["fields"][1]["id"], "Pre")
    again = client.get(f"/clinic/cases/{case}", headers=tag)
    assert again.status_code == 200
    assert again.json()["fields"][1]["mine"]["by"] == "Dr. Anna Berg"


def test_a_german_page_is_german(ask, case):
    german = ask(language="de").get(f"/clinic/cases/{case}").json()
    english = ask().get(f"/clinic/cases/{case}").json()
    assert german["fields"][0]["headline"] != english["fields"][0]["headline"]


def test_what_is_hidden_from_a_reader_is_not_sent_at_all(ask, anna, tmp_path):
    id = cases.create(anna, specimen_=BLOOD, blind_first=True)
    fields.add(anna, id, [incoming(7)])
    with_model(anna, tmp_path / "m", Scripted(otherwise=("accepted", "Pro")))[1].drain()
    text = ask().get(f"/clinic/cases/{id}").text
    screen = ask().get(f"/clinic/cases/{id}").json()
    assert screen["fields"][0]["state"] == "hidden"
    assert screen["slide"]["tone"] == "hidden"
    without_classes = text.replace(str(screen["classes"]), "")
    assert "0.97" not in without_classes
    assert screen["fields"][0]["label"] is None
    assert screen["fields"][0]["reasons"] == []
    assert screen["fields"][0]["cells"] == []


def test_a_case_that_somebody_else_reads_says_so(ask, anna, case):
    access.add_person(anna, "bert", ["reader"])
    relabel(anna, ids_of(anna, case)[0], "Pro")
    screen = ask(access.sign_in(anna.store, "bert")).get(f"/clinic/cases/{case}").json()
    assert screen["may_read"] is False
    assert "Take it over" in screen["may_not"]


def test_an_unknown_case_is_told(ask):
    assert ask().get("/clinic/cases/01ARZ3NDEKTSV4RRFFQ69G5FAV").status_code == 409


# ── readings ──────────────────────────────────────────────────────────────────────────────────


def test_readings_are_kept_in_order_and_a_refused_one_holds_back_no_other(ask, anna, case):
    one, two, three = ids_of(anna, case)
    body = sent(
        {"field": two, "label": "Early"},
        {"field": one, "label": "Benign"},  # against an accepted answer, without a reason
        {"field": three, "kind": "accept"},
        {"field": two, "label": "Pre"},
        {"field": two, "kind": "note", "text": "smudged"},
    )
    results = ask().post(f"/clinic/cases/{case}/readings", json=body).json()["results"]
    assert [r["ok"] for r in results] == [True, False, True, True, True]
    assert "Say why" in results[1]["error"]
    screen = ask().get(f"/clinic/cases/{case}").json()
    labels = [f["mine"] and f["mine"]["label"] for f in screen["fields"]]
    assert labels == [None, "Pre", "Pro"]
    assert screen["fields"][1]["notes"][0]["text"] == "smudged"


def test_what_is_sent_again_changes_nothing(ask, anna, case):
    (one, *_) = ids_of(anna, case)
    body = sent({"field": one, "label": "Pro"}, {"field": one, "kind": "undo"})
    for _ in range(3):
        results = ask().post(f"/clinic/cases/{case}/readings", json=body).json()["results"]
        assert [r["ok"] for r in results] == [True, True]
    with anna.read("reader") as connection:
        from allkit.clinic.store import tables as t

        assert len(connection.execute(t.readings.select()).all()) == 2


def test_a_field_of_another_case_is_refused(ask, anna, case):
    other = cases.create(anna, specimen_=BLOOD)
    fields.add(anna, other, [incoming(50)])
    body = sent({"field": ids_of(anna, other)[0], "label": "Pro"})
    (result,) = ask().post(f"/clinic/cases/{case}/readings", json=body).json()["results"]
    assert "not one of this case" in result["error"]


def test_an_answer_that_may_not_be_shown_cannot_be_accepted(ask, anna, tmp_path):
    id = cases.create(anna, specimen_=BLOOD)
    fields.add(anna, id, [incoming(8)])
    with_model(anna, tmp_path / "m", Scripted(otherwise=("refused", "Pro")))[1].drain()
    body = sent({"field": ids_of(anna, id)[0], "kind": "accept"})
    (result,) = ask().post(f"/clinic/cases/{id}/readings", json=body).json()["results"]
    assert "none to accept" in result["error"]


@pytest.mark.parametrize(
    "body",
    [
        {}, {"client": "x"}, {"client": 7, "items": []}, {"client": "x", "items": {}},
        {"client": "x" * 65, "items": []},
        sent({"field": 3, "label": "Pro"}), sent({"field": "x", "kind": "sign"}),
        {"client": "x", "items": [{"seq": True, "kind": "undo", "field": "x"}]},
        {"client": "x", "items": [{"seq": -1, "kind": "undo", "field": "x"}]},
        {"client": "x", "items": ["x"]},
    ],
)  # fmt: skip
def test_what_a_page_never_sends_is_refused(ask, case, body):
    answer = ask().post(f"/clinic/cases/{case}/readings", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def test_bodies_have_limits(ask, case):
    client = ask()
    many = sent(*[{"field": "x", "label": "Pro"}] * (MOST_ITEMS + 1))
    assert client.post(f"/clinic/cases/{case}/readings", json=many).status_code == 413
    huge = b"[" + b" " * 2**20 + b"]"
    assert client.post(f"/clinic/cases/{case}/readings", content=huge).status_code == 413
    assert client.post(f"/clinic/cases/{case}/readings", content=b"{").status_code == 422
    assert client.post(f"/clinic/cases/{case}/readings", content=b"[]").status_code == 422
    deep = b"[" * 100_000
    assert client.post(f"/clinic/cases/{case}/readings", content=deep).status_code == 422


# ── files and pictures ────────────────────────────────────────────────────────────────────────


def test_a_file_becomes_a_field_and_the_same_one_is_there_once(ask, case):
    client, place = ask(), f"/clinic/cases/{case}/files"
    first = client.post(f"{place}?name=new.png", content=picture(90)).json()
    assert [one["name"] for one in first["added"]] == ["new.png"]
    second = client.post(f"{place}?name=same.png", content=picture(90)).json()
    assert (second["added"], len(second["again"])) == ([], 1)


def test_a_file_that_is_none_says_what_to_do(ask, case):
    answer = ask().post(f"/clinic/cases/{case}/files?name=letter.txt", content=b"Dear colleague")
    (refused,) = answer.json()["refused"]
    assert refused["name"] == "letter.txt"
    assert refused["what"]
    assert refused["todo"]


def test_a_zip_gives_its_fields_whichever_way_it_takes(ask, case, monkeypatch):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/1.png", picture(91))
        archive.writestr("a/notes.txt", "no image")
    monkeypatch.setattr(uploads, "IN_MEMORY", 100)
    place = f"/clinic/cases/{case}/files?name=slide.zip"
    answer = ask().post(place, content=stream.getvalue()).json()
    assert [one["name"] for one in answer["added"]] == ["slide.zip/a/1.png"]
    (refused,) = answer["refused"]
    assert refused["name"] == "slide.zip/a/notes.txt"
    assert "notes.txt" in refused["what"]


def test_a_file_that_is_too_large_is_refused_before_and_while_it_comes(ask, case, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 50)
    client = ask()
    answer = client.post(f"/clinic/cases/{case}/files?name=a.png", content=picture(1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    pieces = client.post(f"/clinic/cases/{case}/files?name=a.png", content=iter([b"x" * 40] * 3))
    assert pieces.status_code == 413


def test_a_new_case_is_made_of_what_the_form_says(ask, anna):
    body = {"kind": "marrow", "order": "LAB-7", "stain": "Giemsa", "collected": "2026-01-30"}
    id = ask().post("/clinic/cases", json=body).json()["case"]
    with anna.read("reader") as connection:
        made = view.view_of(connection, id)
    assert (made.specimen.kind, made.order.value) == ("marrow", "LAB-7")
    again = ask().post("/clinic/cases", json=body)
    assert again.status_code == 409
    assert "has a case already" in again.json()["error"]


@pytest.mark.parametrize("side", [160, 1024, 0])
def test_pictures_have_the_wanted_size_and_are_sent_once(ask, anna, case, side):
    (one, *_) = ids_of(anna, case)
    place = f"/clinic/fields/{one}/picture?side={side}"
    answer = ask().get(place)
    image = Image.open(io.BytesIO(answer.content))
    assert image.format == "JPEG"
    assert max(image.size) == 48  # none is enlarged
    assert ask().get(place, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    assert ask().get(f"/clinic/fields/{one}/picture?side=7").status_code == 422


def test_a_large_picture_is_made_small_and_only_some_are_kept():
    stream = io.BytesIO()
    Image.new("RGB", (2000, 1000), "purple").save(stream, "PNG")
    assert Image.open(io.BytesIO(jpeg(stream.getvalue(), 160))).size == (160, 80)
    kept, read = Pictures(most=1), []
    for name in ("a", "b", "a", "a"):
        kept.of(name, 160, lambda name=name: read.append(name) or stream.getvalue())
    assert read == ["a", "b", "a"]


def test_a_store_that_is_away_says_so_without_a_word_of_the_database(ask, anna, case):
    anna.store.close()
    (anna.store.folder / "clinic.sqlite").unlink(missing_ok=True)
    for path in anna.store.folder.glob("*.sqlite*"):
        path.unlink()
    answer = ask().get(f"/clinic/cases/{case}")
    assert answer.status_code == 503
    assert "sqlite" not in answer.text.lower()
