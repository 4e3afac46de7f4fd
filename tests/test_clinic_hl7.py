"""The HL7 message of a report, read by two libraries that did not write it."""

from dataclasses import replace

import hl7
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hl7apy.v2_5_1.tables import TABLES

from allkit.clinic.records import Identifier, PersonName, Specimen
from allkit.clinic.reports.hl7 import escaped, hl7_of
from allkit.errors import AllkitError
from clinic_reports import HOSTILE, KINDS, a_field, a_report

RESULT = {"preliminary": "P", "final": "F", "corrected": "C", "withdrawn": "C"}
OBSERVATION = {"preliminary": "P", "final": "F", "corrected": "C", "withdrawn": "W"}


def segments(report, **options):
    """The segments as lists of fields, by hand: a third way of reading."""
    text = hl7_of(report, **options).decode("utf-8")
    assert text.endswith("\r")
    return [line.split("|") for line in text[:-1].split("\r")]


def named(report, name, **options):
    return [fields for fields in segments(report, **options) if fields[0] == name]


def field(fields, number):
    return fields[number] if number < len(fields) else ""


def is_model(obx):
    return field(obx, 17).startswith("AIAST^")


def strict(report):
    text = hl7_of(report).decode("utf-8")
    return parse_message(text, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)


# ── the standard ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fields", [0, 5])
def test_the_strict_check_of_another_library_passes(kind, fields):
    message = strict(a_report(kind, fields))
    assert message.validate()
    assert message.msh.msh_9.to_er7() == "ORU^R01^ORU_R01"
    assert message.msh.msh_12.to_er7() == "2.5.1"


@pytest.mark.parametrize(
    "changes",
    [
        {"order": None, "patient_identifiers": ()},
        {"specimen": Specimen("marrow")},
        {"comment": "", "second_reader": PersonName("rv", "Dr. R. Virchow")},
        {"slide": None},
    ],
)
def test_a_report_with_less_in_it_passes_too(changes):
    assert strict(a_report("final", 2, **changes)).validate()


def test_a_report_without_a_model_passes_too():
    fields = (a_field(1, verdict=None, label=None, probability=None),)
    report = a_report("final", fields, model=None, slide=None)
    assert strict(report).validate()
    assert not any(is_model(obx) for obx in named(report, "OBX"))


def test_the_oracle_refuses_what_is_wrong():
    text = hl7_of(a_report("final", 1)).decode("utf-8").replace("|^^^^^^S", "")
    message = parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=True)
    with pytest.raises(Exception, match="PID_5"):
        message.validate()


# ── states ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_of_the_report_stands_at_the_order_and_at_what_the_reader_said(kind):
    report = a_report(kind, 5)
    (obr,) = named(report, "OBR")
    assert field(obr, 25) == RESULT[kind]
    readers = [obx for obx in named(report, "OBX") if not is_model(obx)]
    assert len(readers) == 1 + 5
    assert {field(obx, 11) for obx in readers} == {OBSERVATION[kind]}
    assert field(readers[0], 5) == ("" if kind == "preliminary" else "Pre-B^Pre-B^L")


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_model_said_never_becomes_final_and_is_marked_in_every_state(kind):
    report = a_report(kind, 5)
    model = [obx for obx in named(report, "OBX") if is_model(obx)]
    answers = [obx for obx in model if "-answer^" in field(obx, 3)]
    assert len(answers) == 1 + 5
    assert {field(obx, 11) for obx in model} == {"W" if kind == "withdrawn" else "P"}
    assert {field(obx, 17) for obx in model} == {"AIAST^Artificial Intelligence asserted^L"}
    assert {field(obx, 18) for obx in model} == {report.model.sha256}
    lines = segments(report)
    for number, fields in enumerate(lines):
        if fields[0] == "OBX" and "-answer^" in field(fields, 3):
            note = lines[number + 1]
            assert note[0] == "NTE"
            assert "Research use; not a diagnosis" in note[3]
            assert ("withdrawn" in note[3]) == (kind == "withdrawn")


def test_the_first_note_says_what_the_report_is_for():
    report = a_report("withdrawn")
    notes = named(report, "NTE")
    assert notes[0] == ["NTE", "1", "L", "Research use; not a diagnosis."]
    assert notes[1][3] == f"Report {report.id}, version 2, SHA-256 {report.sha256}."
    assert "do not use this report, nor version 1" in notes[2][3]


def test_the_values_come_from_the_tables_of_the_standard():
    assert set(RESULT.values()) <= set(TABLES["HL70123"][1])
    assert set(OBSERVATION.values()) <= set(TABLES["HL70085"][1])
    report = a_report("final", 2)
    (msh,), (pid,), (orc,), (obr,), (spm,) = (
        named(report, name) for name in ("MSH", "PID", "ORC", "OBR", "SPM")
    )
    assert field(msh, 10) == "P"
    assert "P" in TABLES["HL70103"][1]
    assert field(orc, 1) == "RE"
    assert "RE" in TABLES["HL70119"][1]
    assert field(obr, 24) == "HM"
    assert "HM" in TABLES["HL70074"][1]
    assert field(pid, 5) == "^^^^^^S"
    assert "S" in TABLES["HL70200"][1]
    assert field(pid, 3).endswith("^ANON")
    assert "ANON" in TABLES["HL70203"][1]
    assert field(spm, 4) == "BLD^Whole blood^HL70487"
    assert {"BLD", "MAR"} <= set(TABLES["HL70487"][1])
    assert {"LN", "L"} <= set(TABLES["HL70396"][1])
    assert {"ISO", "URI"} <= set(TABLES["HL70301"][1])


def test_no_code_of_a_disease_is_written():
    systems = {field(obx, 5).split("^")[2] for obx in named(a_report("final", 5), "OBX")
               if field(obx, 2) == "CWE" and field(obx, 5)}  # fmt: skip
    assert systems == {"L"}


# ── content ───────────────────────────────────────────────────────────────────────────────────


def test_the_message_says_whose_it_is():
    report = a_report("final", 2)
    (pid,), (obr,), (spm,) = (named(report, name) for name in ("PID", "OBR", "SPM"))
    assert field(pid, 3).split("~") == [
        "4711^^^HOSPITAL", "99-1^^^&1.2.3&ISO", "P-7K4M-22QX^^^ALLKIT^ANON",
    ]  # fmt: skip
    assert field(obr, 2) == "ORD-2026-1187^LIS"
    assert field(obr, 3) == "01JK4Z5CASE3X9V7T5S2R1P0N9^ALLKIT"
    assert field(obr, 4).startswith("5909-7^Blood smear finding")
    assert field(obr, 4).endswith("^LN")
    assert field(obr, 7) == field(spm, 17) == "20260129"
    assert field(obr, 22) == "20260131091500+0000"
    assert field(obr, 32) == "mcurie&Dr. M. Curie"
    assert field(spm, 2) == "^S-2026-0042"
    assert field(spm, 14) == "Stain: May-Grünwald-Giemsa"


@pytest.mark.parametrize(
    ("issuer", "back"),
    [
        ("", "A-1"),
        ("LIS", "A-1^LIS"),
        ("1.2.840.5", "A-1^^1.2.840.5^ISO"),
        ("urn:oid:1.2.840.5", "A-1^^1.2.840.5^ISO"),
        ("http://lis.example/orders", "A-1^^http://lis.example/orders^URI"),
        ("L&S", "A-1^L\\T\\S"),
    ],
)
def test_the_number_of_the_order_goes_back_with_who_gave_it(issuer, back):
    report = a_report(order=Identifier("A-1", issuer))
    (obr,), (orc,) = named(report, "OBR"), named(report, "ORC")
    assert field(obr, 2) == field(orc, 2) == back


def test_sender_and_receiver_stand_in_the_header():
    (msh,) = named(
        a_report(), "MSH", sender="A|B", facility="F", receiver="R", receiving_facility="RF"
    )
    assert msh[2:6] == ["A\\F\\B", "F", "R", "RF"]
    assert msh[17] == "UNICODE UTF-8"


def test_the_control_number_follows_from_the_report():
    report = a_report()
    (msh,), (again,) = named(report, "MSH"), named(report, "MSH")
    (other,) = named(a_report(comment="other"), "MSH")
    assert msh[9] == again[9] == report.sha256[:20].upper()
    assert msh[9] != other[9]


def test_lines_of_a_comment_stay_lines():
    notes = named(a_report(comment="one\r\ntwo\nthree\rfour|"), "NTE")
    assert ["NTE", "1", "L", r"one\.br\two\.br\three\.br\four\F\ "[:-1]] in notes


def test_scores_of_a_model_that_is_not_calibrated_are_not_called_probabilities():
    report = a_report("final", 1)
    kinds = {field(obx, 3).split("^")[0] for obx in named(report, "OBX")}
    assert "field-probability" in kinds
    model = type(report.model)(**{**vars(report.model), "calibrated": False})
    kinds = {field(obx, 3).split("^")[0] for obx in named(a_report("final", 1, model=model), "OBX")}
    assert "field-score" in kinds
    assert not any("probability" in kind for kind in kinds)


# ── what comes from outside ───────────────────────────────────────────────────────────────────

PLAIN = [name for name in HOSTILE if name != "blank"]


@pytest.mark.parametrize("name", PLAIN)
def test_identifiers_come_back_as_they_came_in(name):
    value = HOSTILE[name]
    report = a_report(
        "final", (a_field(1, name=value, label=value, reader=value, why=value, reasons=(value,)),),
        patient=value, patient_identifiers=(Identifier(value, "X"),), order=Identifier(value, value),
        case=value, comment=value, result=value, specimen=Specimen("blood", None, value, value),
        signer=PersonName(value, value),
    )  # fmt: skip
    text = hl7_of(report).decode("utf-8")
    message = parse_message(text, find_groups=True)
    read = hl7.parse(text)  # its `unescape` is the second opinion
    group = message.oru_r01_patient_result
    pid, order = group.oru_r01_patient.pid, group.oru_r01_order_observation
    result = order.oru_r01_observation[0].obx
    places = {
        "order": order.obr.obr_2.ei_1,
        "order again": order.orc.orc_2.ei_1,
        "issuer": order.obr.obr_2.ei_2,
        "case": order.obr.obr_3.ei_1,
        "identifier": pid.pid_3[0].cx_1,
        "pseudonym": pid.pid_3[1].cx_1,
        "result": result.obx_5.children[0],
        "specimen": order.oru_r01_specimen.spm.spm_2.eip_2,
    }
    back = {place: read.unescape(raw(element)) for place, element in places.items()}
    assert back == dict.fromkeys(places, value)
    names = [segment.name for segment in message.children.list[0:1]]
    assert names == ["MSH"]
    assert [line[:3] for line in text.split("\r")[:4]] == ["MSH", "PID", "ORC", "OBR"]
    assert "MSH" not in {line[:3] for line in text.split("\r")[1:]}


def raw(element):
    """The text as it stands in the message: hl7apy writes escapes that it does not know twice."""
    while element.children:
        element = element.children[0]
    value = element._value
    return str(getattr(value, "value", value))


@pytest.mark.parametrize("value", ["a|b^c&d~e\\f", "<b>x</b>", "=1+1", "Ünï 患者", "\\F\\"])
def test_short_hostile_identifiers_pass_the_strict_check(value):
    report = a_report(
        "final", (a_field(1, name=value, label=value, reader=value),), patient=value,
        patient_identifiers=(Identifier(value, "X"),), order=Identifier(value, "Y"), result=value,
    )  # fmt: skip
    assert strict(report).validate()


def test_what_frames_a_message_on_the_wire_cannot_stand_in_it():
    data = hl7_of(a_report(patient="a\x0bb\x1cc\rd", comment="a\x0bb\x1cc"))
    assert b"\x0b" not in data
    assert b"\x1c" not in data
    assert escaped("\x0b\x1c\r\n") == "\\X0B\\\\X1C\\\\X0D\\\\X0A\\"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"made_at": "yesterday"}, "holds the time 'yesterday'"),
        ({"specimen": Specimen("blood", "29.1.2026")}, "holds the time '29.1.2026'"),
        ({"specimen": Specimen("blood", "2026-02-31")}, "holds the time '2026-02-31'"),
        ({"model": None}, "answers of a model that it does not name"),
    ],
)
def test_what_a_message_cannot_carry_is_refused_and_named(changes, told):
    with pytest.raises(AllkitError, match=told):
        hl7_of(a_report("final", **changes))


def test_a_report_of_marrow_has_no_code_that_says_blood():
    report = a_report("final", 2)
    marrow = replace(report, specimen=replace(report.specimen, kind="marrow"))
    assert b"5909-7" not in hl7_of(marrow)
    (obr,) = named(marrow, "OBR")
    assert field(obr, 4).startswith("marrow-smear-finding^")
