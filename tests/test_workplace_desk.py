"""The desk in a browser: what a reader presses is on screen at once, and saved once, at its field."""

import random
import shutil
import threading
import time

import pytest

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]
stand = pytest.importorskip("desk_stand", reason="tests/ is not on the path")
until = stand.until
HOST = "document.querySelector('#outer').firstChild.shadowRoot"
DIGITS = {"1": "Benign", "2": "Early", "3": "Pre", "4": "Pro"}


@pytest.fixture(scope="module")
def desk_server():
    """The server that plays the routes, for the desk."""
    from workplace_sources import script, style

    server, address = stand.serve("desk", script("desk"), style("desk"), case="case1", user="ada")
    yield server.clinic, address
    server.shutdown()
    server.server_close()


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
def desk(desk_server, tab):
    """The routes, and a function that opens the desk on fields, in a browser that remembers nothing."""
    clinic, address = desk_server

    def show(fields, *, query="", size=(1440, 900), **changes):
        tab.set_viewport_size({"width": size[0], "height": size[1]})
        tab.goto(f"{address}/setup.json")
        tab.evaluate("sessionStorage.clear(), localStorage.clear()")
        clinic.start(fields, **changes)
        tab.goto(f"{address}/?{query}")
        tab.locator(".cell[aria-selected=true]").wait_for(state="attached")
        return tab

    tab.errors.clear()
    yield clinic, show
    clinic.away = clinic.signed_out = False
    assert tab.errors == []


def selected(page):
    return page.locator(".cell[aria-selected=true]").get_attribute("data-field")


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def shown(page, field):
    """The class of the reader that a thumbnail shows, or None."""
    mark = page.locator(f".cell[data-field={field}] .mine")
    return mark.text_content() if mark.is_visible() else None


def unsaved(page, field):
    return page.locator(f".cell[data-field={field}] .dot").is_visible()


def saved(page):
    return page.locator(".saving").get_attribute("data-state") == "saved"


def readings(clinic):
    return [
        (item["field"], item["label"] if item["kind"] == "label" else item["kind"])
        for item in clinic.log
    ]


def type_fast(page, keys):
    """Press keys at 20 a second on fields in a row; return what should have been read, in order."""
    dice, at, wanted, labels = random.Random(5), 0, [], {}
    start = time.monotonic()
    for n in range(keys):
        key = dice.choice(["1", "2", "3", "4", "ArrowRight", "ArrowRight", "ArrowLeft"])
        page.keyboard.press(key)
        if key == "ArrowRight":
            at = min(199, at + 1)
        elif key == "ArrowLeft":
            at = max(0, at - 1)
        elif labels.get(at) != DIGITS[key]:
            labels[at] = DIGITS[key]
            wanted.append((f"f{at + 1}", DIGITS[key]))
        time.sleep(max(0.0, start + (n + 1) / 20 - time.monotonic()))
    return wanted


@pytest.mark.parametrize("keys", [60, pytest.param(1000, marks=pytest.mark.nightly)])
def test_keys_at_twenty_a_second_are_on_screen_at_once_and_none_is_lost_or_at_another_field(
    desk, keys
):
    clinic, show = desk
    page = show([stand.field(n) for n in range(1, 201)])
    clinic.delay = 0.15
    wanted = type_fast(page, keys)
    until(lambda: saved(page), 20)
    assert readings(clinic) == wanted
    assert len({item["client"] for item in clinic.log}) == 1
    assert [item["seq"] for item in clinic.log] == list(range(1, len(wanted) + 1))
    last = dict(wanted)
    displays = {c["name"]: c["display"] for c in stand.CLASSES}
    assert all(shown(page, field) == displays[label] for field, label in last.items())
    times = sorted(page.evaluate("window.times"))
    assert len(times) == keys
    # 50 ms on a machine of its own. `make test` shares its cores with other tests, which made
    # it 373 ms there; the time is demanded where the test runs alone.
    p95 = times[int(0.95 * len(times))]
    assert keys < 1000 or p95 < 250, f"{p95:.0f} ms"


def test_a_reading_counts_as_saved_only_when_the_server_has_said_so(desk):
    clinic, show = desk
    page = show([stand.field(n) for n in range(1, 4)])
    clinic.delay = 0.6
    press(page, "3")
    assert shown(page, "f1") == "Pre-B"
    assert unsaved(page, "f1")
    assert page.get_by_role("button", name="Sign").is_disabled()
    assert "1" in page.locator(".saving").text_content()
    until(lambda: saved(page))
    assert not unsaved(page, "f1")
    assert readings(clinic) == [("f1", "Pre")]
    page.get_by_role("button", name="Sign").click()
    name, value = page.evaluate("window.triggers")[-1]
    assert (name, value["what"]) == ("ask", "sign")


def test_while_the_server_is_away_nothing_is_lost_and_later_all_is_sent_once(desk):
    clinic, show = desk
    page = show([stand.field(n) for n in range(1, 6)])
    clinic.away = True
    press(page, "1", "ArrowRight", "4")
    page.get_by_text("Not saved: 2. The server does not answer").first.wait_for()
    assert page.evaluate("!window.dispatchEvent(new Event('beforeunload', {cancelable: true}))"), (
        "leaving is warned of"
    )
    press(page, "ArrowRight", "2")
    clinic.away = False
    until(lambda: saved(page))
    assert readings(clinic) == [("f1", "Benign"), ("f2", "Pro"), ("f3", "Early")]
    assert page.evaluate("window.dispatchEvent(new Event('beforeunload', {cancelable: true}))")


def test_a_database_that_is_away_for_a_moment_refuses_nothing(desk):
    clinic, show = desk
    page = show([stand.field(1)])
    clinic.ill = True
    press(page, "1")
    page.get_by_text("Not saved: 1. The server does not answer").first.wait_for()
    assert shown(page, "f1") == "Benign"
    clinic.ill = False
    until(lambda: saved(page))
    assert readings(clinic) == [("f1", "Benign")]


def test_one_reading_that_the_server_cannot_take_does_not_cost_the_others(desk):
    clinic, show = desk
    page = show([stand.field(n) for n in range(1, 5)])
    clinic.away, clinic.spoilt = True, "f2"  # a request with this field is refused as a whole
    press(page, "1", "ArrowRight", "2", "ArrowRight", "3", "ArrowRight", "4")
    clinic.away = False
    until(lambda: saved(page))
    assert [shown(page, f"f{n}") for n in (1, 2, 3, 4)] == ["Benign", None, "Pre-B", "Pro-B"]
    assert readings(clinic) == [("f1", "Benign"), ("f3", "Pre"), ("f4", "Pro")]
    assert page.locator(".cell[data-field=f2] .alarm").is_visible()


def test_what_was_not_saved_is_sent_again_after_a_reload_under_the_same_number(desk):
    clinic, show = desk
    page = show([stand.field(n) for n in range(1, 4)])
    clinic.delay = 0.5
    press(page, "1", "ArrowRight")
    time.sleep(0.1)  # the first is on its way; the page goes before its answer comes
    press(page, "2")
    page.reload()
    page.locator(".cell[aria-selected=true]").wait_for(state="attached")
    until(lambda: saved(page))
    assert sorted(readings(clinic)) == [("f1", "Benign"), ("f2", "Early")]
    assert shown(page, "f1") == "Benign"
    press(page, "3")  # a number of the new page is none of the old one's
    until(lambda: len(clinic.log) == 3 and saved(page))
    assert len({(item["client"], item["seq"]) for item in clinic.log}) == 3


def test_another_reader_in_the_same_tab_does_not_send_what_is_not_theirs(desk):
    clinic, show = desk
    page = show([stand.field(1)])
    clinic.signed_out = True
    press(page, "1")
    page.get_by_text("Sign in again in this tab").wait_for()
    page.evaluate("window.unmount(), window.mount({user: 'bob'})")
    clinic.signed_out = False
    page.evaluate("window.unmount(), window.mount({user: 'bob'})")
    page.locator(".cell[aria-selected=true]").wait_for(state="attached")
    time.sleep(0.3)
    assert clinic.log == []
    page.evaluate("window.unmount(), window.mount()")  # the first one has signed in again
    until(lambda: readings(clinic) == [("f1", "Benign")])


def test_a_refused_reading_is_taken_back_and_said(desk):
    clinic, show = desk
    page = show([stand.field(n) for n in range(1, 4)])
    clinic.refuse = {("f2", "Pro"): "The case is signed."}
    press(page, "1", "ArrowRight", "4", "ArrowRight", "3")
    page.locator(".cell[data-field=f2] .alarm").wait_for()
    until(lambda: saved(page))
    assert [shown(page, f"f{n}") for n in (1, 2, 3)] == ["Benign", None, "Pre-B"]
    assert page.get_by_role("alert").text_content() == "Field 2: not saved. The case is signed."
    press(page, "ArrowLeft")
    assert "The case is signed." in page.locator(".viewer .error").text_content()


def test_keys_are_dead_in_texts_in_dialogs_of_the_page_with_control_and_after_leaving(desk):
    clinic, show = desk
    page = show([stand.field(n) for n in range(1, 4)])
    page.locator("#elsewhere").click()
    press(page, "1", "c")
    page.locator("#elsewhere").blur()
    press(page, "Control+1", "Alt+2", "Meta+3")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('div'), {role: 'dialog', id: 'other'}))"
    )
    press(page, "2")
    page.evaluate("document.querySelector('#other').remove()")
    press(page, "n")
    page.keyboard.type("c1 u3")
    assert page.locator(".note-form textarea").input_value() == "c1 u3"
    assert clinic.log == []
    press(page, "Control+Enter")
    until(lambda: readings(clinic) == [("f1", "note")])
    assert clinic.log[0]["text"] == "c1 u3"
    page.evaluate("window.unmount()")
    press(page, "1", "Enter")
    time.sleep(0.2)
    assert len(clinic.log) == 1
    page.evaluate("window.mount()")
    page.locator(".cell[aria-selected=true]").wait_for(state="attached")
    press(page, "4")
    until(lambda: readings(clinic)[1:] == [("f1", "Pro")])


def test_keys_act_while_a_button_of_the_page_has_the_focus_but_not_in_its_menus_and_choices(desk):
    clinic, show = desk
    page = show([stand.field(n) for n in range(1, 4)])
    page.evaluate("""() => {
      window.pressed = 0;
      const add = (tag, props) => document.body.append(Object.assign(document.createElement(tag), props));
      add("button", {id: "more", textContent: "More", onclick: () => window.pressed++});
      add("button", {id: "tab", role: "tab", textContent: "Tab"});
      add("select", {id: "choice"});
      add("a", {id: "link", href: "#", textContent: "Link"});
    }""")
    page.locator("#more").focus()
    press(page, "Escape", "1", "Enter", "Space")
    assert (shown(page, "f1"), page.evaluate("window.pressed")) == ("Benign", 2)
    press(page, "ArrowRight")
    page.locator("#link").focus()
    press(page, "2")
    assert shown(page, "f2") == "Early pre-B"
    for name in ("tab", "choice"):
        page.locator(f"#{name}").focus()
        press(page, "3", "ArrowRight")
    page.locator("#more").focus()
    for role in ("menu", "dialog"):
        page.evaluate(
            f"document.body.append(Object.assign(document.createElement('p'), {{role: '{role}', id: 'layer'}}))"
        )
        press(page, "4")
        page.evaluate("document.querySelector('#layer').remove()")
    until(lambda: saved(page))
    assert readings(clinic) == [("f1", "Benign"), ("f2", "Early")]


def test_shortcuts_of_the_page_do_not_see_keys_of_the_desk(desk):
    _, show = desk
    page = show([stand.field(1), stand.field(2)])
    press(page, "c", "r", "n")
    page.keyboard.type("cr")
    assert page.evaluate("window.leaks") == ["r"], "r is no key of the desk, and there was no text"


def test_another_class_than_an_accepted_one_needs_a_reason(desk):
    clinic, show = desk
    page = show([stand.field(n, "accepted", "Pre") for n in range(1, 4)])
    press(page, "1")
    dialog = page.get_by_role("dialog", name="Why another class?")
    dialog.wait_for()
    assert page.locator(".stage").is_visible()
    press(page, "Escape")
    assert dialog.count() == 0
    assert shown(page, "f1") is None
    press(page, "1")
    time.sleep(0.7)
    press(page, "3")  # on purpose: the key of a reason
    until(lambda: readings(clinic) == [("f1", "Benign")])
    why = stand.texts("desk")["reason.quick.3"]
    assert clinic.log[0]["why"] == why
    assert page.locator(".viewer .own").text_content().endswith(f"Reason: {why}")
    assert why in page.locator(".cell[data-field=f1]").get_attribute("aria-label")
    assert (
        page.get_by_role("status").filter(has_text=f"Field 1: Benign. Reason: {why}").is_visible()
    )
    press(page, "ArrowRight", "3")  # the class of the model needs none
    until(lambda: readings(clinic)[1:] == [("f2", "Pre")])
    press(page, "ArrowRight", "x")
    page.get_by_label("The reason in your words").fill("blurred at 12 o'clock")
    time.sleep(0.6)
    press(page, "Enter")
    until(lambda: len(clinic.log) == 3)
    assert (clinic.log[2]["label"], clinic.log[2]["why"]) == ("inadequate", "blurred at 12 o'clock")


def test_what_is_typed_as_a_reason_is_that_reason_and_neither_a_quick_one_nor_a_key_of_the_desk(
    desk,
):
    clinic, show = desk
    page = show([stand.field(n, "accepted", "Pre") for n in range(1, 4)])
    press(page, "1")
    page.keyboard.type("no blasts, x o u 1")
    text = page.get_by_label("The reason in your words")
    assert text.input_value() == "no blasts, x o u 1"
    time.sleep(0.7)
    page.keyboard.type("2")
    assert (text.input_value(), clinic.log) == ("no blasts, x o u 12", [])
    press(page, "Enter")
    until(lambda: saved(page) and clinic.log)
    assert [(one["label"], one["why"]) for one in clinic.log] == [("Benign", "no blasts, x o u 12")]


def test_a_key_that_is_pressed_twice_or_held_gives_no_reason(desk):
    clinic, show = desk
    page = show([stand.field(n, "accepted", "Pre") for n in range(1, 4)])
    press(page, "1", "1", "Enter")
    dialog = page.get_by_role("dialog", name="Why another class?")
    text = page.get_by_label("The reason in your words")
    assert (dialog.is_visible(), text.input_value()) == (True, "")
    page.keyboard.down("2")
    time.sleep(0.7)
    page.keyboard.down("2")  # it repeats, as it is still held
    page.keyboard.up("2")
    press(page, "Enter")
    assert (dialog.is_visible(), text.input_value()) == (True, "")
    press(page, "Escape")
    time.sleep(0.1)
    assert (clinic.log, selected(page)) == ([], "f1")


def test_enter_goes_on_over_accepted_fields_though_none_needs_review(desk):
    clinic, show = desk
    page = show([stand.field(n, "accepted", "Pre") for n in range(1, 5)])
    press(page, "ArrowRight", "3", "ArrowLeft", "Enter")
    assert selected(page) == "f3", "the second one has a class of the reader"
    press(page, "Enter")
    assert selected(page) == "f4"
    press(page, "Enter")
    assert selected(page) == "f1", "all have a class now: the next, from the first again"
    press(page, "u")
    assert (selected(page), shown(page, "f1")) == ("f1", None)
    until(lambda: saved(page))
    assert [one for one, _ in readings(clinic)] == ["f2", "f1", "f3", "f4", "f1"]


def test_enter_accepts_and_moves_on_and_undo_goes_back_to_the_field_that_was_left(desk):
    clinic, show = desk
    fields = [stand.field(1, label="Pre"), stand.field(2), stand.field(3, label="Pro")]
    page = show([*fields, stand.field(4, "accepted", "Benign")])
    press(page, "Enter")
    assert selected(page) == "f2"
    assert shown(page, "f1") == "Pre-B"
    press(page, "Enter")  # there is no answer to accept
    assert (selected(page), shown(page, "f2")) == ("f2", None)
    press(page, "f", "Enter")
    assert (shown(page, "f3"), selected(page)) == ("Pro-B", "f2")
    press(page, "u")
    assert (selected(page), shown(page, "f3")) == ("f3", None)
    until(lambda: saved(page))
    assert readings(clinic) == [("f1", "accept"), ("f3", "accept"), ("f3", "undo")]


def test_undo_shows_the_class_before_again(desk):
    clinic, show = desk
    page = show([stand.field(1)])
    press(page, "1", "2")
    until(lambda: saved(page))
    press(page, "3", "u")
    assert shown(page, "f1") == "Early pre-B"
    until(lambda: saved(page))
    press(page, "u")
    assert shown(page, "f1") == "Benign"
    until(lambda: saved(page))
    assert clinic.labels["f1"] == [("Benign", "")]


def test_a_key_labels_the_field_that_was_selected_though_answers_move_it(desk):
    clinic, show = desk
    page = show([stand.field(n, "waiting") for n in range(1, 30)])
    press(page, "ArrowRight", "ArrowRight")
    assert selected(page) == "f3"
    with clinic.lock:
        clinic.fields["f3"] = stand.field(3, "accepted", "Benign", needs_why=False)
        clinic.fields["f9"] = stand.field(9)
    clinic.changed()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.locator("[data-group=Benign] .cell[data-field=f3]").wait_for()
    assert page.locator(".group h3").all_text_contents() == [
        "Needs review1", "Waiting for an answer27", "Benign1",
    ]  # fmt: skip
    press(page, "2")
    until(lambda: readings(clinic) == [("f3", "Early")])


def test_a_screen_older_than_a_reading_does_not_take_it_back(desk):
    clinic, show = desk
    page = show([stand.field(1), stand.field(2)])
    clinic.hold = threading.Event()
    clinic.changed()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert clinic.held.wait(5), "the screen without the reading is on its way"
    press(page, "1")
    until(lambda: saved(page) and not unsaved(page, "f1"))
    page.evaluate(f"""{{
      const mine = {HOST}.querySelector('.cell[data-field=f1] .mine');
      window.vanished = 0;
      new MutationObserver(() => window.vanished += mine.hidden).observe(mine, {{attributes: true}});
    }}""")
    polls, hold, clinic.hold = clinic.polls, clinic.hold, None
    hold.set()
    until(lambda: clinic.polls > polls)
    page.locator(".viewer .own").wait_for()
    assert page.evaluate("window.vanished") == 0
    assert shown(page, "f1") == "Benign"


def test_arrows_follow_the_grid_and_from_right_to_left_the_other_way(desk):
    _, show = desk
    page = show([stand.field(n) for n in range(1, 20)])
    columns = page.evaluate(
        f"getComputedStyle({HOST}.querySelector('.cells')).gridTemplateColumns.split(' ').length"
    )
    press(page, "ArrowRight", "ArrowDown")
    assert selected(page) == f"f{2 + columns}"
    press(page, "ArrowUp", "ArrowLeft")
    assert selected(page) == "f1"
    page = show([stand.field(n) for n in range(1, 20)], query="dir=rtl")
    press(page, "ArrowLeft")
    assert selected(page) == "f2"
    first, second = (page.locator(f".cell[data-field=f{n}]").bounding_box()["x"] for n in (1, 2))
    viewer = page.locator(".viewer").bounding_box()["x"]
    assert viewer < second < first
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_hidden_field_shows_nothing_of_the_model(desk):
    clinic, show = desk
    hidden = stand.field(1, "hidden", headline="", sentence="", cells=[], needs_why=False)
    page = show([hidden, stand.field(2, "hidden", headline="", sentence="", cells=[])], blind=True)
    seen = page.locator(".work").inner_text()
    for button in page.locator(".class").all():
        seen = seen.replace(button.inner_text(), "")  # the classes to choose from are no answer
    assert not [c["display"] for c in stand.CLASSES[:4] if c["display"] in seen]
    assert page.get_by_role("option").first.get_attribute("aria-label") == (
        "Field 1, Not shown yet, not read"
    )
    assert page.get_by_role("button", name="Why").is_disabled()
    assert page.get_by_label("Map", exact=True).is_disabled()
    press(page, "m", "Enter")
    assert selected(page) == "f1"
    time.sleep(0.3)
    assert (clinic.asked, clinic.log) == ([], [])


def test_names_and_notes_are_text_whatever_they_hold(desk):
    _, show = desk
    name = '"><img src=x onerror="window.hurt=1"><script>window.hurt=1</script>\u202egnp.exe'
    page = show(
        [stand.field(1, name=name, notes=[{"by": name, "at": "", "text": name}], reasons=[name])]
    )
    assert page.locator(".file").text_content() == name
    assert page.locator(".viewer script, .viewer [onerror]").count() == 0
    assert page.evaluate("window.hurt") is None


def test_the_map_is_asked_for_once_and_only_when_it_is_raised(desk):
    clinic, show = desk
    page = show([stand.field(1, label="Pre"), stand.field(2)])
    time.sleep(0.2)
    assert clinic.asked == []
    press(page, "m")
    page.locator("img.map[src]").wait_for()
    assert page.get_by_text("Shows where the network looked, not why.").first.is_visible()
    press(page, "m", "m", "c")
    assert clinic.asked == ["f1"]
    assert page.locator("svg.outlines circle.over").count() == 2
    page.get_by_role("button", name="Why", exact=True).click()
    page.get_by_text("One reference of each class").wait_for()
    assert page.locator(".why figure").count() == 7


def test_pictures_come_four_at_once_and_only_when_they_are_near(desk):
    clinic, show = desk
    page = show([stand.field(n) for n in range(1, 201)])
    until(lambda: page.locator(".cell.loaded").count() > 20)
    time.sleep(0.3)
    assert page.locator(".cell.loaded").count() < 120
    assert clinic.most <= 4


def test_between_800_and_1200_the_viewer_is_a_drawer_that_escape_closes(desk):
    _, show = desk
    page = show([stand.field(n) for n in range(1, 9)], size=(1024, 800))
    assert not page.locator(".viewer").is_visible()
    page.locator(".cell[data-field=f3]").click()
    assert page.locator(".viewer").is_visible()
    press(page, "2")
    assert shown(page, "f3") == "Early pre-B"
    press(page, "Escape")
    assert not page.locator(".viewer").is_visible()
    assert page.evaluate(f"{HOST}.activeElement.dataset.field") == "f3"


def test_on_a_telephone_one_field_fills_the_screen_and_a_swipe_goes_on(desk):
    _, show = desk
    page = show([stand.field(n) for n in range(1, 9)], size=(390, 844))
    assert not page.locator(".grid").is_visible()
    assert page.locator(".verdict").bounding_box()["y"] < page.locator(".stage").bounding_box()["y"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    swipe = """(to) => {
      const stage = document.querySelector("#outer").firstChild.shadowRoot.querySelector(".stage");
      const at = (type, x) => stage.dispatchEvent(new PointerEvent(type,
        {pointerId: 1, pointerType: "touch", clientX: x, clientY: 300, bubbles: true}));
      at("pointerdown", 200); at("pointermove", 200 + to); at("pointerup", 200 + to);
    }"""
    page.evaluate(swipe, -120)
    assert page.locator(".viewer h2").text_content() == "Field 2"
    page.evaluate(swipe, 120)
    assert page.locator(".viewer h2").text_content() == "Field 1"
    page.get_by_role("button", name="Benign").click()
    assert "Your class: Benign" in page.locator(".viewer .own").text_content()


def test_a_key_can_be_changed_and_stays_changed(desk):
    clinic, show = desk
    page = show([stand.field(1, label="Pre"), stand.field(2)])
    press(page, "?")
    page.get_by_role("button", name="Inadequate: key x").click()
    press(page, "m")
    page.get_by_text("The key m is taken by: Map on or off").wait_for()
    page.get_by_role("button", name="Inadequate: key x").click()
    press(page, "i", "Escape", "i")
    until(lambda: readings(clinic) == [("f1", "inadequate")])
    page.reload()
    page.locator(".cell[aria-selected=true]").wait_for(state="attached")
    press(page, "ArrowRight", "x", "i")
    until(lambda: readings(clinic)[1:] == [("f2", "inadequate")])


def test_a_case_that_may_not_be_read_says_why_and_takes_no_key(desk):
    clinic, show = desk
    page = show([stand.field(1)], may_read=False, may_not="Bob reads this case.", status="reading")
    press(page, "1", "Enter", "u", "n")
    assert page.get_by_role("alert").text_content() == "Bob reads this case."
    assert page.locator(".class").first.is_disabled()
    time.sleep(0.2)
    assert clinic.log == []


def test_while_the_model_answers_nobody_can_sign_and_the_answers_come_one_by_one(desk):
    clinic, show = desk
    job = {"state": "running", "done": 0, "total": 2, "words": "Answered 0 of 2"}
    page = show([stand.field(1, "waiting"), stand.field(2, "waiting")], job=job)
    sign = page.get_by_role("button", name="Sign")
    assert sign.is_disabled()
    assert sign.get_attribute("title") == "Wait until the model has answered all fields."
    for n in (1, 2):
        with clinic.lock:
            clinic.fields[f"f{n}"] = stand.field(n, "accepted", "Pro")
            words = f"Answered {n} of 2"
            clinic.screen["job"] = job | {
                "done": n,
                "words": words,
                "state": "done" if n == 2 else "running",
            }
        clinic.changed()
        page.locator(f"[data-group=Pro] .cell[data-field=f{n}]").wait_for()
    until(lambda: sign.is_enabled())


def test_what_became_of_files_is_told_until_it_is_closed_also_after_a_reload(desk):
    _, show = desk
    page = show([stand.field(1)])
    page.evaluate("""() => {
      const file = (name, state, more = {}) => ({name, state, what: "", todo: "", ...more});
      const changed = {all: [], add(one) { this.all.push(one); }};
      window.files = {left: 12, done: 1, changed, elsewhere: ["a.png is in another case too."], files: [
        file("<b>letter</b>.png", "refused", {what: "It is a text file.", todo: "Send images."}),
        file("a.png", "again", {known: ["a.png"]}), file("z.zip", "added", {known: ["b.png", "c.png"]}),
        file("d.png", "cancelled"), file("e.png", "waiting"), file("f.png", "added")]};
      window.__allkit.uploads.set("case1", window.files);
      window.__allkit.files.get("allkit.files.ada.case1").follow(window.files);
      changed.all.forEach((told) => told());
      window.__allkit.moved.tell("case1");
    }""")
    assert page.get_by_text("12 more files are on their way").is_visible()
    page.get_by_text("1 file was not added").click()
    told = [
        page.get_by_text("<b>letter</b>.png: It is a text file. Send images."),
        page.get_by_text("3 files were in the case already: a.png, b.png, c.png"),
        page.get_by_text("Also in other cases"),
    ]
    assert all(one.is_visible() for one in told)
    assert page.get_by_text("1 file was not sent; choose it again: d.png").is_visible()
    page.reload()
    page.get_by_text("1 file was not added").click()
    assert all(one.is_visible() for one in told)
    lost = page.get_by_text("2 files were not sent; choose them again: d.png, e.png")
    assert lost.is_visible(), "what was on its way is lost with the page, and that is said"
    page.locator(".coming").get_by_role("button", name="Close").click()
    assert not page.locator(".coming").is_visible()
    page.reload()
    page.locator(".cell[aria-selected=true]").wait_for(state="attached")
    assert not page.locator(".coming").is_visible()


@pytest.mark.parametrize(
    ("left", "last", "main"),
    [(3, "finish", "Read next field"), (0, "sign", "Sign"), (0, "finish", "Finish reading")],
)
def test_the_dark_button_signs_only_when_nothing_is_left_to_be_read(desk, left, last, main):
    _, show = desk
    page = show([stand.field(1), stand.field(2)], unread=left, last=last)
    ends = page.locator(".ends")
    assert ends.locator("button.accept:visible").all_text_contents() == [main]
    if left:
        ends.get_by_role("button", name=main).click()
        assert selected(page) == "f2"


def test_of_many_lines_about_the_slide_three_are_shown_and_the_rest_on_demand(desk):
    _, show = desk
    lines = [f"Line {n}." for n in range(1, 6)]
    page = show([stand.field(1)], slide={"tone": "accepted", "headline": "Pre-B", "lines": lines})
    shown_lines = page.locator(".lines p:visible")
    assert shown_lines.all_text_contents() == lines[:3]
    page.get_by_text("2 more lines").click()
    assert shown_lines.all_text_contents() == lines


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_mark_of_an_accepted_slide_has_contrast_in_both_themes(desk, theme):
    _, show = desk
    page = show(
        [stand.field(1)],
        query=f"theme={theme}",
        slide={"tone": "accepted", "headline": "Accepted", "lines": []},
    )
    colours = page.evaluate(f"""() => {{
      const style = (name) => getComputedStyle({HOST}.querySelector(name));
      return [style(".slide .mark").color, style(".desk").backgroundColor, style(".slide .headline").color];
    }}""")
    tone, paper, ink = colours
    assert (tone != paper, tone == ink) == (True, True), colours


def test_the_viewer_stays_under_the_frame_of_the_page(desk):
    _, show = desk
    page = show([stand.field(n) for n in range(1, 120)])
    page.evaluate("document.documentElement.style.setProperty('--desk-top', '130px')")
    page.mouse.wheel(0, 2000)
    until(lambda: page.evaluate("scrollY") > 1000)
    until(lambda: page.locator(".viewer").bounding_box()["y"] == 130)


def test_a_held_key_labels_once_but_moves_on(desk):
    clinic, show = desk
    page = show([stand.field(n, label="Pre") for n in range(1, 9)])
    for _ in range(5):
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    assert selected(page) == "f2"
    for _ in range(3):
        page.keyboard.down("ArrowRight")
    page.keyboard.up("ArrowRight")
    assert selected(page) == "f5"
    until(lambda: readings(clinic) == [("f1", "accept")])


def test_who_signs_in_again_goes_on_where_the_desk_stopped(desk):
    clinic, show = desk
    page = show([stand.field(n) for n in range(1, 201)])
    clinic.signed_out = True
    press(page, "ArrowRight", "End", "2")
    page.locator(".trouble").filter(has_text="You are signed out.").wait_for()
    assert page.locator(".cell.loaded[data-field=f200]").count() == 0
    clinic.signed_out = False
    page.evaluate("window.mount({token: 'token of a new session'})")
    until(lambda: readings(clinic) == [("f200", "Early")])
    until(lambda: saved(page))
    page.locator(".cell.loaded[data-field=f200]").wait_for()
    assert not page.locator(".trouble").is_visible()
