"""An exported file proves itself: when it is written, and again wherever it is used."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import allkit
from allkit.builtin.program import ProgramPredictor
from allkit.errors import ExportError
from allkit.evaluation.parity import ParityReport
from allkit.evaluation.parity_images import calibration_and_compared
from allkit.runtime.onnx import OnnxPredictor
from allkit.runtime.seal import SEAL_BLANK, seal

COLOURS = {
    "Benign": (230, 90, 60),
    "Early": (60, 200, 90),
    "Pre": (70, 80, 220),
    "Pro": (250, 240, 70),
}


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """The path of a table of 80 images whose colour gives their class away."""
    folder = tmp_path_factory.mktemp("coloured")
    rng = np.random.default_rng(3)
    rows = ["image,label,group"]
    for number in range(80):
        label = list(COLOURS)[number % 4]
        noise = rng.normal(0, 12, (64, 64, 3))
        image = np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"field-{number:02d}.png")
        rows.append(f"field-{number:02d}.png,{label},g{number // 5}")
    (folder / "index.csv").write_text("\n".join(rows))
    return folder / "index.csv"


@pytest.fixture(scope="module")
def sure(coloured, tiny_settings):
    """A classifier that is sure of its answers on them."""
    data = allkit.Dataset.open(coloured)
    return allkit.Trainer(**{**tiny_settings, "epochs": 60, "val": 0.0}).fit(data)


@pytest.fixture(scope="module")
def sure_folder(sure, tmp_path_factory):
    return sure.save(tmp_path_factory.mktemp("sure") / "model")


@pytest.fixture(scope="module")
def int8(sure, coloured, tmp_path_factory):
    """An int8 file of it and its proof."""
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    return path, sure.export(path, precision="int8", calibration=allkit.Dataset.open(coloured))


@pytest.fixture(scope="module")
def exported(sure, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    sure.export(path)
    return path


@pytest.fixture(scope="module")
def program(sure, tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    sure.export(path, format="pt2")
    return path


def test_int8_answers_like_the_model_and_is_a_quarter_of_the_size(sure, int8, exported):
    path, proof = int8
    assert (proof.precision, proof.calibrated_on, proof.images) == ("int8", 60, 20)
    assert not proof.drawn
    assert proof.same_class == 20
    assert len(proof.per_class) == 4  # of every class
    assert path.stat().st_size < 0.4 * exported.stat().st_size
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    image = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    assert OnnxPredictor(path).probabilities([image, image[:50]]).shape == (2, 4)


def test_a_set_too_small_to_calibrate_is_told_with_numbers_and_leaves_nothing(sure, tmp_path):
    few = [np.full((64, 64, 3), k, np.uint8) for k in range(40)]
    with pytest.raises(ExportError, match=r"30 images to calibrate.*40 less a fourth.*32.*43"):
        sure.export(tmp_path / "m.onnx", precision="int8", calibration=few)
    with pytest.raises(ExportError, match="20 images to calibrate"):
        sure.export(
            tmp_path / "m.onnx", precision="int8", calibration=few[:20], check=few[30:]
        )  # fmt: skip
    with pytest.raises(ExportError, match="--calibrate"):
        sure.export(tmp_path / "m.onnx", precision="int8")
    with pytest.raises(ExportError, match="'float16' is not known"):
        sure.export(tmp_path / "m.onnx", precision="float16")
    assert list(tmp_path.iterdir()) == []


def test_no_image_calibrates_and_is_compared(coloured):
    data = allkit.Dataset.open(coloured)
    for calibration, check in [
        (data, None),
        (data, data),
        (data, data.subset(range(0, 80, 3))),
        (data.subset(range(40)), data.subset(range(40, 80))),
    ]:
        chosen, compared = calibration_and_compared(calibration, check)
        assert len(chosen) >= 30
        assert len(compared) >= 4
        assert {s.digest for s in chosen}.isdisjoint(s.digest for s in compared)
    assert len(calibration_and_compared(None, data)[1]) == 80


@pytest.mark.slow
def test_the_proof_is_in_the_file_and_names_no_image_and_no_place(
    sure, exported, coloured, tmp_path
):
    proof = OnnxPredictor(exported).info["proof"]
    assert ParityReport.from_dict(proof).images == 8
    assert len(proof["probes"]["probabilities"]) == 8
    path = tmp_path / "m.onnx"
    given = sure.export(path, check=allkit.Dataset.open(coloured))
    assert ParityReport.from_dict(OnnxPredictor(path).info["proof"]) == given
    assert sum(row[0] for row in given.per_class.values()) == given.images == 80
    for data in (path.read_bytes(),):
        assert b"field-" not in data
        assert b"site-packages" not in data
        assert str(coloured.parent).encode() not in data


def test_verify_repeats_the_proof(cli, exported, program, int8):
    for path in (exported, program, int8[0]):
        status, out, err = cli("verify", path, "--json", "v.json")
        assert (status, err) == (0, "Saved v.json.\n")
        assert out.endswith("Agrees.\n")
        with open("v.json") as file:
            values = json.load(file)
        assert values["agrees"]
        assert values["probes"]["same_class"] == 8


def test_verify_compares_with_the_model_more_fully(cli, int8, sure_folder, coloured):
    status, out, _ = cli("verify", int8[0], sure_folder, coloured, "--json", "v.json")
    assert status == 0, out
    with open("v.json") as file:
        full = json.load(file)["full"]
    assert full["images"] == 80
    assert [row[0] for row in full["per_class"].values()] == [20] * 4


def test_verify_tells_a_file_of_another_model(cli, exported, tiny_folder, coloured):
    status, out, _ = cli("verify", exported, tiny_folder, coloured)
    assert status == 1
    assert "DOES NOT AGREE" in out
    assert "was not exported from" in out
    assert "get another class" in out


def test_verify_tells_a_machine_that_answers_otherwise(cli, exported, tmp_path):
    """As an engine that overflows would: the file is whole, its answers are not those it had."""
    model = onnx.load(exported)
    (entry,) = [e for e in model.metadata_props if e.key == "allkit"]
    info = json.loads(entry.value) | {"sha256": SEAL_BLANK}
    info["proof"]["probes"]["probabilities"] = np.roll(
        info["proof"]["probes"]["probabilities"], 1, axis=1
    ).tolist()
    entry.value = json.dumps(info)
    (tmp_path / "m.onnx").write_bytes(seal(model.SerializeToString()))
    status, out, _ = cli("verify", "m.onnx")
    assert status == 1
    assert "probes get another class" in out


def test_verify_refuses_altered_files_and_those_without_a_proof(cli, exported, program, tmp_path):
    for path in (exported, program):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / path.name).write_bytes(data)
        status, _, err = cli("verify", path.name)
        assert (status, "was altered or damaged" in err) == (2, True)
    model = onnx.load(exported)
    (entry,) = [e for e in model.metadata_props if e.key == "allkit"]
    info = json.loads(entry.value) | {"sha256": SEAL_BLANK}
    del info["proof"]
    entry.value = json.dumps(info)
    (tmp_path / "old.onnx").write_bytes(seal(model.SerializeToString()))
    status, _, err = cli("verify", "old.onnx")
    assert (status, "has no parity report" in err) == (2, True)
    assert cli("verify", "old.onnx", "model")[0] == 2
    assert cli("verify", "nothing.onnx")[0] == 2


def test_images_that_were_trained_on_are_said_beside_the_accuracy(tiny, drawn, tmp_path):
    data = allkit.Dataset.open(drawn)
    trained = set(tiny.info.data.images_sha256)
    count = sum(digest in trained for digest in data.hashes)
    assert 0 < count < len(data)
    report = tiny.export(tmp_path / "m.onnx", check=data)
    caution = f"{count} of these {len(data)} images were trained on: the accuracy is too high"
    assert caution in " ".join(report.lines())
    new = data.subset([i for i, digest in enumerate(data.hashes) if digest not in trained])
    lines = " ".join(tiny.export(tmp_path / "m.onnx", check=new, overwrite=True).lines())
    assert "Accuracy: model" in lines
    assert "trained on" not in lines


def test_what_int8_may_lose_is_bounded():
    good = ParityReport("int8", False, 1000, 995, 950, 0.4, per_class={"a": (1000, 980, 977)})
    assert good.shortfalls() == []
    for worse, said in [
        ({"same_class": 994}, "6 of 1000 images get another class"),
        ({"same_verdict": 949}, "51 of 1000 images get another verdict"),
        ({"per_class": {"a": (1000, 980, 976)}}, "976 of 1000 images rightly, the model 980"),
    ]:
        assert said in "".join(replace(good, **worse).shortfalls())
    exact = ParityReport("float32", False, 1000, 1000, 1000, 1e-6)
    assert exact.shortfalls() == []
    for worse in ({"same_class": 999}, {"same_verdict": 999}, {"difference": float("nan")}):
        assert replace(exact, **worse).shortfalls()
    assert ParityReport("float32", False, 0, 0, 0, 0.0).shortfalls()


def test_a_program_is_torch_s_own_and_answers_like_the_model(sure, program, coloured):
    found = ProgramPredictor(program)
    images = [allkit.Dataset.open(coloured).read(k)[: 200 - k] for k in range(3)]
    np.testing.assert_allclose(found.probabilities(images), sure.probabilities(images), atol=1e-6)
    stock = torch.export.load(program).module()
    (row,) = stock(torch.from_numpy(images[0][None]))[0]
    np.testing.assert_allclose(row, sure.probabilities(images[:1])[0], atol=1e-6)
    assert b"site-packages" not in program.read_bytes()


def test_a_program_that_holds_pickled_objects_is_refused(program, tmp_path):
    target = tmp_path / "m.pt2"
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(target, "w") as copy:
        for entry in source.infolist():
            copy.writestr(entry, source.read(entry))
        copy.writestr("archive/data/constants/custom_obj_0", b"x")
        info = json.loads(source.comment) | {"sha256": SEAL_BLANK}
        copy.comment = json.dumps(info).encode()
    target.write_bytes(seal(target.read_bytes()))
    with pytest.raises(ExportError, match=r"custom_obj_0.*allkit does not write"):
        ProgramPredictor(target)


def test_a_program_of_a_newer_allkit_is_refused(program, tmp_path):
    data = program.read_bytes()
    start = data.rindex(b'{"format": 1,')
    info = json.loads(data[start:])
    text = json.dumps(info | {"format": 9, "sha256": SEAL_BLANK}).encode()
    assert len(text) <= len(data) - start
    data = data[:start] + text.ljust(len(data) - start)
    (tmp_path / "m.pt2").write_bytes(seal(data))
    with pytest.raises(ExportError, match=r"format 9; this allkit reads up to 3\. Update"):
        ProgramPredictor(tmp_path / "m.pt2")


class Odd(torch.nn.Module):
    """A network with an operator that ONNX does not have."""

    def forward(self, inputs):
        return torch.linalg.svdvals(inputs.mean(dim=1))[:, :8]


@pytest.mark.slow
def test_an_operator_that_a_format_lacks_is_named_with_the_way_out(tiny, tmp_path, monkeypatch):
    from allkit.network.pipeline import Pipeline

    class Odder(Pipeline):
        def forward(self, pixels):
            found = super().forward(pixels)
            odd = Odd()(pixels.permute(0, 3, 1, 2)[..., :32, :32].float())
            return found[0] + odd.sum() * 0, found[1], found[2]

    made = tiny.pipeline()
    made.__class__ = Odder
    monkeypatch.setattr(type(tiny), "pipeline", lambda self: made)
    with pytest.raises(ExportError, match=r"operator aten\._?linalg_svd.*--format pt2"):
        tiny.export(tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
    assert tiny.export(tmp_path / "m.pt2", format="pt2").images == 8


@pytest.mark.slow
def test_the_command_line_says_what_it_found(cli, sure_folder, coloured):
    status, _, err = cli(
        "export", sure_folder, "--int8", "--calibrate", coloured, "--out", "m.onnx"
    )  # fmt: skip
    assert status == 0, err
    assert "Calibrated on 60 images, none of which is among these" in err
    assert "the same class on" in err
    assert "Accuracy: model" in err
    assert cli("export", sure_folder, "--int8", "--out", "n.onnx")[0] == 2
    assert cli("export", sure_folder, "--calibrate", coloured, "--out", "n.onnx")[0] == 2
    status, _, err = cli(
        "export", sure_folder, "--format", "pt2", "--int8", "--calibrate", coloured, "--out", "n.pt2"
    )  # fmt: skip
    assert (status, "For int8 take the format onnx" in err) == (2, True)
