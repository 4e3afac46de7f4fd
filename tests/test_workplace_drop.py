"""The drop zone in a browser: each file arrives once, and what was refused says why."""

import shutil
import time

import pytest

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]
stand = pytest.importorskip("desk_stand", reason="tests/ is not on the path")
until = stand.until
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def tab():
    """A page of a browser; each test loads it anew."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())
        yield page
        browser.close()


@pytest.fixture
def drop(tab):
    """The routes, and a function that opens the zone."""
    from workplace_sources import script, style

    servers = []

    def show(**data):
        server, address = stand.serve("drop", script("drop"), style("drop"), **data)
        servers.append(server)
        tab.goto(address)
        tab.locator(".zone").wait_for()
        return server.clinic, tab

    tab.errors.clear()
    yield show
    assert tab.errors == []
    for server in servers:
        server.shutdown()
        server.server_close()


def files(*contents):
    return [{"name": name, "mimeType": "image/png", "buffer": body} for name, body in contents]


def choose(page, *contents):
    page.locator("input[type=file]").first.set_input_files(files(*contents))


def lines(page):
    return {
        line.locator(".name").text_content(): line.get_attribute("class")
        for line in page.locator(".results li").all()
    }


def test_files_go_into_a_case_that_is_made_for_them_and_each_says_what_became_of_it(drop):
    clinic, page = drop(case=None, new={"patient": "P-7"})
    hostile = '<img src=x onerror="window.hurt=1">.png'
    choose(page, (hostile, PNG), ("letter.png", b"dear colleague"), ("old.png", b"known"))
    until(lambda: len(clinic.received) == 3)
    assert clinic.cases == [{"patient": "P-7"}], "one case, though two files were first"
    assert sorted(clinic.received) == [
        ("case1", hostile, 8), ("case1", "letter.png", 14), ("case1", "old.png", 5),
    ]  # fmt: skip
    page.get_by_text("1 file added, 1 known already, 1 refused").wait_for()
    assert lines(page) == {hostile: "added", "letter.png": "refused", "old.png": "again"}
    assert page.get_by_text("It is a text file. Send images.").is_visible()
    assert page.evaluate("window.triggers") == [["opened", {"case": "case1"}]]
    assert page.evaluate("window.hurt") is None


def test_two_files_are_sent_at_a_time_and_the_rest_goes_on_though_the_page_has_changed(drop):
    clinic, page = drop(case=None)
    clinic.delay = 0.2
    choose(page, *((f"{n}.png", PNG + b"%d" % n) for n in range(7)))
    until(lambda: page.evaluate("window.triggers.length"))
    page.evaluate("window.unmount()")
    left = page.evaluate("window.__allkit.uploads.get('case1').left")
    assert 0 < left < 7
    unload = "window.dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    assert not page.evaluate(unload), "leaving is warned of while files are on their way"
    until(lambda: len(clinic.received) == 7)
    assert clinic.most == 2
    until(lambda: page.evaluate(unload))


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(drop):
    clinic, page = drop(case="case1", limit=2**20)
    assert page.get_by_text("At most 1 MB an image or DICOM file, 2 GB a zip file.").is_visible()
    zip_ = b"PK\x03\x04" + b"x" * 2**20  # a zip may be larger than an image
    choose(page, ("large.png", PNG + b"x" * 2**20), ("small.png", b"x"), ("fields.zip", zip_))
    page.get_by_text("This file is larger than 1 MB.").wait_for()
    until(lambda: page.get_by_text("2 files added, 1 refused").is_visible())
    sent = [("case1", "fields.zip", len(zip_)), ("case1", "small.png", 1)]
    assert sorted(clinic.received) == sent
    assert clinic.cases == []


def test_what_is_cancelled_is_not_sent_and_says_so(drop):
    clinic, page = drop(case="case1")
    clinic.delay = 0.4
    choose(page, *((f"{n}.png", b"x") for n in range(6)))
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("6 cancelled").wait_for()
    time.sleep(0.6)
    assert len(clinic.received) <= 2, "what was on its way may have arrived"


@pytest.mark.parametrize("case", ["case1", None])
def test_when_the_server_has_forgotten_the_page_files_wait_for_another_token_and_are_sent_once(
    drop, case
):
    clinic, page = drop(case=case)
    clinic.signed_out = True
    choose(page, *((f"{n}.png", PNG + b"%d" % n) for n in range(3)))
    page.get_by_text("The server does not know this page any more.").wait_for()
    names = [name for name, _ in page.evaluate("window.triggers")]
    assert names == ["token"], "it asks for a run of the page, which gives a new token"
    assert set(lines(page).values()) <= {"waiting", "sending"}
    clinic.signed_out = False
    page.evaluate("window.mount({token: 'token of a new session'})")
    page.get_by_text("3 files added").wait_for()
    assert sorted(name for _, name, _ in clinic.received) == ["0.png", "1.png", "2.png"]
    assert len(clinic.cases) == (case is None)


def test_files_none_of_which_can_be_a_field_are_refused_and_make_no_case(drop):
    clinic, page = drop(case=None, new={"patient": "P-7"})
    choose(page, ("letter.png", b"dear colleague"), ("table.xlsx", b"a;b;c"), ("empty.png", b""))
    page.get_by_text("3 refused").wait_for()
    assert page.get_by_text("This is no image that is known here. Export the field").count() == 3
    assert (clinic.cases, clinic.received) == ([], [])
    assert page.evaluate("window.triggers") == []


@pytest.mark.parametrize(
    "start",
    [
        PNG, b"\xff\xd8\xff\xe0", b"II*\0", b"MM\0*", b"BM6\0", bytes(128) + b"DICM", b"\x08\0\x05\0CS",
        b"PK\x03\x04", b"\x0bMSH|^~", b'\xef\xbb\xbf {"resourceType"', b"\xff\xfeM\0S\0H\0",
    ],
)  # fmt: skip
def test_whatever_can_be_a_field_or_an_order_makes_a_case_whatever_its_name(drop, start):
    clinic, page = drop(case=None)
    choose(page, ("notes.txt", b"just a text"), ("file", start))
    page.get_by_text("2 files added").wait_for()
    assert len(clinic.cases) == 1


def test_a_short_absence_of_the_server_is_waited_for(drop):
    clinic, page = drop(case="case1")
    clinic.away = True
    choose(page, ("a.png", b"x"))
    time.sleep(0.4)
    clinic.away = False
    page.get_by_text("1 file added").wait_for()


def test_a_folder_is_walked_and_files_of_the_system_are_left_out(drop, tmp_path):
    clinic, page = drop(case="case1")
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/1.png", "a/b/2.png", "a/.DS_Store", "a/b/Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    page.locator("input[webkitdirectory]").set_input_files(tmp_path / "a")
    page.get_by_text("2 files added").wait_for()
    assert sorted(name for _, name, _ in clinic.received) == ["1.png", "2.png"]
    assert page.get_by_text("2 files of the operating system were left out.").is_visible()


def test_a_dropped_folder_of_more_than_a_hundred_files_is_walked_to_its_end(drop):
    clinic, page = drop(case="case1")
    page.evaluate(
        """() => {
      const file = (n) => ({isFile: true, file: (good) => good(new File(["x"], n + ".png"))});
      const parts = [[...Array(100).keys()].map(file), [...Array(30).keys()].map((n) => file(100 + n)), []];
      const folder = {isFile: false, createReader: () => {
        let next = 0;
        return {readEntries: (good) => setTimeout(() => good(parts[next++]), 0)};
      }};
      const event = new Event("drop", {bubbles: true, cancelable: true});
      event.dataTransfer = {items: [{webkitGetAsEntry: () => folder}], files: []};
      document.querySelector("#outer").firstChild.shadowRoot.querySelector(".zone").dispatchEvent(event);
    }"""
    )
    page.get_by_text("130 files added").wait_for()
    assert len(clinic.received) == 130


def test_another_patient_gets_another_case(drop):
    clinic, page = drop(case=None, new={"patient": "P-1"})
    choose(page, ("a.png", PNG))
    page.get_by_text("1 file added").wait_for()
    page.evaluate("window.mount({new: {patient: 'P-2'}})")
    choose(page, ("b.png", PNG))
    until(lambda: len(clinic.received) == 2)
    assert clinic.cases == [{"patient": "P-1"}, {"patient": "P-2"}]
    assert [case for case, _, _ in clinic.received] == ["case1", "case2"]
    opened = [["opened", {"case": "case1"}], ["opened", {"case": "case2"}]]
    until(lambda: page.evaluate("window.triggers") == opened)
