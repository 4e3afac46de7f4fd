"""What is said of the model's answers: never two things that contradict each other."""

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from allkit import CasePrediction, Prediction
from allkit.clinic.intake.unpack import unpack
from allkit.clinic.models import KNOWN_SLIDES_ONLY
from allkit.clinic.records import ModelIdentity, SlideResult
from allkit.clinic.reports.wording import display as printed
from allkit.clinic.reports.wording import slide_headline
from allkit.clinic.text import without_options
from allkit.trust.reasons import OTHER, SENTENCES, TEXTS, texts_of
from allkit.trust.unseen import notes_on_slides
from clinic_reports import a_field, a_report

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "streamlit_app"))

from workplace import words  # noqa: E402 - the app is no package
from workplace.telling import HIGH, MODERATE  # noqa: E402 - the app is no package
from workplace.texts import languages, texts  # noqa: E402 - the app is no package

VERDICTS = ("accepted", "review", "refused", "unreadable")
COARSE = (None, "accepted", "review", "refused")
CLASSES = ("Benign", "Early", "Pre", "Pro", "Monocyte")
NOT_SHOWN = {
    "unfamiliar_slide", "unlike_training", "not_a_smear", "nothing_to_see", "subtype_unknown",
    "seen_without_labels", "parts_disagree",
}  # fmt: skip
EN, DE = texts("en"), texts("de")
CODES = [(), *((code,) for code in TEXTS), *itertools.combinations(sorted(TEXTS), 2)]


def display(label):
    return f"<{label}>"


def group(label):
    return {"Benign": "benign", "Monocyte": None}.get(label, "malignant")


def prediction(verdict="accepted", label="Pre", codes=(), coarse_verdict=None, **more):
    known = verdict != "unreadable"
    return Prediction(
        "1.png",
        verdict,
        texts_of(codes),
        reason_codes=tuple(codes),
        label=label if known else None,
        probability=0.93 if known else None,
        probabilities={label: 0.93, "Else": 0.07} if known else {},
        coarse=group(label) if coarse_verdict else None,
        coarse_probability=0.97 if coarse_verdict else None,
        coarse_verdict=coarse_verdict,
        **more,
    )


def slide(verdict="accepted", label="Pre", codes=(), coarse_verdict="accepted", **more):
    values = {"fields": 5, "used": 5, **more}
    return CasePrediction(
        "case",
        verdict,
        texts_of(codes),
        reason_codes=tuple(codes),
        label=label,
        probability=0.93,
        coarse=group(label) if coarse_verdict else None,
        coarse_probability=0.97 if coarse_verdict else None,
        coarse_verdict=coarse_verdict,
        **values,
    )


def field_words(answer, say=EN, hidden=False):
    return words.field_words(say, answer, hidden=hidden, display=display)


def slide_words(answer, say=EN, *, job=None, hidden=False, fields=5):
    return words.slide_words(say, answer, job=job, hidden=hidden, fields=fields, display=display)


def everything():
    for verdict, coarse_verdict, codes in itertools.product(VERDICTS, COARSE, CODES):
        for label in ("Benign", "Pre", "Monocyte") if len(codes) < 2 else ("Pre",):
            yield prediction(verdict, label, codes, coarse_verdict), codes


def all_text(said):
    values = (said.headline, said.sentence, said.band_words, *said.reasons, *said.not_excluded)
    return " ".join(values)


def test_no_field_is_said_to_be_accepted_that_was_not_whatever_comes_together():
    for answer, codes in everything():
        said = field_words(answer)
        class_accepted = answer.verdict == "accepted" and not NOT_SHOWN.intersection(codes)
        class_accepted &= not {"not_calibrated", "group_uncertain"}.intersection(codes)
        assert (said.state == "accepted") == class_accepted, answer
        group_accepted = answer.coarse_verdict == "accepted" and answer.verdict in (
            "accepted",
            "review",
        )
        if "accepted" in said.headline:
            assert class_accepted or group_accepted, answer
        assert (said.group == answer.label) == class_accepted
        assert said.group in (answer.label, said.state)


def test_no_class_and_no_number_is_shown_of_what_the_model_does_not_know():
    for answer, codes in everything():
        said = field_words(answer)
        if answer.verdict in ("refused", "unreadable") or NOT_SHOWN.intersection(codes):
            assert said.label is None
            assert f"<{answer.label}>" not in all_text(said), answer
            assert said.not_excluded == ()
        if answer.verdict in ("refused", "unreadable"):
            assert (said.band, said.band_words, said.percent) == ("", "", "")
            assert said.tone == "refused"


def test_a_band_stands_only_beside_an_answer_and_never_without_calibration():
    for answer, codes in everything():
        said = field_words(answer)
        assert bool(said.band) == bool(said.percent)
        if said.band:
            assert said.label is not None or "accepted" in said.headline
            assert "not_calibrated" not in codes
        if "not calibrated" in said.band_words:
            assert "not_calibrated" in codes


def test_tone_and_headline_of_a_field_agree():
    for answer, _ in everything():
        said = field_words(answer)
        if said.tone in ("benign", "malignant", "accepted"):
            assert said.headline.endswith(("accepted", "accepted; subtype needs review"))
        else:
            assert "accepted" not in said.headline
        if said.tone == "review":
            assert said.headline == "Needs review"
        if said.tone == "malignant":
            assert answer.label == "Pre"
        if said.tone == "benign":
            assert answer.label == "Benign"
            assert said.state == "accepted"


def test_every_reason_of_an_answer_is_said_once_in_each_language():
    for answer, codes in everything():
        for say in (EN, DE):
            said = field_words(answer, say)
            assert len(said.reasons) == len(set(codes))
            assert said.sentence not in said.reasons


def slides():
    for verdict, coarse_verdict, codes in itertools.product(VERDICTS[:3], COARSE, CODES):
        for label in ("Benign", "Pre", "Monocyte"):
            yield slide(verdict, label, codes, coarse_verdict), codes


def test_the_headline_of_a_slide_agrees_with_its_tone_and_with_what_was_accepted():
    for answer, codes in slides():
        said = slide_words(answer)
        text = " ".join((said.headline, *said.lines))
        assert said.tone in ("benign", "malignant", "accepted", "open")
        if said.tone == "open":
            assert said.headline in ("Not settled on 5 fields", "No answer: no field can be used")
            assert "settle this answer" not in text
            assert "<" not in text
            assert "probability." not in "".join(said.lines[:1])
            continue
        assert answer.verdict in ("accepted", "review")
        assert answer.coarse_verdict in ("accepted", None)
        assert not {"group_uncertain", "not_calibrated"}.intersection(codes)
        shown = {"benign": "Benign", "malignant": ("Malignant", "<Pre>"), "accepted": "<Mono"}
        assert said.headline.startswith(shown[said.tone]) or said.headline.startswith("<Benign>")
        if "Subtype:" in text:
            assert answer.verdict == "accepted"
            assert "subtype" not in text.replace("Subtype:", "")
        if said.tone == "benign":
            assert answer.verdict == "accepted"


def test_of_what_is_hidden_nothing_is_said():
    for answer, _ in everything():
        assert field_words(answer, hidden=True) == field_words(None, hidden=True)
    said = field_words(prediction(white_cells=7), hidden=True)
    assert (said.state, said.group, said.tone) == ("hidden", "hidden", "hidden")
    assert (said.label, said.band, said.percent, said.measured) == (None, "", "", "")
    assert not said.needs_why
    job = words.job_words(EN, {"state": "running", "done": 3, "total": 12}, None)
    hidden = slide_words(slide(), job=job, hidden=True)
    assert hidden == slide_words(None, hidden=True)
    assert hidden.tone == "hidden"


def test_an_accepted_field_is_read_first_as_its_class():
    said = field_words(prediction(prediction_set=("Pre",)))
    assert said.headline == "<Pre>: accepted"
    assert (said.state, said.group, said.tone) == ("accepted", "Pre", "malignant")
    assert (said.band, said.band_words, said.percent) == ("high", "high probability", "93 %")
    assert said.needs_why
    assert said.not_excluded == ()


def test_a_field_for_review_names_what_is_possible_but_not_first():
    answer = prediction("review", codes=("ambiguous",), prediction_set=("Pre", "Pro"))
    said = field_words(answer)
    assert said.headline == "Needs review"
    assert said.sentence.endswith("Most probable is <Pre>.")
    assert said.not_excluded == ("<Pre>", "<Pro>")
    assert said.reasons == ("More than one class is possible.",)
    assert not said.needs_why


def test_an_accepted_group_stands_above_a_subtype_that_is_open():
    codes = ("unfamiliar_slide", "subtype_unknown")
    said = field_words(prediction("review", "Pro", codes, "accepted"))
    assert said.headline == "Malignant: accepted; subtype needs review"
    assert (said.state, said.group, said.tone) == ("review", "review", "malignant")
    assert (said.band, said.percent, said.label) == ("high", "97 %", None)
    assert (
        said.reasons[0] == "The slide is not one that the model knows, so the class is left to you."
    )


def test_a_benign_group_does_not_accept_the_benign_class_that_needs_review():
    said = field_words(prediction("review", "Benign", ("low_confidence",), "accepted"))
    assert (said.headline, said.tone) == ("Needs review", "review")
    other = slide_words(slide("review", "Benign", ("few_accepted",), "accepted"))
    assert (other.tone, other.headline) == ("open", "Not settled on 5 fields")


def test_scores_without_calibration_are_no_probabilities():
    said = field_words(prediction("review", codes=("not_calibrated",)))
    assert (said.band, said.percent) == ("", "")
    assert said.band_words == "not calibrated: no probability is given"
    assert said.sentence.endswith("Its highest score is for <Pre>.")


def test_measurements_are_said_in_the_language_of_the_reader():
    answer = prediction("refused", codes=("unlike_training",), white_cells=1, nucleus_ratio=2.14)
    assert field_words(answer).measured == (
        "White cells in the field: 1. Nucleus to red cell: 2.1 (diameters)."
    )
    assert "2,1" in field_words(answer, DE).measured
    assert field_words(prediction()).measured == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.0, "> 99 %"), (0.995, "> 99 %"), (0.994, "99 %"), (0.004, "< 1 %"), (0.0, "< 1 %")],
)
def test_nothing_looks_certain(value, shown):
    assert words.percent(EN, value) == shown


@pytest.mark.parametrize(
    ("value", "band"),
    [(HIGH, "high"), (0.899, "moderate"), (MODERATE, "moderate"), (0.699, "low")],
)
def test_the_bands_have_the_limits_that_the_help_names(value, band):
    said = words.field_words(
        EN,
        Prediction("1", "accepted", label="Pre", probability=value),
        hidden=False,
        display=display,
    )
    assert said.band == band
    told = EN("help.topics.bands.text", high=words.percent(EN, HIGH), moderate="M")
    assert "high from 90 % on, moderate from M to below 90 %, low below M" in told


# ── the slide ─────────────────────────────────────────────────────────────────────────────────


def test_a_slide_is_answered_first_then_its_subtype_then_its_fields():
    said = slide_words(slide(refused=("a.png",), unreadable=("b.png",)))
    assert said.tone == "malignant"
    assert said.headline == "Malignant on 3 fields"
    assert said.lines == (
        "The fields settle this answer: high probability.",
        "Subtype: <Pre>.",
        "It stays the model's answer, until a reader signs.",
        "1 field was refused and takes no part.",
        "1 field cannot be read and takes no part.",
    )


def test_a_benign_slide_has_no_subtype():
    said = slide_words(slide(label="Benign"))
    assert (said.tone, said.headline) == ("benign", "Benign on 5 fields")
    assert not any("ubtype" in line for line in said.lines)


@pytest.mark.parametrize(
    ("codes", "line"),
    [
        (("subtype_unknown", "unfamiliar_slide"), "Which subtype it is cannot be said on this slide."),
        (("subtype_unknown", "fields_disagree"), "The fields do not settle which subtype it is."),
        # What was said of single fields does not take the slide's answer back.
        (("subtype_unknown", "parts_disagree", "unlike_training"), "Which subtype it is cannot be said on this slide."),
    ],
)  # fmt: skip
def test_a_malignant_slide_stays_so_where_the_subtype_is_open(codes, line):
    said = slide_words(slide("review", codes=codes))
    assert said.headline == "Malignant on 5 fields"
    assert line in said.lines


def test_a_slide_that_is_open_says_what_would_settle_it():
    codes = ("group_uncertain",)
    said = slide_words(slide("review", codes=codes, coarse_verdict="review", fields_needed=4))
    assert said.headline == "Not settled on 5 fields"
    assert said.lines[0] == "About 4 more fields like these would settle it."
    assert len(said.lines) == 2
    never = slide_words(slide("review", codes=codes, coarse_verdict="review"))
    assert never.lines[0] == "More fields like these would not settle it."
    mixed = slide("review", codes=("fields_disagree",), coarse_verdict="review", fields_needed=4)
    assert slide_words(mixed).lines == (
        "The fields speak for different answers. Are they all of one slide?",
    )


def test_a_slide_of_refused_fields_is_never_benign():
    answer = CasePrediction(
        "case", "refused", texts_of(["no_field"]), reason_codes=("no_field",), fields=2,
        refused=("a", "b"), coarse_verdict="refused",
    )  # fmt: skip
    said = slide_words(answer, fields=2)
    assert (said.tone, said.headline) == ("open", "No answer: no field can be used")
    assert "never Benign" in said.lines[0]


def test_a_slide_whose_answer_is_older_than_its_fields_says_so():
    assert (
        "This is the answer for 5 fields; the case has 7." in slide_words(slide(), fields=7).lines
    )


def test_a_slide_without_an_answer_says_what_it_waits_for():
    assert slide_words(None, fields=0).headline == "No fields yet"
    job = words.job_words(EN, {"state": "running", "done": 3, "total": 12}, 0.1)
    assert job.words == "Answered 3 of 12; about 2 minutes left"
    assert slide_words(None, job=job).lines == (
        "It comes when the model has answered for all fields.",
    )
    failed = words.job_words(
        EN, {"state": "failed", "done": 0, "total": 0, "error": "It is full."}, None
    )
    said = slide_words(None, job=failed)
    assert said.tone == "open"
    assert failed.words == "The model could not answer: It is full."


def test_that_the_model_failed_is_told_once():
    failed = words.job_words(EN, {"state": "failed", "done": 0, "total": 0, "error": "Full."}, None)
    for said in (slide_words(None, job=failed), slide_words(slide(), job=failed)):
        assert failed.words not in (said.headline, *said.lines)


@pytest.mark.parametrize("say", [EN, DE])
@pytest.mark.parametrize(
    "what", ["is gone. Put it back.", "was changed since it was added. Add it."]
)
def test_a_model_that_is_gone_is_told_without_its_place_on_the_server(say, what):
    error = f"The model's file or folder /srv/models/all.onnx {what}"
    job = {"state": "failed", "done": 0, "total": 0, "error": error}
    said = words.job_words(say, job, None).words
    assert "/srv" not in said
    assert "Add it" not in said


def test_all_fields_are_said_to_be_read_only_where_a_reader_has_read():
    assert words.unread_words(EN, 0, read=False) == "No field needs a reader"
    assert words.unread_words(EN, 0, read=True) == "All fields that need a reader are read"
    assert words.unread_words(EN, 2, read=False) == "2 fields still need to be read"
    assert words.unread_words(DE, 0, read=False) == "Kein Gesichtsfeld erfordert eine Sicht"


@pytest.mark.parametrize("say", [EN, DE])
def test_the_reasons_of_a_slide_speak_of_the_slide_and_not_of_one_field(say):
    one = (
        "This field",
        "this field",
        "This image",
        "Dieses Gesichtsfeld",
        "Dieses Bild",
        "diesem Gesichtsfeld",
    )
    for code in TEXTS:
        for coarse in ("accepted", "review"):
            lines = slide_words(slide("review", codes=(code,), coarse_verdict=coarse), say).lines
            assert [line for line in lines if any(part in line for part in one)] == []
    field = field_words(prediction("review", codes=("unfamiliar_slide",)), say)
    assert any(part in field.reasons[0] for part in one)


def test_a_signed_slide_does_not_wait_for_a_signature():
    def lines(signed):
        return words.slide_words(
            EN, slide(), job=None, hidden=False, fields=5, display=display, signed=signed
        ).lines

    assert "It stays the model's answer, until a reader signs." in lines(False)
    assert not [line for line in lines(True) if "until a reader signs" in line]
    assert [line for line in lines(True) if "the result stands in the report" in line]


def a_model(*limits, calibrated=True):
    return ModelIdentity(
        "net", "1", "0" * 64, calibrated=calibrated, classes=CLASSES, limits=limits
    )


def test_a_model_without_limits_for_other_slides_is_never_called_calibrated_alone():
    known = a_model(KNOWN_SLIDES_ONLY)
    assert words.calibration_of(True, known.limits) == "calibrated_known"
    assert EN("frame.calibrated_known") == "calibrated for known slides"
    said = words.model_words(EN, known).calibrated_words
    assert "for slides that it knows" in said
    assert "other slides was never measured" in said
    assert words.calibration_of(True, a_model("x").limits) == "calibrated"
    assert words.calibration_of(False, known.limits) == "not_calibrated"


def test_the_limits_of_a_model_are_in_the_language_of_the_reader():
    written = (KNOWN_SLIDES_ONLY, "Research use; not a diagnosis.",
               "Pre, Pro: seen on one slide only. How the class looks on another slide is not known, "
               "and no figure here says it.", "Only at night.")  # fmt: skip
    german = words.model_words(DE, a_model(*written)).limits
    assert german[1] == "Für Forschungszwecke; keine Diagnose."
    assert german[2].startswith("Pre-B, Pro-B: nur auf einem einzigen Ausstrich")
    assert german[3] == "Only at night. (Englisch)"
    assert not [one for one in german[:3] if "Englisch" in one]
    assert words.model_words(EN, a_model(*written)).limits[3] == "Only at night."


def limits_of_the_library():
    """What a model says of itself where little is known of its images, as the library writes it."""
    groups = SimpleNamespace(names=("benign", "malignant"), members=())
    yield from notes_on_slides(("Benign", "Pre"), groups, None, None)
    yield "Not calibrated: 3 held-out images, 40 needed. Give a larger validation part or `folds`."


@pytest.mark.parametrize("say", [EN, DE])
def test_limits_name_no_option_of_a_command(say):
    found = list(limits_of_the_library())
    assert any("--slide" in one for one in found)
    said = words.model_words(say, a_model(*found)).limits
    assert not [one for one in said if "--" in one or "`" in one]
    assert not [one for one in said if "(Englisch)" in one]


# ── reasons, jobs, models, files ──────────────────────────────────────────────────────────────


def library_codes():
    return sorted({*TEXTS, *SENTENCES})


@pytest.mark.parametrize("language", languages())
def test_every_reason_of_the_library_has_a_text_in_each_language(language):
    own = texts(language).own
    assert [code for code in library_codes() if f"reasons.{code}" not in own] == []


def test_a_reason_that_is_not_the_library_s_own_is_said_in_its_words():
    assert words.reason_words(EN, "dust_on_lens", "dust on the lens") == "Dust on the lens."
    assert words.reason_words(EN, OTHER, "dust on the lens") == "Dust on the lens."
    assert words.reason_words(DE, OTHER, "dust on the lens").endswith("Dust on the lens.")
    only_words = Prediction("1", "review", ("dust on the lens",), label="Pre", probability=0.9)
    assert field_words(only_words).reasons == ("Dust on the lens.",)


@pytest.mark.parametrize(
    ("job", "rate", "state", "said"),
    [
        (None, None, "none", ""),
        ({"state": "cancelled", "done": 1, "total": 2}, None, "none", ""),
        ({"state": "queued", "done": 0, "total": 0}, None, "queued", "Waiting for the model"),
        ({"state": "running", "done": 0, "total": 0}, None, "running", "The model begins"),
        ({"state": "running", "done": 3, "total": 12}, 1.0, "running",
         "Answered 3 of 12; less than a minute left"),
        ({"state": "done", "done": 12, "total": 12}, None, "done", "Answered 12 fields"),
    ],
)  # fmt: skip
def test_a_job_says_how_far_it_is(job, rate, state, said):
    told = words.job_words(EN, job, rate)
    assert (told.state, told.words) == (state, said)


def test_a_model_is_named_with_its_version_hash_and_limits():
    model = ModelIdentity(
        "net", "1.2", "0123456789abcdef", calibrated=False, classes=CLASSES, limits=("x",)
    )
    said = words.model_words(EN, model)
    assert (said.name, said.version, said.short_hash, said.limits) == (
        "net",
        "1.2",
        "01234567",
        ("x",),
    )
    assert said.calibrated_words.startswith("Not calibrated")
    assert words.model_words(EN, None).name == "No model"


def test_a_class_is_named_in_the_language_of_the_reader():
    assert words.display_of(DE, "inadequate") == "Nicht beurteilbar"
    assert words.display_of(DE, "Monocyte") == "Monocyte"


KINDS = {
    "letter.pdf": (b"%PDF-1.7 \x00\x01", "letter.pdf is a PDF and no image of a field"),
    "film.gif": (b"GIF89a\x00\x01\x02", "film.gif is a GIF and no image of a field"),
    "notes.csv": (b"a,b\n1,2\n", "notes.csv is a text and no image of a field"),
    "what.bin": (b"\x00\x01\x02\x03" * 9, "what.bin is no image that is known here."),
    "none.png": (b"", "none.png is empty."),
    "half.png": (b"\x89PNG\r\n\x1a\n", "half.png is "),
    "a.zip": (b"PK\x03\x04nonsense", "a.zip is a damaged zip"),
    ".hidden.png": (b"x", ".hidden.png"),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("language", languages())
def test_a_file_that_was_refused_is_named_with_what_to_do(name, language):
    content, begins = KINDS[name]
    refused = next(unpack((name, content)))
    what, todo = words.refusal_words(texts(language), refused.code, refused.message, name)
    assert what.startswith(name)
    assert len(todo) > 20
    assert "Meldung" not in what
    if language == "en":
        assert what.startswith(begins)


CODES_OF_FILES = (
    "missing", "empty", "not_an_image", "truncated", "corrupt", "too_small", "too_large", "too_slow", "animated",
    "translucent", "float", "low_bit_depth", "mode", "array", "identity", "left_out", "link",
    "nested_zip", "encrypted", "damaged_zip", "too_many", "order",
    "case",
)  # fmt: skip


@pytest.mark.parametrize("language", languages())
def test_every_refusal_has_a_text_in_each_language(language):
    own = texts(language).own
    assert [c for c in CODES_OF_FILES if f"refusals.{c}.what" not in own] == []


def test_a_refusal_of_a_new_kind_is_said_in_the_words_of_the_library():
    what, todo = words.refusal_words(EN, "new_kind", "a.png is on fire. Put it out.", "a.png")
    assert what == "a.png was not taken: is on fire. Put it out."
    assert todo


# ── the page and the printed report ───────────────────────────────────────────────────────────


def printed_headline(answer):
    """What the report says of a slide whose five fields could all be used."""
    said = SlideResult(
        answer.verdict,
        answer.fields,
        answer.used,
        label=answer.label,
        coarse=answer.coarse,
        coarse_verdict=answer.coarse_verdict,
    )
    fields = tuple(a_field(n, verdict="accepted") for n in range(1, 6))
    return slide_headline(a_report("preliminary", fields, slide=said))


@pytest.mark.parametrize("label", ["Benign", "Early", "Pro"])
@pytest.mark.parametrize("coarse", COARSE)
@pytest.mark.parametrize("verdict", ["accepted", "review", "refused"])
def test_the_report_says_of_a_slide_what_the_page_says(verdict, coarse, label):
    answer = slide(verdict, label, (), coarse)
    shown = words.slide_words(
        EN,
        answer,
        job=None,
        hidden=False,
        fields=5,
        display=lambda name: words.display_of(EN, name),
    )
    assert printed_headline(answer) == shown.headline


def test_the_classes_have_the_same_names_on_the_page_and_in_the_report():
    for name in ("Benign", "Early", "Pre", "Pro"):
        assert printed(name) == words.display_of(EN, name)
    assert words.display_of(EN, "Early") == "Early pre-B"


def test_a_class_that_is_accepted_where_its_group_is_not_is_to_be_treated_as_for_review():
    codes = ("not_calibrated_for_slides",)
    of_field = field_words(prediction("accepted", "Pro", codes, "review"))
    assert of_field.headline == "<Pro>: accepted"
    assert "Treat it as for review" in of_field.sentence
    of_slide = slide_words(slide("accepted", "Pro", codes, "review"))
    assert of_slide.headline == "Not settled on 5 fields"
    assert "treat the slide as for review" in of_slide.lines[0]
    settled = slide_words(slide("accepted", "Pro", (), "accepted"))
    assert not any("for review" in line for line in settled.lines)


def test_a_limit_is_for_readers_and_not_for_who_trains():
    (limit,) = notes_on_slides(("Benign", "Pro"), SimpleNamespace(names=("a", "b")), None, None)
    assert "--slide" in limit
    told = without_options(limit)
    assert told.endswith("accepted as a or b.")
    assert without_options(told) == told
    assert without_options("Give `--slide REGEX`.") == "Give …."
