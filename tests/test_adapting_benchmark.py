"""The benchmark of adapting: what is judged shows no field that was adapted to, and every look is logged."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from allkit import Dataset


@pytest.fixture(scope="module")
def adapting(benchmarks):
    import adapting

    return adapting


@pytest.fixture(scope="module")
def slides(few):
    """24 drawn smears: the Benign ones of one slide, the others of another; pairs show one field."""
    samples = [
        replace(
            s,
            slide="B" if s.label == "Benign" else "M",
            columns={**s.columns, "near_duplicate_of": f"field {number // 2}"},
        )
        for number, s in enumerate(sorted(Dataset.open(few), key=lambda s: str(s.label)))
    ]
    return Dataset(samples, name="two slides")


def fields_of(data, rows):
    return {data.column("near_duplicate_of")[row] for row in rows}


def test_labelled_fields_are_of_every_slide_and_none_is_judged(adapting, slides):
    drawn, judged = adapting.labelled_fields(slides, np.random.default_rng(0))
    assert set(drawn) == set(adapting.FIELDS)
    assert set(drawn[5]) <= set(drawn[10]) <= set(drawn[20])
    for rows in drawn.values():
        assert set(slides.subset(rows).slide_names) == {"B", "M"}
        assert len(fields_of(slides, rows)) == len(rows), "no two of one field"
        assert not fields_of(slides, rows) & fields_of(slides, judged)
    # The slide of three fields is not used up: two fields stay to be judged.
    assert sum(slides.column("slide")[row] == "B" for row in drawn[20]) == 1
    assert set(slides.subset(judged).slide_names) == {"B", "M"}


def test_halves_keep_fields_whole_and_have_both_slides(adapting, slides):
    learn, judged = adapting.halves(slides)
    assert sorted([*learn, *judged]) == list(range(len(slides)))
    assert not fields_of(slides, learn) & fields_of(slides, judged)
    for rows in (learn, judged):
        assert set(slides.subset(rows).slide_names) == {"B", "M"}
        assert 2 <= sum(slides.column("slide")[row] == "B" for row in rows) <= 4


def test_what_is_seen_of_a_slide_left_out_is_in_the_log(adapting, slides, trained, tmp_path):
    from allkit.config import TrainConfig

    log = tmp_path / "looks.csv"
    config = TrainConfig(backbone="timm:test_resnet", weights="none")
    protocol = adapting.Protocol(slides, config, log=log)
    bench = adapting.Bench(protocol, tmp_path)
    bench.look(trained(), slides, ("B", "M"), "10 labelled fields")
    with log.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["step"] == "adapting: 10 labelled fields"
    assert (row["slides"], row["images"]) == ("B+M", "24")
