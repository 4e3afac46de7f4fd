"""What a notebook shows of an object, image by image, and progress from Python."""

import copy
import json
import pickle  # noqa: TID251 - what a notebook keeps between two processes of its own
import re
import subprocess
import sys
import types

import numpy as np
import pytest

import allkit
from allkit.data.dataset import Dataset
from allkit.data.drawn import draw_smears
from allkit.data.overview import batch_sheet, dataset_html, split_html
from allkit.data.rows import Sample
from allkit.data.sources import FileSource
from allkit.errors import DatasetError
from allkit.evaluation.judged_images import JudgedImages
from allkit.evaluation.parity import ParityReport
from allkit.evaluation.result import evaluate
from allkit.evaluation.shortcuts import Probe
from allkit.evaluation.text import accuracy_sentence, evaluation_text
from allkit.evaluation.units import judge_units
from allkit.quality.audit import Audit
from allkit.report.card import model_card
from allkit.report.model_page import model_html
from allkit.shown.progress import progress_bar, progress_of
from allkit.shown.text import how_many
from allkit.trust.decision import Decision

CLASSES = ("Benign", "Early", "Pre")
HOSTILE = '<img src=x onerror="alert(1)">\u202e&.png'


@pytest.fixture(scope="module")
def smears(tmp_path_factory):
    """Nine drawn smears on disk in three groups, one with a name that wants to be markup."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("smears")
    samples = []
    for number, smear in enumerate(draw_smears(9, groups=9, seed=1)):
        path = folder / f"{number}.png"
        Image.fromarray(smear.image).save(path)
        name = HOSTILE if number == 4 else path.name
        label = CLASSES[number % 3]
        samples.append(
            Sample(name, FileSource(path), label, group=f"g{number % 3}", fold=number % 2)
        )
    return Dataset(samples, CLASSES, name="nine")


def judged(data, verdicts=None, **more):
    """Evaluate made-up answers: images 1, 4 and 6 are wrong, 4 of them is surest of it."""
    truth = data.labels
    table = np.full((9, 3), 0.1, np.float32)
    table[np.arange(9), truth] = 0.8
    for image, sure in ((1, 0.6), (4, 0.9), (6, 0.5)):
        table[image] = (1 - sure) / 2
        table[image, (truth[image] + 1) % 3] = sure
    verdicts = verdicts or ["accepted" if i in (0, 6) else "review" for i in range(9)]
    decisions = tuple(
        Decision(v, () if v == "accepted" else ("ambiguous", "unfamiliar_slide"), (0,))
        for v in verdicts
    )
    images = JudgedImages(data, CLASSES, truth, table, decisions)
    return evaluate(
        truth, table, CLASSES, verdicts=verdicts, units=data.units, images=images, **more
    )


def through_pickle(thing):
    return pickle.loads(pickle.dumps(thing))  # noqa: S301 - our own bytes


# ── image by image ────────────────────────────────────────────────────────────────────────────


def test_an_evaluation_is_a_table_with_a_row_an_image(smears):
    frame = judged(smears).to_frame()
    assert list(frame["image"]) == [s.image for s in smears]
    assert list(frame["right"]) == [i not in (1, 4, 6) for i in range(9)]
    assert list(frame["group"]) == [s.group for s in smears]
    assert list(frame["fold"]) == [s.fold for s in smears]
    assert frame.loc[0, "verdict"] == "accepted"
    assert frame.loc[1, "reasons"] == "ambiguous; unfamiliar slide"
    assert frame.loc[4, ["p_Benign", "p_Early", "p_Pre"]].sum() == pytest.approx(1)
    assert frame.loc[4, "probability"] == pytest.approx(0.9)
    assert "slide" not in frame  # nothing is known of it


def test_the_misclassified_are_those_and_the_worst_begins_with_the_silent_error(smears):
    found = judged(smears)
    assert [image.name for image in found.misclassified] == ["1.png", HOSTILE, "6.png"]
    assert not any(image.right for image in found.misclassified)
    worst = found.worst(4)
    assert [image.name for image in worst[:3]] == ["6.png", HOSTILE, "1.png"]
    assert worst[3].right
    assert worst[0].why == "accepted: a silent error"
    assert worst[1].why == "for review: ambiguous, unfamiliar slide"
    assert (len(found.worst(0)), len(found.worst(99))) == (0, 9)
    with pytest.raises(IndexError):
        worst[9]


def test_the_worst_are_shown_as_pictures_and_no_name_becomes_markup(smears):
    html = judged(smears).worst(3)._repr_html_()
    assert html.count("data:image/jpeg;base64,") == 3
    assert "<img src=x" not in html
    assert "\u202e" not in html
    assert "is Early" in html
    assert 'class="card strong"' in html  # the silent error is framed


def test_images_that_have_gone_since_are_said_to_have_gone(smears, tmp_path):
    gone = [Sample(s.image, FileSource(tmp_path / "gone.png"), s.label) for s in smears]
    found = judged(smears)
    images = JudgedImages(
        Dataset(gone, CLASSES), CLASSES, found.images.truth, found.images.probabilities
    )
    html = images.worst(2)._repr_html_()
    assert html.count("cannot be read any more") == 2
    assert "data:image" not in html


def test_rows_are_no_part_of_the_public_record_and_survive_pickling_without_what_was_measured(
    smears,
):
    found = judged(smears)
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert "images" not in found.to_dict()
    assert smears.signatures  # takes 3.5 KB an image
    again = through_pickle(found)
    assert again.to_frame().equals(found.to_frame())
    assert len(pickle.dumps(found)) < 20_000
    assert again.to_dict() == found.to_dict()
    assert again.worst(1)._repr_html_() == found.worst(1)._repr_html_()
    assert copy.deepcopy(found).misclassified[0] == found.misclassified[0]


def test_an_evaluation_without_rows_says_how_to_get_them(smears):
    found = evaluate(smears.labels, np.eye(3)[smears.labels], CLASSES, verdicts=None, units=None)
    with pytest.raises(DatasetError, match="Evaluate the model on a set again"):
        found.to_frame()


def test_the_confusion_is_a_list_a_table_when_called_and_a_figure(smears):
    confusion = judged(smears).confusion
    assert confusion == [[2, 1, 0], [0, 1, 2], [0, 0, 3]]
    assert isinstance(confusion, list)
    assert confusion().loc["Early", "Pre"] == 2
    assert confusion().index.name == "true"
    assert len(confusion.plot().axes) == 1
    assert through_pickle(confusion).classes == CLASSES
    assert "answered Early" in confusion._repr_html_()


def test_an_evaluation_is_one_figure_of_four_whose_letters_can_be_read(smears):
    figure = judged(smears).plot()
    assert len(figure.axes) == 4
    figure.draw_without_rendering()
    texts = [
        t for axes in figure.axes for t in axes.findobj(match=lambda a: hasattr(a, "get_text"))
    ]
    assert min(t.get_fontsize() for t in texts if t.get_text()) >= 9


def test_slides_in_place_of_images_have_rows_of_their_own(tiny, drawn):
    data = Dataset.open(drawn)
    data = data.same_images(
        [Sample(s.image, s.source, s.label, slide=s.group) for s in data], data.split_by
    )
    found = tiny.evaluate(data, by="slide", probes=False)
    frame = found.to_frame()
    assert len(frame) == found.n
    assert list(frame["slide"]) == [a.case for a in judge_units(
        data, tiny.judge(data), tiny.classes, by="slide", trust=tiny.trust).answers]  # fmt: skip
    assert list(frame["true"]) == [s.label for s in found.images.dataset]


def test_a_model_evaluated_under_a_map_has_rows_under_the_mapped_classes(tiny, drawn):
    data = Dataset.open(drawn)
    found = tiny.evaluate(data, probes=False, label_map={
        "Benign": "Benign", "Early": "malignant", "Pre": "malignant", "Pro": "malignant",
    })  # fmt: skip
    frame = found.to_frame()
    assert set(frame["true"]) == {"Benign", "malignant"}
    assert frame["right"].mean() == pytest.approx(found.accuracy)
    assert list(frame["p_malignant"] + frame["p_Benign"]) == pytest.approx(
        [1] * len(frame), abs=1e-5
    )


# ── few groups ────────────────────────────────────────────────────────────────────────────────


def test_figures_that_rest_on_few_groups_say_so_wherever_they_are_shown(smears):
    found = judged(smears)
    for text in (evaluation_text(found.to_dict()), found._repr_html_()):
        assert "All of this rests on 3 groups" in text
    assert "in only 3 groups" in repr(found)
    assert found.notes == ()  # the record stays what it is: it has `units`
    many = evaluate(
        np.arange(60) % 3, np.eye(3)[np.arange(60) % 3], CLASSES, verdicts=None, units=np.arange(60)
    )
    assert "rests on" not in str(many)
    assert "only" not in repr(many)


def test_the_accuracy_of_a_training_is_said_in_short_sentences_the_number_first(smears):
    values = judged(smears).to_dict() | {
        "protocol": "Validation part, divided by group, also used to decide when to stop, before the "
        "head was trained again on all images"
    }
    text = accuracy_sentence(values)
    assert text.startswith("Accuracy 0.67 (95 % interval ")
    assert " on 9 images in 3 groups. Held out from training, divided by group. " in text
    assert text.endswith("Afterwards the head was trained again on all images.")
    assert max(len(sentence) for sentence in text.split(". ")[2:]) < 60
    alone = accuracy_sentence(values | {"interval_unit": "image", "units": 9})
    assert (
        "no groups known. Held out from training, divided by image, since no groups are known"
        in alone
    )
    assert "by group" not in alone


# ── sets, models, reports ─────────────────────────────────────────────────────────────────────


def test_a_set_shows_its_counts_with_groups_and_some_images(smears):
    html = dataset_html(smears)
    assert "nine: 9 images" in html
    assert ">groups<" in html
    assert html.count("data:image/jpeg;base64,") == 9
    assert "<img src=x" not in html
    unlabelled = Dataset([Sample(s.image, s.source, None) for s in smears])
    assert "no label" in dataset_html(unlabelled)


def test_a_batch_is_a_sheet_and_a_dollar_in_a_name_is_a_sign_like_others(smears):
    figure = batch_sheet([smears.read(i) for i in range(7)], ["$\\bad$"] * 7)
    assert len(figure.axes) == 7
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert len(through_pickle(figure).axes) == 7


def test_a_model_shows_what_it_is_how_good_and_when_it_is_not_calibrated(tiny):
    info = tiny.info.model_dump(mode="json")
    html = model_html(info, tiny.trust.summary(), {})
    assert "timm:test_resnet" in html
    assert "nothing follows for real smears" in html
    assert "Research use only" in html
    assert "timm:test_resnet" in tiny.info._repr_html_()
    assert "Not calibrated" in model_html(info, {"temperature": None})
    evil = info | {"display_names": dict.fromkeys(info["classes"], "<script>")}
    assert "<script>" not in model_html(evil, None, None)


def test_reports_have_one_line_in_a_console_and_show_themselves_in_a_notebook(tiny, few):
    data = Dataset.open(few)
    found = allkit.check(data)
    audit = Audit(
        probes=(Probe("corner_tl", 0.7, 0.5, 0.9), Probe("thumbnail", 0.6, 0.3, 0.8)), chance=0.25,
        verdict="shortcut", message="The top left corner alone.", advice=("Crop `it`.",), groups=12,
        unit="group", images=24, data=data,
    )  # fmt: skip
    explained = tiny.explain(data.read(0), check=False)
    exported = ParityReport("float32", True, 8, 8, 7, 0.0)
    for thing in (found, audit, explained, exported):
        assert "\n" not in repr(thing)
        assert len(repr(thing)) < 200
    assert repr(audit) == (
        "<Audit: shortcut; the top left corner alone 0.700 (0.500–0.900), chance 0.25; 24 images in "
        "12 groups>"
    )
    assert "24 images, nothing to fix" in repr(found)
    assert explained._repr_png_().startswith(b"\x89PNG")
    assert explained.show().size[0] > 1000
    assert "nothing to fix" in found._repr_html_()
    assert "1 of 8 images get another verdict" in exported._repr_html_()
    assert "top left corner" in audit._repr_html_()
    assert "corner_tl" not in audit._repr_html_()


def test_an_adaptation_shows_before_and_after():
    from allkit.model.adaptation import Adaptation

    record = Adaptation(
        created="2026-01-01", images=40, counts={"Benign": 20, "Pre": 20}, groups=4, fingerprint="a" * 64,
        labelled=True, strength="weak", claim="better", message="It got `better` <b>.", judged=40,
        before={"accuracy": 0.5}, after={"accuracy": 0.75}, differences={"accuracy": 0.25},
        intervals={"accuracy": [0.1, 0.4]},
    )  # fmt: skip
    assert repr(record) == "<Adaptation: 40 fields labelled, 4 groups; better>"
    html = record._repr_html_()
    assert "+0.100 to +0.400" in html
    assert "<code>better</code> &lt;b&gt;" in html


# ── progress ──────────────────────────────────────────────────────────────────────────────────


class Kernel:
    """Stands for the shell of a notebook, and for its display."""

    kernel = object()

    def __init__(self):
        self.shown = []

    def display(self, shown, display_id):
        self.shown.append(shown)
        return types.SimpleNamespace(update=self.shown.append)


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: kernel
    shows = types.ModuleType("IPython.display")
    shows.HTML, shows.display = str, kernel.display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shows)
    return kernel


def test_a_notebook_shows_one_bar_for_each_thing_that_is_done(kernel, capsys):
    with progress_bar() as progress:
        for done in range(5):
            progress("features <b>", done, 4)
        progress("answers", 2, 2)
    last = kernel.shown[-1]
    assert "features &lt;b&gt;: 4 of 4" in last
    assert "answers: 2 of 2" in last
    assert last.count("<progress") == 2
    assert capsys.readouterr() == ("", "")


def test_what_is_asked_for_as_progress_is_shown_called_or_left_out(kernel):
    told = []
    with progress_of(lambda *now: told.append(now)) as progress:
        progress("a", 1, 2)
    assert told == [("a", 1, 2)]
    with progress_of(None) as progress:
        assert progress is None
    with progress_of("auto") as progress:
        progress("b", 1, 1)
    assert "b: 1 of 1" in kernel.shown[-1]


def test_work_within_shown_work_is_shown_by_the_same_bars(kernel):
    with progress_bar() as outer, progress_of("auto") as inner:
        assert inner is outer
    with progress_bar() as later:
        assert later is not outer


def test_a_log_gets_a_line_at_most_every_ten_seconds_and_short_work_none(capsys, monkeypatch):
    from allkit.shown.telling import Telling

    clock, made = types.SimpleNamespace(now=0.0), Telling.__init__
    monkeypatch.setattr(
        Telling,
        "__init__",
        lambda self, write, **o: made(self, write, clock=lambda: clock.now, **o),
    )
    with progress_bar() as progress:
        for done in range(0, 41):
            progress("features", done, 40)
            clock.now += 1
        progress("head", 0, 1)
        progress("head", 1, 1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Features (40): about 40 seconds")
    assert 3 <= len(lines) <= 5
    assert not any("head" in line.lower() for line in lines)


def test_one_slide_is_said_in_the_singular():
    from allkit.quality.slides import SlideSuggestion

    rows = ({"slide": "suggested-1"}, {"slide": "suggested-2"})
    assert SlideSuggestion(None, (), rows[:1]).in_words == "There seems to be 1 slide"
    assert SlideSuggestion(None, (), rows).in_words == "There seem to be 2 slides"


# ── small numbers, and what a notebook is shown ───────────────────────────────────────────────


def test_one_is_singular_wherever_things_are_counted(smears):
    one = evaluate(
        smears.labels[:1],
        np.eye(3)[smears.labels[:1]],
        CLASSES,
        verdicts=None,
        units=np.zeros(1, int),
    )
    assert "1 image in only 1 group" in repr(one)
    assert "1 image in 1 group" in str(one)
    assert repr(judged(smears).worst(1)) == "<1 judged image, 1 wrong>"
    assert how_many(1, "class", "classes") == "1 class"
    assert how_many(1204, "group") == "1,204 groups"


def test_a_split_shows_its_parts_and_what_it_keeps_whole(smears):
    drawn = Dataset.sample(24, groups=12, seed=3)
    split = drawn.split(test=0.4, by="group", seed=0)
    html = split_html(split)
    assert "Divided by group: no group" in html
    for text in (">train<", ">test<", ">groups<", f">{len(split.test)}<"):
        assert text in html
    assert ">val<" not in html
    by_image = split_html(drawn.split(test=0.4, by="image", seed=0))
    assert "figures on it are too high" in by_image


def test_a_model_that_promises_nothing_says_how_many_images_that_takes(tiny):
    info = tiny.info.model_dump(mode="json")
    trust = {"temperature": 1.0, "coverage": 0.95, "promised": [], "confidence": 0.5}
    html = model_html(info, trust)
    assert "no class has 19 held-out images, which 95% needs" in html
    assert "of no class" not in html
    card = model_card(info, tiny.trust.summary() | {"temperature": 1.0, "promised": []})
    assert "no class has 19 held-out images" in card
    named = model_html(info, trust | {"promised": ["Benign"]})
    assert "in 95% of the images of Benign" in named


def test_an_unreadable_answer_says_so_once(tmp_path, tiny):
    answer = tiny.predict([tmp_path / "nothing.png"])[0]
    assert answer.verdict == "unreadable"
    assert re.sub("<[^>]+>", "|", answer._repr_html_()).count("|unreadable|") == 1


def test_bars_for_notebooks_are_imported_without_a_warning():
    code = (
        "import sys, types, warnings\n"
        "for name in ('IPython', 'ipykernel', 'ipykernel.zmqshell'):\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        "sys.modules['ipywidgets'] = None\n"
        "warnings.simplefilter('always')\n"
        "sys.modules['IPython'].get_ipython = object\n"
        "from allkit.telemetry import silence\n"
        "with silence(): pass\n"
        "assert 'tqdm.auto' in sys.modules\n"
        "from tqdm.auto import tqdm; assert 'tqdm.notebook' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
