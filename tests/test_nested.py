"""The nested protocol on drawn slides: nothing of a slide is learnt from it, and every look is logged."""

import csv
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

SLIDES = {"Benign": ("B1", "B2"), "Early": ("E1", "E2"), "Pre": ("P1",), "Pro": ("Q1",)}
OUTER = sorted(slide for slides in SLIDES.values() for slide in slides)
SMALL = (
    "epochs=2", "calibration_folds=0", "view=rgb", "bag=field", "class_weights=false",
    "head_decay=0.01",
)  # fmt: skip


@pytest.fixture(scope="module")
def nested(benchmarks):
    import nested

    return nested


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """48 drawn smears of 24 groups; two classes have two slides each, two have one."""
    from allkit.data.drawn import write_smears

    index = write_smears(tmp_path_factory.mktemp("slides"), 48, groups=24, seed=3)
    with index.open(newline="") as file:
        rows = list(csv.DictReader(file))
    groups = {label: sorted({r["group"] for r in rows if r["label"] == label}) for label in SLIDES}
    for row in rows:
        slides = SLIDES[row["label"]]
        row["slide"] = slides[groups[row["label"]].index(row["group"]) % len(slides)]
    with index.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return index


def run(nested, table, folder, *options):
    out, log = folder / "out.json", folder / "looks.csv"
    network = ("--backbone", "timm:test_resnet", "--weights", "none", "--set", *SMALL)
    nested.main(["--data", str(table), *network, "--out", str(out), *options], log=log)
    return json.loads(out.read_text()), rows_of(log)


def test_what_is_left_out_leaves_no_relative_in_training(nested, table):
    from allkit import Dataset

    data = Dataset.open(table)
    parts = nested.without(data, ["E1", "Q1"])
    assert set(parts.test.column("slide")) == {"E1", "Q1"}
    assert parts.train.classes == ("Benign", "Early", "Pre"), "a class never seen is none"
    images = [sample.image for sample in data]
    fields = {sample.image: field for sample, field in zip(data, data.fields, strict=True)}
    train, test = ({fields[s.image] for s in part} for part in (parts.train, parts.test))
    assert not train & test
    assert len(parts.train) + len(parts.test) + parts.dropped == len(images)


def test_a_draw_takes_no_field_twice(nested):
    draws = nested.slide_draws.draws
    clusters = [[0, 1], [2], [3, 4, 5], [6], [7]]
    field = {image: i for i, images in enumerate(clusters) for image in images}
    starts = set()
    for order in ("random", "consecutive"):
        for draw in draws(clusters, 3, order, count=200, seed=(0,)):
            fields = [field[image] for image in draw]
            assert len(set(fields)) == 3
            if order == "consecutive":
                assert fields[-1] - fields[0] == 2
                starts.add(fields[0])
    assert starts == {0, 1, 2}
    assert {len(draw) for draw in draws(clusters, 20, "random", count=5, seed=(0,))} == {5}
    assert list(draws(clusters, 3, "random", count=9, seed=(0,))) == list(
        draws(clusters, 3, "random", count=9, seed=(0,))
    )


def answers(nested, **columns):
    """Four images of leukaemia, accepted rightly but for what `columns` say."""
    four = {
        "image": np.array(list("abcd")),
        "slide": np.array(["s", "s", "t", "t"]),
        "truth": np.array(["Pre"] * 4),
        "label": np.array(["Pre"] * 4),
        "seen": np.ones(4, bool),
        "verdict": np.array(["accepted"] * 4),
        "malignant": np.ones(4, bool),
        "label_malignant": np.ones(4, bool),
        "coarse_malignant": np.ones(4, bool),
        "coarse_probability": np.array([0.9, 0.8, 0.7, 0.6]),
        "coarse_verdict": np.array(["accepted"] * 4),
    }
    return nested.Answers(**{name: columns.get(name, four[name]) for name in four})


def test_leukaemia_accepted_as_benign_by_either_question_counts(nested):
    of_class = answers(
        nested,
        label=np.array(["Benign", "Pre", "Benign", "Early"]),
        label_malignant=np.array([False, True, False, True]),
        verdict=np.array(["accepted", "accepted", "review", "accepted"]),
        coarse_malignant=np.array([True, False, True, True]),
    )
    counts = nested.counts(of_class)
    assert counts["leukaemia accepted as benign"] == [2, 4]
    assert counts["fine accepted wrong, class seen"] == [2, 4]
    assert counts["fine accepted wrong, class never seen"] == [0, 0]
    assert nested.bounds(of_class)["malignant"]["with a wrong acceptance"] == 2


def test_shares_are_pooled_over_images_and_averaged_over_slides(nested):
    one_bad = answers(
        nested,
        slide=np.array(["s", "t", "t", "t"]),
        coarse_malignant=np.array([False, True, True, True]),
    )
    share = nested.over_slides(one_bad)["coarse right"]
    assert (share["pooled"][0], share["macro"][0]) == (0.75, 0.5)
    assert (share["minimum"], share["maximum"]) == (0, 1)
    assert share["pooled"][1:] == [0, 1]
    # The wrong one is the surest.
    assert nested.risk_coverage(one_bad) == {
        str(c): 1 / np.ceil(c / 25) for c in range(10, 101, 10)
    }


def rows_of(log):
    with log.open(newline="") as file:
        return list(csv.DictReader(file))


def test_whoever_judges_a_slide_left_out_leaves_a_row(nested, table, tiny, tmp_path):
    from allkit import Dataset
    from allkit.config import TrainConfig

    log = tmp_path / "looks.csv"
    config = TrainConfig(copies=1, backbone="timm:test_resnet", weights="none")
    protocol = nested.Protocol(Dataset.open(table), config, log=log)
    images = nested.without(protocol.data, ["E1"]).test
    protocol.judge(tiny, images)
    assert not log.exists(), "inner slides are no look"
    answers = protocol.look(tiny, images, ["E1"], step="unseen")[1]
    (row,) = rows_of(log)
    assert (row["backbone"], row["step"], row["slides"]) == ("timm:test_resnet", "unseen", "E1")
    assert row["configuration"] == "copies=1", "what differs from the defaults, and not the network"
    assert int(row["images"]) == len(images) == 6
    assert int(row["coarse_right"]) == answers.coarse_right.sum()


def test_looks_of_several_programs_stay_whole_rows(nested, tmp_path):
    log = tmp_path / "looks.csv"
    fields = ("now", "abc", "vgg16", "unseen", 'view="rgb" copies=0', "B1")
    with ThreadPoolExecutor(8) as several:
        list(
            several.map(
                lambda n: nested.looks.append(log, nested.looks.Look(*fields, n, 0, 0, 0)),
                range(100),
            )
        )
    rows = rows_of(log)
    assert sorted(int(row["images"]) for row in rows) == list(range(100))
    assert {row["configuration"] for row in rows} == {'view="rgb" copies=0'}


def test_the_log_of_the_repository_holds_real_looks_only(nested):
    header = nested.looks.LOOKS.read_text("utf-8").splitlines()[0]
    assert tuple(header.split(",")) == nested.looks.Look._fields
    assert not [row for row in rows_of(nested.looks.LOOKS) if row["backbone"].startswith("timm:")]


@pytest.mark.nightly
def test_all_steps_of_the_protocol_end_with_figures(nested, table, tmp_path, capsys):
    figures, log = run(
        nested, table, tmp_path, "--draws", "20", "--others", str(table.parent / "images")
    )
    steps = Counter(row["step"] for row in log)
    assert steps == {"unseen+draws": 6, "recoloured": 6, "pairs": 8}, "the curve took the pairs"
    rows = figures["unseen"]["slides"]
    assert list(rows) == figures["benign slides"] + figures["malignant slides"]
    assert [slide for slide in OUTER if not rows[slide]["seen"]] == ["P1", "Q1"]
    alone = {row["slides"]: row for row in log if row["step"] == "unseen+draws"}
    assert sorted(alone) == OUTER
    for slide, row in alone.items():
        assert int(row["images"]) == rows[slide]["images"]
        assert int(row["coarse_right"]) == rows[slide]["coarse right"][0]
    assert len(figures["unseen"]["answers"]["image"]) == 48
    for row in figures["draws"].values():
        assert sum(row["random 3"]["coarse"].values()) == pytest.approx(1)
    assert figures["curve"]["1"] == figures["pairs"]
    assert len(figures["recoloured"]["B1"]["to"]) == 5
    assert figures["known"]["images"] == 48
    assert figures["others"]["images"]["images"] == 48
    text = capsys.readouterr().out
    assert "every slide left out alone" in text
    assert "verdict on a slide, coarse, consecutive fields" in text


@pytest.mark.nightly
def test_a_choice_among_recipes_shows_only_the_chosen_on_outer_slides(nested, table, tmp_path):
    figures, log = run(nested, table, tmp_path, "--inner", "--recipes", "defaults", "no copies")
    rows = figures["inner"]["slides"]
    assert sorted(rows) == sorted(row["slides"] for row in log) == OUTER
    for row in rows.values():
        assert row["scores"][row["chosen"]] == max(row["scores"].values())
