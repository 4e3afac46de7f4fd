"""A small student of a model: what it learns, that it is judged honestly, and what it says of itself."""

import contextlib
import csv
import json
from dataclasses import replace

import numpy as np
import pytest

import allkit
from allkit.data.drawn import write_smears
from allkit.errors import CheckpointError, ConfigError, DatasetError
from allkit.features import AugmentedCopy, FeatureCache
from allkit.model.distillation import Distillation, Loss
from allkit.plugins import registry
from allkit.training import distilling
from allkit.training.left_out import left_out_slides
from allkit.training.reproduce import reproduce
from allkit.training.teacher import notes_on_teacher, teacher_of
from allkit.training.unseen import leave_one_group_out
from allkit.trust.groups import groups_of

HEAD = {
    "backbone": "timm:test_resnet", "weights": "none", "view": "rgb", "bag": "field",
    "head_penalty": 0.01, "calibration_folds": 0, "precision": "float32",
}  # fmt: skip
STUDENT = {"student": "timm:test_efficientnet", "weights": "none"}


SLIDES = {"Benign": ("B1", "B2"), "Early": ("E1",), "Pre": ("P1",)}
COUNT = 36


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory):
    """Features that all trainings here share; none of them is on the user's machine."""
    HEAD["cache"] = STUDENT["cache"] = FeatureCache(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """36 fields of three classes and 18 groups; one class has two slides, the others have one."""
    index = write_smears(tmp_path_factory.mktemp("slides"), 48, groups=24, seed=3, colour_cue=True)
    lines = index.read_text().splitlines()
    rows = [row for row in csv.DictReader(lines) if row["label"] in SLIDES]
    groups = {name: sorted({r["group"] for r in rows if r["label"] == name}) for name in SLIDES}
    for row in rows:
        slides = SLIDES[row["label"]]
        row["slide"] = slides[groups[row["label"]].index(row["group"]) % len(slides)]
    with index.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return index


@pytest.fixture(scope="module")
def data(table):
    return allkit.Dataset.open(table)


@pytest.fixture(scope="module")
def plain(data):
    """The same images without slides: their trainings leave none out, and are quick."""
    return allkit.Dataset([replace(s, slide=None) for s in data], data.classes)


@pytest.fixture(scope="module")
def teacher(data):
    return allkit.Trainer(**HEAD).fit(data)


@pytest.fixture(scope="module")
def student(teacher, data):
    return allkit.distil(teacher, data, **STUDENT)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The table of 36 fields that the teacher has not seen, without slides."""
    index = write_smears(tmp_path_factory.mktemp("new"), 48, groups=12, seed=8, colour_cue=True)
    lines = [line for line in index.read_text().splitlines() if ",Pro," not in line]
    index.write_text("\n".join(lines).replace(",drawn-", ",new-") + "\n")
    return index


@contextlib.contextmanager
def taught(model, data, **settings):
    """A model as the teacher of a training on `data` that is ready to begin."""
    settings = {**HEAD, "backbone": "timm:test_efficientnet", **settings}
    with allkit.Trainer(**settings)._session(data, None) as session:
        yield teacher_of(model, session)


def answers(model, data, learn, check):
    """What a head learns that learns from the images `learn` and is judged on `check`."""
    with taught(model, data) as found:
        return found.answers(learn, check)


# ── what is learnt ─────────────────────────────────────────────────────────────────────────────


def test_the_head_that_answers_learns_the_models_own_answers_on_images_and_their_copies(
    teacher, data
):
    everything = np.arange(len(data))
    with taught(teacher, data, copies=2) as found:
        table = found.answers(everything, everything[:0])
    assert table.shape == (3, COUNT, 3)
    images = [data.read(i) for i in range(12)]
    np.testing.assert_allclose(table[0, :12], teacher.probabilities(images), atol=1e-4)
    standard = registry().get("augmentation", "standard")
    names = [f"standard {registry().provider('augmentation', 'standard').origin}"]
    copy = AugmentedCopy(2, [standard], names, seed=0)
    copies = [copy.of(data.passes.frame(i)) for i in range(12)]
    np.testing.assert_allclose(table[2, :12], teacher.probabilities(copies), atol=1e-4)
    assert not np.allclose(table[0], table[2], atol=1e-3)


def test_a_head_that_is_judged_learns_nothing_of_the_held_out_images_by_way_of_the_teacher(
    teacher, plain
):
    """Whatever the labels of the images that are held out, what it learns from is the same."""
    learn, check = np.arange(27), np.arange(27, COUNT)
    turned = [
        replace(s, label=plain.classes[(plain.classes.index(s.label) + 1) % 3]) if i in check else s
        for i, s in enumerate(plain)
    ]
    other = allkit.Dataset(turned, plain.classes)
    one = answers(teacher, plain, learn, check)
    # Only the calibration of the two models differs: a temperature, which is left out here.
    two = answers(allkit.Trainer(**HEAD).fit(other), other, learn, check)
    ratio = np.log(one[..., :1] / one[..., 1:]) / np.log(two[..., :1] / two[..., 1:])
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-2)
    # The model's own answers on these images do depend on the labels of the others.
    assert np.abs(answers(teacher, plain, learn, check[:0]) - one).max() > 0.01


def test_images_that_are_new_to_the_teacher_need_no_other_teacher(teacher, elsewhere):
    everything = np.arange(COUNT)
    with taught(teacher, allkit.Dataset.open(elsewhere)) as found:
        assert found.independent
        np.testing.assert_array_equal(
            found.answers(everything[:30], everything[30:]),
            found.answers(everything, everything[:0])[:, :30],
        )


def test_a_student_answers_as_its_teacher_where_that_is_wrong(plain):
    """A teacher that takes every class for the next one: its student does too, labels or not."""
    names = {name: plain.classes[(k + 1) % 3] for k, name in enumerate(plain.classes)}
    turned = allkit.Dataset([replace(s, label=names[s.label]) for s in plain], plain.classes)
    wrong = allkit.Trainer(**HEAD, val=0.0).fit(turned)
    found = allkit.Trainer(**HEAD, val=0.0, teacher=wrong).fit(plain)
    told = [answer.label for answer in found.predict([plain.read(i) for i in range(COUNT)])]
    assert np.mean([a == names[s.label] for a, s in zip(told, plain, strict=True)]) > 0.8


# ── what it loses ──────────────────────────────────────────────────────────────────────────────


def sums(rows, counted):
    return tuple(sum(row.of(counted)[side] for row in rows) for side in (0, 1))


def test_what_it_loses_is_counted_on_images_that_neither_had_learnt(teacher, student, data):
    record = student.info.distillation
    assert record.teacher == teacher.content_hash()
    assert record.backbone == "timm:test_resnet"
    assert [row.name for row in record.left_out] == list(data.classes)
    assert sum(row.images for row in record.left_out) == COUNT
    assert record.slides == len(data.slide_names) == 4
    validation = student.info.validation
    assert sum(row.images for row in record.known) == validation["n"] < COUNT
    for row in record.known:
        assert row.images == validation["per_class"][row.name]["support"]
    for rows in (record.known, record.left_out):
        for side in (0, 1):
            right = sums(rows, "accepted_right")[side]
            assert right + sums(rows, "accepted_wrong")[side] <= sum(row.images for row in rows)
            assert right <= sums(rows, "right")[side]


@pytest.mark.nightly
def test_the_figures_of_the_teacher_are_those_of_evaluate_with_slides_left_out(
    teacher, student, data
):
    found = leave_one_group_out(teacher.info.config, data, "slide")
    rows = student.info.distillation.left_out
    for ours, theirs in (
        ("right", found.right),
        ("accepted_right", found.accepted_right),
        ("accepted_wrong", sum(row.accepted_wrong for row in found.rows)),
        ("coarse_right", sum(row.coarse_right for row in found.rows)),
        ("coarse_accepted_right", sum(row.coarse_accepted_right for row in found.rows)),
        ("coarse_accepted_wrong", sum(row.coarse_accepted_wrong for row in found.rows)),
    ):
        assert sums(rows, ours)[0] == theirs, ours


def test_of_many_slides_several_are_left_out_together_and_each_once(data):
    many = allkit.Dataset([replace(s, slide=s.group) for s in data], data.classes)
    parts = distilling._slides_together(many)
    assert len(parts) == distilling.MOST_TRAININGS
    assert sorted(np.concatenate(parts)) == list(range(COUNT))
    slides = [set(many.slides[part]) for part in parts]
    assert sum(map(len, slides)) == 18
    for part in parts:  # no class is left out whole
        assert np.bincount(many.labels[part], minlength=3).max() < 12


def test_a_teacher_that_cannot_be_trained_again_knows_the_slides_so_none_is_left_out(
    teacher, data, monkeypatch
):
    monkeypatch.setattr("allkit.training.teacher.trained_by_heads", lambda model: False)
    settings = {**HEAD, "backbone": "timm:test_efficientnet"}
    with allkit.Trainer(**settings)._session(data, None) as session:
        groups = groups_of(None, data.classes)
        assert left_out_slides(session, groups)
        session.teacher = teacher_of(teacher, session)
        assert left_out_slides(session, groups) == []
    (note,) = notes_on_teacher(session.teacher)
    assert "its answers know what is held out" in note


@pytest.mark.nightly
def test_a_teacher_whose_stages_were_trained_is_measured_on_new_images_only(data, elsewhere):
    """Its answers know the slides, and it cannot be trained again in seconds: no limits, no figures."""
    few = {"epochs": 2, "finetune_epochs": 1, "strategy": "last"}
    settings = {k: v for k, v in HEAD.items() if k != "head_penalty"} | few
    tuned = allkit.Trainer(**settings).fit(data)
    found = allkit.distil(tuned, data, **STUDENT)
    record = found.info.distillation
    assert record.known == record.left_out == ()
    assert "more than a head would have to be trained again" in " ".join(record.notes)
    assert any("its answers know what is held out" in note for note in found.info.trust_notes)
    assert np.isinf(found.trust.slides.of_group).all()
    unknown = allkit.Dataset.open(elsewhere)
    new = allkit.distil(tuned, unknown, **STUDENT).info.distillation
    assert sum(row.images for row in new.known) > 0
    assert new.notes == ("The slides are not known, so none could be left out.",)


def test_what_is_lost_is_said_in_words_only_where_something_is():
    def record(teacher, student):
        row = Loss(name="Pre", images=1000, teacher=teacher, student=student)
        return Distillation(teacher="0" * 32, backbone="vgg16", known=(row,), left_out=(row,))

    same = (900, 800, 2, 950, 850, 3)
    assert record(same, same).cautions() == []
    assert record(same, (896, 800, 2, 950, 850, 3)).cautions() == []  # 0.4 %
    for worse, words in (
        ((894, 800, 2, 950, 850, 3), "right 6 times less than its teacher, of 1,000"),
        ((900, 800, 4, 950, 850, 3), "more wrong classes than its teacher: 4, not 2"),
        ((900, 800, 2, 950, 850, 5), "more wrong groups of classes than its teacher: 5, not 3"),
        (
            (900, 800, 2, 950, 840, 3),
            "fewer right groups of classes than its teacher: 840, not 850",
        ),
    ):
        (caution,) = record(same, worse).cautions()
        assert words in caution


# ── the file ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_the_command_writes_a_student_that_says_whose_it_is(
    cli, teacher, student, data, table, tmp_path, monkeypatch
):
    given = {}

    def made(model, train, val, **options):
        given.update(model=model.content_hash(), images=len(train), val=val, **options)
        return student

    monkeypatch.setattr(distilling, "distil", made)
    teacher.save(tmp_path / "model")
    status, out, err = cli(
        "export", "model", "--distil", table, "--student", "timm:test_efficientnet",
        "--student-weights", "none", "--out", "student.onnx", "--keep-model", "kept",
        "--data", table,
    )  # fmt: skip
    assert status == 0, err
    assert callable(given.pop("progress"))
    assert given == {
        "model": teacher.content_hash(), "images": COUNT, "val": None,
        "student": "timm:test_efficientnet", "weights": "none",
    }  # fmt: skip
    told = f"A student of the model {teacher.content_hash()[:12]}… (timm:test_resnet)."
    assert told in out
    assert "4 slides left out of both trainings" in out
    assert f"the same class on {COUNT}" in err
    status, out, _ = cli("verify", "student.onnx", "--json", "v.json")
    assert status == 0
    assert told in out
    values = json.loads((tmp_path / "v.json").read_text())["distillation"]
    kept = allkit.Classifier.load(tmp_path / "kept")
    assert kept.info.distillation == student.info.distillation
    assert Distillation.model_validate(values).left_out == kept.info.distillation.left_out
    card = (tmp_path / "kept" / "README.md").read_text()
    assert f"content hash `{teacher.content_hash()}`" in card
    assert "it accepted rightly |" in card
    with pytest.raises(CheckpointError, match="learnt the answers of another one"):
        reproduce(kept, data)
    with pytest.raises(ConfigError, match="holds a student"):
        allkit.Trainer(**HEAD).fit(data, out=tmp_path / "kept", resume=True)


def test_a_file_of_many_classes_holds_the_sums():
    rows = tuple(
        Loss(name=f"class {k}", images=100, teacher=(k,) * 6, student=(1,) * 6) for k in range(40)
    )
    record = Distillation(teacher="0" * 32, backbone="vgg16", known=rows, left_out=rows[:3])

    class File:
        info = {"proof": record.in_file()}  # noqa: RUF012 - it is read only

    found = Distillation.of_file(File())
    assert found.known == (Loss(name="all", images=4000, teacher=(780,) * 6, student=(40,) * 6),)
    assert found.left_out == rows[:3]
    assert len(json.dumps(record.in_file())) < 2000


# ── what is refused ────────────────────────────────────────────────────────────────────────────


def test_images_that_do_not_fit_the_model_are_told(teacher, data):
    with pytest.raises(DatasetError, match="no images to train a student on"):
        allkit.distil(teacher, data.subset([]), data, **STUDENT)
    with pytest.raises(DatasetError, match="at least 32 are needed"):
        allkit.distil(teacher, data.subset(range(0, COUNT, 2)), **STUDENT)
    two = allkit.Dataset([*data, *data]).subset(
        [i for i, s in enumerate([*data, *data]) if s.label != "Pre"]
    )
    with pytest.raises(DatasetError, match="no training images of Pre"):
        allkit.distil(teacher, two, **STUDENT)
    strange = [replace(s, label="Reactive") if s.label == "Pre" else s for s in data]
    with pytest.raises(DatasetError, match="'Reactive', which this model does not know"):
        allkit.distil(teacher, allkit.Dataset(strange), **STUDENT)
    with pytest.raises(DatasetError, match="Reactive, which the teacher does not know"):
        allkit.Trainer(**HEAD, teacher=teacher).fit(allkit.Dataset(strange))


def test_without_a_small_backbone_it_is_said_what_to_install(teacher, data, monkeypatch):
    monkeypatch.setattr(distilling, "STUDENTS", ("nothing-like-it", "timm:no_such_model"))
    with pytest.raises(ConfigError, match="Install the plugin"):
        allkit.distil(teacher, data, cache=None)
    monkeypatch.setattr(distilling, "STUDENTS", ("timm:test_resnet",))
    with pytest.raises(ConfigError, match="as small as a student would be"):
        allkit.distil(teacher, data, cache=None)
    with pytest.raises(ConfigError, match="Name it too: `student`"):
        allkit.distil(teacher, data, weights="none", cache=None)


@pytest.mark.parametrize(
    "settings", [{"strategy": "last"}, {"head_solver": "adamw"}, {"loss": "focal"}]
)
def test_settings_with_which_no_answers_can_be_learnt_are_told(teacher, settings):
    given = {k: v for k, v in HEAD.items() if k != "head_penalty"} | settings
    with pytest.raises(ConfigError, match="by logistic regression only"):
        allkit.Trainer(**given, teacher=teacher)


def test_what_is_wrong_with_the_command_is_said_before_anything_is_trained(
    cli, tiny_folder, drawn, monkeypatch
):
    def never(*_, **__):
        raise AssertionError("it was distilled")

    monkeypatch.setattr(distilling, "distil", never)
    status, _, err = cli("export", tiny_folder, "--student", "vgg16", "--out", "m.onnx")
    assert status == 2
    assert "Give --distil DATA too" in err
    status, _, err = cli("export", tiny_folder, "--distil", drawn, "--out", "m.bin")
    assert status == 2
    assert "onnx (.onnx)" in err
    status, _, err = cli(
        "export", tiny_folder, "--distil", drawn, "--out", "m.onnx", "--keep-model", tiny_folder
    )
    assert status == 2
    assert "exists already" in err
    status, _, err = cli(
        "export", tiny_folder, "--distil", drawn, "--format", "pt2", "--out", "m.pt2",
        "--int8", "--calibrate", drawn,
    )  # fmt: skip
    assert status == 2
    assert "The pt2 exporter writes float32, not int8. For int8 take the format onnx" in err


def test_a_path_in_place_of_a_model_or_of_images_is_told(teacher, data, table):
    with pytest.raises(ConfigError, match=r"takes a Dataset.*allkit\.Dataset\.open first"):
        allkit.distil(teacher, str(table), **STUDENT)
    with pytest.raises(ConfigError, match=r"takes a Classifier.*allkit\.Classifier\.load first"):
        allkit.distil("model", data, **STUDENT)


# ── the benchmark ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.nightly
def test_the_benchmark_sets_both_side_by_side_and_logs_every_look(benchmarks, table, tmp_path):
    import distil

    network = ("--teacher", "timm:test_resnet", "--weights", "none", "--labels")
    small = (
        "--set",
        "view=rgb",
        "bag=field",
        "calibration_folds=0",
        "--rounds",
        "1",
        "--each",
        "2",
    )
    student = ("--student", "timm:test_efficientnet", "--student-weights", "none")
    out, log = tmp_path / "out.json", tmp_path / "looks.csv"
    files = ("--files", "onnx float32", "--out", str(out))
    distil.main(["--data", str(table), *network, *small, *student, *files], log=log)
    figures = json.loads(out.read_text())
    assert figures["known"]["images"] == COUNT
    low, high = figures["known"]["student less teacher"]["accuracy"][1:]
    assert low <= figures["known"]["student less teacher"]["accuracy"][0] <= high
    assert set(figures["slides"]["slides"]) == {s for slides in SLIDES.values() for s in slides}
    for name in ("teacher", "student", "labels"):
        assert figures["slides"][name]["summary"]["coarse right"]["images"] == COUNT
    with log.open(newline="") as file:
        steps = [row["step"] for row in csv.DictReader(file)]
    assert steps == ["distil: teacher", "distil: student", "distil: labels"] * 4
    assert (
        figures["latency"]["onnx float32"]["same class"]
        == figures["latency"]["onnx float32"]["compared"]
    )
    assert figures["latency"]["onnx float32"]["ratio"] > 0
