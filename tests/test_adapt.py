"""`adapt`: a model fitted to the slides of a laboratory, and what may be said of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

import allkit
from allkit.adaptation.align import stain_shift
from allkit.adaptation.refit import STRENGTHS, anchors_of, fit_change, head_inputs, head_logits
from allkit.data.drawn import write_smears
from allkit.errors import ConfigError, DatasetError
from allkit.trust.reasons import SEEN_WITHOUT_LABELS, UNFAMILIAR_SLIDE
from allkit.trust.space import Space, signed_sqrt


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_settings):
    """A calibrated model with OOD detection, of 96 drawn smears."""
    index = write_smears(tmp_path_factory.mktemp("home"), 96, groups=24, seed=3)
    return allkit.Trainer(**tiny_settings | {"folds": 3}).fit(allkit.Dataset.open(index))


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    """The path of 64 fields of 16 slides of another laboratory."""
    return write_smears(tmp_path_factory.mktemp("lab"), 64, groups=16, seed=11)


@pytest.fixture(scope="module")
def fields(laboratory):
    return allkit.Dataset.open(laboratory)


def regrouped(data, group):
    """The same images in other groups: `group(sample)` names them."""
    return allkit.Dataset(
        [replace(s, group=group(s), case=None) for s in data], data.classes, name=data.name
    )


def mixed(data):
    """Groups that hold every class, as slides stained together do."""
    seen = {}
    return regrouped(
        data, lambda s: f"day {seen.setdefault(s.label, []).append(s) or len(seen[s.label]) % 5}"
    )


@pytest.fixture(scope="module")
def adapted(model, fields):
    return allkit.adapt(model, mixed(fields), cache=None)


@pytest.mark.slow
def test_the_table_is_of_fields_whose_groups_took_no_part(model, fields, adapted):
    record = adapted.info.adaptations[-1]
    assert record.labelled
    assert record.judged == len(fields) == record.images
    assert "without its group (5 divisions)" in record.protocol
    assert set(record.before) == set(record.after)
    asked = mixed(fields)
    said = model.evaluate(asked, probes=False)
    # What it was before is what the model itself says of these fields.
    assert record.before["balanced_accuracy"] == pytest.approx(said.balanced_accuracy)
    assert record.before["log_loss"] == pytest.approx(said.metrics["log_loss"], rel=1e-3)
    low, high = record.intervals["balanced_accuracy"]
    assert low <= record.differences["balanced_accuracy"] <= high
    assert record.claim in ("better", "no difference shown", "worse")
    assert (record.claim == "better") == (low > 0)


@pytest.mark.slow
def test_the_model_that_was_given_is_left_as_it_was(model, fields):
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    images = [fields.read(i) for i in range(4)]
    said = model.probabilities(images)
    allkit.adapt(model, mixed(fields), strength="strong", cache=None)
    assert all((before[n] == t).all() for n, t in model.network.state_dict().items())
    assert (model.probabilities(images) == said).all()
    assert model.info.adaptations == ()


@pytest.mark.slow
def test_it_is_saved_remembers_its_fields_and_says_so_when_judged_on_them(
    adapted, fields, tmp_path
):
    adapted.save(tmp_path / "model")
    loaded = allkit.Classifier.load(tmp_path / "model")
    assert loaded.info.adaptations == adapted.info.adaptations
    images = [fields.read(i) for i in range(8)]
    assert (loaded.probabilities(images) == adapted.probabilities(images)).all()
    notes = loaded.evaluate(fields, probes=False).notes
    assert any("64 of these 64 images were trained on" in note for note in notes)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "## Adapted to a laboratory" in card
    assert "| balanced accuracy |" in card


@pytest.mark.slow
def test_the_same_fields_give_the_same_model(model, fields, adapted):
    again = allkit.adapt(model, mixed(fields), cache=None)
    state = adapted.network.state_dict()
    assert all((state[n] == t).all() for n, t in again.network.state_dict().items())


def test_groups_that_coincide_with_classes_are_noticed_and_nothing_is_claimed(model, fields):
    record = allkit.adapt(model, regrouped(fields, lambda s: s.label), cache=None).info.adaptations[
        -1
    ]
    assert record.claim == "not judged"
    assert record.before == {}
    assert record.strength == "medium"
    assert "Every group holds one class" in record.message
    assert "teach the slide, not the class" in record.message


@pytest.mark.slow
def test_few_groups_of_one_class_each_show_a_table_and_claim_nothing(model, fields):
    seen = {}
    two = regrouped(
        fields,
        lambda s: f"{s.label} {seen.setdefault(s.label, []).append(s) or len(seen[s.label]) % 2}",
    )
    record = allkit.adapt(model, two, cache=None).info.adaptations[-1]
    assert record.claim == "cannot be told"
    assert record.judged == len(fields)
    assert "fewer than 3 groups" in record.message
    assert "teach the slide, not the class" in record.message


@pytest.mark.slow
def test_colour_that_tells_the_classes_is_a_confound_however_many_the_groups(model, tmp_path):
    coloured = allkit.Dataset.open(
        write_smears(tmp_path / "c", 48, groups=24, seed=5, colour_cue=True)
    )
    record = allkit.adapt(model, coloured, cache=None).info.adaptations[-1]
    assert record.claim == "cannot be told"
    assert "separates the classes" in record.message


@pytest.mark.slow
def test_fields_without_known_groups_are_no_evidence(model, fields):
    record = allkit.adapt(model, regrouped(fields, lambda s: None), cache=None).info.adaptations[-1]
    assert record.groups == 0
    assert record.claim == "cannot be told" or any("No groups are known" in n for n in record.notes)


def test_one_class_alone_does_not_move_the_head(model, fields):
    benign = fields.subset([i for i, s in enumerate(fields) if s.label == "Benign"])
    found = allkit.adapt(model, benign, cache=None)
    assert found.info.adaptations[-1].strength == "unchanged"
    state = model.network.state_dict()
    assert all((state[n] == t).all() for n, t in found.network.state_dict().items())


def test_rows_for_testing_only_judge(model, fields):
    split = fields.split(test=0.5, seed=0)
    found = allkit.adapt(model, split.whole, strength="weak", cache=None)
    record = found.info.adaptations[-1]
    assert record.images == len(split.train)
    assert record.judged == len(split.test)
    assert "the rows `test`" in record.protocol
    assert not set(split.test.hashes) & set(found.info.data.images_sha256)


def test_a_stronger_adaptation_goes_further_and_none_goes_nowhere(model, fields):
    roots = signed_sqrt(model.features(fields)).astype(np.float64)
    labels = np.array([model.classes.index(s.label) for s in fields])
    anchors = anchors_of(model.trust)
    inputs = head_inputs(model.network, roots)
    before = head_logits(model.network, inputs)
    far, loss = [], []
    for name in STRENGTHS:
        moved = fit_change(model.network, roots, labels, strength=name, anchors=anchors)
        logits = before + moved.logits(inputs)
        far.append(sum(float((w**2).sum()) for w in moved.weights))
        high = logits.max(axis=1)
        total = high + np.log(np.exp(logits - high[:, None]).sum(axis=1))
        loss.append((total - logits[np.arange(len(labels)), labels]).mean())
    assert far[0] == 0
    assert far == sorted(far)
    assert loss == sorted(loss, reverse=True)


@pytest.mark.slow
def test_a_labelled_slide_is_known_afterwards_as_its_class(model, fields):
    found = allkit.adapt(
        model, regrouped(fields, lambda s: s.label), strength="unchanged", cache=None
    )
    outputs = model.outputs([fields.read(i) for i in range(len(fields))])
    labels = np.array([model.classes.index(s.label) for s in fields])
    rows = np.arange(len(labels))
    roots = signed_sqrt(outputs.features)
    before, after = (m.trust.content.distances(roots, 4)[rows, labels] for m in (model, found))
    assert (after < before).all()
    assert len(found.trust.content.references) == len(model.trust.content.references) + len(fields)


def inverted(image):
    """A picture like no smear that the model knows."""
    return np.ascontiguousarray(255 - image[::-1])


@pytest.mark.slow
def test_shown_without_labels_nothing_refused_becomes_accepted(model, fields, tmp_path):
    from PIL import Image

    folder = tmp_path / "shown" / "slide"
    folder.mkdir(parents=True)
    images = [inverted(fields.read(i)) for i in range(24)]
    for number, image in enumerate(images[:16]):
        Image.fromarray(image).save(folder / f"{number}.png")
    shown = allkit.Dataset.unlabelled(tmp_path / "shown")
    assert not shown.labelled
    assert {s.group for s in shown} == {"slide"}
    found = allkit.adapt(model, shown, cache=None)
    before, after = model.predict(images), found.predict(images)
    refused = [i for i, a in enumerate(before) if a.verdict == "refused"]
    assert len(refused) > 12
    assert all(after[i].verdict != "accepted" for i in refused)
    # Known as smears now, by the word of whoever showed them: for a person to look at.
    turned = [after[i] for i in refused if after[i].verdict == "review"]
    assert turned
    assert all({UNFAMILIAR_SLIDE, SEEN_WITHOUT_LABELS} <= set(a.reason_codes) for a in turned)
    record = found.info.adaptations[-1]
    assert (record.claim, record.counts, record.labelled) == ("not judged", {}, False)
    found.save(tmp_path / "model")
    loaded = allkit.Classifier.load(tmp_path / "model")
    assert [a.verdict for a in loaded.predict(images)] == [a.verdict for a in after]
    assert loaded.info.data == model.info.data


@pytest.mark.slow
def test_an_adapted_model_exports_and_the_file_answers_alike(model, fields, tmp_path):
    shown = allkit.Dataset([replace(s, label=None) for s in fields], ())
    found = allkit.adapt(allkit.adapt(model, mixed(fields), cache=None), shown, cache=None)
    assert len(found.info.adaptations) == 2
    images = [fields.read(i) for i in range(12)]
    assert found.export(tmp_path / "m.onnx", check=images).difference < 1e-4
    from allkit.plugins import registry

    file = registry().get("exporter", "onnx").open(tmp_path / "m.onnx")
    theirs = list(file.stream(fields.samples[i].source.read() for i in range(12)))
    assert [a.verdict for a in theirs] == [a.verdict for a in found.predict(images)]


def separate(gap):
    """Four classes in six directions, their middles `gap` apart, as OOD detection keeps them."""
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(4), 60)
    references = rng.normal(0, 1, (240, 6)) + gap * np.eye(4, 6)[owners]
    projection = rng.normal(0, 1, (10, 6)).astype(np.float32)
    return Space(
        np.ones(10, np.float32), projection, references.astype(np.float32), owners, 0, 1, 9
    )


@pytest.mark.parametrize("own", [[0, 1, 2, 3], [2], [0, 3]])
def test_a_stain_is_followed_whatever_the_classes_of_the_images(own):
    space = separate(8.0)
    true = np.random.default_rng(1).normal(0, 1, 6)
    rows = np.isin(space.owners, own)
    roots = space.mean + (space.references[rows] + true) @ np.linalg.pinv(space.projection)
    assert np.abs(stain_shift(roots, space, 4) @ space.projection - true).max() < 0.3


def test_where_a_stain_could_be_a_class_the_head_does_not_follow_it():
    space = separate(0.5)
    assert stain_shift(np.ones((20, 10)), space, 4) is None
    assert stain_shift(np.ones((4, 10)), separate(8.0), 4) is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"strength": "huge"}, "one of: unchanged, weak, medium, strong"),
        ({"column": "hospital"}, "has no column 'hospital'"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(model, fields, arguments, told):
    with pytest.raises((ConfigError, DatasetError), match=told):
        allkit.adapt(model, fields, cache=None, **arguments)


def test_labels_that_the_model_does_not_know_and_too_few_images_are_refused(model, fields):
    strange = allkit.Dataset([replace(s, label=f"x{s.label}") for s in fields])
    with pytest.raises(DatasetError, match="does not know"):
        allkit.adapt(model, strange, cache=None)
    few = allkit.Dataset([replace(s, label=None) for s in fields.subset([0, 1])], ())
    with pytest.raises(DatasetError, match="at least 5 are needed"):
        allkit.adapt(model, few, cache=None)


@pytest.mark.slow
def test_the_command_writes_a_model_and_a_record_and_refuses_its_own_input(
    cli, tiny_folder, laboratory, tmp_path
):
    status, out, err = cli("adapt", tiny_folder, laboratory, "--out", "m", "--json", "a.json")
    assert status == 0, err
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["claim"].upper() in out
    assert "before   after" in out
    assert allkit.Classifier.load(tmp_path / "m").info.adaptations[-1].claim == record["claim"]
    status, _, err = cli("adapt", tiny_folder, laboratory, "--out", "m")
    assert status == 2
    assert "exists already" in err
    status, _, err = cli("adapt", "m", laboratory, "--out", "m", "--overwrite")
    assert status == 2
    assert "is the model that is adapted" in err
    status, _, err = cli("reproduce", "m", laboratory)
    assert status == 2
    assert "was adapted after its training" in err


@pytest.mark.slow
def test_the_command_takes_a_folder_or_a_table_without_labels(
    cli, tiny_folder, laboratory, tmp_path
):
    import csv

    with laboratory.open() as stream:
        rows = list(csv.DictReader(stream))
    path = laboratory.parent / "unlabelled.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["image", "group"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    for number, data in enumerate((path, laboratory.parent)):
        status, out, err = cli("adapt", tiny_folder, data, "--unlabelled", "--out", f"m{number}")
        assert status == 0, err
        assert "64 fields without labels" in out
    status, _, err = cli("adapt", tiny_folder, path, "--out", "x")
    assert status == 2
    assert "no column 'label'" in err
    status, _, err = cli("adapt", tiny_folder, tmp_path / "nowhere", "--unlabelled", "--out", "x")
    assert status == 2
    assert "does not exist" in err


@pytest.mark.slow
def test_a_field_without_cells_teaches_a_model_of_cells_nothing_and_is_named(
    fields, tiny_settings, tmp_path
):
    import io

    from PIL import Image

    from allkit.data.sources import BytesSource

    cells = allkit.Trainer(**tiny_settings | {"bag": "cells"}).fit(fields)
    blank = io.BytesIO()
    Image.fromarray(np.full((224, 224, 3), 250, np.uint8)).save(blank, "PNG")
    empty = replace(fields.samples[0], image="blank.png", source=BytesSource(blank.getvalue()))
    few = allkit.Dataset([*fields.samples[:32], empty], fields.classes, name="ours")
    with pytest.warns(UserWarning, match=r"ours: 1 of 33 images teach nothing.*blank\.png"):
        found = allkit.adapt(cells, few, strength="weak", cache=None)
    record = found.info.adaptations[-1]
    assert record.images == 32
    assert any("1 of 33 images teach nothing" in note for note in record.notes)
    found.save(tmp_path / "model")
    assert "blank.png" not in (tmp_path / "model" / "model.json").read_text()


def test_what_only_the_stain_speaks_for_is_for_review(model, fields):
    """Whatever a shift of the logits does, nothing becomes accepted by it."""
    from allkit.data.measures import STATISTICS
    from allkit.trust.reasons import BY_STAIN_ONLY, NOT_CALIBRATED_FOR_SLIDES
    from allkit.trust.verdict import Trust

    outputs, statistics = (
        model.outputs([fields.read(i) for i in range(64)]),
        np.stack(fields.passes.measure([STATISTICS])[0]),
    )
    spaces = {
        n: replace(getattr(model.trust, n), foreign=np.inf) for n in ("appearance", "content")
    }
    limits = {"familiar": 1e9, "confidence": 0.0, "thresholds": np.full(4, 0.5), "cell_floor": 0.0}
    loose = replace(model.trust, **spaces, **limits, temperature=0.2, density_slope=0.0)
    before = loose.judge(outputs, statistics)[1]
    assert any(d.verdict == "accepted" for d in before)
    shift = np.array([4, 0, 0, -1], np.float32)
    moved = outputs._replace(logits=outputs.logits + shift)
    free = loose.judge(moved, statistics)[1]
    held = replace(loose, offset=-shift)
    kept = Trust.from_arrays(held.classes, held.to_arrays())
    after = kept.judge(moved, statistics)[1]
    labels = outputs.logits.argmax(axis=1) == moved.logits.argmax(axis=1)
    gained = 0
    for old, loud, new, same in zip(before, free, after, labels, strict=True):
        if new.verdict == "accepted":
            assert old.verdict == "accepted"
            assert same
        elif loud.verdict == "accepted":
            # The slides of its training were unknown, which is said of every answer.
            assert (new.verdict, new.codes) == (
                "review",
                (NOT_CALIBRATED_FOR_SLIDES, BY_STAIN_ONLY),
            )
            assert new.reasons[1] == "rests only on an adaptation without labels"
            gained += 1
    assert gained
