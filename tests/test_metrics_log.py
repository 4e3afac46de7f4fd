"""The log of a training: whole lines, whatever happens, and trackers that are asked for."""

import json

import pytest

from allkit.errors import AllkitError, ConfigError
from allkit.training.log import METRICS, MetricsLog, open_log, read_metrics


def entry(epoch, **more):
    return {"member": 0, "phase": "head", "epoch": epoch, "train_loss": 1 / epoch} | more


def test_every_line_is_there_as_soon_as_it_is_taken(tmp_path):
    with open_log(tmp_path / "run", [], name="m", config={}) as log:
        log.log(entry(1))
        line = json.loads((tmp_path / "run" / METRICS).read_text())
        assert line["train_loss"] == 1
        assert line["time"] > 1.7e9
        assert line["seconds_since_start"] >= 0
        log.log(entry(2))
    assert [row["epoch"] for row in read_metrics(tmp_path / "run" / METRICS)] == [1, 2]


def test_a_training_that_is_taken_up_writes_behind_what_is_whole(tmp_path):
    path = tmp_path / METRICS
    path.write_text('{"epoch": 1}\n{"epoch": 2, "train_lo')
    MetricsLog(path).log(entry(2))
    assert [row["epoch"] for row in read_metrics(path)] == [1, 2]
    assert path.read_text().endswith("}\n")


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / METRICS).mkdir()
    log = MetricsLog(None)
    log.path = tmp_path / METRICS
    with pytest.raises(AllkitError, match=r"Cannot write .*--resume"):
        log.log(entry(1))


def test_a_tracker_that_is_not_installed_is_named_with_what_to_type(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(ConfigError, match=r"wandb, which is not installed.*pip install wandb"),
        open_log(None, ["wandb"], name="m", config={}),
    ):
        pass


def test_tensorboard_gets_the_curves(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_log(tmp_path, ["tensorboard"], name="curves", config={"a": 1, "b": ("x",)}) as log:
        for epoch in (1, 2, 3):
            log.log(entry(epoch))
    events = EventAccumulator(str(tmp_path / "curves"))
    events.Reload()
    points = events.Scalars("0/head/train_loss")
    assert [(p.step, round(p.value, 3)) for p in points] == [(1, 1.0), (2, 0.5), (3, 0.333)]
