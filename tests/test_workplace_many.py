"""Windows, people and failing machines: what a reader was shown as saved stays, whatever ends."""

import os
import random
import signal
import threading
import time

import pytest

pytest.importorskip("streamlit", reason="the app extra is not installed")
places = pytest.importorskip("workplace_server", reason="tests/ is not on the path")
pytestmark = [*places.MARKS, pytest.mark.nightly]
CLASSES = {"1": "Benign", "2": "Early", "3": "Pre", "4": "Pro"}
SHOWN = """() => [...document.querySelectorAll('*')].map((one) => one.shadowRoot).filter(Boolean)
  .flatMap((root) => [...root.querySelectorAll('.cell')]).map((cell) => ({
    field: cell.dataset.field, label: cell.querySelector('.mine').hidden ? null
      : cell.querySelector('.mine').textContent, saved: cell.querySelector('.dot').hidden}))"""


@pytest.fixture(scope="module")
def opened():
    """A browser."""
    with places.browser() as browser:
        yield browser


@pytest.fixture
def workplace(tmp_path):
    """A workplace without a login, with a case of twelve fields that need a reader."""
    made = places.Workplace(tmp_path)
    made.case = places.filled(made.store, fields=12, said=[("review", "Pre")] * 12)
    made.start()
    yield made
    made.stop()


def case_page(page, workplace):
    page.goto(f"{workplace.url}/case?case={workplace.case}")
    page.locator(".cell[aria-selected=true]").wait_for()


def labels(workplace):
    """The reader's classes that the store holds, by the ids of the fields."""
    from allkit.clinic.access import sign_in
    from allkit.clinic.view import look

    with workplace.opened() as store:
        fields = look(sign_in(store, "anna"), workplace.case).fields
    return {one.id: one.first.label if one.first else None for one in fields}


def shown(page):
    """What each thumbnail shows: the reader's class, and whether it is told as saved."""
    words = {"Early pre-B": "Early", "Pre-B": "Pre", "Pro-B": "Pro"}
    found = page.evaluate(SHOWN)
    return {one["field"]: (words.get(one["label"], one["label"]), one["saved"]) for one in found}


def saved(page, seconds=40):
    places.until(lambda: page.locator(".saving[data-state=saved]").count(), seconds, "all saved")


def test_a_page_that_is_loaded_anew_in_the_middle_has_lost_nothing(workplace, opened):
    with places.new_page(opened) as page:
        case_page(page, workplace)
        page.on("dialog", lambda dialog: dialog.accept())  # the browser asks: not all is saved
        pressed = {}
        for key in "1234123":
            pressed[page.locator(".cell[aria-selected=true]").get_attribute("data-field")] = key
            page.keyboard.press(key)
            page.keyboard.press("ArrowRight")
        page.reload()
        page.locator(".cell[aria-selected=true]").wait_for()
        saved(page)
        held = labels(workplace)
        assert {field: held[field] for field in pressed} == {
            field: CLASSES[key] for field, key in pressed.items()
        }
        places.until(lambda: {f: label for f, (label, _) in shown(page).items()} == held)


def test_a_second_window_of_the_same_person_shows_the_same(workplace, opened):
    with places.new_page(opened) as page:
        case_page(page, workplace)
        other = page.context.new_page()
        case_page(other, workplace)
        page.bring_to_front()
        page.keyboard.press("3")
        saved(page)
        other.bring_to_front()
        places.until(lambda: shown(other) == shown(page), 15, "the same in the other window")
        assert "Pre" in [label for label, _ in shown(other).values()]
        other.keyboard.press("4")
        saved(other)
        places.until(lambda: shown(other) == shown(page), 15, "the same in the first window")


def test_a_model_that_vanishes_in_the_middle_is_told_and_the_case_stays_usable(workplace, opened):
    from allkit.clinic import fields
    from allkit.clinic.access import sign_in
    from clinic_places import incoming

    with places.new_page(opened) as page:
        case_page(page, workplace)
        (workplace.folder / "model.bin").unlink()
        with workplace.opened() as store:
            fields.add(sign_in(store, "anna"), workplace.case, [incoming(99)])
        page.locator(".job.error").wait_for(timeout=40_000)
        assert page.locator(".job.error").inner_text(), "it says that the model is not there"
        page.keyboard.press("2")
        saved(page)
        assert "Early" in labels(workplace).values()


def test_what_was_shown_as_saved_is_in_the_store_after_the_server_was_killed(workplace, opened):
    dice = random.Random(7)
    with places.new_page(opened) as page:
        case_page(page, workplace)
        page.on("dialog", lambda dialog: dialog.accept())
        for turn in range(5):
            killer = threading.Timer(dice.uniform(0.4, 1.6), workplace.process.kill)
            killer.start()
            start = time.monotonic()
            for n in range(40):  # two seconds at 20 keys a second; the server dies among them
                page.keyboard.press(dice.choice(["1", "2", "3", "4", "ArrowRight", "ArrowLeft"]))
                time.sleep(max(0.0, start + (n + 1) / 20 - time.monotonic()))
            killer.join()
            workplace.process.wait(20)
            told = {field: label for field, (label, sure) in shown(page).items() if sure}
            held = labels(workplace)
            assert told, "something was shown as saved"
            assert {field: held[field] for field in told} == told, f"round {turn}"
            workplace.start()
            # The page comes back by itself, and what was not saved goes out then.
            saved(page)
            held = labels(workplace)
            assert {field: label for field, (label, _) in shown(page).items()} == held


def test_the_process_that_answers_is_started_again_when_it_is_killed(
    tmp_path, opened, tiny_onnx, drawn
):
    made = places.Workplace(tmp_path, tiny_onnx)
    made.start()
    try:
        with places.new_page(opened) as page:
            page.goto(made.url)
            specimen = page.get_by_role("radiogroup", name="Specimen of the images")
            specimen.get_by_role("radio", name="Blood").click()
            before = places.until(made.answering, what="the process that answers")
            smears = [str(path) for path in sorted(drawn.parent.rglob("*.png"))[:6]]
            page.locator(".drop input[type=file]").first.set_input_files(smears)
            page.wait_for_url("**/case?case=*")
            os.kill(before, signal.SIGKILL)
            after = places.until(lambda: (made.answering() or before) != before, 30)
            assert after
            places.until(lambda: page.locator(".cell").count() == 6, what="six fields")
            places.until(
                lambda: page.locator("[data-group=waiting]").count() == 0, 60, "the answers"
            )
    finally:
        made.stop()
