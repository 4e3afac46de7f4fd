"""The table of the workplace in a browser: keys, sorting, and text that stays text."""

import shutil

import pytest

pytest.importorskip("streamlit", reason="the app extra is not installed")
sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]
from workplace.components.sources import script, style  # noqa: E402 - behind the skip

BEGIN = """
async ([js, css]) => {
  document.body.innerHTML =
    '<main><h1>T</h1><div class="st-key-find"><label>Find<input></label></div><div id="host"></div></main>'
  const style = document.createElement("style")
  style.textContent = css
  const host = document.querySelector("#host")
  host.innerHTML = '<div class="rows"></div>'
  host.append(style)
  const url = URL.createObjectURL(new Blob([js], { type: "text/javascript" }))
  const draw = (await import(url)).default
  window.opened = []
  window.draw = (data) => (window.clean = draw({
    data, parentElement: host, setTriggerValue: (name, value) => window.opened.push([name, value]),
  }))
}
"""


def cell(text, sort=None, drawn=None):
    return {"text": text, "sort": sort, "drawn": drawn, "ends": [0, 1]}


def table(*rows, opens="Open {name}", direction="ltr"):
    return {
        "columns": [
            {"name": "name", "label": "Patient", "end": False},
            {"name": "n", "label": "Fields", "end": True},
        ],
        "rows": [
            {
                "id": f"id-{name}",
                "cells": {"name": cell(name), "n": cell(str(n), n, drawn)},
                "tone": "urgent" if urgent else "open",
                "word": "Urgent" if urgent else "Reading",
                "pinned": urgent,
            }
            for name, n, urgent, drawn in rows
        ],
        "label": "Worklist",
        "opens": opens,
        "search": "find",
        "mark": "State",
        "direction": direction,
    }


ROWS = (("P-9", 3, True, None), ("P-1", 20, False, None), ("P-2", 100, False, None))


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    failures = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    texts = [script("rows"), style("rows")]
    page.evaluate(BEGIN, texts)
    yield page
    page.close()
    assert failures == []


def draw(page, *rows, **values):
    page.evaluate("data => { window.draw(data) }", table(*rows, **values))


def names(page):
    return page.locator("tbody th").all_inner_texts()


def focused(page):
    return page.evaluate("document.activeElement.dataset.row ?? document.activeElement.tagName")


def test_arrows_move_between_rows_and_enter_opens_one_once(page):
    draw(page, *ROWS)
    page.locator("tbody button").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert focused(page) == "id-P-2"
    page.keyboard.press("ArrowDown")
    assert focused(page) == "id-P-2"
    page.keyboard.press("Home")
    assert focused(page) == "id-P-9"
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    assert page.evaluate("window.opened") == [["open", "id-P-2"]]


def test_one_row_at_a_time_is_reached_by_the_tab_key(page):
    draw(page, *ROWS)
    page.locator("tbody button").nth(1).focus()
    indexes = page.locator("tbody button").evaluate_all("all => all.map(one => one.tabIndex)")
    assert indexes == [-1, 0, -1]


def test_a_click_anywhere_in_a_row_opens_it(page):
    draw(page, *ROWS)
    page.get_by_text("100").click()
    assert page.evaluate("window.opened") == [["open", "id-P-2"]]


def test_sorting_by_number_keeps_what_is_urgent_on_top(page):
    draw(page, *ROWS)
    fields = page.get_by_role("button", name="Fields")
    fields.click()
    assert names(page) == ["P-9", "P-1", "P-2"]
    fields.click()
    assert names(page) == ["P-9", "P-2", "P-1"]
    head = page.get_by_role("columnheader", name="Fields")
    assert head.get_attribute("aria-sort") == "descending"
    fields.click()
    assert head.get_attribute("aria-sort") == "none"


def test_a_refresh_keeps_the_focus_and_the_order(page):
    draw(page, *ROWS)
    page.get_by_role("button", name="Fields").click()
    page.get_by_role("button", name="Fields").click()
    page.locator("tbody button").nth(1).focus()
    draw(page, ("P-7", 500, False, None), *ROWS)
    assert names(page) == ["P-9", "P-7", "P-2", "P-1"]
    assert focused(page) == "id-P-2"


def test_a_slash_goes_to_the_search_but_not_while_somebody_writes(page):
    draw(page, *ROWS)
    page.keyboard.press("/")
    assert focused(page) == "INPUT"
    page.keyboard.type("a/b")
    assert page.locator("input").input_value() == "a/b"
    page.evaluate("document.activeElement.blur(); window.clean()")
    page.keyboard.press("/")
    assert focused(page) == "BODY"


def test_what_comes_from_data_stays_text(page):
    name = '<img src=x onerror="window.hit=1"><b>P</b>'
    draw(page, (name, 1, False, None))
    page.wait_for_timeout(100)
    assert names(page) == [name]
    assert page.locator("#host img, #host b").count() == 0
    assert page.evaluate("window.hit") is None


def test_a_state_is_a_shape_and_a_word(page):
    draw(page, *ROWS)
    marks = page.locator("td.mark").all_inner_texts()
    assert marks == ["▲Urgent", "◐Reading", "◐Reading"]


def test_a_share_is_drawn_beside_its_text_and_rows_that_open_nothing_have_no_button(page):
    draw(page, ("Benign", 0.25, False, [0.14, 0.25, 0.4]), opens="")
    assert page.locator("svg .point").get_attribute("cx") == "32"
    assert page.locator("svg .interval").get_attribute("x2").startswith("48.8")
    assert page.locator("tbody button").count() == 0


def test_on_a_phone_the_table_scrolls_inside_and_the_page_does_not(page):
    page.set_viewport_size({"width": 390, "height": 800})
    draw(page, ("P-" + "9" * 40, 3, True, None), ("P-1", 2, False, [0.1, 0.2, 0.3]))
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    heights = page.locator("tbody tr").evaluate_all("all => all.map(one => one.offsetHeight)")
    assert all(36 <= height <= 38 for height in heights)


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
def test_the_table_passes_axe(page, direction):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    draw(page, *ROWS, direction=direction)
    page.evaluate(
        "document.title = 'T', document.documentElement.lang = 'en',"
        "document.querySelector('main').style.cssText ="
        "'--st-text-color:#222;--st-background-color:#fff;--st-secondary-background-color:#eee;"
        "--st-border-color:#ccc;--st-primary-color:#1f5f7a'"
    )
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
