"""What the workplace promises: quick answers, no lost key, bounded memory, many users, safe kills.

    python benchmarks/workplace.py first     cold start: from the command to the first page in the browser
    python benchmarks/workplace.py answers   50 fields dropped: to the first answer, to the last
    python benchmarks/workplace.py keys      200 fields in view, 1,000 keys at 20 a second
    python benchmarks/workplace.py users     20 users for ten minutes (`--minutes`)
    python benchmarks/workplace.py uploads   500 fields dropped in one session: memory of the server
    python benchmarks/workplace.py kills     SIGKILL of the server at random moments while keys are pressed

`--model FILE` is what answers (an exported file, or a model folder), `--images FOLDER` what is dropped;
without them the demo's (`allkit-demo`). A real server (`allkit app`), with a browser (Debian's chromium).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from allkit.clinic import access, cases, fields, view
from allkit.clinic.intake.unpack import unpack
from allkit.clinic.records import Specimen
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Store

BLOOD = Specimen("blood", "2026-01-31", "May-Grünwald-Giemsa")
ARGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
STARTED = 60.0
KEYS = "1234"


class Server:
    """`allkit app` on a store in a temporary folder."""

    def __init__(self, folder: Path, model: Path | None) -> None:
        self.folder, self.model = folder, model
        self.store = folder / "clinic"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            sys.executable,
            "-m",
            "allkit",
            "app",
            *([str(self.model)] if self.model else []),
        ]
        command += [
            "--no-browser",
            "--store",
            str(self.store),
            "--as",
            "anna",
            "--port",
            str(self.port),
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=os.environ | {"HOME": str(self.folder)}, stdout=log, stderr=log
            )  # fmt: skip
        end = time.monotonic() + STARTED
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1)
                return
            time.sleep(0.02)
        raise RuntimeError((self.folder / "log").read_text())

    def stop(self, sign: int = signal.SIGTERM) -> None:
        """End it."""
        if self.process is not None:
            self.process.send_signal(sign)
            self.process.wait(30)

    def megabytes(self) -> float:
        """Return the resident memory of the server itself; what answers is a process of its own."""
        assert self.process is not None
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20

    @contextlib.contextmanager
    def user(self) -> Iterator[access.User]:
        """Give the person who looks after the store."""
        with Store.open(self.store) as store:
            yield access.sign_in(store, "anna")


def case_of(user: access.User, images: list[Path]) -> str:
    """Make a case of images, each once."""
    case = cases.create(user, specimen_=BLOOD)
    fields.add(user, case, [one for path in images for one in unpack(path)])
    return case


def wait_for_answers(user: access.User, case: str, seconds: float = 600) -> None:
    """Wait until all fields of a case are answered."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with user.read("reader", polling=True) as connection:
            shown = view.view_of(connection, case)
        if all(field.answer for field in shown.fields) and (shown.job or {}).get("state") == "done":
            return
        time.sleep(0.2)
    raise RuntimeError("no answers")


def desk(page: Page, url: str, case: str) -> None:
    """Open a case and wait for its grid."""
    page.goto(f"{url}/case?case={case}")
    page.locator(".desk [role=option]").first.wait_for(timeout=60_000)


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


# ── the figures ───────────────────────────────────────────────────────────────────────────────


def first(server: Server, browser: Browser, images: list[Path], asked: argparse.Namespace) -> Any:
    """Time from the command to the first page; a store and its model are there, the browser is open."""
    server.start()
    server.stop()
    times = []
    for _ in range(asked.repeat):
        page = browser.new_page()
        begun = time.monotonic()
        server.start()
        listening = time.monotonic() - begun
        page.goto(server.url)
        page.locator("h1, h2").first.wait_for(timeout=60_000)
        times.append((listening, time.monotonic() - begun))
        page.close()
        page = browser.new_page()
        begun = time.monotonic()
        page.goto(server.url)
        page.locator("h1, h2").first.wait_for(timeout=60_000)
        times[-1] = (*times[-1], time.monotonic() - begun)
        server.stop()
    names = ("listening", "first page", "second page")
    return {f"{n}, s": sorted(round(v[i], 2) for v in times) for i, n in enumerate(names)}


def answers(server: Server, browser: Browser, images: list[Path], asked: argparse.Namespace) -> Any:
    """Fields dropped on a case: time to the first answer in the page, and to the last."""
    server.start()
    found = []
    with server.user() as user:
        wait_for_answers(user, case_of(user, images[:1]))  # the model is open
        for number in range(asked.repeat):
            page, case = browser.new_page(), cases.create(user, specimen_=BLOOD)
            part = images[1 + 50 * number : 51 + 50 * number]
            page.goto(f"{server.url}/case?case={case}")
            chooser = page.locator("input[type=file]").first
            chooser.wait_for(state="attached", timeout=60_000)
            begun = time.monotonic()
            chooser.set_input_files([str(path) for path in part])
            page.locator(".desk [role=option]:not([data-state=waiting])").first.wait_for(
                timeout=60_000
            )
            to_first = time.monotonic() - begun
            page.wait_for_function(
                "(n) => { const seen = (root) => [...root.querySelectorAll('*')].flatMap((e) =>"
                " [...(e.matches('[role=option]') ? [e] : []), ...(e.shadowRoot ? seen(e.shadowRoot) : [])]);"
                " const all = seen(document);"
                " return all.length === n && all.every((e) => e.dataset.state !== 'waiting'); }",
                arg=len(part), timeout=600_000, polling=50,
            )  # fmt: skip
            found.append((to_first, time.monotonic() - begun))
            page.close()
    return {
        "fields": 50,
        "first answer, s": [round(a, 2) for a, _ in found],
        "all, s": [round(b, 2) for _, b in found],
    }


WATCH = """
window.watched = {shown: [], saved: [], pressed: new Map()};
window.addEventListener("keydown", (event) => {
  const start = performance.now();
  requestAnimationFrame(() => {
    const painted = new MessageChannel();
    painted.port1.onmessage = () => window.watched.shown.push(performance.now() - start);
    painted.port2.postMessage(0);
  });
  if ("1234".includes(event.key)) window.watched.last = start;
}, true);
const fetched = window.fetch;
window.fetch = async (path, options) => {
  if (!String(path).endsWith("/readings")) return fetched(path, options);
  const answer = await fetched(path, options);
  const now = performance.now();
  for (const result of (await answer.clone().json()).results || [])
    if (result.ok) window.watched.saved.push([result.seq, now]);
  return answer;
};
"""
"""Measures from the press of a key to the paint behind it, and notes when each reading was acknowledged."""
UNSAVED = "() => !Object.keys(sessionStorage).some((name) => name.startsWith('allkit'))"
"""Whether the queue of what is not saved is empty: it is kept in the session's storage until it is."""


def type_at(page: Page, count: int, each: float, rng: random.Random, length: int) -> Any:
    """Press labels and arrows at a pace; return what each field should be, by position, and when pressed."""
    at, wanted, times = 0, {}, []
    begun = time.monotonic()
    for number in range(count):
        left = begun + number * each - time.monotonic()
        if left > 0:
            time.sleep(left)
        if number % 2 == 0:
            key = rng.choice(KEYS)
            page.keyboard.press(key)
            if wanted.get(at) != int(key) - 1:
                wanted[at] = int(key) - 1
                times.append(page.evaluate("window.watched.last"))
        elif at < length - 1:
            page.keyboard.press("ArrowRight")
            at += 1
        else:
            page.keyboard.press("Home")
            at = 0
    return wanted, times


def keys(server: Server, browser: Browser, images: list[Path], asked: argparse.Namespace) -> Any:
    """Keys pressed on a case of 200 fields: on screen, saved, none lost, none misplaced.

    The clinic has no model, so that every field takes a class without a reason.
    """
    server.model = None
    server.start()
    with server.user() as user:
        case = case_of(user, images[:200])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        desk(page, server.url, case)
        page.evaluate(WATCH)
        page.locator(".desk [role=option]").first.click()
        with user.read("reader") as connection:
            count = len(view.view_of(connection, case).fields)
        wanted, times = type_at(page, asked.keys, 1 / 20, random.Random(1), count)
        page.wait_for_function(UNSAVED, timeout=60_000)
        page.wait_for_timeout(500)
        shown = page.evaluate("window.watched.shown")
        acknowledged = dict(page.evaluate("window.watched.saved"))
        with user.read("reader") as connection:
            after = view.view_of(connection, case).fields
            rows = len(connection.execute(t.readings.select()).all())
    wrong = [n for n, key in wanted.items() if not _is(after[n], key)]
    saved = [acknowledged[n + 1] - at for n, at in enumerate(times) if n + 1 in acknowledged]
    return {
        "fields": count, "keys": asked.keys, "labels pressed": len(times), "readings kept": rows,
        "acknowledged": len(acknowledged), "fields with a wrong or no class": len(wrong),
        "on screen, ms (median, p95)": [round(percentile(shown, s), 1) for s in (0.5, 0.95)],
        "saved, ms (median, p95)": [round(percentile(saved, s), 1) for s in (0.5, 0.95)],
    }  # fmt: skip


def _is(field: view.FieldView, key: int) -> bool:
    classes = ("Benign", "Early", "Pre", "Pro")
    return field.first is not None and field.first.label == classes[key]


def uploads(server: Server, browser: Browser, images: list[Path], asked: argparse.Namespace) -> Any:
    """Fields dropped in one session: memory of the server before, at most, after, and a minute later."""
    server.start()
    with server.user() as user:
        wait_for_answers(user, case_of(user, images[:1]))
        case = cases.create(user, specimen_=BLOOD)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{server.url}/case?case={case}")
        chooser = page.locator("input[type=file]").first
        chooser.wait_for(state="attached", timeout=60_000)
        before = most = server.megabytes()
        chooser.set_input_files([str(path) for path in images[1:501]])
        count, end = 0, time.monotonic() + 900
        while count < len(images[1:501]) and time.monotonic() < end:
            time.sleep(0.5)
            most = max(most, server.megabytes())
            with user.read("reader", polling=True) as connection:
                count = len(view.view_of(connection, case).fields)
        wait_for_answers(user, case)
        most = max(most, server.megabytes())
        after = server.megabytes()
    return {
        "uploads": len(images[1:501]), "fields in the case": count, "MB before": round(before),
        "MB at most": round(most), "MB after": round(after),
    }  # fmt: skip


def users(server: Server, browser: Browser, images: list[Path], asked: argparse.Namespace) -> Any:
    """Windows that are all open and ask by themselves; one after the other opens its case and is read in."""
    server.start()
    rng, errors, slow = random.Random(2), [], []
    with server.user() as user:
        owned = [case_of(user, images[20 * n : 20 * n + 20]) for n in range(asked.users)]
        wait_for_answers(user, owned[-1])
    pages = []
    for _ in owned:
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        # Streamlit looks for itself below the address of a page first, which gives two 404 each time.
        page.on("response", lambda r: _is_error(r) and errors.append(f"{r.status} {r.url}"))
        pages.append(page)
    end, turns, pressed = time.monotonic() + 60 * asked.minutes, 0, 0
    while time.monotonic() < end:
        page, case = pages[turns % len(pages)], owned[turns % len(pages)]
        begun = time.monotonic()
        try:
            desk(page, server.url, case)
            page.locator(".desk [role=option]").nth(rng.randrange(10)).click()
            for key in rng.choices(["ArrowRight", "o", "u", "ArrowLeft", "x"], k=8):
                page.keyboard.press(key)
                pressed += 1
            page.wait_for_function(UNSAVED, timeout=30_000)
        except Exception as error:  # noqa: BLE001 - whatever happens to a user is counted
            errors.append(f"{type(error).__name__}: {str(error)[:300]}")
        slow.append(time.monotonic() - begun)
        turns += 1
    log = (server.folder / "log").read_text()
    return {
        "users": len(pages), "minutes": asked.minutes, "visits": turns, "keys": pressed,
        "errors": len(errors), "first errors": errors[:3], "tracebacks in the log": log.count("Traceback"),
        "a visit, s (median, p95)": [round(percentile(slow, s), 2) for s in (0.5, 0.95)],
        "MB": round(server.megabytes()),
    }  # fmt: skip


def _is_error(answer: Any) -> bool:
    own = answer.url.endswith(("/case/_stcore/health", "/case/_stcore/host-config"))
    return bool(answer.status >= 400) and not own


def kills(server: Server, browser: Browser, images: list[Path], asked: argparse.Namespace) -> Any:
    """The server is killed while keys are pressed; what was shown as saved is in the store."""
    server.model = None
    server.start()
    rng, lost, total, kept_late = random.Random(3), 0, 0, 0
    with server.user() as user:
        for number in range(asked.rounds):
            case = case_of(user, images[8 * number : 8 * number + 8])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            desk(page, server.url, case)
            page.evaluate(WATCH)
            page.locator(".desk [role=option]").first.click()
            # Killed while keys are pressed: some are shown as saved, some are on their way, some come later.
            count = rng.randrange(20, 60)
            killing = threading.Timer(rng.uniform(0.3, count / 20), server.stop, [signal.SIGKILL])
            killing.start()
            type_at(page, count, 1 / 20, rng, 8)
            killing.join()
            page.wait_for_timeout(100)
            shown = len(page.evaluate("window.watched.saved"))
            with user.store.read() as connection:
                rows = connection.execute(t.readings.select().where(t.readings.c.case_id == case))
                kept = len(rows.all())
            lost += max(0, shown - kept)
            total += shown
            # What was pressed and not saved is sent when the server is there again.
            server.start()
            page.reload()
            page.locator(".desk [role=option]").first.wait_for(timeout=60_000)
            page.wait_for_function(UNSAVED, timeout=60_000)
            with user.store.read() as connection:
                rows = connection.execute(t.readings.select().where(t.readings.c.case_id == case))
                kept_late += len(rows.all()) - kept
            page.close()
    return {
        "rounds": asked.rounds, "shown as saved": total, "lost": lost,
        "sent again after the restart": kept_late,
    }  # fmt: skip


STEPS = {f.__name__: f for f in (first, answers, keys, users, uploads, kills)}


def main() -> None:
    """Run one step, and print what was measured as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--model", type=Path, default=Path("allkit-demo/model.onnx"))
    parser.add_argument("--images", type=Path, default=Path("allkit-demo/smears"))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    kinds = (".jpg", ".jpeg", ".png", ".tif", ".bmp")
    # Byte-identical images would be one field.
    found: dict[bytes, Path] = {}
    for path in sorted(asked.images.rglob("*")):
        if path.suffix.lower() in kinds:
            found.setdefault(path.read_bytes(), path)
    images = list(found.values())
    random.Random(0).shuffle(images)
    folder = Path(tempfile.mkdtemp(prefix="allkit-workplace-"))
    server = Server(folder, asked.model.resolve())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGS)
        try:
            figures = STEPS[asked.step](server, browser, images, asked)
        finally:
            browser.close()
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(json.dumps({asked.step: figures}, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
