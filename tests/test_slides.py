"""The slides of a set: known, taken from paths, suggested, and judged as one."""

import json
import shutil

import numpy as np
import pytest

from allkit import Dataset
from allkit.errors import ConfigError, DatasetError
from allkit.evaluation.evaluate import Judged
from allkit.evaluation.units import judge_units
from allkit.quality.slides import suggest_slides
from allkit.trust.verdict import Decision


@pytest.fixture(scope="module")
def table(drawn, tmp_path_factory):
    """The 48 drawn smears, without groups; two drawn groups are one slide: six slides."""
    data = Dataset.open(drawn)
    of_class = sorted({(s.label, s.group) for s in data})
    slide_of = {group: f"S{n // 2}" for n, (_, group) in enumerate(of_class)}
    path = tmp_path_factory.mktemp("slides") / "slides.csv"
    rows = [f"{s.source.path},{s.label},{s.group},{s.case},{slide_of[s.group]}" for s in data]
    path.write_text("\n".join(["image,label,group,case,slide", *rows]) + "\n")
    return path


# ── what a set knows ──────────────────────────────────────────────────────────────────────────


def test_the_slide_stands_beside_group_and_case(table):
    data = Dataset.open(table)
    assert data.has_slides
    assert data.slide_names == tuple(f"S{n}" for n in range(6))
    assert data.slides.dtype == np.int64
    assert [data.slide_names[n] for n in data.slides] == [s.slide for s in data]
    assert data.column("slide") == [s.slide for s in data]
    assert sum(data.slides_of_class().values()) >= 6
    assert data.slides_caution is None
    assert "slides" in data.summary()
    assert all("slide" not in s.columns for s in data)


@pytest.mark.slow
def test_slides_change_neither_fingerprint_nor_division(table, tmp_path):
    data = Dataset.open(table)
    lines = [line.rpartition(",")[0] for line in table.read_text().splitlines()]
    (tmp_path / "plain.csv").write_text("\n".join(lines) + "\n")
    plain = Dataset.open(tmp_path / "plain.csv")
    assert not plain.has_slides
    assert plain.fingerprint == data.fingerprint
    assert plain.units.tolist() == data.units.tolist()
    one, other = (d.split(test=0.3, seed=1) for d in (plain, data))
    assert one.fingerprint == other.fingerprint
    assert [s.part for s in one.whole] == [s.part for s in other.whole]


def test_slides_are_written_and_read_again_by_every_table(table, tmp_path, cli):
    data = Dataset.open(table)
    data.to_csv(tmp_path / "a.csv")
    data.split(test=0.3).to_csv(tmp_path / "b.csv")
    data.to_folds_csv(tmp_path / "c.csv", 2)
    for name in "abc":
        again = Dataset.open(tmp_path / f"{name}.csv")
        assert [s.slide for s in again] == [s.slide for s in data]
    assert len(list(data.leave_one_group_out("slide"))) == 6
    (tmp_path / "plain.csv").write_text(f"image,label\n{data.samples[0].source.path},Pro\n")
    Dataset.open(tmp_path / "plain.csv").to_csv(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text().splitlines()[0] == "image,label,group,case"


def test_a_data_frame_may_have_slides(table):
    pd = pytest.importorskip("pandas")
    data = Dataset.from_dataframe(pd.read_csv(table))
    assert data.slide_names == Dataset.open(table).slide_names


@pytest.fixture
def folder(drawn, tmp_path):
    for number, image in enumerate(sorted(drawn.parent.rglob("*.png"))[:8]):
        place = tmp_path / "smears" / ("Pro" if number < 4 else "Pre") / f"s{number % 4 // 2}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, place / f"{number}.png")
    return tmp_path / "smears"


def test_slides_come_from_a_level_of_folders_by_a_pattern(folder, cli):
    data = Dataset.from_folder(folder, slide=r"^([^/]+/s\d)/")
    assert data.slide_names == ("Pre/s0", "Pre/s1", "Pro/s0", "Pro/s1")
    assert data.slides_of_class() == {"Pre": 2, "Pro": 2}
    status, _, err = cli("split", folder, "--out", "s.csv", "--by", "image", "--slide", r"/(s\d)/")
    assert status == 0, err
    assert Dataset.open("s.csv").slide_names == ("s0", "s1")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"/(s9)/", r"finds no slide in 8 of 8 names, first 'Pre/s0/4.png'.*column `slide`"),
        (r"/s\d/", "no brackets around the part that names the slide"),
        (r"(", "is not a regular expression"),
    ],
)
def test_a_pattern_that_names_no_slides_is_refused(folder, pattern, message):
    with pytest.raises(DatasetError, match=message):
        Dataset.from_folder(folder, slide=pattern)


@pytest.mark.slow
def test_a_class_of_one_slide_is_named_in_the_overview_and_by_check(folder, cli):
    data = Dataset.from_folder(folder, slide=r"^(Pro|Pre/s\d)/")
    assert "Pro was seen on one slide only" in data.summary()
    assert "Pre was seen on one slide only" not in data.summary()
    status, out, _ = cli("check", folder, "--slide", r"^(Pro|Pre/s\d)/", "--json", "c.json")
    assert status == 1
    assert "was seen on one slide only" in out
    with open("c.json") as stream:
        found = json.load(stream)
    assert found["one_slide_classes"] == ["Pro"]
    assert (found["slides"], found["suggested_slides"]) == (3, None)


def test_unknown_and_partly_unknown_slides_are_told(table, tmp_path):
    data = Dataset.open(table)
    lines = table.read_text().splitlines()
    lines[1] = lines[1].rpartition(",")[0] + ","
    (tmp_path / "gap.csv").write_text("\n".join(lines) + "\n")
    gap = Dataset.open(tmp_path / "gap.csv")
    assert not gap.has_slides
    assert gap.slides[0] == -1
    assert "The slides of 1 of 48 images are unknown, so each group" in gap.slides_caution
    with pytest.raises(DatasetError, match=r"1 of 48 images .* have no 'slide'"):
        list(gap.leave_one_group_out("slide"))
    bare = Dataset([s.__class__(s.image, s.source, s.label) for s in data], data.classes)
    assert "The slides are unknown, so each image stands for a slide" in bare.slides_caution
    with pytest.raises(DatasetError, match=r"no column 'slide'\. It has: group, case"):
        bare.column("slide")


def test_training_takes_the_pattern_as_an_option_or_a_setting(folder, cli):
    for way in (("--slide", r"/(s9)/"), ("--set", "slide='/(s9)/'")):
        status, _, err = cli("train", folder, "--out", "m", *way)
        assert status == 2
        assert "finds no slide in 8 of 8 names" in err
    _, out, _ = cli("train", folder, "--slide", r"/(s\d)/", "--print-config")
    assert r"slide: /(s\d)/" in out


# ── suggestions ───────────────────────────────────────────────────────────────────────────────


def suggested(names, colours, **known):
    from allkit.data.rows import Sample
    from allkit.data.sources import BytesSource

    samples = [
        Sample(n, BytesSource(n.encode()), "Pro", **{k: v[i] for k, v in known.items()})
        for i, n in enumerate(names)
    ]
    data = Dataset(samples, ["Pro"])
    data.passes.measured.duplicates = ()
    table = np.zeros((len(names), 6), np.float32)
    table[:, 0] = colours
    return suggest_slides(data, table).slides


def test_what_alternates_in_the_names_is_suggested_as_one_slide():
    names = [f"a/{n}.png" for n in range(100)]
    colours = np.repeat([0, 20, 0, 20], 25)
    assert len(set(suggested(names, colours))) == 1
    colours = np.repeat([0, 0, 20, 20], 25)
    slides = suggested(names, colours)
    assert set(slides[:50]) == {"slide 1"}
    assert set(slides[50:]) == {"slide 2"}


def test_slides_are_joined_over_folders_only_where_they_look_the_same_or_are_known_to_be_one():
    names = [f"{folder}/{n}.png" for folder in "ab" for n in range(25)]
    assert len(set(suggested(names, np.repeat([0, 0.5], 25)))) == 1
    assert len(set(suggested(names, np.repeat([0, 3], 25)))) == 2
    cases = [f"P{n}" for n in range(25)] * 2
    assert len(set(suggested(names, np.repeat([0, 3], 25), case=cases))) == 1


@pytest.mark.slow
def test_check_suggests_slides_says_so_and_writes_them_as_suggested(folder, cli):
    status, out, err = cli(
        "check", folder, "--write-slides", "s.csv", "--json", "c.json", "--html", "c.html"
    )
    assert status in (0, 1)
    assert "That is a suggestion" in out
    assert "suggested slides, not known ones" in err
    with open("c.json") as stream:
        found = json.load(stream)["suggested_slides"]
    data = Dataset.open("s.csv")
    assert found["number"] == len(data.slide_names)
    assert "light and stain" in found["how"]
    assert data.has_slides
    assert data.slides_suggested
    assert "suggestions of `allkit check`" in data.slides_caution
    with open("c.html") as stream:
        assert "Suggested slides" in stream.read()
    status, _, err = cli("check", "s.csv", "--write-slides", "t.csv")
    assert status == 2
    assert "has slides already" in err
    # What the paths say is known.
    assert not data.with_slides(r"/(s\d)/").slides_suggested


# ── slides and cases as what is counted ───────────────────────────────────────────────────────


@pytest.mark.slow
def test_an_evaluation_by_slide_counts_slides(tiny, table):
    data = Dataset.open(table)
    labels = {name: {s.label for s in data if s.slide == name} for name in data.slide_names}
    pure = sum(len(of) == 1 for of in labels.values())
    assert 0 < pure < 6  # some have fields of two classes
    result = tiny.evaluate(data, by="slide", probes=False)
    found = result.to_dict()
    assert found["n"] == pure
    assert found["by"] == "slide"
    assert found["fields"] == sum(len(labels[s.slide]) == 1 for s in data)
    assert found["mixed_labels"] == 6 - pure
    assert sum(found["verdicts"].values()) == pure
    assert np.sum(found["confusion"]) == pure
    assert "slides " in str(result)


@pytest.mark.slow
def test_the_command_counts_cases_and_says_so_and_that_slides_are_unknown(cli, tiny_folder, drawn):
    status, out, err = cli(
        "evaluate", tiny_folder, drawn, "--by", "case", "--json", "e.json", "--html", "e.html"
    )
    assert status == 0, err
    assert err.count("The slides are unknown, so each group stands for a slide") == 1
    labels = {}
    for sample in Dataset.open(drawn):
        labels.setdefault(sample.case, set()).add(sample.label)
    with open("e.json") as stream:
        found = json.load(stream)
    assert found["n"] == sum(len(of) == 1 for of in labels.values())
    assert f"counted {found['n']} cases" in " ".join(out.split())
    assert f"of {found['fields']} fields" in out
    with open("e.html") as stream:
        assert f"{found['n']} cases of {found['fields']} fields" in stream.read()


@pytest.mark.slow
def test_the_card_of_a_model_says_that_slides_were_counted(cli, tiny_folder, table):
    shutil.copytree(tiny_folder, "m")
    status, _, err = cli("evaluate", "m", table, "--by", "slide", "--card")
    assert status == 0
    assert "The slides are unknown" not in err
    with open("m/README.md") as stream:
        assert "4 slides; " in stream.read()


def test_an_evaluation_without_such_units_is_refused(cli, tiny, tiny_folder, drawn, table):
    data = Dataset.open(drawn)
    with pytest.raises(DatasetError, match=r"no column 'slide'\. It has: group, case"):
        tiny.evaluate(data, by="slide", probes=False)
    with pytest.raises(ConfigError, match="no evaluation by 'patient'"):
        tiny.evaluate(data, by="patient")
    bare = Dataset([s.__class__(s.image, s.source, s.label) for s in data], data.classes)
    with pytest.raises(DatasetError, match="no column 'case'"):
        judge_units(bare, judged(len(bare), 4), data.classes, by="case")
    status, _, err = cli(
        "evaluate", tiny_folder, table, "--by", "slide", "--leave-one-group-out", "slide"
    )
    assert status == 2
    assert "neither with" in err


def judged(images, classes, verdict="review"):
    table = np.tile(np.linspace(0.1, 0.9, classes, dtype=np.float32), (images, 1))
    return Judged(
        table / table.sum(axis=1, keepdims=True), [Decision(verdict, (), ())] * images, None
    )


def test_a_unit_of_which_every_field_is_refused_is_counted_and_not_accepted(table):
    data = Dataset.open(table)
    units = judge_units(data, judged(48, 4, "refused"), data.classes, by="case")
    assert units.unanswered == len(units.answers) > 0
    assert {d.verdict for d in units.judged.decisions} == {"refused"}
    assert units.judged.probabilities.argmax(axis=1).tolist() == [3] * len(units.answers)


def test_units_whose_fields_have_several_labels_are_left_out(table):
    data = Dataset.open(table)
    one = data.with_slides(r"(\.)png")  # all images on one slide
    with pytest.raises(DatasetError, match="has fields of several labels"):
        judge_units(one, judged(48, 4), data.classes, by="slide")
