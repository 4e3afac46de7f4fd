"""The A4 page of a report: what is on it, that it is the same again, and what may not happen to it."""

import hashlib
import io
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import matplotlib
import pypdf
import pytest

from allkit.clinic.records import Identifier, PersonName
from allkit.clinic.reports import glyphs
from allkit.clinic.reports.pdf import _KINDS, missing_glyphs, pdf_of
from allkit.clinic.reports.wording import (
    GROUP_OPEN,
    MARROW,
    RESEARCH_USE,
    counts,
    probability,
    thumbnail_order,
)
from allkit.errors import AllkitError, ConfigError
from clinic_reports import HOSTILE, a_field, a_report, png

STIX = Path(matplotlib.__file__).parent / "mpl-data" / "fonts" / "ttf" / "STIXGeneral.ttf"


def pages(report, image_of=png, fonts=()):
    return pages_of(pdf_once(report, image_of, fonts))


@cache
def pdf_once(report, image_of=png, fonts=()):
    """The bytes of a report: the same report is made once for all tests."""
    return pdf_of(report, image_of=image_of, fonts=fonts)


@cache
def pages_of(data):
    return [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data)).pages]


def text_of(report, **options):
    return "\n".join(pages(report, **options))


def joined(text):
    return "".join(text.split())


def test_another_report_gives_other_bytes():
    changed = a_report(comment=HOSTILE["chinese"])
    assert pdf_once(a_report()) != pdf_once(changed)


def test_a_report_of_fifty_fields_takes_less_than_a_second():
    report = a_report("final", 50)
    start = time.process_time()
    pdf_of(report, image_of=png)
    assert time.process_time() - start < 1


def test_the_page_says_whose_it_is_and_what_the_reader_found():
    report = a_report("final", 3)
    text = text_of(report)
    assert "Blood smear: Pre-B, signed by Dr. M. Curie." in text
    assert "3 fields read by a person." in text
    for said in (
        "P-7K4M-22QX", "4711 (issued by HOSPITAL)", "ORD-2026-1187 (issued by LIS)",
        "May-Grünwald-Giemsa", "2026-01-29", "S-2026-0042", "Dr. M. Curie (mcurie), 2026-01-31 09:14 UTC",
        report.readings_sha256, report.model.sha256, "efficientnet-lite0 1.2.0", report.comment,
        *report.model.limits,
    ):  # fmt: skip
        assert said in text, said


def test_the_answer_of_the_model_for_the_slide_is_marked_as_preliminary():
    text = text_of(a_report("final", 3))
    assert "Preliminary AI answer" in text
    assert "Pre-B, probability 0.91; rests on 2 of 3 fields." in text
    assert "no part of the reader's result" in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("preliminary", "PRELIMINARY"),
        ("final", "FINAL"),
        ("corrected", "CORRECTED version 2"),
        ("withdrawn", "WITHDRAWN"),
    ],
)
def test_every_page_says_what_the_report_is_worth(kind, words):
    report = a_report(kind, 20)
    found = pages(report)
    assert len(found) >= 2
    for number, page in enumerate(found, start=1):
        assert words in page
        assert RESEARCH_USE in page
        assert report.sha256 in page
        assert f"Page {number} of {len(found)}" in page


def test_a_withdrawn_report_says_so_across_each_page():
    normal, withdrawn = (pages(a_report(kind, 20)) for kind in ("corrected", "withdrawn"))
    assert not any("WITHDRAWN" in page for page in normal)
    assert all(page.count("WITHDRAWN") >= 2 for page in withdrawn)


def test_a_later_version_says_what_it_replaces_and_why():
    text = text_of(a_report("corrected", 20))
    assert (
        "This report replaces version 1. Reason: Two fields of another patient were removed."
        in text
    )
    text = text_of(a_report("withdrawn", 20))
    assert "do not use this report, nor version 1" in text


def test_a_preliminary_report_has_no_result_and_no_signature():
    text = text_of(a_report("preliminary", 20))
    assert "No result: no reader has given one yet." in text
    assert "not signed" in text
    assert "Curie" not in text


def test_an_inadequate_smear_is_never_called_benign():
    fields = tuple(a_field(n, verdict="refused", label=None, reader="inadequate") for n in (1, 3))
    text = text_of(a_report("final", fields, result="inadequate", slide=None))
    said = "Blood smear inadequate for an assessment, signed by Dr. M. Curie."
    assert said in text.replace("\n", " ")


def test_the_second_reader_and_the_agreement_are_told():
    report = a_report(second_reader=PersonName("rv", "Dr. R. Virchow"), agreement=0.8125)
    assert "Dr. R. Virchow (rv); agreement (Cohen's kappa) 0.81" in text_of(report)


def test_a_report_without_a_model_and_without_fields_is_still_a_report():
    text = text_of(a_report("final", (), model=None, slide=None, order=None))
    assert "The case has no fields." in text
    assert "no model has answered" in text


def test_scores_of_a_model_that_is_not_calibrated_are_not_called_probabilities():
    report = a_report()
    text = text_of(replace(report, model=replace(report.model, calibrated=False)))
    assert "a score is no probability" in text


# ── counts, order of the pictures ─────────────────────────────────────────────────────────────


def test_each_column_of_the_counts_adds_up_to_the_fields():
    fields = (
        *(a_field(n) for n in range(1, 15)),
        a_field(15, verdict=None, label=None, reader=None),
        a_field(18, verdict="unreadable", label=None, reader=None),
        a_field(17, label="a class that the model does not have"),
    )
    found = counts(a_report("final", fields))
    assert sum(one.model for one in found) == sum(one.reader for one in found) == 17
    by_name = {one.name: one for one in found}
    assert by_name["not confirmed"].reader == 2
    assert by_name["unreadable"].model == by_name["no answer"].model == 1
    assert sum(one.changed for one in found) == sum(field.changed for field in fields)


def test_read_is_said_only_of_fields_that_a_person_read():
    fields = (a_field(1), *(a_field(n, verdict="accepted", label="Pro", reader=None) for n in range(11, 18)),
              a_field(20, verdict="refused", label=None, reader=None))  # fmt: skip
    text = text_of(a_report("final", fields, result="Pro"))
    assert "Blood smear: Pro-B, signed by Dr. M. Curie." in text
    assert (
        "1 field read by a person, 7 accepted by the model and not read by a person, "
        "1 neither read nor accepted."
    ) in text
    assert "read by Dr." not in text
    assert "Not read by a person: 8" in text
    total = next(line for line in text.splitlines() if line.startswith("Fields") and "9" in line)
    assert total.split() == ["Fields", "9", "1", "0"]


def test_people_read_the_classes_as_the_screen_calls_them():
    fields = tuple(
        a_field(n, label=c, reader=c)
        for n, c in zip((8, 11, 13), ("Early", "Pre", "Pro"), strict=True)
    )
    text = text_of(a_report("final", fields, result="Early"))
    for name in ("Early pre-B", "Pre-B", "Pro-B"):
        assert f"AI: {name}" in text
        assert f"Reader: {name}" in text
    assert not [line for line in text.splitlines() if line.endswith((" Pre", " Pro", " Early"))]


def test_a_final_report_is_not_of_the_colour_of_a_benign_class():
    red, green, blue = _KINDS["final"]
    assert max(red, green, blue) - min(red, green, blue) < 20


def test_pictures_begin_with_what_the_reader_changed_then_with_what_needs_review():
    fields = a_report("final", 12).fields
    order = thumbnail_order(fields)
    assert [field.number for field in order[:4]] == [2, 9, 3, 10]
    assert [field.verdict for field in order[-2:]] == ["refused", "refused"]
    asked = []
    pdf_of(a_report("final", 12), image_of=lambda sha: asked.append(sha) or png(sha))
    assert asked == [field.sha256 for field in order[:6]]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.5, "0.50"),
        (0.99, "0.99"),
        (0.9999, ">0.99"),
        (0.0001, "<0.01"),
        (1.0, ">0.99"),
    ],
)
def test_no_probability_looks_certain(value, shown):
    assert probability(value) == shown


# ── images that are not ───────────────────────────────────────────────────────────────────────


BROKEN = (
    b"", b"no image", png("0")[:400], KeyError("lost"), FileNotFoundError("gone"),
    AllkitError("the store is closed"),
)  # fmt: skip


def test_an_image_that_cannot_be_read_becomes_a_box_that_says_so():
    report = a_report("final", 6)
    by_sha = {field.sha256: one for field, one in zip(report.fields, BROKEN, strict=True)}

    def image_of(sha):
        if isinstance(by_sha[sha], Exception):
            raise by_sha[sha]
        return by_sha[sha]

    assert text_of(report, image_of=image_of).count("cannot be read.") == len(BROKEN)


# ── what comes from outside ───────────────────────────────────────────────────────────────────


def test_ten_thousand_characters_flow_over_pages_and_none_is_lost():
    report = a_report(
        "final", (a_field(1, name="n" * 3000),), patient="p" * 3000, comment=HOSTILE["words"]
    )
    found = pages(report)
    assert joined(HOSTILE["words"]) in joined("".join(body(page) for page in found))
    assert "".join(found).count("n" * 20) >= 100
    assert "".join(found).count("p" * 20) >= 100


def body(page):
    """What a page holds between its head and its foot."""
    lines = page.splitlines()
    keep = [
        n
        for n in lines
        if not n.startswith(("Page ", "SHA-256 of this", "Report 01", RESEARCH_USE))
    ]
    return "\n".join(n for n in keep if n != "FINAL" and not n.startswith("Blood smear report ·"))


def test_texts_are_printed_as_they_are():
    values = [HOSTILE[name] for name in ("html", "markup", "formula", "separators", "escapes")]
    fields = tuple(a_field(n, name=value, why=value) for n, value in enumerate(values, start=1))
    data = pdf_once(a_report("final", fields, comment="\n\n".join(values), result=values[0]))
    reader = pypdf.PdfReader(io.BytesIO(data))
    text = joined("".join(pages_of(data)))
    for value in values:
        assert joined(value) in text
    assert text.count("{nb}") >= 2
    assert not any("/Annots" in page for page in reader.pages)
    assert b"/JavaScript" not in data


def test_what_turns_a_text_round_or_hides_it_is_shown_by_its_escape():
    text = text_of(a_report(comment=HOSTILE["direction"] + HOSTILE["control"] + HOSTILE["chinese"]))
    assert r"safe\u202egnp.exe\u2066" in text
    assert r"\u60a3\u8005" in text
    assert r"nul\u0000bell\u0007escape\u001b[31m" in text


def test_a_time_that_is_none_is_refused_by_name():
    with pytest.raises(AllkitError, match="expected a time in UTC"):
        pdf_of(a_report(made_at="yesterday"), image_of=png)


# ── characters and fonts ──────────────────────────────────────────────────────────────────────


def test_latin_greek_and_cyrillic_can_be_printed():
    value = HOSTILE["letters"] + " e\u0301"
    report = a_report(comment=value, signer=PersonName("zoë", "Dr. Žižková"))
    assert missing_glyphs(report) == ()
    assert "Ünïcödé Ελλάδα Москва ≥ µ" in text_of(report)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("chinese", ("患", "者")),
        ("arabic", ("ر", "ض", "م", "ي")),
        ("control", ("\x00", "\x07", "\x1b")),
        ("direction", ("\u202e", "\u2066")),
    ],
)
def test_characters_that_would_not_be_printed_are_named_before_anybody_signs(name, missing):
    for change in (
        {"comment": HOSTILE[name]},
        {"patient_identifiers": (Identifier("1", HOSTILE[name]),)},
        {"fields": (a_field(1, why=HOSTILE[name]),)},
    ):
        assert missing_glyphs(a_report(**change)) == missing


def test_a_font_of_the_laboratory_prints_what_the_bundled_one_lacks():
    report = a_report(comment="Ring Ⓚ, script ℊ")
    assert missing_glyphs(report) == ("ℊ", "Ⓚ")
    assert missing_glyphs(report, [STIX]) == ()
    assert "Ring Ⓚ, script ℊ" in text_of(report, fonts=(STIX,))


def test_a_file_that_is_no_font_is_refused_by_name(tmp_path):
    wrong = tmp_path / "wrong.ttf"
    wrong.write_bytes(b"not a font")
    for path in (wrong, tmp_path / "none.ttf"):
        with pytest.raises(ConfigError, match=r"\.ttf cannot be read"):
            missing_glyphs(a_report(), [path])
        with pytest.raises(ConfigError, match=r"\.ttf cannot be read"):
            pdf_of(a_report(), image_of=png, fonts=[path])


def test_the_fonts_come_with_their_licence():
    licence = glyphs.REGULAR.with_name("LICENSE_DEJAVU").read_text("utf-8")
    assert "Bitstream Vera" in licence
    for font in (glyphs.REGULAR, glyphs.BOLD):
        assert hashlib.sha256(font.read_bytes()).hexdigest()
        assert font.stat().st_size > 500_000


def test_a_class_without_its_group_is_printed_as_not_settled_and_why():
    known = a_report("preliminary", 3)
    assert "Malignant on 2 fields" in text_of(known) or "Malignant on 3 fields" in text_of(known)
    assert GROUP_OPEN not in text_of(known)
    alone = replace(known, slide=replace(known.slide, coarse_verdict="review"))
    text = text_of(alone)
    assert "Not settled on" in text
    assert joined(GROUP_OPEN) in joined(text)
    assert "Pre-B, probability 0.91; rests on 2 of 3 fields." in text


def test_a_report_on_marrow_says_that_nothing_was_measured_there():
    blood = a_report("final", 3)
    assert joined(MARROW) not in joined(text_of(blood))
    marrow = replace(blood, specimen=replace(blood.specimen, kind="marrow"))
    assert joined(MARROW) in joined(text_of(marrow))
