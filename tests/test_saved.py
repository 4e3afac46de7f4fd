"""What an older version wrote is opened, and answers as it did then.

`saved/0.1.0` was written by allkit 0.1.0: a model of the `scattering` backbone that was trained with the
defaults on the 48 drawn smears, the ONNX file that was exported from it, and what both said of every
sixth smear.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import allkit
from allkit.plugins import registry
from allkit.trust.reasons import NOT_CALIBRATED_FOR_SLIDES, texts_of

SAVED = Path(__file__).parent / "saved" / "0.1.0"


def opened(name):
    if name == "model":
        return allkit.Classifier.load(SAVED / name)
    return registry().get("exporter", "onnx").open(SAVED / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model", "model.onnx"])
def test_what_an_older_version_wrote_answers_as_it_did_then(name, drawn):
    then = json.loads((SAVED / "answers.json").read_text())[name]
    files = [drawn.parent / answer["image"] for answer in then]
    now = opened(name).predict(files)
    for old, new in zip(then, now, strict=True):
        assert new.label == old["label"]
        assert new.verdict == old["verdict"]
        # What 0.1.0 did not know to say: that it was never judged on slides it had not seen.
        assert new.reason_codes.count(NOT_CALIBRATED_FOR_SLIDES) == 1
        unseen = texts_of([NOT_CALIBRATED_FOR_SLIDES])
        assert [reason for reason in new.reasons if reason not in unseen] == old["reasons"]
        assert new.coarse in ("benign", "malignant")
        assert new.coarse_verdict == "review"
        row = list(new.to_row(tuple(new.probabilities)))
        assert row[-4:] == ["coarse", "coarse_probability", "coarse_verdict", "error"]
        assert list(new.prediction_set) == old["prediction_set"]
        told = np.array([new.probabilities[name] for name in old["probabilities"]])
        assert np.abs(told - list(old["probabilities"].values())).max() < 1e-3


def test_a_model_that_an_older_version_wrote_is_described():
    info = opened("model").info
    assert info.allkit == "0.1.0"
    assert sum(info.data.counts.values()) == 48
    assert info.provenance is not None
