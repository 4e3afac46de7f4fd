"""The clinic from the command line: the whole way, and what a user may get wrong."""

import io
import json
import re

import pytest

from clinic_places import picture


@pytest.fixture
def at(cli, tmp_path, monkeypatch, tiny_onnx):
    """`allkit clinic …` on an empty clinic with a model, as anna: `at("list")` → (status, out, err)."""
    monkeypatch.setenv("ALLKIT_CLINIC", str(tmp_path / "clinic"))
    monkeypatch.setattr("getpass.getuser", lambda: "anna")

    def run(*arguments):
        return cli("clinic", *arguments)

    assert run("init")[0] == 0
    assert run("model", tiny_onnx, "--name", "tiny")[0] == 0
    return run


def done(result):
    status, out, err = result
    assert status == 0, err
    return out


@pytest.fixture
def smears(drawn, tmp_path):
    """A folder of three images and a file that is none."""
    folder = tmp_path / "smears"
    folder.mkdir()
    for number, path in enumerate(sorted(drawn.parent.rglob("*.png"))[:3]):
        (folder / f"{number}.png").write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def case(at, smears):
    options = ("--patient", "P-1", "--specimen", "blood", "--order", "LAB-17")
    return done(at("add", smears, *options)).strip()


@pytest.mark.slow
def test_a_case_from_the_folder_to_the_signed_report(at, case, tmp_path):
    assert "1 jobs done" in at("work", "--once")[2]
    text = done(at("show", "LAB-17"))
    assert "Patient P-1  order LAB-17" in text
    assert "1.00" not in text  # nothing looks certain
    assert re.search(r"^1 +0.png", text, re.M)
    for number in (1, 2, 3):
        done(at("read", "LAB-17", "--field", number, "--label", "Pro", "--why", "seen"))
    done(at("read", "LAB-17", "--field", 1, "--undo"))
    done(at("read", "LAB-17", "--field", 1, "--label", "Pre", "--why", "seen"))
    done(at("read", "LAB-17", "--note", "second sample expected"))
    status, out, _ = at("sign", "LAB-17", "--result", "Pro", "--check")
    assert status == 1
    assert "limits of the model" in out
    view = json.loads(done(at("show", "LAB-17", "--json")))["case"]
    refused = sum(f["answer"]["verdict"] in ("refused", "unreadable") for f in view["fields"])
    signing = (
        "--result",
        "Pro",
        "--limits-read",
        "--refused",
        refused,
        "--comment",
        "seen",
        "--yes",
    )
    assert "report 1 (final)" in at("sign", "LAB-17", *signing)[2]
    for format in ("pdf", "csv", "xlsx", "fhir", "hl7", "sr"):
        done(at("report", "LAB-17", "--format", format, "--out", f"r.{format}"))
        assert (tmp_path / f"r.{format}").stat().st_size > 500
    again = at("report", "LAB-17", "--format", "pdf", "--out", "r.pdf")
    assert (again[0], "exists already" in again[2]) == (2, True)
    done(at("reopen", "LAB-17", "--why", "flow came"))
    assert "report 2 (corrected)" in at("sign", "LAB-17", *signing)[2]
    assert "withdrawn by version 3" in at("withdraw", "LAB-17", "--why", "wrong ward")[2]
    done(at("verify"))
    assert "is whole" in at("audit", "verify")[2]
    rows = [json.loads(text) for text in done(at("audit", "export")).splitlines()]
    assert rows[0]["what"] == "person.added"
    done(at("audit", "export", "--format", "fhir", "--out", "audit.ndjson"))
    events = [json.loads(text) for text in (tmp_path / "audit.ndjson").read_text().splitlines()]
    assert {event["resourceType"] for event in events} == {"AuditEvent"}
    assert len(events) == len(rows) + 1


@pytest.mark.slow
def test_what_was_refused_is_named_and_the_rest_is_taken(at, smears):
    (smears / "notes.txt").write_text("no image")
    (smears / "broken.png").write_bytes(picture(1)[:100])
    status, out, err = at("add", smears, "--specimen", "marrow")
    assert status == 1
    assert re.fullmatch(r"[0-9A-Z]{26}\n", out)
    assert "3 fields added" in err
    assert "Refused: notes.txt" in err
    assert "Refused: broken.png" in err
    status, _, err = at("add", smears / "0.png", "--case", out.strip())
    assert (status, "0 fields added, 1 were there before" in err) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "nowhere", "--specimen", "blood"], "does not exist"),
        (["add", "smears"], "needs --specimen blood or --specimen marrow"),
        (["add", "smears", "--case", "X", "--patient", "P"], "leave out what describes a new one"),
        (["add", "smears", "--specimen", "blood", "--order", "x" * 300], "256 are allowed"),
        (["add", "smears", "--specimen", "blood", "--collected", "31.1.26"], "no date"),
        (["show", "nothing"], "No case is found"),
        (["show", ""], "No case is found"),
        (["list", "--status", "finished"], "no state of a case"),
        (["list", "--reader", "carl"], "knows nobody"),
        (["list", "--since", "soon"], "no date"),
        (["read", "LAB-17", "--field", "1"], "Give one of --label"),
        (["read", "LAB-17", "--label", "Pro"], "Say which field"),
        (["read", "LAB-17", "--field", "9", "--label", "Pro"], "has no field 9"),
        (["read", "LAB-17", "--field", "1", "--label", "Blast"], "no class here"),
        (["sign", "LAB-17", "--result", "Blast", "--yes"], "cannot be signed"),
        (["report", "LAB-17", "--format", "pdf", "--out", "no/where.pdf"], "does not exist"),
        (
            ["report", "LAB-17", "--format", "pdf", "--out", "r.pdf", "--version", "4"],
            "no report of version",
        ),
        (["withdraw", "LAB-17", "--why", "x"], "no report that could be withdrawn"),
        (["move", "LAB-17", "--field", "1", "--to", "LAB-17", "--why", "x"], "already"),
        (["join", "P-1", "--to", "P-9", "--why", "x"], "no patient"),
        (["person", "x", "--role", "king"], "no role 'king'"),
        (["key", "nobody"], "knows nobody"),
        (["target", "lis"], "Give --host and --port"),
        (["settings", "--set", "colour=red"], "is no setting"),
        (["settings", "--set", "idle_minutes=-1"], "between 0 and 1440"),
        (["model", "nowhere.onnx"], "does not exist"),
        (["verify", "--seq", "3"], "together"),
        (["restore", "smears"], "no backup"),
        (["watch", "nowhere"], "no folder"),
        (["list", "--as", "carl"], "knows nobody"),
        (["list", "--as", ""], "knows nobody"),
        (["person", "bert"], "Say what the person may"),
        (["erase", "LAB-1", "--why", "x", "--yes"], "No case is found"),
        (["list", "--url", "mysql://x/y"], "postgresql://"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_and_changes_nothing(at, case, arguments, said):
    before = done(at("audit", "export"))
    status, out, err = at(*arguments)
    assert (status, said in err) == (2, True), (status, out, err)
    assert err.startswith("Error: ")
    assert "Traceback" not in err
    after = [json.loads(text) for text in done(at("audit", "export")).splitlines()]
    assert {row["what"] for row in after[len(before.splitlines()) :]} <= {"audit.exported"}


def test_the_example_of_the_reference_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    from pathlib import Path

    page = Path(__file__).parents[1] / "docs" / "reference" / "clinic.md"
    code = re.search(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smear.png").write_bytes(picture(1))
    exec(compile(code, str(page), "exec"), {})
    assert capsys.readouterr().out == "reading\n"


def test_without_a_clinic_the_way_to_one_is_said(cli, tmp_path):
    status, _, err = cli("clinic", "list", "--store", tmp_path)
    assert (status, "allkit clinic init" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_identities_are_put_right_from_the_command_line(at, case, smears):
    other = done(at("add", smears / "0.png", "--specimen", "blood", "--patient", "P-2")).strip()
    assert "in the case" in at("add", smears / "1.png", "--case", other)[2]
    done(at("reassign", other, "--to", "P-3", "--why", "mixed up"))
    done(at("join", "P-3", "--to", "P-1", "--why", "one person"))
    assert other in done(at("list", "P-1"))
    done(at("part", "P-1", "--case", other, "--to", "P-4", "--why", "two people"))
    assert "P-4" in done(at("show", other))
    done(at("assign", other, "--reader", "anna"))
    assert other in done(at("list", "--reader", "anna"))
    done(at("erase", other, "--why", "not needed", "--yes"))
    assert other not in done(at("list"))


@pytest.mark.parametrize("words", [("sign", "--result", "Pro"), ("erase", "--why", "x")])
def test_a_question_that_is_not_answered_with_yes_changes_nothing(at, case, words, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    status, _, err = at(words[0], "LAB-17", *words[1:])
    assert (status, "nothing was changed" in err) == (1, True)
    assert case in done(at("list", "--status", "new"))


def test_a_dicom_opens_the_case_of_its_own_number(at, tmp_path):
    from test_clinic_dicom import dataset, file_of

    (tmp_path / "a.dcm").write_bytes(file_of(dataset(AccessionNumber="D-1")))
    case = done(at("add", "a.dcm", "--specimen", "blood")).strip()
    assert done(at("show", "D-1")).startswith(case)


def test_a_backup_is_made_and_restored(at, case, tmp_path):
    assert "The audit ends with row" in at("backup", "copy")[2]
    done(at("restore", "copy", "--store", "again"))
    assert case in done(at("list", "--store", "again"))
    status, _, err = at("restore", "copy", "--store", "again")
    assert (status, "holds a clinic" in err) == (2, True)


def test_a_watched_folder_is_emptied_into_cases(at, case, smears, tmp_path):
    arriving = tmp_path / "arriving" / "LAB-17"
    arriving.mkdir(parents=True)
    (arriving / "new.png").write_bytes(picture(5))
    (tmp_path / "arriving" / "lost.png").write_bytes(picture(6))
    assert "2 files moved" in at("watch", tmp_path / "arriving", "--once")[2]
    assert len(json.loads(done(at("show", case, "--json")))["case"]["fields"]) == 4
    assert (tmp_path / "arriving" / "refused" / "lost.png.txt").is_file()


@pytest.mark.slow
def test_what_was_given_up_is_sent_again_when_it_is_asked_for(at, case, monkeypatch):
    from allkit.clinic import mllp
    from allkit.errors import SendError

    sent = []

    def refuse(message, **place):
        raise SendError("It says no.", retry=False)

    def take(message, **place):
        sent.append(place)
        return mllp.Acknowledgement("AA", "", "x")

    done(at("target", "lis", "--host", "127.0.0.1", "--port", "2575"))
    done(at("work", "--once"))
    for number in (1, 2, 3):
        done(at("read", "LAB-17", "--field", number, "--label", "Pro", "--why", "seen"))
    view = json.loads(done(at("show", "LAB-17", "--json")))["case"]
    refused = sum(f["answer"]["verdict"] in ("refused", "unreadable") for f in view["fields"])
    done(at("sign", "LAB-17", "--result", "Pro", "--limits-read", "--refused", refused, "--yes"))
    monkeypatch.setattr("allkit.clinic.outbox.deliver.__kwdefaults__", {"send": refuse})
    status, out, err = at("send", "--once")
    assert (status, "It says no." in out, "1 given up" in err) == (1, True, True)
    monkeypatch.setattr("allkit.clinic.outbox.deliver.__kwdefaults__", {"send": take})
    assert "1 sent, 0 wait, 0 given up" in at("send", "--once", "--again")[2]
    assert sent == [{"host": "127.0.0.1", "port": 2575}]


def test_settings_people_and_figures_are_shown(at, case):
    assert "second_reader = True" in done(at("settings", "--set", "second_reader=yes"))
    done(at("person", "bert", "--role", "reader", "--display", "Dr. Bert"))
    assert at("person", "bert", "--remove")[2].startswith("Dr. Bert (bert) may now: nothing")
    assert len(done(at("key", "anna")).strip()) > 30
    assert "Revoked 1 keys" in at("key", "anna", "--revoke")[2]
    assert "Overrides, by month" in done(at("quality"))
    assert json.loads(done(at("quality", "--json")))["agreement"]["n"] == 0
    assert "0 sent, 0 wait, 0 given up" in at("send", "--once")[2]
    done(at("target", "lis", "--host", "127.0.0.1", "--port", "2575"))
    done(at("target", "lis", "--remove"))


def test_labelled_images_of_the_training_are_kept_for_a_model_of_the_clinic(
    at, few, tiny_onnx, tiny_folder
):
    said = at("references", tiny_onnx, few, "--per-class", "2")
    assert (said[0], "8 labelled images are kept" in said[2]) == (0, True)
    status, _, error = at("references", tiny_folder, few)
    assert (status, "does not know the model" in error) == (2, True)


@pytest.fixture
def alone(tmp_path, monkeypatch, cli, tiny_onnx):
    """A command on a clinic whose model can be taken away."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.onnx"
    file.write_bytes(tiny_onnx.read_bytes())

    def run(*arguments):
        return cli("clinic", *arguments, "--store", "alone")

    done(run("init"))
    done(run("model", file))
    return run, file


@pytest.mark.slow
def test_a_model_that_is_gone_is_said_where_a_clinic_is_checked_and_where_it_answers(alone, smears):
    at, file = alone
    assert "CAUTION" not in at("verify")[2]
    file.rename(file.with_name("elsewhere.onnx"))
    status, _, err = at("verify")
    assert status == 0
    assert "The model mine is gone from" in err
    done(at("add", smears, "--patient", "P-1", "--specimen", "blood"))
    status, _, err = at("work", "--once")
    assert status == 1
    assert "is gone. Put it back, or add it again" in err
