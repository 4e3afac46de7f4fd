"""The server: requests that are none, slow clients, crowds, files that take long, and its end under load."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import itertools
import json
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

from attacks import Counts, Scale
from attacks._requests import forms, heads, infer_bodies, places, png, put, values
from attacks._wire import (
    Neighbour,
    Served,
    attempt,
    descriptors,
    exchange,
    judge,
    request,
    status_of,
)

TITLE = "The server under attack"
GROWTH = 0.05
"""By which the memory may grow from a warm server to the end of many requests."""
SLOW_LIMIT = {"short": 5.0, "long": 25.0}
INFER = "/v2/models/tiny/infer"
JSON = "application/json"


def run(scale: Scale, folder: Path) -> dict[str, Counts]:
    """Try everything against servers in processes of their own; return the counts by what was tried."""
    return asyncio.run(_run(scale, folder))


async def _run(scale: Scale, folder: Path) -> dict[str, Counts]:
    long = scale == "long"
    lines = {
        name: Counts()
        for name in (
            "heads, lengths, paths and methods", "fields of the protocol as every type", "forms",
            "fields of the clinic's routes as every type",
            "slow clients", "a normal client beside slow ones", "clients at once", "many requests",
            "files that take long to decode", "a normal client beside such files",
            "told to end under load",
        )
    }  # fmt: skip
    began = time.perf_counter()
    head, field, form, clinic, slow, beside, crowd, many, files, beside_files, end = lines.values()
    served = Served(folder / "one", quick=not long, clinic=str(folder / "one" / "clinic"))
    try:
        of_heads = list(heads(png()))
        await _each(head, served.port, of_heads if long else of_heads[::3], closed=True)
        bodies = list(infer_bodies(png()))
        bodies = bodies if long else bodies[::25]
        whole = ((what, [request(path=INFER, body=body, kind=JSON)]) for what, body in bodies)
        await _each(field, served.port, whole)
        tried = forms(png(), 10**6 if long else 20_000)
        await _each(form, served.port, ((w, [request(body=b, kind=k)]) for w, b, k in tried))
        await _clinic(served, clinic, every=long)
        await _slow(scale, served, slow, beside)
        await _crowd(served, crowd, clients=min(1000, descriptors() - 50) if long else 64)
        await _files(served, files, beside_files, long=long)
        await _many(served, many, requests=5000 if long else 60)
        many.measured["most MB"] = served.peak()
        await _end(served, end, clients=64 if long else 8)
    finally:
        text = served.end(end)
    minutes = 1 + (time.perf_counter() - began) / 60
    if len(text.splitlines()) > 21 * minutes:
        end.failed.append(f"{len(text.splitlines())} lines in the log in {minutes:.0f} minutes")
    if importlib.util.find_spec("streamlit"):
        lines["the routes of the workplace"] = await _workplace(folder / "five", every=long)
    if long and importlib.util.find_spec("schemathesis"):
        lines["schemathesis"] = _schemathesis(folder / "four")
    return lines


async def _clinic(served: Served, counts: Counts, *, every: bool) -> None:
    """Try each field of each route as every type, with a key and without."""
    keys, case = served.said["keys"], served.said["case"]
    given = {"value": "A-1", "issuer": "LIS"}
    new = {
        "specimen": {"kind": "blood", "collected": "2026-01-31", "stain": "MGG", "number": "1"},
        "identifiers": [given], "order": given, "patient": "P-1", "second_reader": False,
        "blind_first": False,
    }  # fmt: skip
    order = {
        "resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "identifier": [{"system": "LIS", "value": "F-1"}],
        "subject": {"identifier": {"system": "KH", "value": "PAT-77"}},
        "specimen": [{"reference": "#s"}],
        "contained": [
            {"resourceType": "Specimen", "id": "s", "type": {"coding": [{"code": "BMA"}]}}
        ],
    }  # fmt: skip
    tried = []
    for path, valid in (("/clinic/cases", new), ("/clinic/orders", order)):
        for at in places(valid):
            for what, text in values().items():
                name = f"{path} {'.'.join(map(str, at)) or 'body'} as {what}"
                tried.append((name, path, put(valid, at, text), JSON))
    hl7 = b"MSH|^~\\&|LIS|KH|ALLKIT||20260201080000+0000||ORM^O01^ORM_O01|M1|P|2.5.1\r"
    for rest in (
        b"",
        b"PID\r",
        b"PID|" * 10_000,
        b"\x00\r",
        b"\xff|\r",
        b"ORC|NW|" + b"^" * 9000,
        hl7,
    ):
        tried.append((f"HL7 {rest[:12]!r}", "/clinic/orders", hl7 + rest, "application/hl7-v2"))
    for what, body, kind in forms(png(), 20_000):
        tried.append((f"fields: {what}", f"/clinic/cases/{case}/fields", body, kind))
    for kind in ("application/dicom", "application/zip"):
        for body in (b"", b"PK\x03\x04" + bytes(100), bytes(128) + b"DICM" + bytes(50)):
            tried.append((f"{kind} {body[:4]!r}", f"/clinic/cases/{case}/fields", body, kind))
    tried = tried if every else tried[::80]
    requests = [
        (what, [request(path=path, body=body, kind=kind, heads=[f"X-API-Key: {keys[n % 2]}"])])
        for n, (what, path, body, kind) in enumerate(tried)
    ]
    for path in (
        "cases",
        "cases/" + case,
        "cases/%00",
        "cases/../x",
        "cases/" + "0" * 26,
        "audit",
        "orders",
    ):
        for query in (
            "",
            "?limit=" + "9" * 5000,
            "?limit=-1",
            "?after=%00",
            "?since=x&until=%ff",
            "?state=x",
        ):
            key = f"X-API-Key: {keys[0]}"
            asked = request("GET", f"/clinic/{path}{query}", heads=[key], length=None)
            requests.append((f"GET {path}{query[:20]}", [asked]))
            without = await exchange(
                served.port, [request("GET", f"/clinic/{path}{query}", length=None)]
            )
            if status_of(without[0]) not in (401, 404, 405):
                counts.failed.append(f"{path} without a key: {without[0][:100]!r}")
    await _each(counts, served.port, requests)


async def _workplace(folder: Path, *, every: bool) -> Counts:
    """Try the routes of the workplace: heads, lengths, fields as every type, files, tokens, slow bodies."""
    counts = Counts()
    served = Served(folder, workplace=str(folder / "clinic"), quick=True)
    case, field = f"/clinic/cases/{served.said['case']}", f"/clinic/fields/{served.said['field']}"
    token = [f"X-Allkit-Session: {served.said['token']}"]
    new = {
        "patient": "P-1", "order": "A-1", "stain": "MGG", "number": "1", "kind": "blood",
        "collected": "2026-01-31",
    }  # fmt: skip
    item = {
        "seq": 1, "kind": "label", "field": served.said["field"], "label": "Pro", "why": "", "text": "",
    }  # fmt: skip
    sent = {"client": "page-1", "items": [item, {**item, "seq": 2, "kind": "note", "text": "x"}]}
    tried = []
    for path, valid in (("/clinic/cases", new), (f"{case}/readings", sent)):
        for at in places(valid):
            for what, text in values().items():
                body = request(path=path, body=put(valid, at, text), kind=JSON, heads=token)
                tried.append((f"{path} {'.'.join(map(str, at)) or 'body'} as {what}", [body]))
    for what, body, kind in forms(png(), 20_000):
        path = f"{case}/files?name=%ff%00..%2f" if len(what) % 2 else f"{case}/files?name=a.png"
        tried.append((f"files: {what}", [request(path=path, body=body, kind=kind, heads=token)]))
    for name in ("picture", "why", "map"):
        for query in (
            "",
            "?side=" + "9" * 5000,
            "?side=-1",
            "?side=%d9%a3",
            "?side=1e9",
            "?side=0&side=0",
        ):
            for heads_ in (token, ["X-Allkit-Session: x"], ["X-Allkit-Session: \u00ff\u00e9"], []):
                asked = request("GET", f"{field}/{name}{query}", heads=heads_, length=None)
                tried.append((f"GET {name}{query[:20]}", [asked]))
    for what, pieces in heads(png()):
        whole = pieces[0].replace(b" /predict ", f" {case}/files?name=a.png ".encode())
        tried.append((what, [whole.replace(b"\r\n", f"\r\n{token[0]}\r\n".encode(), 1)]))
    tried = tried if every else tried[::25]
    for path in ("/clinic/cases", f"{case}/readings", f"{case}/files?name=a"):
        slow = request(path=path, length="100000", heads=token)
        tried.append((f"a slow body for {path[:14]}", _dripping(slow, b" ")))
    try:
        door = asyncio.Semaphore(4)

        async def one(what: str, pieces) -> None:
            async with door:
                pause = 0.0 if isinstance(pieces, list) else 0.2
                await attempt(counts, served.port, what, pieces, closed=True, pause=pause)

        await asyncio.gather(*(one(*each) for each in tried))
    finally:
        served.end(counts)
    return counts


def _schemathesis(folder: Path) -> Counts:
    """Let schemathesis make requests from the server's own description."""
    counts, served = Counts(), Served(folder)
    url = f"http://127.0.0.1:{served.port}/openapi.json"
    report = folder / "report.json"
    command = [
        sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run", url,
        "--checks", "not_a_server_error", "--seed", "1", "--max-examples", "100", "--no-color",
        "--report", "har", "--report-har-path", str(report),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=900)
        entries = json.loads(report.read_text())["log"]["entries"]
        for status in (entry["response"]["status"] for entry in entries):
            if 200 <= status < 300:
                counts.right += 1
            elif 400 <= status < 500 or status == 503:
                counts.refused += 1
            else:
                counts.failed.append(f"schemathesis: status {status}")
        if done.returncode:
            counts.failed.append(f"schemathesis: {done.stdout[-1500:]}{done.stderr[-300:]}")
    finally:
        served.end(counts)
    return counts


async def _each(counts: Counts, port: int, tried, **further) -> None:
    """Try one after the other, four at a time: the order is the same each time."""
    door = asyncio.Semaphore(4)

    async def one(what: str, pieces) -> None:
        async with door:
            await attempt(counts, port, what, pieces, **further)

    await asyncio.gather(*(one(what, pieces) for what, pieces in tried))


# ── slow clients ──────────────────────────────────────────────────────────────────────────────


def _dripping(first: bytes, drop: bytes):
    return itertools.chain([first], itertools.repeat(drop))


async def _slow(scale: Scale, served: Served, slow: Counts, beside: Counts) -> None:
    """Open many connections that send next to nothing: each must be dropped, and keep nobody out."""
    # What a client may take at most: until a request begins, and then for its head.
    number = {"short": 10, "long": min(1000, (descriptors() - 100) // 2)}[scale]
    limit, pause = SLOW_LIMIT[scale], 0.2 if scale == "short" else 1.0
    endless = request(heads=["Transfer-Encoding: chunked"], length=None)
    elsewhere = request(path="/nowhere", heads=["Transfer-Encoding: chunked"], length=None)
    kinds = {
        "a slow head": (number, _dripping(b"POST /predict HTTP/1.1\r\nX: ", b"x")),
        "nothing at all": (number // 5, iter(())),
        "a slow body": (number // 5, _dripping(request(length=str(2**20)), b"x")),
        "an endless body in chunks": (number // 5, _dripping(endless, b"1\r\nx\r\n")),
        "an endless body for no route": (number // 5, _dripping(elsewhere, b"1\r\nx\r\n")),
        "a slow head after an answer": (
            number // 5, _dripping(request("GET", "/v2/health/live") + b"GET /v2 HTTP/1.1\r\nX: ", b"x")
        ),
    }  # fmt: skip
    most = 0.0

    async def client(number: int, what: str, pieces) -> None:
        nonlocal most
        await asyncio.sleep(
            number / 200
        )  # opening all at once would hold up this process, not theirs
        try:
            got, seconds = await _until_closed(
                served.port, pieces, pause=pause, within=2 * limit + 20
            )
        except TimeoutError:
            slow.failed.append(f"{what}: never dropped")
            return
        most = max(most, seconds)
        if seconds > limit:
            slow.failed.append(f"{what}: dropped after {seconds:.0f} s only")
        elif what.endswith("after an answer"):
            judge(slow, what, got)
        else:
            judge(slow, what, got, closed=True)

    async def takes_nothing() -> None:
        if await _dropped_for_its_answers(served.port, after=50.0 if scale == "long" else 3.0):
            slow.refused += 1
        else:
            slow.failed.append("a client that takes no answer: never dropped")

    async with Neighbour(served.port, png()) as neighbour:
        await asyncio.gather(
            *(takes_nothing() for _ in range(10 if scale == "long" else 0)),
            *(client(n, what, pieces) for n, (what, pieces) in enumerate(_copies(kinds))),
        )
    slow.measured["seconds until the last was dropped"] = most
    neighbour.report(beside, most=5.0)


async def _dropped_for_its_answers(port: int, *, after: float) -> bool:
    """Ask for much, take nothing for a while, and say whether the server has closed by then."""
    loop, asked = asyncio.get_running_loop(), 1000
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(client, ("127.0.0.1", port))
        whole = request("GET", "/v2/models/tiny", length=None) * asked
        sending = asyncio.create_task(loop.sock_sendall(client, whole))
        await asyncio.sleep(after)
        answers = 0
        try:
            async with asyncio.timeout(10):
                while got := await loop.sock_recv(client, 65536):
                    answers += got.count(b"HTTP/1.1 200")
            return answers < asked
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


def _copies(kinds):
    """Yield each client by itself: generators are used once."""
    for what, (number, pieces) in kinds.items():
        for copy in itertools.tee(pieces, number):
            yield what, copy


async def _until_closed(port: int, pieces, *, pause: float, within: float):
    async with asyncio.timeout(within):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.perf_counter()

        async def send() -> None:
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause)
            except ConnectionError:
                pass

        sending = asyncio.create_task(send())
        got = b""
        try:
            while piece := await reader.read(65536):
                got += piece
        except ConnectionError:
            pass
        finally:
            sending.cancel()
            writer.transport.abort()
    return got, time.perf_counter() - began


# ── many clients, many requests ───────────────────────────────────────────────────────────────


async def _crowd(served: Served, counts: Counts, *, clients: int) -> None:
    """Let clients ask at once, each twice; whoever finds it full is told so."""
    body = request(body=png())

    async def client() -> None:
        for _ in range(2):
            await attempt(counts, served.port, "one of many", [body], within=120)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    counts.measured |= {"clients": clients, "seconds": time.perf_counter() - began}


async def _many(served: Served, counts: Counts, *, requests: int) -> None:
    """Send requests of all kinds, and compare the memory after two fifths with that in the end."""
    good, broken = request(body=png()), request(body=b"text")
    form = next(request(body=b, kind=k) for _, b, k in forms(png(), 1))
    unread = request(path=INFER, body=b"{}", kind=JSON)
    large = request(body=png(side=1500))
    door = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with door:
            which = (good, form, broken, unread, large)[number % 5]
            await attempt(counts, served.port, f"request {number}", [which], within=60)

    fifths = []
    for fifth in range(5):
        numbers = range(fifth * requests // 5, (fifth + 1) * requests // 5)
        await asyncio.gather(*(one(number) for number in numbers))
        fifths.append(served.memory())
    warm, after = max(fifths[:2]), fifths[-1]
    counts.measured |= {"MB warm": warm, "MB after": after}
    if requests >= 1000 and after > warm * (1 + GROWTH):  # of few a single one shows
        counts.failed.append(f"the memory grew from {warm:.0f} to {after:.0f} MB")


# ── files that take long ──────────────────────────────────────────────────────────────────────


def scans(number: int, side: int = 1024) -> bytes:
    """Return a progressive JPEG that goes over its pixels again and again."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (side, side), 128).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    start = data.index(b"\xff\xda")
    second = data.find(b"\xff\xda", start + 2)
    scan = data[second if second > 0 else start : data.rindex(b"\xff\xd9")]
    last = scan.rfind(b"\xff\xda")
    return data[:-2] + scan[last:] * number + b"\xff\xd9"


def deep_png(side: int = 7000) -> bytes:
    """Return a PNG of 49 megapixels with 16 bits, of a few hundred kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    packer = zlib.compressobj(9)
    row = bytes(1 + side * 6)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


async def _files(served: Served, counts: Counts, beside: Counts, *, long: bool) -> None:
    """Send files that are small and keep a decoder busy, while a normal client asks."""
    number, side = (20_000, 1024) if long else (200, 512)
    tried = [(f"a JPEG of {number:,} scans", scans(number, side))] * 2
    if long:
        tried += [("a PNG of 49 megapixels with 16 bits", deep_png())] * 6
    before = served.memory()
    began = time.perf_counter()
    async with Neighbour(served.port, png()) as neighbour:
        await asyncio.gather(
            *(attempt(counts, served.port, w, [request(body=b)], within=120) for w, b in tried)
        )
    neighbour.report(beside, most=5.0)
    counts.measured |= {
        "seconds": time.perf_counter() - began, "MB before": before, "MB after": served.memory(),
    }  # fmt: skip


# ── the end ───────────────────────────────────────────────────────────────────────────────────


async def _end(served: Served, counts: Counts, *, clients: int) -> None:
    """Tell a server to end while clients ask: whoever was let in is answered."""
    body = request(body=png())

    async def client() -> None:
        while True:
            try:
                got, _ = await exchange(served.port, [body])
            except (ConnectionRefusedError, ConnectionResetError):
                return  # at the door
            except TimeoutError:
                counts.failed.append("a request without an end")
                return
            if not got:
                return  # closed before a byte was read
            judge(counts, "a request at the end", got)
            if status_of(got) != 200:
                return

    running = [asyncio.create_task(client()) for _ in range(clients)]
    await asyncio.sleep(1)
    began = time.perf_counter()
    served.stop()
    await asyncio.gather(*running)
    await asyncio.to_thread(served.process.wait, 90)
    counts.measured["seconds until it ended"] = time.perf_counter() - began
