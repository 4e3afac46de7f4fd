"""The page for the bench: one sheet of paper that says what the documentation says."""

import io
import re
import sys
from pathlib import Path

import pytest
from pypdf import PdfReader

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "streamlit_app"))

from workplace.bench_sheet import bench_sheet, page_of  # noqa: E402 - the app is no package
from workplace.telling import HIGH, MODERATE  # noqa: E402 - the app is no package
from workplace.texts import languages, texts  # noqa: E402 - the app is no package

PAGES = {"en": "bench-sheet.md", "de": "bench-sheet.de.md"}


def squeezed(text):
    return re.sub(r"\s+", "", text)


@pytest.fixture(scope="module", params=languages())
def printed(request):
    return request.param, PdfReader(io.BytesIO(bench_sheet(request.param)))


def test_it_is_one_sheet_of_a4(printed):
    _, pdf = printed
    assert len(pdf.pages) == 1
    assert [round(float(side) / 72 * 25.4) for side in pdf.pages[0].mediabox[2:]] == [210, 297]


def test_every_word_of_the_page_is_on_the_sheet_and_none_is_cut(printed):
    language, pdf = printed
    printed_words = set(re.findall(r"[\w%]+", pdf.pages[0].extract_text()))
    text = squeezed(pdf.pages[0].extract_text())
    page = (ROOT / "docs" / "how-to" / PAGES[language]).read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    assert len(headings) == 7
    assert [h for h in headings if squeezed(h) not in text] == []
    words = {word for line in page.splitlines() for word in re.findall(r"[\w%]+", line)}
    assert sorted(words - printed_words) == []
    assert "…" not in text
    assert squeezed(texts(language)("frame.research_use")) in text


def test_the_language_of_the_file_is_named(printed):
    language, pdf = printed
    assert pdf.trailer["/Root"]["/Lang"] == language


def test_the_same_page_gives_the_same_bytes():
    assert bench_sheet("en") == bench_sheet("en")
    assert page_of("xx") == page_of("en")


@pytest.mark.parametrize("language", languages())
def test_the_page_says_what_the_app_says(language):
    page, say = page_of(language), texts(language)
    for state in ("review", "refused", "waiting", "hidden"):
        assert f"| {say(f'field.{state}.headline')} |" in page
    assert say("field.accepted.headline", display="Pro-B") in page
    assert say("field.group.headline", group=say("group.malignant")) in page
    for limit in (HIGH, MODERATE):
        assert f"{100 * limit:.0f} %" in page
    assert say("class.inadequate") in page
