"""Orders of laboratory systems: what is kept, what is dropped, what is refused and in which words."""

import json
import random
from contextlib import suppress
from dataclasses import replace

import pytest

from allkit.clinic.orders import acknowledge, parse_orders
from allkit.clinic.records import Identifier, Order, Specimen
from allkit.errors import OrderError

MSH = "MSH|^~\\&|LIS|LAB^1.2.3^ISO|ALLKIT|HAEM|20260131101500+0100||OML^O21^OML_O21|M-1|P|2.5.1"
PID = "PID|1||P-1^^^HOSP^MR~N-2^^^&2.16.840&ISO^PI||Doe^Jane||19700131|F|||1 Main St^^Town||555"
ORC = "ORC|NW|A-1^LIS|||||||20260131091500|||4711^House^Greg"
OBR = "OBR|1|A-1^LIS||SMEAR^Smear^L|||20260130080000|||Roe^Rick"
SPM = "SPM|1|PL-1&LIS^SP-9&LAB||BLD^Whole blood^HL70487|||||||||||||20260129"
SECRETS = ("Doe", "Jane", "19700131", "Main", "Town", "555", "House", "Greg", "Roe", "Rick")


def message(*segments, end="\r", encoding="utf-8"):
    return (end.join(segments or (MSH, PID, ORC, OBR, SPM)) + end).encode(encoding)


def one(data):
    (order,) = parse_orders(data)
    return order


def refusal(data):
    with pytest.raises(OrderError) as caught:
        parse_orders(data)
    text = str(caught.value)
    assert text.endswith((".", "needs."))
    assert not any(secret in text for secret in SECRETS)
    return text


# ── HL7 ───────────────────────────────────────────────────────────────────────────────────────


def test_an_order_is_read_and_the_person_is_not():
    order = one(message())
    assert order == Order(
        number=Identifier("A-1", "LIS"),
        patient=(Identifier("P-1", "HOSP"), Identifier("N-2", "2.16.840")),
        specimen=Specimen("blood", "2026-01-29", None, "SP-9"),
        placed="2026-01-31T08:15:00Z",  # ORC-9 has no offset, so that of MSH-7 holds
        message="M-1",
        sender="LIS/LAB",
        action="new",
        dropped=("PID-5", "PID-7", "PID-8", "PID-11", "PID-13", "ORC-12", "OBR-10"),
    )
    assert not any(secret in repr(order) for secret in SECRETS)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("framed", [False, True])
def test_every_line_end_and_a_frame_are_taken(end, framed):
    data = message(end=end)
    assert one(b"\x0b" + data + b"\x1c\r" if framed else data) == one(message())


@pytest.mark.parametrize("version", ["2.3", "2.3.1", "2.4", "2.5", "2.5.1"])
def test_an_orm_of_every_version_is_read_with_the_specimen_of_obr_15(version):
    msh = MSH.replace("OML^O21^OML_O21", "ORM^O01").replace("2.5.1", version)
    order = one(message(msh, PID, ORC, OBR + "|||||BMM&Marrow&HL70487^^^site"))
    assert order.specimen == Specimen("marrow", "2026-01-30")


def test_other_separators_are_followed():
    table = str.maketrans("|^~\\&", "#*!/%")
    assert one(message().decode().translate(table).encode()) == one(message())


def test_escapes_are_resolved():
    orc = ORC.replace("A-1", "\\T\\\\S\\\\R\\\\E\\\\F\\\\X41\\")
    assert one(message(MSH, PID, orc)).number == Identifier("&^~\\|A", "LIS")


@pytest.mark.parametrize(("word", "action"), [("NW", "new"), ("XO", "change"), ("CA", "cancel")])
def test_what_is_asked_says_orc_1(word, action):
    assert one(message(MSH, PID, ORC.replace("NW", word))).action == action


def test_the_number_of_obr_2_holds_where_orc_2_is_empty():
    assert one(message(MSH, PID, "ORC|NW", OBR)).number == Identifier("A-1", "LIS")
    assert one(message(MSH, PID, "ORC|NW|A-1", OBR)).number == Identifier("A-1", "LIS")
    assert one(message(MSH, PID, "ORC|NW|A-1^^1.2^ISO")).number == Identifier("A-1", "1.2")


def test_several_orders_come_out_in_their_sequence():
    more = ("ORC|CA|A-2^LIS", "OBR|2|A-2^LIS", SPM.replace("BLD", "BMR"))
    orders = parse_orders(message(MSH, PID, ORC, OBR, SPM, *more))
    assert [(o.number.value, o.action, o.specimen.kind) for o in orders] == [
        ("A-1", "new", "blood"), ("A-2", "cancel", "marrow"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("BLD", "blood"), ("BLDV^^HL70487", "blood"), ("WB", "blood"), ("BMM", "marrow"),
        ("119297000^Blood specimen^SCT", "blood"), ("119359002^Bone marrow^SCT", "marrow"),
        ("^Bone marrow", "marrow"), ("^blood", "blood"), ("URN", None), ("XX^blood", None), ("", None),
    ],
)  # fmt: skip
def test_a_specimen_is_blood_marrow_or_not_known(code, kind):
    specimen = one(message(MSH, PID, ORC, f"SPM|1|||{code}")).specimen
    assert (specimen and specimen.kind) == kind


def test_a_flood_of_orders_is_refused():
    few = [f"ORC|NW|A-{n}" for n in range(100)]
    assert len(parse_orders(message(MSH, PID, *few))) == 100
    assert "101 orders" in refusal(message(MSH, PID, *few, "ORC|NW|B"))


def test_numbers_that_identify_everywhere_are_dropped():
    order = one(message(MSH, "PID|||123-45^^^USA^SS~P-1^^^H^MR", ORC))
    assert order.patient == (Identifier("P-1", "H"),)
    assert order.dropped == ("PID-3 (SS)", "ORC-12")
    assert "PID-3" in refusal(message(MSH, "PID|||123-45^^^USA^SS", ORC))


def test_segments_of_persons_and_free_text_are_dropped_and_named():
    extra = ("PV1|1|I|Ward", "NK1|1|Doe^John", "NTE|1||Jane is my neighbour", "ZXX|Doe", "TQ1|1")
    order = one(message(MSH, PID, *extra, ORC, OBR))
    assert order.dropped[5:9] == ("PV1", "NK1", "NTE", "ZXX")
    assert "TQ1" not in order.dropped
    assert "Doe" not in repr(order)


def test_an_explicit_null_is_no_value():
    assert one(message(MSH, 'PID|||P-1^^^""', ORC)).patient == (Identifier("P-1"),)
    assert "PID-3" in refusal(message(MSH, 'PID|||""', ORC))


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [("UNICODE UTF-8", "utf-8"), ("8859/1", "latin-1"), ("8859/2", "iso8859-2")],
)
def test_the_character_set_of_msh_18_is_used(charset, encoding):
    msh = f"{MSH}||||||{charset}"
    data = message(msh, PID, ORC.replace("A-1", "Ä-1"), encoding=encoding)
    assert one(data).number.value == "Ä-1"


def test_names_in_an_unnamed_character_set_do_no_harm_but_an_identifier_does():
    pid = PID.replace("Doe", "Döe")
    assert one(message(MSH, pid, ORC, encoding="latin-1")).number.value == "A-1"
    assert "MSH-18" in refusal(message(MSH, pid, ORC.replace("A-1", "Ä-1"), encoding="latin-1"))
    wrong = message(f"{MSH}||||||UNICODE UTF-8", pid, ORC, encoding="latin-1")
    assert "MSH-18" in refusal(wrong)
    assert "MSH-18" in refusal(message(f"{MSH}||||||KLINGON", PID, ORC))


@pytest.mark.parametrize(
    "value",
    ["<script>alert(1)</script>", "=1+1", "@SUM(A1)", "'; DROP TABLE x", "日本語", "x" * 256],
)
def test_a_hostile_identifier_is_kept_as_the_text_it_is(value):
    order = one(message(f"{MSH}||||||UNICODE UTF-8", f"PID|||{value}", f"ORC|NW|{value}"))
    assert order.number.value == order.patient[0].value == value


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (message(MSH, PID, ORC.replace("A-1", "x" * 10_000)), "ORC-2 has 10,000 characters"),
        (message(MSH, "PID|||" + "x" * 257, ORC), "PID-3 has 257 characters"),
        (message(MSH, PID, ORC.replace("A-1", "a\0b")), "NUL"),
        (message(MSH, PID, ORC.replace("A-1", "a\x1bb")), "ORC-2 holds control characters"),
        (message(MSH, PID, ORC.replace("A-1", "a\\X00\\b")), "ORC-2 holds control characters"),
        (message(MSH, PID, ORC.replace("A-1", "a\u202eb")), "control characters"),
        (message(MSH, PID, ORC.replace("A-1", "a\\")), "escape without its end"),
        (message(MSH, PID, ORC.replace("A-1", "a\\Zq\\")), "escape that is not known"),
        (message(MSH, ORC), "0 PID segments"),
        (message(MSH, PID, PID, ORC), "2 PID segments"),
        (message(MSH, "PID|1||", ORC), "PID-3"),
        (message(MSH, PID), "no ORC"),
        (message(MSH, PID, OBR), "before any ORC"),
        (message(MSH, PID, "ORC|NW||", "OBR|1"), "ORC-2 and OBR-2 are empty"),
        (message(MSH, PID, ORC, OBR.replace("A-1", "A-2")), "different numbers"),
        (message(MSH, PID, ORC, OBR, OBR), "2 OBR segments"),
        (message(MSH, PID, ORC, OBR, SPM, SPM), "2 SPM segments"),
        (message(MSH, PID, ORC, ORC), "twice"),
        (message(MSH, PID, ORC.replace("NW", "RE")), "ORC-1"),
        (message(MSH.replace("OML^O21", "ORU^R01"), PID, ORC), "MSH-9"),
        (message(MSH.replace("OML^O21", "ADT^A01"), PID), "MSH-9"),
        (message(MSH.replace("M-1", ""), PID, ORC), "MSH-10"),
        (message(MSH.replace("2.5.1", "3.0"), PID, ORC), "MSH-12"),
        (message(MSH, PID, ORC, OBR.replace("20260130080000", "20260231")), "OBR-7"),
        (message(MSH, PID, ORC, SPM.replace("20260129", "yesterday")), "SPM-17"),
        (message(MSH, PID, ORC.replace("20260131091500", "20260131096100")), "ORC-9"),
        (message(MSH, PID, "Jane goes on", ORC), "Line 3"),
        (message(MSH, PID, ORC, MSH, PID, ORC), "batch"),
        (b"FHS|^~\\&|x\r" + message(), "batch"),
        (message(PID, ORC), "no order"),
        (b"MSH|", "no MSH"),
        (message(MSH.replace("^~\\&", "^^\\&"), PID, ORC), "MSH-1 and MSH-2"),
        (message(MSH.replace("^~\\&", "^~"), PID, ORC), "MSH-1 and MSH-2"),
        (message(encoding="utf-16"), "UTF-16"),
        (b"", "no order"),
        (b"<html><body>MSH|</body></html>", "no order"),
        (b"MSH|^~\\&|" + b"x" * 2**20, "bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused_with_the_segment(data, words):
    assert words in refusal(data)


def test_a_message_with_any_byte_changed_or_cut_is_read_or_refused():
    data, chance = message(), random.Random(0)
    read = 0
    for _ in range(3000):
        broken = bytearray(data)
        broken[chance.randrange(len(data))] = chance.randrange(256)
        with suppress(OrderError):
            read += len(parse_orders(bytes(broken[: chance.randrange(len(data) * 2)])))
    assert 0 < read < 3000


# ── FHIR ──────────────────────────────────────────────────────────────────────────────────────


def request(**changed):
    made = {
        "resourceType": "ServiceRequest", "id": "r", "status": "active", "intent": "order",
        "identifier": [{"system": "urn:lis", "value": "A-1"}],
        "subject": {"reference": "Patient/p", "display": "Jane Doe"},
        "specimen": [{"reference": "urn:uuid:s"}], "authoredOn": "2026-01-31T10:15:00+01:00",
        "requester": {"display": "Greg House"}, "note": [{"text": "Jane"}],
    } | changed  # fmt: skip
    return {key: value for key, value in made.items() if value is not None}


def patient(**changed):
    return {
        "resourceType": "Patient", "id": "p", "active": True,
        "identifier": [
            {"system": "urn:hosp", "value": "P-1"}, {"value": "old", "use": "old"},
            {"value": "123-45", "type": {"coding": [{"code": "SS"}]}},
        ],
        "name": [{"family": "Doe", "given": ["Jane"]}], "birthDate": "1970-01-31",
        "address": [{"city": "Town"}], "telecom": [{"value": "555"}],
    } | changed  # fmt: skip


def specimen(**changed):
    return {
        "resourceType": "Specimen", "id": "s", "subject": {"reference": "Patient/p"},
        "type": {"coding": [{"system": "http://snomed.info/sct", "code": "119359002"}]},
        "accessionIdentifier": {"value": "SP-9"},
        "collection": {"collectedDateTime": "2026-01-29T08:00:00Z", "collector": {"display": "Roe"}},
    } | changed  # fmt: skip


def bundle(*resources, **changed):
    resources = resources or (request(), patient(), specimen())
    entries = [
        {"resource": one}
        | ({"fullUrl": f"urn:uuid:{one['id']}"} if isinstance(one.get("id"), str) else {})
        for one in resources
    ]
    made = {"resourceType": "Bundle", "type": "transaction", "id": "M-1", "entry": entries}
    return json.dumps(made | changed).encode()


def test_a_bundle_is_read_and_the_person_is_not():
    order = one(bundle())
    assert order == Order(
        number=Identifier("A-1", "urn:lis"),
        patient=(Identifier("P-1", "urn:hosp"),),
        specimen=Specimen("marrow", "2026-01-29", None, "SP-9"),
        placed="2026-01-31T09:15:00Z",
        message="M-1",
        action="new",
        dropped=(
            "ServiceRequest.subject.display", "Patient.name", "Patient.birthDate", "Patient.address",
            "Patient.telecom", "Patient.identifier (SS)", "Specimen.collection.collector",
            "ServiceRequest.note", "ServiceRequest.requester",
        ),
    )  # fmt: skip
    assert not any(secret in repr(order) for secret in SECRETS)


def test_a_request_alone_names_its_patient_by_an_identifier_or_holds_it():
    alone = request(subject={"identifier": {"system": "urn:hosp", "value": "P-1"}}, specimen=None)
    order = one(json.dumps(alone).encode())
    assert (order.patient, order.specimen) == ((Identifier("P-1", "urn:hosp"),), None)
    inside = request(
        subject={"reference": "#p"},
        specimen=[{"reference": "#s"}],
        contained=[patient(), specimen(subject={"reference": "#p"})],
    )
    order = one(b"\xef\xbb\xbf" + json.dumps(inside).encode())
    assert (order.patient[0].value, order.specimen.kind) == ("P-1", "marrow")


def test_a_revoked_request_cancels():
    assert one(bundle(request(status="revoked"), patient())).action == "cancel"


def test_the_head_of_a_message_says_who_sent_it_and_other_resources_are_named_as_dropped():
    head = {"resourceType": "MessageHeader", "source": {"name": "LIS", "endpoint": "urn:x"}}
    doctor = {"resourceType": "Practitioner", "id": "d", "name": [{"family": "House"}]}
    order = one(bundle(head, request(), patient(), doctor, identifier={"value": "M-7"}))
    assert (order.sender, order.message) == ("LIS", "M-7")
    assert order.dropped[-1] == "Practitioner"


def test_an_absolute_address_finds_what_stands_in_the_bundle():
    asked = request(subject={"reference": "https://lis.example/fhir/Patient/p"}, specimen=None)
    assert one(bundle(asked, patient())).patient[0].value == "P-1"
    here = {"fullUrl": "https://lis.example/fhir/Patient/p", "resource": patient()}
    entries = [{"resource": asked}, here]
    assert one(bundle(entry=entries)).patient[0].value == "P-1"
    here["fullUrl"] = "https://other.example/fhir/Patient/p"
    assert "subject" in refusal(bundle(entry=entries))


def test_a_reference_without_a_number_finds_nobody():
    nameless = {key: value for key, value in patient().items() if key != "id"}
    assert "subject" in refusal(bundle(request(subject={"reference": "Patient/"}), nameless))


def test_the_placers_number_is_taken_among_several():
    several = [{"value": "F-1"}, {"value": "A-1", "type": {"coding": [{"code": "PLAC"}]}}]
    assert one(bundle(request(identifier=several), patient())).number.value == "A-1"
    assert "PLAC" in refusal(
        bundle(request(identifier=[{"value": "1"}, {"value": "2"}]), patient())
    )


def test_several_requests_come_out():
    second = request(id="r2", identifier=[{"value": "A-2"}], specimen=None)
    orders = parse_orders(bundle(request(), second, patient(), specimen()))
    assert [order.number.value for order in orders] == ["A-1", "A-2"]
    assert "twice" in refusal(bundle(request(), request(id="r2"), patient(), specimen()))


@pytest.mark.parametrize(
    "status", ["draft", "entered-in-error", "on-hold", "completed", "", None, 3]
)
def test_only_active_and_revoked_requests_are_orders(status):
    assert "ServiceRequest.status" in refusal(bundle(request(status=status), patient()))


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ([request(intent="plan"), patient()], "intent"),
        ([request(doNotPerform=True), patient()], "doNotPerform"),
        ([request(modifierExtension=[{"url": "x"}]), patient()], "modifierExtension"),
        ([request(identifier=[]), patient()], "identifier is empty"),
        ([request(identifier=[{"value": " "}]), patient()], "identifier is empty"),
        ([request(identifier="A-1"), patient()], "no list of objects"),
        ([request(identifier=[{"value": 7}]), patient()], "no text"),
        ([request(identifier=[{"value": "x" * 10_000}]), patient()], "10,000 characters"),
        ([request(identifier=[{"value": "a\0b"}]), patient()], "control characters"),
        ([request()], "subject"),
        ([request(subject=None), patient()], "subject"),
        ([request(subject={"reference": "Group/p"}), patient()], "subject"),
        ([request(), patient(identifier=[])], "subject"),
        ([request(specimen=[{"reference": "a"}, {"reference": "b"}]), patient()], "2 specimens"),
        ([request(), patient(), specimen(status="entered-in-error")], "entered-in-error"),
        ([request(), patient(), specimen(subject={"reference": "Patient/q"})], "not the patient"),
        ([request(), patient(), specimen(collection={"collectedDateTime": "soon"})], "valid time"),
        ([request(authoredOn="2026-13-01"), patient()], "authoredOn"),
        ([request(), patient(), patient(name=[])], "fullUrl or id"),
        ([patient()], "no ServiceRequest"),
        ([{"id": "p"}], "no ServiceRequest"),
        ([{"resourceType": ["ServiceRequest"]}], "no text"),
    ],
)  # fmt: skip
def test_what_fhir_cannot_be_taken_is_refused_with_the_path(resources, words):
    assert words in refusal(bundle(*resources))


@pytest.mark.parametrize("entry", [3, [3], [{"resource": 3}], [{"resource": []}], {"a": 1}])
def test_a_bundle_of_a_wrong_shape_is_refused(entry):
    refusal(bundle(entry=entry))


def test_a_specimen_that_is_not_known_is_none():
    other = specimen(type={"coding": [{"code": "URN"}]})
    assert one(bundle(request(), patient(), other)).specimen is None
    text = specimen(type={"text": "Bone marrow"}, collection={"collectedPeriod": {"start": "2026"}})
    assert one(bundle(request(), patient(), text)).specimen == Specimen(
        "marrow", None, None, "SP-9"
    )
    both = specimen(type={"coding": [{"code": "BLD"}, {"code": "119359002"}]})
    assert one(bundle(request(), patient(), both)).specimen is None


def test_an_order_made_by_the_fhir_library_is_read():
    pytest.importorskip("fhir.resources")
    from fhir.resources.R4B.bundle import Bundle

    text = Bundle.model_validate_json(bundle()).model_dump_json()
    written, own = one(text.encode()), one(bundle())
    assert set(written.dropped) == set(own.dropped)
    assert replace(written, dropped=()) == replace(own, dropped=())


# ── the answer ────────────────────────────────────────────────────────────────────────────────

AT = "2026-01-31T09:15:00Z"


def test_the_answer_goes_back_to_the_sender_under_the_id_of_the_message():
    answer = acknowledge(message(), code="AA", text="taken", at=AT).decode()
    msh, msa = answer.split("\r")[:-1]
    fields = msh.split("|")
    assert fields[2:7] == ["ALLKIT", "HAEM", "LIS", "LAB^1.2.3^ISO", "20260131091500+0000"]
    assert (fields[8], fields[10:12]) == ("ACK^O21^ACK", ["P", "2.5.1"])
    assert msa == "MSA|AA|M-1|taken"
    assert acknowledge(message(), code="AA", text="taken", at=AT).decode() == answer


@pytest.mark.parametrize("code", ["AA", "AE", "AR"])
def test_the_answer_is_valid_for_a_strict_library(code):
    hl7apy = pytest.importorskip("hl7apy.parser")
    text = acknowledge(message(), code=code, text="ORC-1 | is ^ wrong", at=AT).decode()
    parsed = hl7apy.parse_message(text, validation_level=1)
    assert parsed.validate()
    assert parsed.msa.msa_1.value == code
    assert parsed.msa.msa_2.value == "M-1"


def test_the_answer_escapes_its_text_and_uses_the_separators_of_the_message():
    table = str.maketrans("|^~\\&", "#*!/%")
    data = message().decode().translate(table).encode()
    answer = acknowledge(data, code="AR", text="a#b|c\r\nd", at=AT).decode()
    assert answer.split("\r")[1] == "MSA#AR#M-1#a/F/b|c  d"


def test_a_message_that_is_broken_behind_its_msh_is_answered_under_its_id():
    for data in (message(MSH, "Jane goes on"), message(MSH, "PID|||a\0b"), message(MSH, MSH)):
        assert b"\rMSA|AR|M-1\r" in acknowledge(b"\x0b" + data, code="AR", at=AT)


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1", b"MSH", b"\xff" * 50, message(PID)])
def test_a_message_that_cannot_be_read_gets_an_answer_too(data):
    answer = acknowledge(data, code="AR", text="x" * 1000, at=AT).decode()
    assert answer.startswith("MSH|^~\\&|allkit|")
    assert f"\rMSA|AR||{'x' * 80}\r" in answer
