"""Benign or malignant: the coarse answer of fields and slides, and what is said when it is not sure."""

import csv
import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import allkit
from allkit.errors import ConfigError
from allkit.evaluation.coarse import mapped_groups
from allkit.evaluation.text import evaluation_text
from allkit.images.cells import NO_CELLS, NO_SCALE, Cells
from allkit.images.statistics import STATISTIC_NAMES
from allkit.plugins import registry
from allkit.report.card import model_card
from allkit.runtime.answers import answer, refuse
from allkit.trust import reasons
from allkit.trust.groups import ClassGroups, groups_of
from allkit.trust.slides import SIZES, SlideLimits
from allkit.trust.space import Space
from allkit.trust.unseen import notes_on_slides
from allkit.trust.verdict import CoarseDecision, Decision, Outputs, Trust
from allkit.volume.tables import FORMATS

CLASSES = ("Benign", "Early", "Pre", "Pro")
GROUPS = groups_of(None, CLASSES)


def limits():
    """Limits of 4 for one field, 3 for three, 2 for five or more, of both groups."""
    of_fields = np.array([4.0, 3.0, 2.0, 2.0, 2.0])
    values = {part.name: 1.0 for part in dataclasses.fields(SlideLimits)}
    values |= {
        "of_group": np.full(2, 4.0),
        "of_fields": np.stack([of_fields, of_fields], axis=1),
        "temperatures": np.full(len(SIZES), 0.5),
        "content": np.full(2, 1.0),
    }
    return SlideLimits(**values)


def trust_of(**changes):
    parts = {
        "temperature": 1.0,
        "thresholds": np.full(4, 0.9),
        "groups": GROUPS,
        "slides": limits(),
    }
    return Trust(CLASSES, **parts | changes)


def field(evidence, verdict="review", coarse_verdict="review", shares=(0.5, 0.3, 0.2)):
    """An answer with this log-odds of malignant against benign, shared out among the subtypes."""
    malignant = 1 / (1 + np.exp(-evidence))
    table = np.array([1 - malignant, *(malignant * np.array(shares))])
    codes = () if verdict == "accepted" else (reasons.GROUP_UNCERTAIN,)
    coarse = CoarseDecision(
        int(evidence > 0),
        max(malignant, 1 - malignant),
        coarse_verdict,
        evidence=(-evidence, evidence),
        ood_score=0.0,
    )
    decision = Decision(verdict, codes, (), coarse)
    return answer(f"{evidence}.png", table, decision, CLASSES, groups=GROUPS)


def several(evidence, count):
    """Answers on so many fields that differ a little: the same picture would count once."""
    return [field(evidence + number / 1000) for number in range(count)]


# ── several fields of one slide ───────────────────────────────────────────────────────────────


def test_fields_that_are_each_uncertain_settle_together_that_a_slide_is_malignant():
    case = allkit.combine(several(2.5, 5), "A", trust=trust_of())
    assert (case.coarse, case.coarse_verdict, case.fields_needed) == ("malignant", "accepted", 0)
    assert case.coarse_probability > 0.99
    assert case.verdict == "review"
    assert case.reason_codes[0] == reasons.SUBTYPE_UNKNOWN
    assert reasons.GROUP_UNCERTAIN not in case.reason_codes
    assert case.label != "Benign"


@pytest.mark.parametrize(
    ("evidence", "fields", "needed"), [(2.5, 1, 4), (3.5, 1, 2), (2.5, 3, 2), (1.5, 8, None)]
)
def test_how_many_more_fields_would_settle_it_is_said(evidence, fields, needed):
    case = allkit.combine(several(evidence, fields), trust=trust_of())
    assert (case.coarse, case.coarse_verdict) == ("malignant", "review")
    assert case.reason_codes[0] == reasons.GROUP_UNCERTAIN
    assert case.fields_needed == needed


def test_to_name_a_group_of_one_class_is_to_name_the_class():
    case = allkit.combine(several(-2.5, 5), trust=trust_of())
    assert (case.coarse, case.coarse_verdict) == ("benign", "accepted")
    assert (case.label, case.verdict, case.reasons) == ("Benign", "accepted", ())
    assert case.probability == pytest.approx(case.coarse_probability)
    assert sum(case.probabilities.values()) == pytest.approx(1)


def test_fields_of_which_nobody_says_how_unlike_the_training_they_are_settle_nothing():
    unknown = [dataclasses.replace(one, ood_score=None) for one in several(2.5, 5)]
    case = allkit.combine(unknown, trust=trust_of())
    assert case.coarse_verdict == "review"
    assert reasons.UNLIKE_TRAINING in case.reason_codes


def test_the_same_picture_given_again_is_no_further_evidence():
    once = allkit.combine([field(2.5)], trust=trust_of())
    again = allkit.combine([field(2.5)] * 10, trust=trust_of())
    assert (once.coarse_verdict, again.coarse_verdict) == ("review", "review")
    assert allkit.combine(several(2.5, 10), trust=trust_of()).coarse_verdict == "accepted"


def test_where_most_fields_are_unlike_the_training_their_sum_is_not_accepted():
    near = several(5.0, 4)
    far = [dataclasses.replace(one, ood_score=1.5) for one in several(6.0, 5)]
    assert allkit.combine(near, trust=trust_of()).coarse_verdict == "accepted"
    mostly = allkit.combine(near + far, trust=trust_of())
    assert mostly.coarse_verdict == "review"
    assert reasons.UNLIKE_TRAINING in mostly.reason_codes


def test_a_slide_that_is_out_of_focus_is_not_accepted_by_the_sum_of_its_fields():
    code = "unusual_sharpness"
    sharp = several(2.5, 10)
    blurred = [dataclasses.replace(one, reason_codes=(code,)) for one in sharp]
    half = allkit.combine(blurred[:5] + sharp[5:], trust=trust_of())
    mostly = allkit.combine(blurred[:6] + sharp[6:], trust=trust_of())
    assert (half.coarse_verdict, mostly.coarse_verdict) == ("accepted", "review")
    assert code in mostly.reason_codes


def test_fields_of_two_slides_settle_nothing():
    fields = [field(9.0, "accepted", "accepted", (0.98, 0.01, 0.01))] * 4
    fields += [field(-6.0, "accepted", "accepted")] * 2
    case = allkit.combine(fields, trust=trust_of())
    assert (case.coarse_verdict, case.verdict, case.fields_needed) == ("review", "review", None)
    assert reasons.FIELDS_DISAGREE in case.reason_codes


def test_a_known_slide_is_accepted_by_its_fields_and_so_is_its_group():
    # Less evidence than an unseen slide would need, but the fields were recognised.
    fields = [field(3.0, "accepted", "accepted", (0.98, 0.01, 0.01))] * 2
    case = allkit.combine(fields, trust=trust_of())
    assert (case.label, case.verdict) == ("Early", "accepted")
    assert (case.coarse, case.coarse_verdict, case.fields_needed) == ("malignant", "accepted", 0)


def test_refused_fields_do_not_count_and_without_others_nothing_is_answered():
    foreign = field(-9.0, "refused", "refused")
    case = allkit.combine([*several(2.5, 5), foreign], trust=trust_of())
    assert (case.coarse, case.coarse_verdict) == ("malignant", "accepted")
    nothing = allkit.combine([foreign], trust=trust_of())
    assert (nothing.coarse, nothing.coarse_verdict, nothing.verdict) == (None, "refused", "refused")


def test_without_limits_for_slides_the_group_is_for_review_and_the_class_as_before():
    fields = [field(6.0, "accepted", "review", (0.98, 0.01, 0.01))] * 3
    case = allkit.combine(fields, trust=trust_of(slides=None))
    assert (case.coarse, case.coarse_verdict, case.fields_needed) == ("malignant", "review", None)
    assert case.reason_codes == (reasons.NOT_CALIBRATED_FOR_SLIDES,)
    assert (case.verdict, case.label) == ("accepted", "Early")
    plain = allkit.combine(fields)
    assert (plain.coarse, plain.coarse_verdict, plain.verdict) == (None, None, "accepted")


def test_a_head_that_followed_a_stain_accepts_no_slide_by_its_sum():
    followed = trust_of(offset=np.zeros(4, np.float32))
    case = allkit.combine(several(2.5, 5), trust=followed)
    assert (case.coarse, case.coarse_verdict) == ("malignant", "review")


def test_classes_without_groups_have_no_coarse_answer():
    decision = Decision("accepted", (), ())
    one = answer("a.png", np.array([0.9, 0.1]), decision, ("x", "y"))
    assert one.coarse is None
    assert one.to_row(("x", "y"))["coarse_verdict"] is None
    assert allkit.combine([one], trust=Trust(("x", "y"))).coarse_verdict is None


# ── in the app ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def answers(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "streamlit_app"))
    import answers

    yield answers
    sys.modules.pop("answers", None)


def test_all_uploaded_fields_together_say_what_the_slide_is_or_what_is_missing(answers):
    def said(*fields, **changes):
        classifier = SimpleNamespace(
            trust=trust_of(**changes), info=SimpleNamespace(display_names={"Pre": "Pre-B"})
        )
        return answers.slide_line([answers.Field("a", f, b"") for f in fields], classifier)

    words = "The slide: malignant, 99 %, on 8 fields. Which subtype cannot be said on this slide."
    assert said(*several(2.5, 8)) == words
    one_named = field(9.0, "accepted", "accepted", (0.98, 0.01, 0.01))
    assert said(one_named, *several(2.5, 7)).endswith("Its fields do not settle which subtype.")
    assert said(*several(-2.5, 8)).endswith("Class: Benign.")
    assert said(*several(2.5, 3)) == "The slide: not settled: about 2 more fields."
    assert "would not settle it" in said(*several(1.0, 8))
    mixed = [field(9.0, "accepted", "accepted")] * 2 + [field(-9.0, "accepted", "accepted")] * 2
    assert "are they of one slide?" in said(*mixed)
    assert "never measured" in said(field(9.0), field(9.0), slides=None)
    assert "every field was refused" in said(*[field(9.0, "refused", "refused")] * 2)
    assert said(field(9.0)) == ""


# ── what is not a smear ───────────────────────────────────────────────────────────────────────


def test_only_what_shows_no_red_cells_is_said_to_be_no_smear():
    foreign = Decision("refused", (reasons.UNLIKE_TRAINING, "unusual_stain"), ())
    photograph, smear = refuse([foreign, foreign], [(NO_CELLS, NO_SCALE), ()])
    assert reasons.NOT_A_SMEAR in photograph.codes
    assert reasons.UNLIKE_TRAINING not in photograph.codes
    assert smear.codes == (reasons.UNLIKE_TRAINING, "unusual_stain")
    usual = Decision("review", (reasons.AMBIGUOUS,), ())
    assert refuse([usual], [(NO_SCALE,)])[0].codes == (NO_SCALE, reasons.AMBIGUOUS)


def test_measurements_stand_beside_the_answer():
    cells = Cells(
        image=np.zeros((9, 9, 3), np.uint8),
        centres=np.array([[4, 4], [2, 2]], np.float32),
        diameters=np.array([30, 20], np.float32),
        scale=0.5,
        red_cell=25.0,
    )
    one = answer("a.png", np.array([0.9, 0.1]), Decision("review", (), ()), ("x", "y"), cells=cells)
    assert (one.white_cells, one.red_cell) == (2, 25.0)
    assert one.nucleus_ratio == pytest.approx(50 / 25)
    assert {"white_cells", "red_cell", "nucleus_ratio"} <= set(one.to_dict())


# ── a model whose training knew the slides ────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def slides(drawn):
    """The 48 drawn smears; each of their 12 groups is a slide."""
    table = drawn.parent / "of-slides.csv"
    data = allkit.Dataset.open(drawn)
    rows = [f"{s.source.path},{s.label},{s.group},{s.group}" for s in data]
    table.write_text("\n".join(["image,label,group,slide", *rows]) + "\n")
    return table


@pytest.fixture(scope="module")
def model(slides, tiny_settings):
    settings = tiny_settings | {"calibration_folds": 2, "epochs": 6}
    return allkit.Trainer(**settings).fit(allkit.Dataset.open(slides))


@pytest.mark.slow
def test_every_field_has_a_group_and_the_file_says_the_same_as_the_folder(model, slides, tmp_path):
    files = [sample.source.path for sample in allkit.Dataset.open(slides)][:6]
    ours = model.predict(files)
    assert {a.coarse for a in ours} <= {"benign", "malignant"}
    for one in ours:
        assert set(one.coarse_evidence) == {"benign", "malignant"}
        assert one.coarse == max(one.coarse_evidence, key=one.coarse_evidence.get)
        assert one.coarse_verdict in ("accepted", "review", "refused")
    again = allkit.Classifier.load(model.save(tmp_path / "model")).predict(files)
    model.export(tmp_path / "model.onnx")
    onnx = registry().get("exporter", "onnx").open(tmp_path / "model.onnx")
    for others in (again, onnx.predict(files)):
        for one, other in zip(ours, others, strict=True):
            assert (one.coarse, one.coarse_verdict) == (other.coarse, other.coarse_verdict)
            assert one.coarse_probability == pytest.approx(other.coarse_probability, abs=1e-3)
            assert one.coarse_evidence == pytest.approx(other.coarse_evidence, abs=1e-2)
    of_file = allkit.combine(onnx.predict(files), trust=onnx.trust)
    of_folder = model.predict_case(files)
    assert of_file.coarse_verdict == of_folder.coarse_verdict
    assert of_file.coarse_probability == pytest.approx(of_folder.coarse_probability, abs=1e-3)


@pytest.mark.slow
def test_the_evaluation_answers_benign_against_malignant_first(model, slides):
    data = allkit.Dataset.open(slides)
    for by, count in (("field", 48), ("slide", 12)):
        values = model.evaluate(data, by=by).to_dict()
        coarse = values["coarse"]
        assert coarse["groups"] == ["benign", "malignant"]
        assert np.sum(coarse["confusion"]) == sum(coarse["verdicts"].values()) == count
        right = np.trace(coarse["confusion"]) / count
        assert coarse["accuracy"] == pytest.approx(right)
        text = evaluation_text(values)
        assert text.index("Benign against malignant") < text.index("balanced accuracy")
    mapped = model.evaluate(data, label_map={"malignant": ["Early", "Pre", "Pro"], "Early": "malignant",
                                             "Pre": "malignant", "Pro": "malignant"})  # fmt: skip
    assert mapped.to_dict()["coarse"]["groups"] == ["benign", "malignant"]
    validation = model.info.validation["coarse"]
    assert validation["verdicts"] == {}
    card = model_card(model.info.model_dump(mode="json"), model.trust.summary())
    assert "**Benign against malignant" in card


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_have_the_group_before_the_error_in_every_format(cli, model, slides, tmp_path, suffix):
    folder = model.save(tmp_path / "model")
    out = tmp_path / f"rows{suffix}"
    assert cli("predict", folder, slides, "--out", out)[0] == 0
    if suffix == ".csv":
        rows = list(csv.DictReader(out.read_text().splitlines()))
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
    assert list(rows[0])[-4:] == ["coarse", "coarse_probability", "coarse_verdict", "error"]
    assert {row["coarse"] for row in rows} <= {"benign", "malignant"}
    assert all(float(row["coarse_probability"]) >= 0.5 for row in rows)


# ── what cannot be promised is said ───────────────────────────────────────────────────────────


def test_a_model_whose_training_did_not_know_its_slides_leaves_the_group_for_review(tiny, drawn):
    assert tiny.trust.slides is None
    (one,) = tiny.predict(drawn.parent / "images" / "drawn-00000.png")
    assert one.coarse_verdict == "review"
    assert reasons.NOT_CALIBRATED_FOR_SLIDES in one.reason_codes


def test_what_cannot_be_promised_of_unseen_slides_is_said():
    (unknown,) = notes_on_slides(CLASSES, GROUPS, None, None)
    assert "slides of the training images are not known" in unknown
    one, few = notes_on_slides(CLASSES, GROUPS, [1, 1, 1, 1], None)
    assert one.startswith("Benign, Early, Pre, Pro: seen on one slide only.")
    assert "benign has one slide" in few


def test_one_group_asks_nothing_and_is_an_error(drawn, tiny_settings):
    groups = {"all": list(CLASSES)}
    with pytest.raises(ConfigError, match="there is one group, all"):
        allkit.Trainer(**tiny_settings, class_groups=groups).fit(allkit.Dataset.open(drawn))


def test_groups_that_do_not_cover_the_classes_are_an_error(drawn, tiny_settings):
    groups = {"benign": ("Benign",), "malignant": ("Early", "Pre")}
    with pytest.raises(ConfigError, match="no group holds Pro"):
        allkit.Trainer(**tiny_settings, class_groups=groups).fit(allkit.Dataset.open(drawn))
    twice = {"a": ("x", "y"), "b": ("y",)}
    with pytest.raises(ConfigError, match="'y' is in 'a' and in 'b'"):
        groups_of(twice, ("x", "y"))


def test_groups_of_another_label_set_are_given_with_set(cli, drawn):
    given = "class_groups={low: [Benign, Early], high: [Pre, Pro]}"
    status, text, err = cli("train", drawn, "--print-config", "--set", given)
    assert status == 0, err
    assert "low:" in text


def test_a_mapped_class_of_two_groups_is_not_judged_and_that_is_said():
    groups = ClassGroups(("benign", "malignant"), (0, 1, 1))
    apart, notes = mapped_groups(groups, np.array([[1, 0], [0, 1], [0, 1]]), ("hem", "all"))
    assert (apart.of_class, notes) == ((0, 1), [])
    none, notes = mapped_groups(groups, np.array([[1, 0], [1, 0], [0, 1]]), ("mixed", "rest"))
    assert none is None
    assert "Benign against malignant is not judged: mixed" in notes[0]


def test_what_was_only_shown_without_labels_is_accepted_by_no_group():
    def space(width, seen):
        nothing = np.zeros((8, 2), np.float32)
        return Space(
            mean=np.zeros(width, np.float32),
            projection=np.eye(width, 2, dtype=np.float32),
            references=nothing,
            owners=np.repeat(np.arange(4), 2),
            centre=0.0,
            scale=1.0,
            foreign=1.0,
            seen=np.full((8, 2), 5.0, np.float32) if seen else np.zeros((0, 0), np.float32),
        )

    statistics = np.zeros((1, len(STATISTIC_NAMES)), np.float32)
    statistics[:, :2] = 5.0
    statistics[:, [STATISTIC_NAMES.index(f"darkest_{c}") for c in "rgb"]] = 9.0
    outputs = Outputs(np.array([[9.0, 0, 0, 0]], np.float32), np.full((1, 2), 25.0, np.float32))
    anything = dataclasses.replace(
        limits(), content=np.full(2, np.inf), one_slide=np.zeros(4), appearance=0.0
    )
    found = []
    for seen in (False, True):
        spaces = {
            "appearance": space(statistics.shape[1], seen),
            "content": space(2, seen),
            "familiar": 99.0,
        }
        found += trust_of(slides=anything, **spaces).decide(outputs, statistics)
    assert found[0].verdict == "refused"
    assert reasons.SEEN_WITHOUT_LABELS in found[1].codes
    assert (found[1].verdict, found[1].coarse.verdict) == ("review", "review")
