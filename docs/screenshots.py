"""Make a picture of every page of the workplace, in all sizes, themes and languages, and of result pages.

    python docs/screenshots.py FOLDER [--demo DEMO] [--only WORD ...]

Needs Chromium, and Playwright (`pip install playwright`). It starts `allkit app --demo` on a copy of the
demo clinic in DEMO (`allkit-demo` here, which `allkit app --demo` makes), and ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDTHS = {1440: 900, 1024: 768, 390: 844}
THEMES = ("light", "dark")
LANGUAGES = ("en", "de", "xx")
ARGUMENTS = ("--no-sandbox", "--disable-background-networking", "--proxy-server=127.0.0.1:9",
             "--proxy-bypass-list=127.0.0.1")  # fmt: skip
# The pages that commands write about the demo's set and model: name, command, and what it writes.
RESULTS = {
    "check": ("check", "smears/index.csv", "--html", "check.html"),
    "audit": ("audit", "smears/index.csv", "--html", "audit.html"),
    "evaluation": ("evaluate", "model", "split.csv", "--html", "evaluation.html"),
    "explain": ("explain", "model", "smears/images/drawn-00000.png", "--out", "explain.png"),
}
TALLEST = 1600
"""Pixels of a result page that a picture shows; the rest is left to the page itself."""


@contextlib.contextmanager
def served(demo: Path) -> Iterator[tuple[str, Path]]:
    """Run the workplace on a copy of the demo; give its address and its store."""
    with tempfile.TemporaryDirectory() as place, socket.socket() as probe:
        shutil.copytree(demo, Path(place) / "allkit-demo")
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, "-m", "allkit", "app", "--demo", "--no-browser"]
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=place,
            env=os.environ | {"HOME": place, "ALLKIT_PSEUDO": "1"},
        )
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{address}/_stcore/health", timeout=2)
                    break
                if server.poll() is not None:
                    sys.exit("The workplace ended; what it said stands above.")
                time.sleep(0.2)
            yield address, Path(place) / "allkit-demo" / "clinic"
        finally:
            server.terminate()
            server.wait(30)


def cases(store: Path) -> dict[str, str]:
    """Return a case that is read, one that is hidden until it is read, and one that is signed."""
    from allkit.clinic.access import people, sign_in
    from allkit.clinic.search import Filter, find
    from allkit.clinic.store.store import Store
    from allkit.clinic.view import look

    with Store.open(store) as opened:
        with opened.read() as connection:
            reader = next(one for one in people(connection) if "reader" in one.roles)
        user = sign_in(opened, reader.name)
        views = [look(user, row.id) for row in find(user, Filter()).rows]
    found = {}
    for view in views:
        if view.status in ("signed", "amended"):
            found.setdefault("report", view.id)
        elif view.blind and view.fields:
            found.setdefault("blind", view.id)
        elif view.status in ("new", "reading") and view.fields:
            found.setdefault("case", view.id)
    return found


def pages(address: str, known: dict[str, str]) -> dict[str, str]:
    """Return the addresses of the pages by the name of their picture."""
    names = ("start", "worklist", "quality", "models", "admin", "help")
    found = {name: f"{address}/{name}?" for name in names}
    for name, case in known.items():
        found[name] = f"{address}/{'report' if name == 'report' else 'case'}?case={case}&"
    if "case" in known:
        found["sign"] = found["case"]
    return found


def drawn(page: Any, name: str) -> None:
    """Wait until a page stands still."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(
        state="attached"
    )
    if name in ("case", "blind", "sign"):
        page.locator(".cell[aria-selected=true]").first.wait_for(state="attached")
        page.wait_for_timeout(700)  # the pictures of the fields
    if name == "sign":
        page.locator(".slide .ends button:visible").last.click()
        page.get_by_role("dialog").wait_for()
        page.wait_for_timeout(1200)
    page.wait_for_timeout(400)


def shots(browser: Any, found: dict[str, str], folder: Path, only: list[str]) -> int:
    """Write the pictures and return how many; other languages in the largest size only."""
    count, failed = 0, []
    for language in LANGUAGES:
        for width, height in WIDTHS.items():
            for theme in THEMES:
                if language != "en" and (width != 1440 or theme == "dark"):
                    continue
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=theme,
                    reduced_motion="reduce",
                )  # fmt: skip
                page = context.new_page()
                for name, url in found.items():
                    file = f"{name}-{width}-{theme}-{language}.png"
                    if only and not any(word in file for word in only):
                        continue
                    try:
                        page.goto(f"{url}lang={language}")
                        drawn(page, name)
                        page.screenshot(path=folder / file)
                        count += 1
                    except Exception as error:  # noqa: BLE001 - the other pictures are still wanted
                        failed.append(f"{file}: {str(error).splitlines()[0]}")
                context.close()
    for line in failed:
        sys.stderr.write(f"No picture: {line}\n")
    return count


def results(browser: Any, demo: Path, folder: Path, only: list[str]) -> int:
    """Run the commands on a copy of the demo, write pictures of their pages, and return how many."""
    count = 0
    with tempfile.TemporaryDirectory() as place:
        here = Path(place) / "demo"
        shutil.copytree(demo, here, ignore=shutil.ignore_patterns("clinic"))
        for name, command in RESULTS.items():
            if only and not any(word in name for word in only):
                continue
            done = subprocess.run([sys.executable, "-m", "allkit", *command], cwd=here, check=False)
            made = here / command[-1]
            if done.returncode > 1 or not made.is_file():
                sys.stderr.write(f"No picture: allkit {command[0]} ended with {done.returncode}\n")
                continue
            if made.suffix == ".png":
                shutil.copy(made, folder / f"{name}.png")
            else:
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.goto(made.as_uri())
                tall = min(TALLEST, page.evaluate("document.documentElement.scrollHeight"))
                shown = {"x": 0, "y": 0, "width": 1280, "height": tall}
                page.screenshot(path=folder / f"{name}.png", full_page=True, clip=shown)
                page.close()
            count += 1
    return count


def main() -> None:
    """Read the command line and make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--demo", type=Path, default=Path("allkit-demo"))
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of the pictures")
    given = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("There is no Chromium here. Debian: apt-get install chromium")
    if not (given.demo / "clinic").is_dir():
        sys.exit(f"{given.demo} holds no demo clinic. Make it with: allkit app --demo")
    from playwright.sync_api import sync_playwright

    given.folder.mkdir(parents=True, exist_ok=True)
    with served(given.demo) as (address, store), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        count = shots(browser, pages(address, cases(store)), given.folder, given.only)
        count += results(browser, given.demo, given.folder, given.only)
        browser.close()
    sys.stdout.write(f"{count} pictures in {given.folder}\n")


if __name__ == "__main__":
    main()
