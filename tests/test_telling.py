"""What is told while work runs: the time it takes, and how far it is."""

import itertools
import logging
import sys

import pytest

import allkit
from allkit.cli import progress as cli_progress
from allkit.features import FeatureCache
from allkit.shown.telling import Telling, _in_words
from allkit.training.workload import Workload


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def told():
    """A `Telling` whose clock stands still until a test moves it, and the lines it wrote."""
    lines, clock = [], Clock()
    telling = Telling(lambda line: lines.append((clock.now, line)), clock=clock)
    return telling, clock, lines


def run(telling, clock, what, total, *, seconds, size=16, start=0.0):
    """Do `total` pieces in batches that take `seconds` each; the first takes `start` longer."""
    telling(what, 0, total)
    clock.now += start
    for done in range(size, total + size, size):
        clock.now += seconds
        telling(what, min(done, total), total)


def test_a_line_at_the_start_says_how_long_it_takes_and_then_one_comes_every_30_seconds(told):
    telling, clock, lines = told
    run(telling, clock, "features of 1,907 images × 2", 3814, seconds=1.0)
    first, *others = lines
    assert first == (2.0, "Features of 1,907 images × 2 (3,814): about 4 minutes on this machine.")
    assert others[0] == (32.0, "Features of 1,907 images × 2: 512 of 3,814, about 3 minutes left.")
    assert [when for when, _ in others] == [32.0 + 30 * n for n in range(len(others))]
    assert len(others) == 7


def test_a_name_that_says_how_many_there_are_is_not_followed_by_the_number(told):
    telling, clock, lines = told
    run(telling, clock, "features of 1,907 images", 1907, seconds=1.0)
    assert lines[0] == (2.0, "Features of 1,907 images: about 2 minutes on this machine.")


def test_work_of_less_than_5_seconds_is_not_told(told):
    telling, clock, lines = told
    run(telling, clock, "head", 100, seconds=0.6)
    run(telling, clock, "answers", 16, seconds=0.1)
    telling.note("Features are computed by PyTorch.")
    assert clock.now > 4
    assert lines == []


def test_a_first_batch_that_takes_long_does_not_make_the_whole_look_long(told):
    telling, clock, lines = told
    run(telling, clock, "features", 960, seconds=1.0, start=8.0)
    assert lines[0] == (10.0, "Features (960): about 1 minute on this machine.")


def test_what_the_cache_holds_takes_no_time(told):
    telling, clock, lines = told
    telling("features", 900, 1000)
    for done in range(904, 1001, 4):
        clock.now += 2
        telling("features", done, 1000)
    assert lines[0] == (4.0, "Features (1,000): about 50 seconds on this machine.")


def test_pieces_that_come_in_bursts_are_measured_together(told):
    telling, clock, lines = told
    for number in range(1600):
        if number % 16 == 0:
            clock.now += 1.6  # sixteen answers at once, as they are computed
        telling("answers", number + 1, 1600)
    assert lines[0][1] == "Answers (1,600): about 3 minutes on this machine."
    assert lines[1][1] == "Answers: 337 of 1,600, about 2 minutes left."


def test_work_within_other_work_is_told_behind_it_once_its_time_is_known(told):
    telling, clock, lines = told
    for trial in range(4):
        telling("trials", trial, 4)
        run(telling, clock, "features", 640, seconds=1.0)
    telling("trials", 4, 4)
    texts = [line for _, line in lines]
    assert texts[:3] == [
        "Features (640): about 40 seconds on this machine.",
        "Features: 512 of 640, about 10 seconds left.",
        "Trials (4): about 3 minutes on this machine.",
    ]
    assert texts[3:] == [
        "Trials: 1 of 4, about 2 minutes left; features: 480 of 640, about 10 seconds left.",
        "Trials: 2 of 4, about 1 minute left; features: 320 of 640, about 20 seconds left.",
        "Trials: 3 of 4, about 40 seconds left; features: 160 of 640, about 30 seconds left.",
    ]
    times = [when for when, _ in lines]
    assert min(b - a for a, b in itertools.pairwise(times[2:])) >= 30


def test_what_was_chosen_is_told_once_and_only_with_work_that_takes_its_time(told):
    telling, clock, lines = told
    telling.note("Features are computed by OpenVINO.")
    telling.note("Features are computed by OpenVINO.")
    run(telling, clock, "features", 640, seconds=1.0)
    telling.note("Features are computed by OpenVINO.")
    assert [line for _, line in lines[:2]] == [
        "Features (640): about 40 seconds on this machine.",
        "Features are computed by OpenVINO.",
    ]
    assert sum("OpenVINO" in line for _, line in lines) == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "5 seconds"), (41, "40 seconds"), (58, "1 minute"), (719, "12 minutes"),
     (5400, "1.5 hours"), (7205, "2 hours")],
)  # fmt: skip
def test_a_time_is_said_as_a_person_would(seconds, words):
    assert _in_words(seconds) == words


def test_the_passes_of_a_training_are_one_piece_of_work_without_what_the_cache_holds():
    told = []
    work = Workload("features of 100 images × 2", lambda *told_now: told.append(told_now))
    first = work.of_pass(ahead=60)
    for done in (40, 70, 100):
        first("features", done, 100)
    second = work.of_pass(ahead=0)
    for done in (30, 90):
        second("augmented copy 1", done, 90)
    assert told == [
        ("features of 100 images × 2", 0, 120),
        ("features of 100 images × 2", 30, 120),
        ("features of 100 images × 2", 60, 120),
        ("features of 100 images × 2", 60, 120),
        ("features of 100 images × 2", 120, 120),
    ]


def test_a_training_tells_its_passes_as_one_and_leaves_out_what_the_cache_holds(
    few, tiny_settings, tmp_path
):
    def told_by(**more):
        told = []
        settings = tiny_settings | {"cache": FeatureCache(tmp_path), "refit": True} | more
        trainer = allkit.Trainer(**settings, progress=lambda *now: told.append(now))
        trainer.fit(allkit.Dataset.open(few))
        return [now for now in told if now[0].startswith("features")]

    told = told_by(copies=1)
    assert {what for what, _, _ in told} == {"features of 24 images × 2"}
    assert {total for _, _, total in told} == {48}
    counts = [done for _, done, _ in told]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 48)

    more = told_by(copies=3)
    assert {what for what, _, _ in more} == {"features of 24 images × 4"}
    assert more[-1][1:] == (48, 48)
    assert {total for _, _, total in more} == {48}
    assert told_by(copies=3) == []


def test_without_a_terminal_lines_go_to_standard_error_with_what_allkit_logs(capsys, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(Telling, "__init__", _with(clock))
    log = logging.getLogger("allkit")
    before = log.level, list(log.handlers)
    with cli_progress.bars() as progress:
        logging.getLogger("allkit.features.engines").info("Features are computed by %s.", "A")
        run(progress, clock, "features", 640, seconds=1.0)
    assert (log.level, list(log.handlers)) == before
    logging.getLogger("allkit.features.engines").info("this is told to nobody")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "Features (640): about 40 seconds on this machine.",
        "Features are computed by A.",
        "Features: 512 of 640, about 10 seconds left.",
    ]


def test_logging_that_a_library_sets_up_for_the_program_does_not_write_the_lines_again(
    monkeypatch,
):
    root, written = logging.getLogger(), []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: written.append(record.getMessage()))
    root.addHandler(handler)
    try:
        with cli_progress.bars():
            logging.getLogger("allkit.features.engines").info("Features are computed by A.")
            logging.getLogger("other").warning("by another library")
    finally:
        root.removeHandler(handler)
    assert written == ["by another library"]
    assert logging.getLogger("allkit").propagate


def test_on_a_terminal_the_first_line_stands_above_the_bars(capsys, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(Telling, "__init__", _with(clock))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with cli_progress.bars() as progress:
        run(progress, clock, "features", 640, seconds=1.0)
    err = capsys.readouterr().err
    assert "Features (640): about 40 seconds on this machine." in err
    assert "640/640" in err
    assert "of 640" not in err


def test_of_several_processes_the_first_one_tells(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    clock = Clock()
    monkeypatch.setattr(Telling, "__init__", _with(clock))
    with cli_progress.bars() as progress:
        run(progress, clock, "features", 640, seconds=1.0)
    assert capsys.readouterr().err == ""


def _with(clock):
    """Return a constructor of `Telling` that takes its time from `clock`."""
    made = Telling.__init__

    def construct(self, write, **options):
        made(self, write, clock=clock, **options)

    return construct
