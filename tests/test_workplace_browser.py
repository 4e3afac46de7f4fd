"""The whole way of a case in a browser: files are dropped, read by keys, signed, and reported."""

import io
import json
import re

import pytest

pytest.importorskip("streamlit", reason="the app extra is not installed")
places = pytest.importorskip("workplace_server", reason="tests/ is not on the path")
pytestmark = places.MARKS
CASE = re.compile(r"/case\?case=(\w+)")


@pytest.fixture(scope="module")
def workplace(tiny_onnx, tmp_path_factory):
    """The workplace with a model, as `allkit app model.onnx` starts it."""
    made = places.Workplace(tmp_path_factory.mktemp("workplace"), tiny_onnx).start()
    try:
        yield made
    finally:
        made.stop()
    assert made.process.returncode == 0, made.log.read_text()  # ended as by Ctrl-C
    assert "Traceback" not in made.log.read_text()


@pytest.fixture(scope="module")
def page(workplace):
    """A browser's page on it, and what it asks for and complains of."""
    with places.browser() as opened, places.new_page(opened, accept_downloads=True) as page:
        watched = places.Watched(page)
        page.goto(workplace.url)
        yield page
        assert watched.wrong == []
        assert watched.elsewhere(workplace.url) == []
        assert any("/clinic/cases/" in url for url in watched.asked), "the routes were asked"


def files(tmp_path, drawn):
    """Two smears, a DICOM of a third, and a text."""
    import numpy as np
    from PIL import Image

    from test_clinic_dicom import EXPLICIT, dataset

    smears = sorted(drawn.parent.rglob("*.png"))[:3]
    made = dataset(np.asarray(Image.open(smears[2]).convert("RGB")), EXPLICIT)
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    (tmp_path / "third.dcm").write_bytes(stream.getvalue())
    (tmp_path / "letter.txt").write_text("Dear colleague, please look at this smear.\n" * 40)
    return [*map(str, smears[:2]), str(tmp_path / "third.dcm"), str(tmp_path / "letter.txt")]


def saved(page):
    page.locator(".saving[data-state=saved]").wait_for()


def test_a_case_is_made_of_dropped_files_read_by_keys_signed_and_reported(
    workplace, page, tmp_path, drawn
):
    # Files that are dropped make a case; what is no image is refused, and the others are kept.
    page.get_by_role("heading", name="Worklist").wait_for()
    assert places.barriers(page) == []
    specimen = page.get_by_role("radiogroup", name="Specimen of the images")
    specimen.get_by_role("radio", name="Marrow").click()
    page.locator(".drop input[type=file]").first.set_input_files(files(tmp_path, drawn))
    page.wait_for_url(CASE)
    case = CASE.search(page.url).group(1)
    page.locator(".coming summary").click()
    refused = page.locator(".coming li").text_content()
    assert refused.startswith("letter.txt: ")
    assert len(refused.split(". ")) >= 2, "it says what is wrong and what to do"

    # The model's answers come by themselves.
    places.until(lambda: page.locator(".cell").count() == 3, what="three fields")
    places.until(lambda: "Waiting" not in page.locator(".grid").inner_text(), 40, "the answers")

    assert places.barriers(page) == []

    # Keys give classes; Enter takes the model's answer where it gave one, U takes back.
    page.locator(".cell").first.click()
    for key, class_ in (("1", "Benign"), ("2", "Early"), ("4", "Pro")):
        places.press(page, key)
        assert class_ in page.locator(".own").text_content()
    places.press(page, "u")
    assert "Early" in page.locator(".own").text_content()
    saved(page)
    for position in range(3):
        field = page.locator(".cell").nth(position)
        field.click()
        page.keyboard.press("Enter")  # takes the model's answer, if there is one, and goes on
        field.click()
        places.press(page, "3")
    saved(page)
    fields = places.held(workplace, case)
    assert [one.first.label for one in fields] == ["Pre"] * 3


def test_the_case_is_finished_and_signed_after_the_report_was_shown(page):
    page.locator(".ends button", has_text="Finish reading").click()
    page.locator(".ends button", has_text="Sign").click()
    drawer = page.get_by_role("dialog")
    drawer.get_by_text("What stands against a signature").wait_for()
    assert drawer.get_by_role("button", name="Sign", exact=True).is_disabled()
    drawer.get_by_role("radio").nth(2).check(force=True)
    drawer.get_by_text("I have read the limits of the model.").click()
    seen = drawer.get_by_text("I have seen that")
    if seen.count():
        seen.first.click()
    drawer.get_by_text("Nothing stands against a signature.").wait_for()
    picture = drawer.get_by_role("img", name=re.compile("Page 1 of"))
    picture.wait_for()
    drawer.get_by_role("button", name="Sign", exact=True).click()
    page.wait_for_url(re.compile("/report"))
    page.get_by_text(re.compile("Result: .*Signed by anna")).wait_for()


@pytest.mark.parametrize("format", ["PDF", "FHIR R4"])
def test_the_signed_report_is_downloaded(page, format):
    places.still(page)
    chosen = page.get_by_role("combobox", name="Format")
    if format != "PDF":  # which is chosen already
        chosen.fill(format)
        chosen.press("Enter")
    page.get_by_role("button", name="Make the file").click()
    with page.expect_download() as coming:
        page.get_by_role("button", name=f"Download {format}").click()
    data = coming.value.path().read_bytes()
    if format == "PDF":
        import pypdf

        text = "".join(one.extract_text() for one in pypdf.PdfReader(io.BytesIO(data)).pages)
        assert "Research use" in text
    else:
        resources = json.loads(data)
        assert resources["resourceType"] == "Bundle"
        kinds = {entry["resource"]["resourceType"] for entry in resources["entry"]}
        assert "DiagnosticReport" in kinds
