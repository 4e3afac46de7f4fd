"""The check of a graphics card: that it works, shown on the processor, and that it can fail."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu(benchmarks):
    import gpu

    return gpu


@pytest.fixture(scope="module")
def card(gpu, tmp_path_factory):
    options = argparse.Namespace(images=24, minutes=8.0, weights=None)
    card = gpu.Card(options, torch.device("cpu"), tmp_path_factory.mktemp("card"))
    card.precisions = ["float32"]  # bfloat16 is emulated on many processors, and slow
    return card


def test_features_trainings_answers_and_exports_are_compared_and_timed(card):
    name = "timm:test_resnet"
    card.features(name)
    model = card.training(name, "head")
    card.answers(name, model)
    card.export(name, model)
    card.memory(name)
    checks = card.checks
    assert checks.passed
    assert [row["check"] for row in checks.rows] == [
        f"{name}, {what}"
        for what in (
            "features, float32", "training, head, float32, loss",
            "training, head, float32, answers", "answers, probabilities",
            "answers, classes changed", "answers, share of verdicts changed", "export to ONNX",
            "export to ONNX, parity",
        )
    ]  # fmt: skip
    assert checks.seconds[f"{name}, features, float32, images a second"] > 0
    assert list(checks.skipped) == [f"{name}, memory"]


def test_what_disagrees_fails_and_what_comes_too_late_is_not_begun(gpu, capsys):
    checks = gpu.Checks(minutes=8)
    checks.at_most("features", float("nan"), 0.1)
    checks.at_most("answers", 0.05, 0.1)
    assert not checks.passed
    assert "FAIL features" in capsys.readouterr().out
    late = gpu.Checks(minutes=0)
    with pytest.raises(gpu.OutOfTime), late.step("export"):
        pytest.fail("it was begun")
    assert not late.passed, "nothing was checked"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a graphics card here")
def test_without_a_card_it_says_so_and_checks_nothing(gpu, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "gpu.json")])
    assert gpu.main() == 2
    assert "Nothing was checked." in capsys.readouterr().out
    assert not (tmp_path / "gpu.json").exists()


@pytest.mark.nightly
def test_the_whole_script_runs_on_the_processor(tmp_path):
    out = tmp_path / "proof.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--device", "cpu", "--quick", "--out", out],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text("utf-8"))
    assert figures["passed"]
    strategies = {
        row["check"].split(", ")[2] for row in figures["checks"] if "training" in row["check"]
    }
    assert strategies == {"head", "last", "full", "lora"}
