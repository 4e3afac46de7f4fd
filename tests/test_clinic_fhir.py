"""The FHIR Bundle of a report, and our own check of it."""

import copy
import json
from dataclasses import replace

import pytest
from fhir.resources.R4B.bundle import Bundle
from hl7apy.v2_5_1.tables import TABLES
from pydicom.sr.codedict import codes

from allkit.clinic.records import Identifier, PersonName, Specimen
from allkit.clinic.reports.codes import AIAST, BLOOD_SMEAR, PATTERNS, SPECIMENS
from allkit.clinic.reports.fhir import fhir_of
from allkit.clinic.reports.fhir_check import check_bundle
from allkit.errors import AllkitError
from clinic_reports import HOSTILE, KINDS, a_field, a_report

STATUS = {
    "preliminary": "preliminary",
    "final": "final",
    "corrected": "corrected",
    "withdrawn": "entered-in-error",
}


def bundle_of(report):
    return json.loads(fhir_of(report))


def of_kind(bundle, kind):
    return [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind]


def by_code(bundle, code):
    found = of_kind(bundle, "Observation")
    return [one for one in found if one["code"]["coding"][0]["code"] == code]


def by_model(bundle):
    return [one for one in of_kind(bundle, "Observation") if "device" in one]


def parts(observation):
    return {
        part["code"]["coding"][0]["code"]: next(
            (value for name, value in part.items() if name.startswith("value")), None
        )
        for part in observation["component"]
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_and_what_the_reader_said_have_the_state_of_the_report(kind):
    bundle = bundle_of(a_report(kind, 5))
    assert check_bundle(json.dumps(bundle).encode()) == []
    (report,) = of_kind(bundle, "DiagnosticReport")
    assert report["status"] == STATUS[kind]
    readers = [one for one in of_kind(bundle, "Observation") if "device" not in one]
    assert len(readers) == 1 + 5
    assert {one["status"] for one in readers} == {STATUS[kind]}


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_model_said_never_becomes_final_and_is_marked_in_every_state(kind):
    bundle = bundle_of(a_report(kind, 5))
    model = by_model(bundle)
    assert len(model) == 1 + 5
    # A report that went to the wrong patient holds nothing that may be used.
    status = "entered-in-error" if kind == "withdrawn" else "preliminary"
    assert {one["status"] for one in model} == {status}
    for one in model:
        assert one["meta"]["security"][0]["code"] == "AIAST"
        assert "Research use; not a diagnosis" in one["note"][0]["text"]
        assert ("withdrawn" in one["note"][0]["text"]) == (kind == "withdrawn")


def test_the_bundle_is_read_again_by_the_library():
    bundle = Bundle.model_validate_json(fhir_of(a_report("final", 2)))
    assert len(bundle.entry) == 1 + 1 + 1 + 3 + 1 + 3 + 1 + 2


def test_the_result_of_the_reader_is_the_conclusion():
    (report,) = of_kind(bundle_of(a_report("final")), "DiagnosticReport")
    assert (
        report["conclusion"]
        == "Blood smear: Pre-B, signed by Dr. M. Curie. 3 fields read by a person."
    )
    (report,) = of_kind(bundle_of(a_report("corrected")), "DiagnosticReport")
    assert "This report replaces version 1. Reason: Two fields" in report["conclusion"]


def test_the_patient_has_identifiers_and_nothing_else():
    (patient,) = of_kind(bundle_of(a_report()), "Patient")
    assert set(patient) == {"resourceType", "id", "identifier"}
    assert patient["identifier"] == [
        {"system": "urn:allkit:pseudonym", "value": "P-7K4M-22QX"},
        {"assigner": {"display": "HOSPITAL"}, "value": "4711"},
        {"system": "urn:oid:1.2.3", "value": "99-1"},
    ]


def test_the_order_is_named_by_its_number_only():
    bundle = bundle_of(a_report(order=Identifier("A-1", "http://lis.example/orders")))
    (report,) = of_kind(bundle, "DiagnosticReport")
    identifier = {"system": "http://lis.example/orders", "value": "A-1"}
    assert report["basedOn"] == [{"identifier": identifier, "type": "ServiceRequest"}]
    assert not of_kind(bundle, "ServiceRequest")
    (report,) = of_kind(bundle_of(a_report(order=None)), "DiagnosticReport")
    assert "basedOn" not in report


def test_the_device_is_the_model():
    report = a_report()
    (device,) = of_kind(bundle_of(report), "Device")
    assert device["identifier"] == [
        {"system": "urn:allkit:model-sha256", "value": report.model.sha256}
    ]
    assert device["version"] == [{"value": "1.2.0"}]
    assert device["type"]["coding"][0]["display"] == "Artificial Intelligence"
    told = {
        one["type"]["text"]: [v["text"] for v in one["valueCode"]] for one in device["property"]
    }
    assert told["limit"] == list(report.model.limits)
    assert told["calibrated"] == ["yes"]


def test_an_answer_without_a_class_says_why_there_is_none():
    fields = (
        a_field(1),
        a_field(2, verdict="refused", label=None, probability=None),
        a_field(3, verdict="unreadable", label=None, probability=None),
        a_field(4, verdict=None, label=None, probability=None, reader=None),
    )
    said = by_code(bundle_of(a_report("final", fields)), "field-answer")
    absent = [
        one.get("dataAbsentReason", {"coding": [{}]})["coding"][0].get("code") for one in said
    ]
    assert absent == [None, "unknown", "error", "not-performed"]
    assert said[0]["valueCodeableConcept"]["coding"] == [
        {"system": PATTERNS, "code": "Early Pre-B"}
    ]
    assert parts(said[0])["probability"]["value"] == fields[0].probability
    assert parts(said[1])["probability"] is None
    (reader,) = by_code(bundle_of(a_report("preliminary")), "5909-7")
    assert reader["dataAbsentReason"]["coding"][0]["code"] == "temp-unknown"


def test_scores_of_a_model_that_is_not_calibrated_are_not_called_probabilities():
    report = a_report()
    report = replace(report, model=replace(report.model, calibrated=False))
    said = by_code(bundle_of(report), "slide-answer")[0]
    assert "score" in parts(said)
    assert "probability" not in parts(said)


def test_what_the_reader_changed_is_told_with_the_reason():
    read = by_code(bundle_of(a_report()), "field-reading")
    told = {parts(one)["field"]: parts(one) for one in read}
    assert told[2]["changed"] == "yes"
    assert told[2]["why"] == "Nucleoli are seen."
    assert told[1]["changed"] == "no"


def test_where_it_comes_from_names_the_model_as_author_and_the_reader_as_verifier():
    bundle = bundle_of(a_report("final"))
    model, reader = of_kind(bundle, "Provenance")
    agents = [agent["type"]["coding"][0]["code"] for agent in model["agent"]]
    assert agents == ["author", "verifier"]
    assert model["reason"][0]["coding"][0]["code"] == "AIAST"
    assert len(model["target"]) == len(by_model(bundle))
    assert [agent["type"]["coding"][0]["code"] for agent in reader["agent"]] == ["author"]
    (alone,) = of_kind(bundle_of(a_report("preliminary")), "Provenance")
    assert [agent["type"]["coding"][0]["code"] for agent in alone["agent"]] == ["author"]


def test_another_report_has_other_addresses():
    one, other = (bundle_of(a_report(id=name)) for name in ("A", "B"))
    assert not {e["fullUrl"] for e in one["entry"]} & {e["fullUrl"] for e in other["entry"]}


def test_a_case_without_a_model_holds_no_device_and_no_provenance_of_one():
    fields = (a_field(1, verdict=None, label=None, probability=None),)
    bundle = bundle_of(a_report("final", fields, model=None, slide=None))
    assert not of_kind(bundle, "Device")
    assert not by_model(bundle)


# ── what is refused ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"signer": None}, "no practitioner performed it"),
        ({"model": None}, "answers of a model that it does not name"),
        ({"made_at": "yesterday"}, "issued"),
        ({"specimen": Specimen("blood", "2026-02-31")}, "collectedDateTime"),
        ({"specimen": Specimen("blood", "29.1.2026")}, "collectedDateTime"),
    ],
)
def test_what_fhir_cannot_say_is_refused_and_named(changes, told):
    with pytest.raises(AllkitError, match=told):
        fhir_of(a_report("final", **changes))


def test_a_probability_above_one_is_refused():
    with pytest.raises(AllkitError, match="from 0 to 1"):
        fhir_of(a_report("final", (a_field(1, probability=1.5),)))


@pytest.mark.parametrize("name", HOSTILE)
def test_identifiers_come_back_as_they_came_in(name):
    value = HOSTILE[name]
    report = a_report(
        "final", (a_field(1, name=value, label=value, reader=value, why=value),), patient=value,
        patient_identifiers=(Identifier(value, "X"),), order=Identifier(value, value), comment=value,
        result=value, specimen=Specimen("blood", None, value, value), signer=PersonName(value, value),
        reason=value,
    )  # fmt: skip
    bundle = bundle_of(report)
    assert check_bundle(json.dumps(bundle).encode()) == []
    order = of_kind(bundle, "DiagnosticReport")[0]["basedOn"][0]["identifier"]["value"]
    patient = [one["value"] for one in of_kind(bundle, "Patient")[0]["identifier"]]
    escapes = {"\x00": r"\u0000", "\x07": r"\u0007", "\x1b": r"\u001b"}
    same = r"\u0020" if name == "blank" else "".join(escapes.get(c, c) for c in value)
    assert [order, *patient] == [same] * 3


def test_texts_of_users_stand_in_no_element_that_is_markdown():
    value = HOSTILE["html"] + HOSTILE["markup"]
    report = a_report(
        "final", (a_field(1, why=value, reasons=(value,)),), comment=value, reason=value
    )
    bundle = bundle_of(replace(report, kind="withdrawn"))
    notes = [note["text"] for one in of_kind(bundle, "Observation") for note in one.get("note", [])]
    assert notes
    assert not any("**bold**" in note or "<" in note for note in notes)
    assert not any("text" in e["resource"] for e in bundle["entry"])


# ── the codes ─────────────────────────────────────────────────────────────────────────────────

LOINC = "http://loinc.org"
HL7 = "http://terminology.hl7.org/CodeSystem/"
WRITTEN = {
    (LOINC, "5909-7", "Blood smear finding [Identifier] in Blood by Light microscopy"),
    (HL7 + "v2-0074", "HM", "Hematology"),
    (HL7 + "v2-0487", "BLD", "Whole blood"),
    (HL7 + "v2-0487", "MAR", "Marrow"),
    (HL7 + "v3-ObservationValue", "AIAST", "Artificial Intelligence asserted"),
    (HL7 + "observation-category", "laboratory", "Laboratory"),
    (HL7 + "provenance-participant-type", "author", "Author"),
    (HL7 + "provenance-participant-type", "verifier", "Verifier"),
    (HL7 + "data-absent-reason", "unknown", None),
    (HL7 + "data-absent-reason", "temp-unknown", None),
    ("http://dicom.nema.org/resources/ontology/DCM", "123110", "Artificial Intelligence"),
}


def codings(value):
    if isinstance(value, dict):
        if "system" in value and "code" in value and value["system"] != "http://unitsofmeasure.org":
            yield value["system"], value["code"], value.get("display")
        for part in value.values():
            yield from codings(part)
    elif isinstance(value, list):
        for part in value:
            yield from codings(part)


def test_the_codes_are_these_and_no_others():
    found = set()
    for kind in KINDS:
        for specimen in ("blood", "marrow"):
            found |= set(codings(bundle_of(a_report(kind, 6, specimen=Specimen(specimen)))))
    outside = {one for one in found if not one[0].startswith("urn:allkit:")}
    assert outside == WRITTEN


def test_the_codes_are_those_of_the_other_standards():
    assert BLOOD_SMEAR[0] == "5909-7"
    assert loinc_check_digit("5909") == 7
    assert AIAST[0] == "AIAST"
    ai = codes.DCM.ArtificialIntelligence
    assert (ai.value, ai.meaning) == ("123110", "Artificial Intelligence")
    assert {code for code, _ in SPECIMENS.values()} <= set(TABLES["HL70487"][1])
    assert "HM" in TABLES["HL70074"][1]


def loinc_check_digit(number):
    """The digit behind the dash of a LOINC code, by the Mod 10 algorithm."""
    digits = [int(d) for d in reversed(number)]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[::2]]
    return -(sum(doubled) + sum(digits[1::2])) % 10


# ── the check finds what the library lets pass ────────────────────────────────────────────────


def find(bundle, kind, **has):
    for entry in bundle["entry"]:
        resource = entry["resource"]
        if resource["resourceType"] == kind and all((k in resource) == v for k, v in has.items()):
            return resource
    raise LookupError(kind)


SNOMED = {"system": "http://snomed.info/sct", "code": "277571004"}

BREAKS = {
    "has the status 'nope'": lambda b: find(b, "Observation").update(status="nope"),
    "has the status None": lambda b: find(b, "DiagnosticReport").pop("status"),
    "has the status 'broken'": lambda b: find(b, "Device").update(status="broken"),
    "is an answer of a model, and has the status 'final'": lambda b: find(
        b, "Observation", device=True
    ).update(status="final"),
    "or has a device, but not both": lambda b: find(b, "Observation", device=True).pop("meta"),
    "is marked AIAST": lambda b: find(b, "Observation", device=True).pop("device"),
    "is a code of a disease, given by a model": lambda b: find(b, "Observation", device=True)[
        "component"
    ][0]["code"]["coding"].append(SNOMED),
    "which we do not write": lambda b: find(b, "Observation", device=False)["code"][
        "coding"
    ].append(SNOMED),
    "has the code '5909-8'": lambda b: find(b, "DiagnosticReport")["code"]["coding"][0].update(
        code="5909-8"
    ),
    "which is not in this Bundle": lambda b: find(b, "Observation")["subject"].update(
        reference="Patient/1"
    ),
    "refers to a Specimen": lambda b: find(b, "Observation").update(
        subject=find(b, "Observation")["specimen"]
    ),
    "refers to nothing": lambda b: find(b, "Observation").update(subject={}),
    "is an identifier, where": lambda b: find(b, "Observation").update(
        subject={"identifier": {"value": "1"}}
    ),
    "not 'ServiceRequest'": lambda b: find(b, "DiagnosticReport")["basedOn"][0].pop("type"),
    "no practitioner performed it": lambda b: find(b, "DiagnosticReport").pop("performer"),
    "has a value and a reason": lambda b: find(b, "Observation").update(
        dataAbsentReason={"text": "x"}
    ),
    "issued is '2026-13-01T00:00:00Z'": lambda b: find(b, "DiagnosticReport").update(
        issued="2026-13-01T00:00:00Z"
    ),
    "issued is '2026-01-01T00:00:00'": lambda b: find(b, "DiagnosticReport").update(
        issued="2026-01-01T00:00:00"
    ),
    "recorded is '2026-01-01'": lambda b: find(b, "Provenance").update(recorded="2026-01-01"),
    "collectedDateTime is '2026-02-30'": lambda b: find(b, "Specimen").update(
        collection={"collectedDateTime": "2026-02-30"}
    ),
    "Bundle.timestamp": lambda b: b.update(timestamp="now"),
    "Bundle.type is 'batch'": lambda b: b.update(type="batch"),
    "stands at two entries": lambda b: b["entry"].append(copy.deepcopy(b["entry"][0])),
    "not that of its resource": lambda b: b["entry"][0].update(fullUrl="urn:uuid:1"),
    "It holds 0 reports": lambda b: b["entry"].remove(
        next(e for e in b["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    ),
    "not 'model-name'": lambda b: find(b, "Device")["deviceName"][0].update(type="nickname"),
    "the role 'cause', not 'source'": lambda b: find(b, "Provenance", entity=True)["entity"][
        0
    ].update(role="cause"),
    "the unit '%'": lambda b: find(b, "Observation", device=True)["component"][1][
        "valueQuantity"
    ].update(code="%"),
}


@pytest.fixture(scope="module")
def whole():
    return bundle_of(a_report("final", 1))


@pytest.mark.parametrize("told", BREAKS)
def test_a_mistake_in_a_bundle_is_found_and_named(told, whole):
    bundle = copy.deepcopy(whole)
    assert check_bundle(json.dumps(bundle).encode()) == []
    BREAKS[told](bundle)
    problems = check_bundle(json.dumps(bundle).encode())
    assert any(told in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a Bundle"),
        (b'{"resourceType": "Patient"}', "not a Bundle"),
        (b'{"resourceType": "Bundle", "entry": [1]}', "Entry 0"),
        (b'{"resourceType": "Bundle", "entry": 7}', "no list"),
    ],
)
def test_what_is_no_bundle_is_told(data, told):
    assert any(told in problem for problem in check_bundle(data))


def test_a_report_of_marrow_has_no_code_that_says_blood():
    report = a_report("final", 2)
    bundle = bundle_of(replace(report, specimen=replace(report.specimen, kind="marrow")))
    (made,) = of_kind(bundle, "DiagnosticReport")
    assert [c["code"] for c in made["code"]["coding"]] == ["marrow-smear-finding"]
    assert "5909-7" not in json.dumps(bundle)
