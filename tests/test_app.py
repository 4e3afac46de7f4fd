"""The clinicians' app, from its entry point, without a browser."""

import csv
import io
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from allkit.cli import app as starter
from allkit.cli.app import run_app
from allkit.errors import ConfigError

pytest.importorskip("streamlit", reason="the app extra is not installed")
import streamlit as st
from streamlit.testing.v1 import AppTest

SCRIPT = Path(__file__).resolve().parents[1] / "streamlit_app" / "app.py"
NOTICE = "Uncalibrated. Research use only, not a diagnosis."


@pytest.fixture
def started(monkeypatch):
    """Start the app on the models of these places: `started(folder, …)`."""

    def start(*places):
        st.cache_resource.clear()
        if places:
            monkeypatch.setenv("ALLKIT_MODELS", os.pathsep.join(map(str, places)))
        page = AppTest.from_file(str(SCRIPT), default_timeout=60).run()
        assert not page.exception
        return page

    yield start
    st.cache_resource.clear()
    for name in ("answers", "cards", "model_folders"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def png():
    from allkit.data.drawn import draw_smears

    return encoded(Image.fromarray(next(iter(draw_smears(4, groups=4, seed=9))).image))


def encoded(image, kind="PNG"):
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def upload(page, *files):
    for name, content in files:
        page.file_uploader[0].upload(name, content)
    page.run()
    assert not page.exception
    return page


def words(page):
    """Everything that is to be read on the page, without Markdown's escapes."""
    kinds = ("title", "subheader", "markdown", "caption", "text", "error", "warning", "info")
    parts = [str(e.value) for kind in kinds for e in getattr(page, kind)]
    parts += [e.value for e in page.html] + [e.label for e in page.button]
    return re.sub(r"\\(.)", r"\1", "\n".join(parts))


def errors(page):
    return [re.sub(r"\\(.)", r"\1", e.value) for e in page.error]


@pytest.fixture
def downloads(monkeypatch):
    """The rows of the CSV that the page offers, newest last."""
    offered = []
    real = st.download_button

    def record(label, data, *rest, **options):
        offered.append(list(csv.DictReader(io.StringIO(data.decode("utf-8-sig")))))
        return real(label, data, *rest, **options)

    monkeypatch.setattr(st, "download_button", record)
    return offered


# ── models ─────────────────────────────────────────────────────────────────────────────────────


def test_without_a_model_it_says_how_to_get_one(started, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = started()
    text = words(page)
    assert "No model found" in text
    assert str(tmp_path) in text
    assert "allkit demo" in text
    assert "allkit train" in text
    assert NOTICE in text
    assert not page.file_uploader


def test_look_again_finds_a_model_made_meanwhile(started, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = started()
    shutil.copytree(tiny_folder, tmp_path / "allkit-demo" / "model")
    page.button(key="again").click().run()
    assert page.file_uploader
    assert page.selectbox(key="model").options == [str(Path("allkit-demo/model"))]


def test_the_model_is_described(started, tiny_folder):
    text = words(started(tiny_folder))
    assert "timm:test_resnet" in text
    for name in ("Benign (hematogones)", "Early pre-B", "Pre-B", "Pro-B"):
        assert name in text
    assert "Validation part, divided by group" in text
    assert "95 % interval" in text
    assert "This model was trained on drawn images" in text


def test_folders_of_models_and_several_places_are_offered(started, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "several" / "one")
    shutil.copytree(tiny_folder, tmp_path / "several" / "two")
    (tmp_path / "nothing").mkdir()
    page = started(tmp_path / "several", tiny_folder, tmp_path / "nothing")
    assert len(page.selectbox(key="model").options) == 3
    assert f"No model in {tmp_path / 'nothing'}" in words(page)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "SHA256SUMS"])
def test_a_damaged_model_is_answered_in_words(started, tiny_folder, tmp_path, name):
    folder = shutil.copytree(tiny_folder, tmp_path / "damaged")
    (folder / name).write_bytes(b"\xff" + (folder / name).read_bytes()[1:])
    page = started(folder)
    (said,) = errors(page)
    assert str(folder) in said
    assert "Traceback" not in words(page)
    assert not page.file_uploader
    assert NOTICE in words(page)


def test_a_model_mended_in_its_place_is_loaded_anew(started, tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "SHA256SUMS").unlink()
    page = started(folder)
    assert errors(page)
    shutil.copy(tiny_folder / "SHA256SUMS", folder)
    page.run()
    assert not errors(page)
    assert page.file_uploader


# ── answers ────────────────────────────────────────────────────────────────────────────────────


def test_one_upload_gets_its_class_probabilities_and_verdict(started, tiny_folder, tiny, png):
    page = started(tiny_folder)
    assert "Upload one or several fields" in words(page)
    upload(page, ("field.png", png))
    (answer,) = tiny.predict(png)
    text = words(page)
    # An answer that is for review is not read first as a class.
    assert [e.value for e in page.subheader] == ["Look at this field yourself"]
    likely = f"Most probable: {tiny.info.display_names[answer.label]}, probability"
    assert f"{likely} {answer.probability:.2f}" in text
    (bars,) = page.html
    for label, value in answer.probabilities.items():
        assert tiny.info.display_names[label] in bars.value
        assert f"{100 * value:.1f}%" in bars.value
    assert "For review." in text
    assert "not calibrated" in text
    assert NOTICE in text
    assert NOTICE in page.sidebar.warning[0].value
    assert "field.png" in text
    assert len(page.image) == 1


def test_a_blank_field_is_refused_without_a_class_or_a_probability(started, tiny_folder):
    page = upload(started(tiny_folder), ("white.png", encoded(Image.new("RGB", (90, 90), "white"))))
    assert [e.value for e in page.subheader] == ["No answer"]
    assert "no stained cells" in words(page)
    assert "robability" not in words(page)
    assert not page.html


def test_bad_uploads_are_named_and_the_others_answered(started, tiny_folder, png, downloads):
    jpeg = encoded(Image.open(io.BytesIO(png)).convert("RGB"), "JPEG")
    dot = encoded(Image.new("RGB", (1, 1)))
    page = upload(
        started(tiny_folder),
        ("first.png", png), ("letter.jpg", b"dear colleague"), ("cut.jpg", jpeg[: len(jpeg) // 2]),
        ("dot.png", dot), ("empty.png", b""), ("last.jpg", jpeg),
    )  # fmt: skip
    said = errors(page)
    assert len(page.subheader) == 2
    assert len(said) == 4
    for line, name, reason in zip(
        said, ["letter.jpg", "cut.jpg", "dot.png", "empty.png"], ["text", "truncated", "1 × 1", "empty"],
        strict=True,
    ):  # fmt: skip
        assert line.startswith(name)
        assert reason in line
    assert "2 of 6 answered." in words(page)
    assert "image 1" not in words(page)
    assert [row["error"] for row in downloads[-1]][1:5] == said


def test_the_csv_has_one_row_per_upload_in_order(started, tiny_folder, tiny, png, downloads):
    other = encoded(Image.open(io.BytesIO(png)).transpose(Image.Transpose.ROTATE_90))
    upload(started(tiny_folder), ("b, 1.png", png), ("x.jpg", b"no"), ("a.png", other))
    rows = downloads[-1]
    expected = tiny.predict([png, other])
    assert list(rows[0]) == list(expected[0].to_row(tiny.classes))
    assert [row["image"] for row in rows] == ["b, 1.png", "x.jpg", "a.png"]
    assert [row["verdict"] for row in rows] == ["review", "unreadable", "review"]
    said = "not calibrated;not calibrated for unseen slides"
    assert [row["reasons"] for row in rows] == [said, "unreadable", said]
    said = "not_calibrated;not_calibrated_for_slides"
    codes = [said, "unreadable", said]
    assert [row["reason_codes"] for row in rows] == codes
    for row, answer in zip((rows[0], rows[2]), expected, strict=True):
        assert row["label"] == answer.label
        for name in tiny.classes:
            assert float(row[f"p_{name}"]) == pytest.approx(answer.probabilities[name], abs=1e-5)
    assert rows[1]["label"] == ""
    assert rows[1]["p_Benign"] == ""


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "＝"])
def test_no_cell_of_the_csv_is_a_formula(started, tiny_folder, png, downloads, start):
    name = f"{start}HYPERLINK(1).png"
    upload(started(tiny_folder), (name, png), (f"{start}bad.png", b"no"))
    good, bad = downloads[-1]
    assert good["image"].endswith("HYPERLINK(1).png")
    for row in (good, bad):
        for key in ("image", "error"):
            assert not row[key].startswith(("=", "+", "-", "@", "\t", "\r", "＝"))


def test_a_name_is_shown_as_it_is_and_never_as_markup(started, tiny_folder, png):
    name = "![x](https:a.example).png"
    page = upload(started(tiny_folder), (name, png), ("![y](https:b.example).png", b"no"))
    assert page.text[0].value == name
    assert page.error[0].value.startswith(r"\!\[y\]\(https\:b\.example\)\.png")


def test_a_changed_model_answers_again(started, tiny_folder, tmp_path, tiny, png):
    shutil.copytree(tiny_folder, tmp_path / "one")
    shutil.copytree(tiny_folder, tmp_path / "two")
    page = upload(started(tmp_path), ("field.png", png))
    page.selectbox(key="model").select_index(1).run()
    assert not page.exception
    assert len(page.subheader) == 1
    ((model, _),) = page.session_state["fields"]
    assert model[0] == str(tmp_path / "two")


def test_answers_are_not_made_twice(started, tiny_folder, png, monkeypatch):
    from allkit import Classifier

    asked = []
    real = Classifier.stream

    def count(self, images, **options):
        for answer in real(self, images, **options):
            asked.append(answer)
            yield answer

    monkeypatch.setattr(Classifier, "stream", count)
    page = upload(started(tiny_folder), ("a.png", png))
    page.run()
    upload(page, ("b.png", png))
    assert len(asked) == 2


def test_clear_drops_uploads_and_answers(started, tiny_folder, png):
    page = upload(started(tiny_folder), ("field.png", png))
    page.button(key="clear").click().run()
    assert not page.exception
    assert not page.file_uploader[0].value
    assert not page.subheader
    assert "fields" not in page.session_state
    assert "field.png" not in words(page)
    assert NOTICE in words(page)


def test_too_many_files_are_told_of_allkit_predict(started, tiny_folder, png):
    page = upload(started(tiny_folder), *[(f"{n}.png", png) for n in range(51)])
    (said,) = errors(page)
    assert said.startswith("You chose 51 files; at most 50 at a time.")
    assert "allkit predict" in said
    assert not page.subheader


def test_a_file_above_the_limit_is_told_of_allkit_predict(started, tiny_folder, png):
    page = started(tiny_folder)
    assert "20 MB" in page.file_uploader[0].label
    upload(page, ("large.png", png + bytes(20 * 2**20)), ("small.png", png))
    (said,) = errors(page)
    assert said.startswith("large.png is larger than 20 MB.")
    assert "allkit predict" in said
    assert len(page.subheader) == 1


def test_nothing_is_written(started, tiny_folder, tmp_path, monkeypatch, png):
    monkeypatch.chdir(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tiny_folder.rglob("*")}
    upload(started(tiny_folder), ("field.png", png))
    assert list(tmp_path.iterdir()) == []
    assert {p: p.stat().st_mtime_ns for p in tiny_folder.rglob("*")} == before


# ── words ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def answers(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import answers

    yield answers
    sys.modules.pop("answers", None)


def test_only_an_accepted_answer_is_headed_by_a_class_and_a_refused_one_shows_none(
    answers, monkeypatch
):
    import cards

    from allkit.records import Prediction

    sys.modules.pop("cards")

    def headed(verdict):
        answer = Prediction("a", verdict, (), "Pre", 0.9, {"Pre": 0.9, "Pro": 0.1}, ("Pre",))
        return cards.heading_of(answers.Field("a", answer, b""), {"Pre": "Pre-B"})

    assert headed("accepted") == ("Pre-B", True)
    assert headed("review") == ("Look at this field yourself", False)
    assert headed("refused") == ("No answer", False)


def test_what_a_model_would_say_of_a_slide_that_it_does_not_know_is_not_shown(answers):
    from allkit.records import Prediction

    def shown(verdict, *codes):
        answer = Prediction("a", verdict, (), "Pre", 0.9, {"Pre": 0.9}, reason_codes=codes)
        return answers.may_be_shown(answer)

    assert shown("accepted")
    assert shown("review", "ambiguous")
    assert not shown("review", "unfamiliar_slide", "unusual_sharpness")
    assert not shown("refused", "not_a_smear")


def test_no_probability_is_shown_as_certain(answers):
    shown = [answers.probability(value) for value in (1.0, 0.9951, 0.99, 0.5, 0.0049, 0.0)]
    assert shown == ["> 0.99", "> 0.99", "0.99", "0.50", "< 0.01", "< 0.01"]


def test_uncalibrated_is_taken_from_the_answers(answers):
    from allkit import Prediction

    def field(verdict, *codes):
        answer = Prediction("a", verdict, (), "Pre", 0.9, {"Pre": 0.9}, reason_codes=codes)
        return answers.Field("a", answer, b"")

    assert answers.is_uncalibrated([])
    assert answers.is_uncalibrated([field("accepted"), field("review", "not_calibrated")])
    assert not answers.is_uncalibrated([field("accepted"), field("refused", "not_a_smear")])


def test_a_reason_is_a_sentence_and_one_without_a_sentence_is_shown_as_it_is(answers):
    from allkit import Prediction
    from allkit.trust.reasons import SENTENCES, TEXTS

    said = Prediction("a", "review", ("ambiguous", "too dark"), reason_codes=("ambiguous", "other"))
    assert answers.reasons_in_words(said) == "More than one class is possible. Too dark."
    assert set(SENTENCES) <= set(TEXTS)


def test_the_group_stands_first_and_nothing_below_it_contradicts_it(answers):
    from allkit import Prediction

    def said(verdict, *codes, coarse="accepted"):
        return Prediction(
            "a",
            verdict,
            tuple(codes),
            reason_codes=codes,
            label="Pre",
            probability=0.6,
            probabilities={"Pre": 0.6, "Benign": 0.03},
            coarse="malignant",
            coarse_probability=0.97,
            coarse_verdict=coarse,
        )

    unseen = said("review", "unfamiliar_slide", "subtype_unknown")
    line = "Malignant, 97 %: accepted; which subtype cannot be said on this slide"
    assert answers.group_line(unseen) == line
    assert "cannot be accepted" not in answers.reasons_in_words(unseen)
    assert not answers.may_be_shown(unseen)
    assert answers.group_line(said("accepted")) == "Malignant, 97 %: accepted"
    assert answers.group_line(said("review", "group_uncertain", coarse="review")) == ""
    assert "cannot be accepted" in answers.reasons_in_words(
        said("review", "unfamiliar_slide", coarse="review")
    )


def test_measurements_are_shown_where_the_model_looks_at_cells(answers):
    from allkit import Prediction

    field = Prediction("a", "review", white_cells=3, red_cell=20.0, nucleus_ratio=1.44)
    line = "White cells in the field: 3. Nucleus over red cell: 1.4 (diameters)."
    assert answers.measurements(field) == line
    assert answers.measurements(Prediction("a", "review", white_cells=0)).endswith(": 0.")
    assert answers.measurements(Prediction("a", "review")) == ""


# ── starting ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_it_listens_on_this_machine_only(address):
    with pytest.raises(ConfigError, match="it has no login"):
        run_app([], 8599, address=address)


def test_a_taken_port_is_told(tiny_folder):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Port {port} on 127.0.0.1 cannot be used"):
            run_app([tiny_folder], port)


def test_a_port_out_of_range_is_told():
    with pytest.raises(ConfigError, match="The port is 70000; it must be between 1 and 65535"):
        run_app([], 70000)


def test_a_model_that_does_not_exist_is_told(tmp_path):
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        run_app([tmp_path / "nowhere"], 8599)


def test_without_streamlit_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(starter.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'allkit\[app\]'"):
        run_app([], 8599)


def test_streamlit_is_started_closed_and_silent(monkeypatch, tiny_folder):
    import socket

    seen = []
    monkeypatch.setattr(starter, "_run", lambda *given: seen.append(given) or 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert run_app([tiny_folder], port, browser=False) == 0
    ((command, environment),) = seen
    assert command[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert Path(command[4]) == SCRIPT
    for flag in (
        "--server.address=127.0.0.1", f"--server.port={port}", "--server.headless=true",
        "--browser.gatherUsageStats=false", "--client.showErrorDetails=none",
        "--client.toolbarMode=viewer", "--server.maxUploadSize=20",
        "--server.enableStaticServing=false", "--server.fileWatcherType=none",
    ):  # fmt: skip
        assert flag in command
    assert environment["ALLKIT_MODELS"] == str(tiny_folder)
