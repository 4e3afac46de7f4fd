"""The clinicians' app in a browser: what it asks of the network, what stays after `Clear`."""

import csv
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from PIL import Image

pytest.importorskip("streamlit", reason="the app extra is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]
NOTICE = "Uncalibrated. Research use only, not a diagnosis."
CLOSED = (  # the browser's own calls home, which are not the app's
    "--no-sandbox", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--proxy-server=127.0.0.1:9", "--proxy-bypass-list=127.0.0.1",
)  # fmt: skip


@pytest.fixture(scope="module")
def address(tiny_folder, tmp_path_factory):
    """The address of the app, run as `allkit app` runs it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import sys, pathlib; from allkit.cli.app import run_app; "
        "sys.exit(run_app([pathlib.Path(sys.argv[1])], int(sys.argv[2]), browser=False))"
    )
    folder = tmp_path_factory.mktemp("app")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tiny_folder), str(port)],
            cwd=folder, env=os.environ | {"HOME": str(folder)}, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _until(lambda: _get(f"{url}/_stcore/health") == "ok", process)
            yield url
        finally:
            process.terminate()
            assert process.wait(20) == 0, (folder / "log").read_text()
    assert "Traceback" not in (folder / "log").read_text()
    with pytest.raises(OSError, match=r"."):  # it ended with the one who started it
        urllib.request.urlopen(url, timeout=2)


def _get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def _until(true, process):
    end = time.monotonic() + 60
    while not true():
        assert process.poll() is None, "the app ended"
        assert time.monotonic() < end, "the app did not start within a minute"
        time.sleep(0.2)


def _held(address):
    """The bytes of uploads that the server holds; it counts no files as no line."""
    found = re.findall(
        r"^cache_memory_bytes\{.*UploadedFileManager.*\} (\d+)",
        _get(f"{address}/_stcore/metrics"),
        re.M,
    )
    return sum(map(int, found))


@pytest.fixture(scope="module")
def page(address):
    """A browser's page on the app, every address it asked for, and Playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CLOSED))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda opened: asked.append(opened.url))
        page.goto(address)
        page.get_by_text("Upload one or several fields").wait_for(timeout=60_000)
        yield page, asked, api
        browser.close()


def _png(seed):
    from allkit.data.drawn import draw_smears

    stream = io.BytesIO()
    Image.fromarray(next(iter(draw_smears(4, groups=4, seed=seed))).image).save(stream, "PNG")
    return stream.getvalue()


def test_uploads_are_answered_downloaded_and_dropped(page, address):
    page, asked, api = page
    png = _png(9)
    page.locator("input[type=file]").set_input_files(
        [
            {"name": "=field.png", "mimeType": "image/png", "buffer": png},
            {"name": "letter.jpg", "mimeType": "image/jpeg", "buffer": b"dear colleague"},
            {"name": "![x](https://a.example/x.png).png", "mimeType": "image/png", "buffer": b"no"},
            {"name": "second.png", "mimeType": "image/png", "buffer": _png(10)},
        ]
    )
    page.get_by_text("2 of 4 answered.").wait_for(timeout=60_000)
    page.get_by_text("letter.jpg is a text file").wait_for()
    api.expect(page.get_by_text("For review.")).to_have_count(2)
    assert page.get_by_text(NOTICE).first.is_visible()
    page.get_by_alt_text("Field second.png").wait_for()
    page.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert _held(address) > len(png)

    with page.expect_download() as download:
        page.get_by_role("button", name="Download answers (CSV)").click()
    text = download.value.path().read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["verdict"] for row in rows] == ["review", "unreadable", "unreadable", "review"]
    assert rows[0]["image"] == "'=field.png"

    page.get_by_role("button", name="Clear").click()
    page.get_by_text("Upload one or several fields").wait_for()
    api.expect(page.get_by_text("For review.")).to_have_count(0)
    end = time.monotonic() + 15  # Streamlit counts anew every five seconds
    while _held(address) and time.monotonic() < end:
        time.sleep(0.5)
    assert _held(address) == 0

    strange = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert [url for url in strange if not url.startswith(address.replace("http", "ws"))] == []


def test_the_notice_stays_in_sight_while_scrolling(page, address):
    page, _, api = page
    page.locator("input[type=file]").set_input_files(
        [{"name": f"{n}.png", "mimeType": "image/png", "buffer": _png(n)} for n in range(4)]
    )
    page.get_by_text("4 of 4 answered.").wait_for(timeout=60_000)
    api.expect(page.get_by_text("For review.")).to_have_count(4)
    page.get_by_text("For review.").last.scroll_into_view_if_needed()
    box = page.get_by_test_id("stSidebar").get_by_text(NOTICE).bounding_box()
    assert box is not None
    assert 0 <= box["y"] <= 900 - box["height"]


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 101), ("evil.example", 403)])
def test_only_this_machines_names_are_served(address, host, status):
    port = address.rpartition(":")[2]
    lines = [
        "GET /_stcore/stream HTTP/1.1", f"Host: {host}:{port}", f"Origin: http://{host}:{port}",
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        assert connection.recv(200).startswith(f"HTTP/1.1 {status} ".encode())
