"""The server under attack: one client stops no other, and what is wrong is answered in a sentence."""

import asyncio
import json
import logging
import os

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("httpx", reason="the extra `dev` is not installed")

from allkit.errors import ConfigError
from allkit.serving.accesses import AccessLog
from allkit.serving.admission import Limits
from allkit.serving.keys import Keys, id_of, keys_of
from allkit.serving.messages import Few, Plain
from allkit.serving.pace import paced
from allkit.serving.rates import Rates
from allkit.serving.space import Full, Space
from attacks import server
from test_serving import KEY, client, infer, png, send  # noqa: F401 - a fixture among them

OTHER = "another-key-of-many-characters"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="sockets and memory as on POSIX")


@pytest.mark.slow
def test_the_server_stands_what_is_tried(tmp_path):
    for counts in server.run("short", tmp_path).values():
        counts.require_none_failed()


@pytest.mark.nightly
def test_the_server_stands_all_that_is_tried(tmp_path):
    for counts in server.run("long", tmp_path).values():
        counts.require_none_failed()


# ── keys ──────────────────────────────────────────────────────────────────────────────────────


def asked(connection, key):
    return connection.get("/v2", headers={"X-API-Key": key}).status_code


def test_several_keys_open_it_and_a_changed_file_counts_without_a_restart(
    client,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr("allkit.serving.keys.AGAIN", 0.0)
    file = tmp_path / "keys.txt"
    file.write_text(f"# the scanner\n{KEY}\n\n{OTHER}\n")
    connection = client(key=Keys.of_file(file))
    assert [asked(connection, key) for key in (KEY, OTHER, "wrong")] == [200, 200, 401]
    file.write_text(f"{OTHER}\n")
    assert [asked(connection, key) for key in (KEY, OTHER)] == [401, 200]
    file.write_text("short\n")  # half written: what was right stays right
    assert [asked(connection, key) for key in (KEY, OTHER)] == [401, 200]
    file.unlink()
    assert [asked(connection, key) for key in (KEY, OTHER)] == [401, 200]


@pytest.mark.parametrize("text", ["", "# nothing\n", "short", "with a space in the key", "é" * 20])
def test_what_is_no_key_is_told(text):
    with pytest.raises(ConfigError, match="Make one with"):
        keys_of(text, "keys.txt")


def test_a_key_file_that_is_none_is_told(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "pipe", "."):
        with pytest.raises(ConfigError, match="cannot be read"):
            Keys.of_file(tmp_path / name)


# ── how often ─────────────────────────────────────────────────────────────────────────────────


def test_who_asks_too_often_is_told_when_to_come_again_and_others_are_not(client):  # noqa: F811
    connection = client(key=Keys([KEY, OTHER]), limits=Limits(requests_a_minute=3))
    assert [asked(connection, KEY) for _ in range(4)] == [200, 200, 200, 429]
    got = send(connection, png(), headers={"X-API-Key": KEY})
    assert (got.status_code, got.headers["retry-after"]) == (429, "20")
    assert "3 requests a minute" in got.json()["error"]
    assert asked(connection, OTHER) == 200
    assert [asked(connection, "wrong") for _ in range(4)] == [401, 401, 401, 429]
    assert connection.get("/v2/health/live").status_code == 200


def test_a_bucket_fills_again_through_the_minute_and_few_are_remembered():
    now = [0.0]
    rates = Rates(6, clock=lambda: now[0])
    assert [rates.wait("a") for _ in range(7)] == [0] * 6 + [10]
    now[0] = 10
    assert (rates.wait("a"), rates.wait("a"), rates.wait("b")) == (0, 10, 0)
    for number in range(20_000):
        rates.wait(str(number))
    assert len(rates._buckets) == 10_000


# ── the access log ────────────────────────────────────────────────────────────────────────────


def test_the_access_log_has_a_line_for_each_request_and_no_name(client, tmp_path):  # noqa: F811
    file = tmp_path / "access.log"
    connection = client(key=KEY, access_log=AccessLog(file))
    assert send(connection, png(), "Jane-Doe.png", headers={"X-API-Key": KEY}).status_code == 200
    connection.get("/v2/models/Jane-Doe?name=Jane-Doe", headers={"X-API-Key": KEY})
    connection.get("/Jane-Doe", headers={"X-API-Key": "Jane-Doe", "User-Agent": "Jane-Doe"})
    head, *lines = file.read_text().splitlines()
    assert head.split() == ["time", "method", "route", "status", "ms", "bytes", "key"]
    found = [line.split()[1:4] + line.split()[6:] for line in lines]
    assert found == [
        ["POST", "/predict", "200", id_of(KEY)],
        ["GET", "/v2/models/{model}", "404", id_of(KEY)],
        ["GET", "other", "404", "-"],
    ]
    assert "Doe" not in file.read_text()
    assert KEY not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    file.rename(tmp_path / "older.log")  # as logrotate does it
    connection.get("/v2/health/live")
    assert len(file.read_text().splitlines()) == 2


def test_an_access_log_that_cannot_be_written_is_told_before_a_model_is_loaded(cli, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "missing/access.log", "pipe"):
        status, _, err = cli("serve", "no-model", "--access-log", tmp_path / name)
        assert (status, "cannot be written" in err) == (2, True), err


# ── connections ───────────────────────────────────────────────────────────────────────────────


def test_who_opens_many_connections_and_asks_nothing_keeps_nobody_out():
    import socket
    import threading

    import uvicorn

    from allkit.serving.connections import of_at_most

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    bound = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(answer, http=of_at_most(3), lifespan="off", log_level="critical")
    serving = uvicorn.Server(config)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        idle = [socket.create_connection(bound.getsockname(), 20) for _ in range(9)]
        with socket.create_connection(bound.getsockname(), 20) as normal:
            normal.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert normal.recv(100).startswith(b"HTTP/1.1 204")
        idle[0].settimeout(20)
        assert idle[0].recv(1) == b""  # the one that waited longest was closed
    finally:
        for one in idle:
            one.close()
        serving.should_exit = True
        thread.join(20)
        bound.close()


def test_who_takes_nothing_of_an_answer_is_dropped_and_who_takes_some_is_not():
    from types import SimpleNamespace

    from allkit.serving.connections import Connection

    left, later, aborted = [100], [], []
    connection = Connection.__new__(Connection)
    connection._answer_timer = None
    connection.loop = SimpleNamespace(call_later=lambda _, what, size: later.append((what, size)))
    connection.transport = SimpleNamespace(
        get_write_buffer_size=lambda: left[0], abort=lambda: aborted.append(True)
    )
    connection._watch_answer()
    left[0] = 60
    what, size = later.pop()
    what(size)
    assert not aborted
    what, size = later.pop()
    what(size)
    assert aborted


# ── what may come in ──────────────────────────────────────────────────────────────────────────


def test_every_answer_forbids_to_run_or_frame_it(client):  # noqa: F811
    connection = client()
    for path in ("/v2", "/nowhere", "/v2/health/live"):
        heads = connection.get(path).headers
        assert heads["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert heads["x-frame-options"] == "DENY"


def test_a_body_must_keep_a_pace(monkeypatch):
    monkeypatch.setattr("allkit.serving.pace.GRACE", 0.2)
    monkeypatch.setattr("allkit.serving.pace.BYTES_A_SECOND", 1000)

    async def pieces(size, pause):
        for _ in range(5):
            await asyncio.sleep(pause)
            yield bytes(size)

    async def taken(size, pause):
        return sum([len(piece) async for piece in paced(pieces(size, pause))])

    assert asyncio.run(taken(1000, 0.1)) == 5000  # half a second, for which it brings enough
    with pytest.raises(TimeoutError):
        asyncio.run(taken(1, 0.1))


def test_who_sends_slowly_holds_only_what_has_come():
    space = Space(2, 100)
    with space.held() as slow, space.held() as other:
        slow.take(memory=10)
        other.take(images=1, memory=90)
        with pytest.raises(Full):
            slow.take(memory=1)
        other.take(images=1)
        with pytest.raises(Full):
            slow.take(images=1)
    assert (space.images, space.bytes) == (0, 0)
    with space.held() as alone:
        alone.take(images=1, memory=1000)  # its own limits bound it


def test_more_values_than_an_image_has_are_refused_before_they_are_read(client):  # noqa: F811
    got = infer(client(), b'{"inputs": [' + b"[]," * 5_000_000 + b"[]]}")
    assert (got.status_code, "binary tensors" in got.json()["error"]) == (400, True)


def test_the_log_gets_few_lines_a_minute_and_says_how_many_are_missing():
    now = [0.0]
    few = Few(3, clock=lambda: now[0])

    def passes():
        record = logging.LogRecord("x", logging.WARNING, "", 1, "broken %d", (1,), None)
        return few.filter(record) and Plain().format(record)

    assert [bool(passes()) for _ in range(10)] == [True] * 3 + [False] * 7
    now[0] = 61
    assert passes() == "WARNING: broken 1 (7 lines left out)"


def test_an_error_in_the_log_is_its_type_and_place_only():
    try:
        json.loads("Jane Doe")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "", 1, "Failed.", (), (type(error), error, error.__traceback__)
        )
    text = Plain().format(record)
    assert "JSONDecodeError at " in text
    assert "Traceback" not in text
    as_text = logging.LogRecord(
        "x", logging.ERROR, "", 1, "Traceback (most recent call last)\n x\nE: Doe", (), None
    )
    assert Plain().format(as_text) == "ERROR: E"


def test_half_of_a_character_is_no_order():
    kinds = pytest.importorskip("allkit.clinic.orders.kinds")
    assert kinds.json_resource(b'{"resourceType": "Bundle"}')
    for text in (rb'{"resourceType": "\ud800"}', rb'{"resourceType": "x", "id": ["\udfff"]}'):
        assert kinds.json_resource(text) is None
