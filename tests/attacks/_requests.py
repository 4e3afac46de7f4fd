"""Requests that no honest client sends: heads, lengths, forms, and values of the wrong type."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from attacks._wire import request


def png(level: int = 200, side: int = 40) -> bytes:
    """Return an image that is answered."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


# ── heads and lengths ─────────────────────────────────────────────────────────────────────────

PATHS = (
    "/", "/predict/", "//predict", "/predict%00", "/%00", "/..", "/../../etc/passwd", "/%2e%2e/%2e%2e/x",
    "/predict?x=%00", "/predict?" + "a=b&" * 3000, "/" + "x" * 65536, "/%ff%fe", "/v2/models/%00/infer",
    "/v2/models/../infer", "/v2/models/" + "m" * 10_000, "/v2/models/tiny/versions/%0d%0a", "*", "predict",
    "http://elsewhere.example/predict", "/v2/models/{{7*7}}", "/v2/models/%F0%9F%98%80", "/predict;x",
    "/predict#x", "/v2/models/tiny/versions/" + "9" * 5000, "/v2/models/%ed%a0%80",
)  # fmt: skip
METHODS = (
    "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PROPFIND", "BREW", "post",
    "X" * 1000, "GET\x00",
)  # fmt: skip
LENGTHS = (
    "-1", "+5", "0x10", "1e3", "5.0", "abc", "", " ", "9" * 5000, "9" * 19, "9" * 20, "9" * 21,
    "0" * 5000, "00005", "5, 5", "5, 6", "18446744073709551616", "NaN", "null", "\u00b2",
)  # fmt: skip
HEADS = (
    ["Transfer-Encoding: chunked"], ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: gzip, chunked"], ["Transfer-Encoding: xchunked"], ["Transfer-Encoding : chunked"],
    ["Transfer-Encoding: \x0bchunked"], ["Content-Length: 7"], ["Content-Length: 0"], [" folded: x"],
    ["X: a\x00b"], ["X: a\rb"], ["X\x00: a"], [": empty"], ["no colon"], ["X: \u00e9\u00ff"],
    ["Expect: 100-continue"], ["Expect: 200-ok"], ["Upgrade: websocket", "Connection: Upgrade"],
    ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQ"],
    ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"],
    ["Connection: " + "a," * 2000], ["Cookie: " + "a=b;" * 2000], ["Range: bytes=0-1"], ["TE: trailers"],
    ["Content-Encoding: gzip"], ["Content-Encoding: identity, identity"], ["Accept: " + "x" * 4000],
    ["Authorization: Bearer"], ["Authorization: Basic \x00"], ["X-API-Key: " + "k" * 8000],
    ["X-Forwarded-For: " + "1.1.1.1," * 500], ["X-HTTP-Method-Override: DELETE"], ["Big: " + "x" * 102_400],
    [f"X-{n}: y" for n in range(10_000)], ["Inference-Header-Content-Length: " + "9" * 5000],
    ["Origin: http://elsewhere.example"], ["Accept-Encoding: gzip;q=nan"], ["If-None-Match: *"],
)  # fmt: skip
HOSTS = (
    "elsewhere.example",
    "",
    "[::1",
    "localhost:99999999",
    "127.0.0.1@x",
    "\x00",
    "a" * 5000,
    "127.1",
)


def heads(good: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Yield what is tried with the head of a request, in words, and its bytes."""
    for path in PATHS:
        yield f"path {path[:40]}", [request(path=path, body=good)]
        yield f"GET {path[:40]}", [request("GET", path, length=None)]
    for method in METHODS:
        yield f"method {method[:20]!r}", [request(method, body=good)]
    for length in LENGTHS:
        yield f"length {length[:20]!r}", [request(body=good, length=length or " ")]
    for head in HEADS:
        yield f"head {head[0][:60]!r}", [request(body=good, heads=head)]
        yield f"head {head[0][:60]!r} of GET", [request("GET", "/v2", heads=head, length=None)]
    for host in HOSTS:
        whole = request(body=good).replace(b"Host: localhost", f"Host: {host}".encode())
        yield f"host {host[:20]!r}", [whole]
    whole = request(body=good)
    yield "no host", [whole.replace(b"Host: localhost\r\n", b"")]
    yield "two hosts", [whole.replace(b"Host: localhost", b"Host: localhost\r\nHost: x")]
    yield "HTTP/1.0", [whole.replace(b"HTTP/1.1", b"HTTP/1.0")]
    yield (
        "HTTP/1.0 kept alive",
        [
            whole.replace(b"HTTP/1.1", b"HTTP/1.0").replace(
                b"Host", b"Connection: keep-alive\r\nHost", 1
            )
        ],
    )
    for version in (b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTP", b"", b"ICY"):
        yield f"version {version!r}", [whole.replace(b"HTTP/1.1", version)]
    yield "HTTP/2 without asking", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100)]
    yield "TLS", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256))]
    yield "nothing but line ends", [b"\r\n" * 50_000]
    yield "random bytes", [np.random.default_rng(0).integers(0, 256, 70_000, np.uint8).tobytes()]
    yield "bare line feeds", [whole.replace(b"\r\n", b"\n")]
    yield "ten requests at once", [whole * 10]
    yield "a request and rubbish", [whole + b"\x00rubbish\r\n\r\n"]
    yield "a request in the body of another", [request(body=good + whole, length=str(len(good)))]
    chunks = request(heads=["Transfer-Encoding: chunked"], length=None)
    for what, body in {
        "good": b"%x\r\n%s\r\n0\r\n\r\n" % (len(good), good),
        "negative size": b"-5\r\nhello\r\n0\r\n\r\n",
        "no hexadecimal size": b"zz\r\nhello\r\n0\r\n\r\n",
        "huge size": b"f" * 40 + b"\r\nhello",
        "smaller than said": b"3\r\nhello\r\n0\r\n\r\n",
        "long extension": b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n",
        "trailers": b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        "a length, too": b"5\r\nhello\r\n0\r\n\r\nGET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    }.items():
        yield f"chunks: {what}", [chunks + body]
    both = request(
        body=b"0\r\n\r\n" + request("GET", "/metrics"), heads=["Transfer-Encoding: chunked"]
    )
    yield "smuggled", [both]


# ── every field as every type ─────────────────────────────────────────────────────────────────

DEEP = 100_000


def values() -> dict[str, str]:
    """Return values of every type of JSON, in words and as text."""
    return {
        "null": "null", "true": "true", "false": "false", "zero": "0", "minus": "-1", "int": "7",
        "huge int": "9" * 4000, "too huge int": "9" * 5000, "2**63": str(2**63), "float": "1.5",
        "NaN": "NaN", "infinity": "Infinity", "1e999": "1e999", "empty text": '""', "text": '"x"',
        "zeros": '"\\u0000\\u0000"', "half a character": '"\\ud800"', "long text": json.dumps("y" * 100_000),
        "empty list": "[]", "list": '["a", 1, null]', "list of lists": "[[[[]]]]", "pair": '[["a", "b"]]',
        "empty object": "{}", "object": '{"a": {"b": [1]}}', "names": '{"name": "label"}',
        "many": json.dumps([0] * 10_000), "nested": "[" * 900 + "]" * 900,
        "deep": "[" * DEEP + "]" * DEEP, "deep objects": '{"a":' * DEEP + "1" + "}" * DEEP,
        "not closed": "[" * DEEP, "twice": '{"name": "a", "name": "b"}', "rubbish": "\x00",
    }  # fmt: skip


def places(valid: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where a value stands in a body of JSON: keys and positions, from the whole inwards."""
    yield at
    inner = valid.items() if isinstance(valid, dict) else ()
    inner = enumerate(valid) if isinstance(valid, list) else inner
    for key, value in inner:
        yield from places(value, (*at, key))


def put(valid: Any, at: tuple[Any, ...], text: str) -> bytes:
    """Return a body in which the text of a value stands at a place."""
    mark = "@@here@@"
    if not at:
        return text.encode("utf-8", "surrogatepass")
    copy = json.loads(json.dumps(valid))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = mark
    return json.dumps(copy).replace(f'"{mark}"', text).encode("utf-8", "surrogatepass")


def infer_bodies(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield bodies of the protocol in which one field is of another type."""
    file = base64.b64encode(good).decode()
    image = {
        "id": "1", "parameters": {"binary_data_output": False, "x": 1},
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [file],
                    "parameters": {"binary_data_size": None, "x": 1}}],
        "outputs": [{"name": "label", "datatype": "BYTES", "parameters": {"binary_data": False}}],
    }  # fmt: skip
    pixels = {
        "inputs": [
            {"name": "pixels", "datatype": "UINT8", "shape": [32, 32, 3], "data": [9] * 3072}
        ]
    }
    for name, valid in (("image", image), ("pixels", pixels)):
        for at in places(valid):
            if name == "pixels" and len(at) == 4 and at[3] not in (0, 1):
                continue  # each of 3,072 numbers
            for what, text in values().items():
                yield f"{name} {'.'.join(map(str, at)) or 'body'} as {what}", put(valid, at, text)


# ── forms ─────────────────────────────────────────────────────────────────────────────────────

PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'


def forms(good: bytes, scale: int) -> Iterator[tuple[str, bytes, str]]:
    """Yield what is tried with a form, in words, the body, and its media type."""
    kind, end = "multipart/form-data; boundary=b", b"\r\n--b--\r\n"
    yield "good", PART + good + end, kind
    yield "no boundary", PART + good + end, "multipart/form-data"
    yield "empty boundary", PART + good + end, "multipart/form-data; boundary="
    yield "long boundary", PART + good + end, "multipart/form-data; boundary=" + "b" * 10_000
    yield "boundary of 10 MB in the body", b"--" + b"b" * 10 * 2**20 + b"\r\n\r\n", kind
    yield "odd boundary", PART + good + end, 'multipart/form-data; boundary="b\\"; x="'
    yield "another boundary", PART + good + end, "multipart/form-data; boundary=c"
    yield "wrong charset", PART + good + end, f"{kind}; charset=idna"
    yield (
        "charset of escapes",
        PART.replace(b"a.png", b"\\ud800") + good + end,
        (f"{kind}; charset=unicode_escape"),
    )
    yield "many parts", PART + good + (b"\r\n" + PART[:-2] + b"\r\n") * scale + end, kind
    yield (
        "many fields",
        (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n') * scale,
        kind,
    )
    yield "many heads", b"--b\r\n" + b"X: y\r\n" * scale + b"\r\n" + good + end, kind
    yield "huge head", b"--b\r\nX: " + b"y" * 10 * 2**20 + b"\r\n\r\n" + good + end, kind
    yield "huge file name", PART.replace(b"a.png", b"n" * 2**20) + good + end, kind
    yield "file name of bytes", PART.replace(b"a.png", b"\xff\xfe\x00") + good + end, kind
    yield "file name of a path", PART.replace(b"a.png", b"../../etc/x\\..") + good + end, kind
    yield (
        "no name",
        b'--b\r\nContent-Disposition: form-data; filename="a"\r\n\r\n' + good + end,
        kind,
    )
    yield "no disposition", b"--b\r\nX: y\r\n\r\n" + good + end, kind
    yield "odd disposition", b"--b\r\nContent-Disposition: ;;=\r\n\r\n" + good + end, kind
    yield (
        "coded name",
        PART.replace(b'"a.png"', b"\"a\"; filename*=utf-8''%ff%00") + good + end,
        kind,
    )
    inner = b"multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--"
    yield (
        "nested",
        b'--b\r\nContent-Disposition: form-data; name="image"\r\nContent-Type: ' + inner + end,
        kind,
    )
    yield "not ended", PART + good, kind
    yield "ended within the head", PART[:30], kind
    yield "empty", b"", kind
    yield "only the end", end, kind
    yield "line ends", b"\r\n" * scale + PART + good + end, kind
    yield "carriage returns", PART + b"\r" * 2**20 + end, kind
    yield "almost boundaries", PART + b"\r\n--" * 2**18 + end, kind
    yield "after the end", PART + good + end + b"x" * 2**20, kind
    yield "two files", PART + good + b"\r\n" + PART + good + end, kind
    yield (
        "transfer encoding",
        PART[:-2] + b"Content-Transfer-Encoding: base64\r\n\r\nAAAA" + end,
        kind,
    )
    for other in (
        "text/plain",
        "",
        "image/",
        "image/svg+xml",
        "multipart/mixed; boundary=b",
        "\x00",
        "a" * 9000,
    ):
        yield f"media type {other[:20]!r}", good, other
