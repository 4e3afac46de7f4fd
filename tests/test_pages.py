"""The pages of check, audit and evaluate: what they show, and that they need nothing else."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import allkit
from allkit.data.dataset import Dataset
from allkit.errors import AllkitError
from allkit.evaluation.coarse import coarse_metrics
from allkit.evaluation.intervals import ends, shown_interval
from allkit.evaluation.page import evaluation_page
from allkit.evaluation.probe_words import PROBE_WORDS
from allkit.evaluation.result import evaluate
from allkit.evaluation.shortcuts import BLIND, COARSE, Probe
from allkit.evaluation.text import evaluation_text
from allkit.quality.audit import Audit
from allkit.quality.marks import Mark
from allkit.quality.pages import audit_page, check_page
from allkit.quality.pictures import cards, groups_of, probe_table, sight_frames
from allkit.report.card import judged_card
from allkit.shown.html import bar, card, page, paragraph, shaded, table


def standing_alone(text):
    """Whether a page needs nothing but itself, is for light and dark, and can be printed."""
    assert not re.search(r"<script|https?://|@import|url\(|<link|<iframe|\son\w+=", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert 'name="viewport"' in text


@pytest.fixture(scope="module")
def odd(few, tmp_path_factory):
    """The few drawn smears, with three images of one field, and a copy under another label."""
    folder = tmp_path_factory.mktemp("odd") / "odd"
    shutil.copytree(few.parent, folder)
    frame = pd.read_csv(folder / "index.csv")
    first, other = frame.iloc[0], frame[frame.label != frame.label[0]].iloc[0]
    extra = []
    for name, row, label in (
        ("a.png", first, first.label), ("b.png", first, first.label), ("c.png", other, first.label),
    ):  # fmt: skip
        shutil.copy(folder / row.image, folder / name)
        extra.append(row.to_dict() | {"image": name, "label": label})
    pd.concat([frame, pd.DataFrame(extra)]).to_csv(folder / "index.csv", index=False)
    return folder / "index.csv"


def test_pairs_of_one_field_are_one_group():
    pairs = [("b", "c"), ("a", "b"), ("x", "y"), ("a", "c")]
    assert groups_of(pairs) == [["a", "b", "c"], ["x", "y"]]
    assert groups_of([]) == []


def test_the_check_shows_a_field_of_three_images_once_and_a_conflict_of_labels_in_words(odd):
    found = allkit.check(odd)
    bar = Mark((0.6, 0.9, 0.95, 0.98), (0, 1, 2))  # too few images for it to be found
    text = check_page(replace(found, burnt_in=(bar,)))
    standing_alone(text)
    assert "One field, several images: 2" in text
    assert text.count("3 images, all byte-identical") == 1
    assert "2 images, all byte-identical; different labels: " in text
    assert "Recurs at one place" in text
    assert text.count("data:image/jpeg") == 3 + 2 + 3


def test_the_terminal_says_how_many_fields_the_pairs_are(cli, odd):
    _, out, _ = cli("check", odd)
    assert "4 (these included): 2 fields, 5 images" in out


def test_the_audit_names_probes_in_words_and_shows_what_the_strongest_see(odd):
    data = Dataset.open(odd).subset(range(24))
    probes = tuple(
        Probe(name, value, value - 0.1, value + 0.1)
        for name, value in (("colour_histogram", 0.8), ("corner_br", 0.7), ("file", 0.3))
    )
    found = Audit(
        probes=probes, chance=0.25, verdict="shortcut", message="It is.", groups=12, unit="group",
        advice=("Crop (`allkit clean`).",), images=24, data=data,
    )  # fmt: skip
    text = audit_page(found, data.name)
    standing_alone(text)
    assert not re.search("corner_|mean_colour|colour_histogram", text)
    assert "<code>allkit clean</code>" in text
    assert "`" not in text
    assert "the dots are chance" in text
    assert "Seen: bottom right corner" in text
    assert "Seen: colour histogram" in text
    assert text.count("data:image/jpeg") == 2 * 4 * 4  # of each of four classes, four


def test_every_picture_of_what_a_probe_sees_can_be_made(odd):
    data = Dataset.open(odd).subset(range(8))
    for name in PROBE_WORDS:
        frames = sight_frames(data, Probe(name, 0.5, 0.4, 0.6), each=1)
        assert bool(frames) == (name != "file")
        assert not any("cannot be read" in frame for frame in frames)


def test_every_probe_has_words():
    assert set(PROBE_WORDS) == {*BLIND, *COARSE}


def test_the_page_of_an_evaluation_shows_wrong_answers_reasons_and_the_number_of_groups(
    tiny, drawn
):
    data = Dataset.open(drawn)
    found = tiny.evaluate(data, probes=False)
    names = {name: name for name in found.classes}
    text = evaluation_page(found.to_dict(), title="<t>", names=names, images=found.images)
    standing_alone(text)
    assert "48 images in 12 groups" in text
    assert "12 groups bear every interval" in text
    wrong = found.misclassified
    if len(wrong):
        assert f"{len(wrong)} of 48 answers are wrong" in text
        assert f"is {wrong[0].label}" in text
    assert "reason against accepting" in text
    assert "Sensitivity and recall are one thing" in text
    assert "<t>" not in text
    assert text.count("data:image/png;base64,") == 4


def test_to_html_writes_the_page_whole_and_returns_its_path(tiny, drawn, tmp_path):
    found = tiny.evaluate(Dataset.open(drawn).subset(range(12)), probes=False)
    path = found.to_html(tmp_path / "e.html", title="Twelve")
    assert path == tmp_path / "e.html"
    assert "<h1>Twelve</h1>" in path.read_text("utf-8")
    assert "12 images in" in path.read_text("utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["e.html"]


def test_code_between_backticks_is_code_and_still_no_markup():
    assert paragraph("give `--map <b>` to it") == ("<p>give <code>--map &lt;b&gt;</code> to it</p>")
    assert "<i onclick" not in card(None, "<i onclick=1>", ["<i onclick=1>"])


def test_numbers_and_intervals_are_set_to_the_right_and_do_not_wrap():
    text = table(["n", "interval", "name"], [(1234, "0.5 to 0.75", "a-1")])
    assert '<td class="number">1,234</td>' in text
    assert '<td class="number">0.5 to 0.75</td>' in text
    assert "<td>a-1</td>" in text
    assert "50.0%" in bar(0.5, interval=(0.25, 0.75), mark=0.25)


def test_a_page_lists_its_sections():
    from allkit.shown.html import section

    text = page("T", "l", [section(f"Part {n}") for n in range(3)])
    assert '<a href="#part-2">Part 2</a>' in text
    assert 'id="part-2"' in text


# ── what was not seen, or not understood ──────────────────────────────────────────────────────


def figures(coarse=True):
    """Made-up answers on 16 images in 2 groups of two classes: one of them is wrong."""
    truth = np.arange(16) % 2
    table = np.where(truth[:, None] == np.arange(2), 0.9, 0.1).astype(np.float32)
    table[0] = table[0, ::-1]
    verdicts = ["review"] * 15 + ["refused"]
    more = {}
    if coarse:
        told = coarse_metrics(("benign", "malignant"), truth, truth, ["accepted"] * 16)
        more = {"extra": {"coarse": told}}
    return evaluate(
        truth, table, ("Benign", "Pre"), verdicts=verdicts, units=np.arange(16) // 8, **more
    )


def everywhere(found):
    """What terminal, page, notebook and card say of an evaluation, without markup."""
    values = found.to_dict()
    texts = (
        evaluation_text(values),
        evaluation_page(values, title="x", names={}),
        found._repr_html_(),
        judged_card("# Card\n", "set", values),
    )
    return [re.sub(r"<[^>]+>", " ", text) for text in texts]


def test_the_two_verdicts_have_names_and_are_the_same_on_terminal_page_notebook_and_card():
    for text in everywhere(figures()):
        assert "Benign or malignant, accepted / review / refused: 16 / 0 / 0" in text
        assert text.count("ccepted / review / refused:") in (1, 2)
    terminal, page, notebook, card = everywhere(figures())
    for text in (terminal, page, notebook, card):
        assert "Class, accepted / review / refused: 0 / 15 / 1" in text
    assert "Verdicts on the class, and why" in page
    assert "Benign or malignant: share accepted" in page
    assert "Class: share accepted" in page
    assert "enign or malignant" not in "".join(everywhere(figures(coarse=False)))


def test_an_area_without_an_error_has_words_and_no_interval():
    found = figures()
    truth = np.arange(16) % 2
    perfect = evaluate(
        truth, np.eye(2)[truth], ("Benign", "Pre"), verdicts=None, units=np.arange(16) // 8
    )
    low, _ = perfect.intervals["macro_roc_auc"]
    assert 0 < low < 1  # the record keeps it
    words = perfect.exact["macro_roc_auc"]
    assert "no error in 2 groups" in words
    for text in everywhere(perfect):
        line = next(row for row in text.splitlines() if "rea under ROC" in row and "1.000" in row)
        assert words in line
        assert f"{low:.3f}" not in line
    shown = shown_interval(found.to_dict(), "macro_roc_auc")
    assert shown == "–".join(ends(*found.intervals["macro_roc_auc"]))  # it was not the same in all


def test_one_error_of_many_is_seen_as_an_error():
    weak = shaded("1", 0.01, wrong=True)
    assert 'class="wrong"' in weak
    assert "rgba(200,96,28,0.30)" in weak
    assert "wrong" not in shaded("0", 0.0, wrong=True)
    assert "wrong" not in shaded("9", 0.99)
    cells = figures().confusion.plot().axes[0].images[0].get_array()
    red, _, blue = cells[0, 1]  # one of eight
    assert red - blue > 0.2
    assert cells[0, 0, 2] > cells[0, 0, 0]


def test_the_audit_says_from_where_on_each_kind_of_probe_is_a_shortcut():
    text = probe_table(
        [Probe("mean_colour", 0.74, 0.6, 0.8), Probe("border", 0.56, 0.5, 0.6)], 0.25
    )
    assert "0.44 (a quarter of the way from chance to 1) for what sees no cell" in text
    assert "0.62 (half of the way from chance to 1) for what sees cells as colour" in text
    blind = probe_table([Probe("border", 0.56, 0.5, 0.6)], 0.25)
    assert "half of the way" not in blind


def test_below_a_picture_stands_the_name_within_the_set_and_no_path_of_the_machine(odd):
    rows = pd.read_csv(odd)
    rows["image"] = [str(odd.parent / name) for name in rows.image]
    data = Dataset.from_frame(rows)
    text = "".join(cards(data, range(len(data))))
    assert str(odd.parent) not in text
    assert "a.png" in text
    assert "images/drawn-0" in text


def test_what_allkit_made_the_files_of_is_no_probe_of_files():
    drawn = Dataset.sample(24, groups=12, seed=3)
    found = allkit.audit(drawn)
    assert "file" not in [probe.name for probe in found.probes]
    assert "PNG files that allkit made" in found.message


def test_a_folder_that_is_not_there_is_said_not_to_be_there(tmp_path):
    with pytest.raises(AllkitError, match=r"the folder .*nope does not exist\. Make it first"):
        figures().to_html(tmp_path / "nope" / "x.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(AllkitError, match="is no folder"):
        figures().to_html(tmp_path / "file" / "x.html")
