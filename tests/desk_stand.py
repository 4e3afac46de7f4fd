"""A small server that plays the routes of the workplace, and a page that plays Streamlit.

The page mounts a component as Streamlit does: its HTML and CSS in a shadow root, its one module called with
an object of `data`, `parentElement` and the two setters. No Streamlit runs.
"""

from __future__ import annotations

import io
import json
import random
import sys
import threading
import time
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import Image, ImageDraw

APP = Path(__file__).parents[1] / "streamlit_app"
CLASSES = [
    {"name": name, "display": display}
    for name, display in [
        ("Benign", "Benign"), ("Early", "Early pre-B"), ("Pre", "Pre-B"), ("Pro", "Pro-B"),
        ("other", "Other"), ("inadequate", "Inadequate"),
    ]
]  # fmt: skip
LIGHT = {
    "text-color": "#31333f", "background-color": "#ffffff", "secondary-background-color": "#f0f2f6",
    "primary-color": "#2f6fde", "font": '"Source Sans", sans-serif', "button-radius": "6px",
}  # fmt: skip
DARK = LIGHT | {
    "text-color": "#fafafa", "background-color": "#0e1117", "secondary-background-color": "#262730",
    "primary-color": "#6ea8ff",
}  # fmt: skip
WHY = {
    "state": "done", "words": "It resembles most the training examples of Pro-B.", "map": True,
    "map_words": "Shows where the network looked, not why.",
    "nearest": [{"reference": f"n{n}", "label": "Pro", "display": "Pro-B", "words": "very alike"} for n in range(3)],
    "references": [{"reference": f"r{n}", "label": c["name"], "display": c["display"]} for n, c in enumerate(CLASSES[:4])],
}  # fmt: skip
PAGE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Desk</title><style>body { margin: 0; padding: 0 16px; background: var(--st-background-color) }</style>
<label>Elsewhere <input id="elsewhere"></label><div id="outer"></div>
<script type="module">
import run from "/module.js";
window.triggers = [];
window.times = [];
window.leaks = [];
document.addEventListener("keydown", (event) => window.leaks.push(event.key));
let pressed = 0;
window.addEventListener("keydown", () => {
  const start = performance.now();
  requestAnimationFrame(() => {
    const done = new MessageChannel();
    done.port1.onmessage = () => window.times.push(performance.now() - start);
    done.port2.postMessage(0);
  });
}, true);
const setup = await (await fetch("/setup.json" + location.search)).json();
for (const [name, value] of Object.entries(setup.theme)) document.body.style.setProperty("--st-" + name, value);
let cleanup = null, host = null;
window.mount = (data = {}) => {
  if (!host) {
    host = document.createElement("div");
    document.querySelector("#outer").append(host);
    const shadow = host.attachShadow({ mode: "open" });
    const style = document.createElement("style");
    style.textContent = setup.css;
    const root = document.createElement("div");
    root.className = "allkit " + setup.name;
    shadow.append(root, style);
  }
  cleanup = run({
    data: { ...setup.data, ...data }, key: "key", name: setup.name, parentElement: host.shadowRoot,
    setStateValue: () => {}, setTriggerValue: (name, value) => window.triggers.push([name, value]),
  });
};
window.unmount = () => { cleanup(); host.remove(); host = null; };
window.mount();
</script>"""


def until(true, seconds=8.0):
    """Wait for something to be so."""
    end = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.03)
    return answer


def texts(area):
    """The English texts of an area, flat, as `say.section` gives them."""
    flat = {}

    def walk(table, before):
        for key, value in table.items():
            if isinstance(value, dict):
                walk(value, f"{before}{key}.")
            else:
                flat[before + key] = value

    path = APP / "workplace" / "texts" / "en" / f"{area}.toml"
    walk(tomllib.loads(path.read_text("utf-8"))[area], "")
    return flat


def jpeg(seed, side=512):
    """A picture that looks a little like a smear."""
    dice = random.Random(seed)
    image = Image.new("RGB", (side, side * 3 // 4), (236, 226, 222))
    pen = ImageDraw.Draw(image)
    for n in range(46):
        x, y = dice.randrange(side), dice.randrange(side * 3 // 4)
        r = side // 32 if n > 6 else side // 18
        pen.ellipse(
            (x - r, y - r, x + r, y + r), fill=(219, 178, 174) if n > 6 else (190, 170, 205)
        )
        if n <= 6:
            pen.ellipse((x - r * 0.8, y - r * 0.8, x + r * 0.6, y + r * 0.7), fill=(92, 60, 130))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def heat():
    """A map with transparent edges."""
    image = Image.new("RGBA", (64, 48), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((14, 8, 44, 36), fill=(220, 40, 30, 210))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


class Clinic:
    """What the server knows, and how it is made to misbehave."""

    def __init__(self):
        self.lock = threading.RLock()
        self.pictures = [jpeg(n) for n in range(6)]
        self.map = heat()
        self.start([])

    def start(self, fields, **changes):
        with self.lock:
            self.fields = {field["id"]: field for field in fields}
            self.screen = {
                "case": "case1", "status": "reading", "may_read": True, "may_not": "", "round": 1,
                "blind": False, "classes": CLASSES, "unread": 3, "last": "sign",
                "unread_words": "3 fields still need to be read",
                "slide": {"tone": "open", "headline": "Not decided", "lines": []},
                "job": {"state": "done", "done": 0, "total": 0, "words": ""},
            } | changes  # fmt: skip
            self.version, self.labels, self.seen, self.log = 0, {}, {}, []
            self.away, self.delay, self.signed_out = False, 0.0, False
            self.ill, self.spoilt = False, None
            self.refuse, self.asked, self.large, self.most = {}, [], 0, 0
            self.hold, self.held = None, threading.Event()
            self.received, self.cases, self.running, self.polls = [], [], 0, 0

    def changed(self):
        with self.lock:
            self.version += 1

    def show(self):
        with self.lock:
            fields = [field | {"mine": self.mine(field["id"])} for field in self.fields.values()]
            return self.screen | {"version": str(self.version), "fields": fields}

    def mine(self, field):
        stack = self.labels.get(field) or []
        if not stack:
            return None
        display = next(c["display"] for c in CLASSES if c["name"] == stack[-1][0])
        return {"label": stack[-1][0], "display": display, "why": stack[-1][1], "by": "Ada", "at": "now"}  # fmt: skip

    def take(self, client, items):
        """Take readings as the contract says: a number that came before changes nothing."""
        with self.lock:
            results = []
            for item in items:
                name = (client, item["seq"])
                if name not in self.seen:
                    error = self.refuse.get((item["field"], item["label"]))
                    self.seen[name] = {"seq": item["seq"], "ok": error is None} | (
                        {"error": error} if error else {}
                    )
                    self.log.append(item | {"client": client})
                    if error is None:
                        self.apply(item)
                results.append(self.seen[name])
            self.version += 1
            return results

    def apply(self, item):
        stack = self.labels.setdefault(item["field"], [])
        if item["kind"] == "undo":
            stack.pop()
        elif item["kind"] == "note":
            note = {"by": "Ada", "at": "now", "text": item["text"]}
            self.fields[item["field"]]["notes"].append(note)
        else:
            stack.append((item["label"], item["why"]))


def field(number, state="review", label=None, **changes):
    """One field of a screen."""
    group = label if state == "accepted" else state
    tone = ("benign" if label == "Benign" else "malignant") if state == "accepted" else state
    display = next((c["display"] for c in CLASSES if c["name"] == label), "")
    return {
        "id": f"f{number}", "number": number, "name": f"field {number}.png", "width": 1600, "height": 1200,
        "state": state, "group": group, "tone": tone, "label": label, "needs_why": state == "accepted",
        "headline": f"{display}: accepted" if state == "accepted" else "Needs review",
        "sentence": "The model is not sure enough about this field. Please look at it yourself.",
        "band": "", "band_words": "", "percent": "", "not_excluded": [], "reasons": [], "measured": "",
        "cells": [[400, 300, 160], [900, 700, 180]], "other": None, "notes": [],
    } | changes  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """The routes."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Say nothing."""

    def give(self, body, kind="application/json", status=200, **headers):
        data = json.dumps(body).encode() if kind == "application/json" else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.route("GET", None)

    def do_POST(self):
        self.route("POST", self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def route(self, method, body):
        clinic = self.server.clinic
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts[0] != "clinic":
            return self.page(url)
        if clinic.away:
            self.close_connection = True
            self.connection.close()
            return None
        if clinic.ill and method == "POST":
            return self.give({"error": "The database is away.", "code": "database"}, status=503)
        if clinic.signed_out or not (self.headers.get("X-Allkit-Session") or "").startswith(
            "token"
        ):
            return self.give({"error": "You are signed out.", "code": "signed_out"}, status=401)
        return getattr(self, f"{method.lower()}_{parts[1]}")(clinic, parts[2:], body)

    def page(self, url):
        stand = self.server.stand
        if url.path == "/module.js":
            return self.give(stand["script"].encode(), "text/javascript; charset=utf-8")
        if url.path == "/setup.json":
            return self.give(stand["setup"](parse_qs(url.query)))
        return self.give(PAGE.encode(), "text/html; charset=utf-8")

    def get_cases(self, clinic, parts, _body):
        clinic.polls += 1
        etag, screen, hold = f'"{clinic.version}"', clinic.show(), clinic.hold
        if hold is not None:
            clinic.held.set()
            hold.wait(5)
        if self.headers.get("If-None-Match") == etag:
            return self.give(b"", "text/plain", status=304)
        return self.give(screen, ETag=etag)

    def get_fields(self, clinic, parts, _body):
        if parts[1] == "why":
            return self.give(clinic.why)
        if parts[1] == "map":
            return self.give(clinic.map, "image/png")
        with clinic.lock:
            clinic.large += 1
            clinic.most = max(clinic.most, clinic.large)
        time.sleep(0.005)
        clinic.large -= 1
        return self.give(clinic.pictures[int(parts[0][1:]) % 6], "image/jpeg", Cache_Control="private, max-age=600")  # fmt: skip

    def get_references(self, clinic, parts, _body):
        return self.give(clinic.pictures[hash(parts[0]) % 6], "image/jpeg")

    def post_fields(self, clinic, parts, _body):
        clinic.asked.append(parts[0])
        return self.give({**clinic.why, "state": "queued", "map": False, "nearest": [], "references": [], "words": ""})  # fmt: skip

    def post_cases(self, clinic, parts, body):
        if not parts:
            clinic.cases.append(json.loads(body))
            return self.give({"case": f"case{len(clinic.cases)}", "patient": "P-1"})
        if parts[1] == "files":
            return self.files(clinic, parts[0], body)
        time.sleep(clinic.delay)
        sent = json.loads(body)
        assert len(sent["items"]) <= 50
        if clinic.spoilt in [item["field"] for item in sent["items"]]:
            return self.give({"error": "It cannot be read.", "code": "invalid"}, status=422)
        results = clinic.take(sent["client"], sent["items"])
        return self.give({"results": results})

    def files(self, clinic, case, body):
        name = parse_qs(urlsplit(self.path).query)["name"][0]
        with clinic.lock:
            clinic.running += 1
            clinic.most = max(clinic.most, clinic.running)
        time.sleep(clinic.delay)
        with clinic.lock:
            clinic.running -= 1
            clinic.received.append((case, name, len(body)))
        answer = {"added": [], "again": [], "refused": [], "elsewhere": []}
        if body.startswith(b"dear"):
            answer["refused"] = [{"name": name, "what": "It is a text file.", "todo": "Send images."}]  # fmt: skip
        elif body.startswith(b"known"):
            answer["again"] = [{"field": "f1", "name": name}]
        else:
            answer["added"] = [{"field": "f9", "name": name}]
        return self.give(answer)


class Server(ThreadingHTTPServer):
    """A server that does not mind a browser that has gone."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(name, script, css, **data):
    """Start the server for a component; return it and its address."""

    def setup(query):
        theme = DARK if query.get("theme") == ["dark"] else LIGHT
        direction = query.get("dir", ["ltr"])[0]
        values = {"token": "token", "texts": texts(name), "direction": direction} | data
        return {"name": name, "css": css, "theme": theme, "data": values}

    server = Server(("127.0.0.1", 0), Handler)
    server.clinic = Clinic()
    server.clinic.why = WHY
    server.stand = {"script": script, "setup": setup}
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"
