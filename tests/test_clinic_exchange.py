"""What laboratory systems send, and what they get: orders in, signed reports out, nothing lost."""

import datetime
import io
import json
import shutil
import zipfile
from dataclasses import replace

import pytest
import sqlalchemy as sa

from allkit.clinic import access, cases, erasure, exchange, fields, mllp, outbox, reading, signing
from allkit.clinic.intake.unpack import unpack
from allkit.clinic.records import Identifier
from allkit.clinic.signing import Statement
from allkit.clinic.store import chain
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Store
from allkit.clinic.store.verify import verify
from allkit.clinic.targets import targets
from allkit.errors import AccessError, ClinicError, OrderError, SendError, StoreError
from clinic_places import BLOOD, Clock, incoming, new_store, picture

LIS = {"kind": "mllp", "host": "127.0.0.1", "port": 2575}


def message(*numbers, control="M1", patient="PAT-77", kind="BLD", action="NW", sender="LIS|KH"):
    lines = [
        f"MSH|^~\\&|{sender}|ALLKIT||20260201080000+0000||OML^O21^OML_O21|{control}|P|2.5.1",
        f"PID|1||{patient}^^^KH||Muster^Erika||19700101|F",
    ]
    for number in numbers or ("A-1",):
        lines += [f"ORC|{action}|{number}^LIS", f"OBR|1|{number}^LIS||SMEAR^Smear^L"]
        lines += [f"SPM|1|S-{number}||{kind}^{kind}^HL70487"]
    return ("\r".join(lines) + "\r").encode()


def service_request(number="F-1", **changes):
    return {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "identifier": [{"system": "LIS", "value": number}],
        "subject": {"identifier": {"system": "KH", "value": "PAT-77"}},
        "specimen": [{"reference": "#s"}],
        "contained": [
            {"resourceType": "Specimen", "id": "s", "type": {"coding": [{"code": "BLD"}]}}
        ],
    } | changes


def code_of(answer):
    return answer.split(b"\rMSA|")[1][:2].decode()


def rows(store, table):
    with store.read() as connection:
        return connection.execute(sa.select(table)).all()


def audited(store, what):
    with store.read() as connection:
        return [row for row in chain.rows(connection) if row.what == what]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The folder of a clinic on SQLite with its first person, to be copied: to make it takes longer."""
    folder = tmp_path_factory.mktemp("template") / "clinic"
    with new_store(folder, now=Clock()) as store:
        access.first_person(store, "anna", "Dr. Anna Berg")
    return folder


@pytest.fixture
def small(template, tmp_path):
    """A clinic on SQLite and its first person."""
    shutil.copytree(template, tmp_path / "clinic")
    with Store.open(tmp_path / "clinic", now=Clock()) as store:
        later(store, 1)
        yield store, access.sign_in(store, "anna")


@pytest.fixture
def lab(small):
    """A clinic on SQLite and a machine that brings orders."""
    store, anna = small
    access.add_person(anna, "lis", ["system"])
    return store, access.sign_in(store, "lis")


# ── orders ────────────────────────────────────────────────────────────────────────────────────


def test_an_order_opens_a_case_and_its_resend_gets_the_same_answer(clinic):
    store, anna = clinic
    first = exchange.take_message(anna, message())
    assert code_of(first) == "AA"
    assert exchange.take_message(anna, message()) == first
    assert exchange.take_message(anna, b"\x0b" + message() + b"\x1c\r") != b""
    (case,) = rows(store, t.cases)
    assert (case.order_number, case.specimen_number) == ("A-1", "S-A-1")
    assert verify(store) == []


def test_the_orders_of_one_message_are_taken_all_or_none(lab):
    store, lis = lab
    assert code_of(exchange.take_message(lis, message("A-1", "A-2", "A-3"))) == "AA"
    assert [row.order_number for row in rows(store, t.cases)] == ["A-1", "A-2", "A-3"]
    # A-2 is another patient's by now: B-1 must not be opened either.
    refused = message("B-1", "A-2", control="M2", patient="PAT-99")
    assert code_of(exchange.take_message(lis, refused)) == "AR"
    assert len(rows(store, t.cases)) == 3
    assert len(rows(store, t.patients)) == 1
    assert len(audited(store, "order.received")) == 3


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"no message at all", "begins with no MSH"),
        (message(kind="XYZ"), "blood or marrow"),
        (message(patient=""), "PID-3 holds no identifier"),
        (message(action="CA"), "no case here"),
        (json.dumps(service_request()).encode(), "FHIR"),
        (message()[:60], "MSH"),
    ],
)
def test_what_is_no_order_is_refused_for_good(lab, sent, told):
    store, lis = lab
    answer = exchange.take_message(lis, sent)
    assert code_of(answer) == "AR"
    assert told in answer.decode()
    assert rows(store, t.cases) == []


def test_a_refusal_holds_no_value_of_the_message(lab):
    _, lis = lab
    exchange.take_message(lis, message("NUMBER-1", patient="SECRET-1"))
    for number, again in enumerate([
        message("NUMBER-1", control="M2", patient="SECRET-2"),
        message("NUMBER-1", control="M3", patient="SECRET-1", kind="BMA"),
        message("NUMBER-2", control="M4", patient="SECRET-3", kind="ODD"),
        message("O'NUMBER \"3\"", control="M5", patient="SECRET-4", kind="ODD"),
        message("NUMBER-1", control="M1", patient="SECRET-5"),
    ]):  # fmt: skip
        answer = exchange.take_message(lis, again).decode()
        assert code_of(answer.encode()) == "AR", number
        reason = answer.split("\rMSA|")[1]
        assert "NUMBER" not in reason
        assert "SECRET" not in reason
        assert "Muster" not in reason
    assert "before with another content" in reason


def test_a_cancellation_of_another_patients_order_is_refused(lab):
    store, lis = lab
    exchange.take_message(lis, message())
    other = message(control="M2", patient="PAT-99", action="CA")
    assert code_of(exchange.take_message(lis, other)) == "AR"
    assert [row.order_state for row in rows(store, t.cases)] == [None]
    own = message(control="M3", action="CA")
    assert code_of(exchange.take_message(lis, own)) == "AA"
    assert [row.order_state for row in rows(store, t.cases)] == ["cancelled"]


def test_a_resend_after_the_case_was_erased_opens_no_new_one(small):
    store, anna = small
    exchange.take_message(anna, message())
    (case,) = rows(store, t.cases)
    erasure.erase(anna, case.id, why="asked for")
    assert code_of(exchange.take_message(anna, message())) == "AA"
    assert [row.status for row in rows(store, t.cases)] == ["erased"]


def test_a_store_that_is_away_says_send_again(lab, monkeypatch):
    _, lis = lab

    def away(*_, **__):
        raise StoreError("The clinic's database cannot be used now (patient Muster).")

    monkeypatch.setattr(exchange, "open_orders", away)
    answer = exchange.take_message(lis, message())
    assert code_of(answer) == "AE"
    assert b"Muster" not in answer


def test_who_may_open_no_case_is_refused_and_so_is_who_left(small):
    store, anna = small
    access.add_person(anna, "boss", ["admin"])
    boss = access.sign_in(store, "boss")
    assert code_of(exchange.take_message(boss, message())) == "AR"
    with pytest.raises(AccessError):
        exchange.take_bundle(boss, json.dumps(service_request()).encode())
    assert rows(store, t.cases) == []


def test_two_systems_without_a_name_may_use_the_same_message_id(small):
    store, anna = small
    for name in ("one", "two"):
        access.add_person(anna, name, ["system"])
        sent = message(f"{name}-1", sender="|", patient=f"P-{name}")
        assert code_of(exchange.take_message(access.sign_in(store, name), sent)) == "AA"
    assert len(rows(store, t.cases)) == 2


def test_a_service_request_opens_a_case_once(lab):
    store, lis = lab
    ((case, new),) = exchange.take_bundle(lis, json.dumps(service_request()).encode())
    assert new
    again = json.dumps(service_request(), indent=2).encode()
    assert exchange.take_bundle(lis, again) == [(case, False)]
    bundle = {
        "resourceType": "Bundle", "type": "message", "id": "B1",
        "entry": [{"resource": service_request(number)} for number in ("F-2", "F-3")],
    }  # fmt: skip
    made = exchange.take_bundle(lis, json.dumps(bundle).encode())
    assert [one for _, one in made] == [True, True]
    spaced = json.dumps(bundle, indent=1, sort_keys=True).encode()
    assert exchange.take_bundle(lis, spaced) == [(id, False) for id, _ in made]
    assert [row.order_number for row in rows(store, t.cases)] == ["F-1", "F-2", "F-3"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"resourceType": 5}', b"{" * 5000, message()]
)
def test_what_is_no_resource_is_told(lab, body):
    with pytest.raises(OrderError, match="FHIR resource"):
        exchange.take_bundle(lab[1], body)


# ── files ─────────────────────────────────────────────────────────────────────────────────────


def zipped(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_", "."), data)
    return stream.getvalue()


def test_a_zip_of_images_an_order_and_waste_is_taken_apart(lab):
    store, lis = lab
    case = cases.create(lis, specimen_=BLOOD)
    data = zipped(a_png=picture(1), b_png=picture(1), c_hl7=message(), d_txt=b"text")
    taken = exchange.take(lis, unpack(("x.zip", data)), case)
    assert [one.name for one in taken.added] == ["x.zip/a.png"]
    assert [one.name for one in taken.again] == ["x.zip/b.png"]
    assert [one.name for one in taken.refused] == ["x.zip/d.txt"]
    assert len(taken.cases) == 1
    assert taken.opened == taken.cases
    assert len(taken.stripped) == 2
    again = exchange.take(lis, unpack(("x.zip", data)), case)
    assert (again.added, again.opened, again.cases) == ((), (), taken.cases)
    # The same order may come by another way as well.
    assert code_of(exchange.take_message(lis, message())) == "AA"
    assert len(rows(store, t.cases)) == 2


def test_an_image_goes_to_the_case_of_its_accession_number_or_is_refused(lab):
    _, lis = lab
    ours = cases.create(lis, specimen_=BLOOD, order=Identifier("A-1", "LIS"))
    other = cases.create(lis, specimen_=BLOOD, order=Identifier("A-2", "LIS"))
    twice = [
        cases.create(lis, specimen_=BLOOD, order=Identifier("A-3", issuer))
        for issuer in ("LIS", "KH")
    ]
    one, two, three, four = (
        replace(incoming(i), accession=number, name=f"{i}.dcm")
        for i, number in enumerate(("A-1", "A-9", "A-3", ""))
    )
    taken = exchange.take(lis, [one, two, three, four])
    assert [a.name for a in taken.added] == ["0.dcm"]
    assert [r.code for r in taken.refused] == ["case"] * 3
    assert ["No case has" in r.message for r in taken.refused] == [True, False, False]
    # With a case named: what is surely of another one is not put there.
    taken = exchange.take(lis, [replace(one, data=incoming(9).data), two, four], other)
    assert [r.name for r in taken.refused] == ["0.dcm"]
    assert ours in taken.refused[0].message
    assert [a.name for a in taken.added] == ["1.dcm", "3.dcm"]
    assert len(exchange.take(lis, [three], twice[0]).added) == 1


def test_an_image_that_another_case_holds_is_named(lab):
    _, lis = lab
    first, second = (cases.create(lis, specimen_=BLOOD) for _ in range(2))
    exchange.take(lis, [incoming(1)], first)
    taken = exchange.take(lis, [incoming(1)], second)
    assert taken.elsewhere == (("field 1.png", (first,)),)


def test_a_case_that_is_unknown_or_signed_takes_nothing(small):
    store, anna = small
    case = signed(anna)
    for bad in (case, "X" * 26):
        with pytest.raises(ClinicError):
            exchange.take(anna, [incoming(50)], bad)
    assert len(rows(store, t.fields)) == 1


# ── reports out ───────────────────────────────────────────────────────────────────────────────


def signed(user, *, order="A-1", seed=0):
    case = cases.create(user, specimen_=BLOOD, order=Identifier(order, "LIS"))
    (field,) = fields.add(user, case, [incoming(seed)])
    reading.relabel(user, field.field, "Pro")
    signing.sign(user, case, Statement("Pro"))
    return case


class Lab:
    """A laboratory system: it takes messages, or fails as it is told."""

    def __init__(self, *failures):
        self.failures, self.got, self.before = list(failures), [], None

    def __call__(self, sent, *, host, port):
        if self.before is not None:
            self.before()
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        control = sent.decode().split("|")[9]
        self.got.append(control)
        return mllp.Acknowledgement("AA", "", control)


AWAY = SendError("The laboratory cannot be reached.", retry=True)
REFUSED = SendError("The laboratory refuses the message (AR).", retry=False)


def later(store, seconds):
    store.now.milliseconds += int(seconds * 1000)


@pytest.fixture
def sending(clinic):
    """A clinic, on both databases, with one target: (store, anna, the program's own user)."""
    store, anna = clinic
    outbox.set_target(anna, "lis", LIS)
    return store, anna, access.worker(store)


@pytest.fixture
def small_sending(small):
    """The same on SQLite only."""
    store, anna = small
    outbox.set_target(anna, "lis", LIS)
    return store, anna, access.worker(store)


def test_nothing_is_sent_where_no_target_is_named(small):
    store, anna = small
    signed(anna)
    assert rows(store, t.deliveries) == []
    lab = Lab()
    assert outbox.deliver(access.worker(store), send=lab) == outbox.Counts()
    assert lab.got == []


def test_what_is_signed_corrected_and_withdrawn_goes_out_in_that_order(sending):
    store, anna, worker = sending
    case = signed(anna)
    signing.reopen(anna, case, why="look again")
    signing.sign(anna, case, Statement("Pro"))
    signing.withdraw(anna, case, why="another patient")
    lab = Lab()
    assert outbox.deliver(worker, send=lab) == outbox.Counts(sent=3)
    reports = sorted(rows(store, t.reports), key=lambda row: row.version)
    assert [row.kind for row in reports] == ["final", "corrected", "withdrawn"]
    assert lab.got == [row.sha256[:20].upper() for row in reports]
    sent = audited(store, "delivery.sent")
    assert [row.detail["control"] for row in sent] == lab.got
    assert {row.detail["of"] for row in sent} == {case}
    assert outbox.deliver(worker, send=lab) == outbox.Counts()
    assert verify(store) == []


def test_a_later_version_never_overtakes_one_that_waits(sending):
    store, anna, worker = sending
    case = signed(anna)
    assert outbox.deliver(worker, send=Lab(AWAY)) == outbox.Counts(waiting=1)
    signing.withdraw(anna, case, why="another patient")
    lab = Lab()
    assert outbox.deliver(worker, send=lab) == outbox.Counts()  # the first one's wait is not over
    other = signed(anna, order="A-2", seed=1)
    assert outbox.deliver(worker, send=lab) == outbox.Counts(sent=1)
    later(store, 31)
    assert outbox.deliver(worker, send=lab) == outbox.Counts(sent=2)
    sent = [row.detail["of"] for row in audited(store, "delivery.sent")]
    assert sent == [other, case, case]
    by_report = {row.id: row.version for row in rows(store, t.reports)}
    told = [by_report[row.detail["report"]] for row in audited(store, "delivery.sent")]
    assert told == [1, 1, 2]


def seconds_until(store, time):
    now = datetime.datetime.fromisoformat(store.now())
    return round((datetime.datetime.fromisoformat(time) - now).total_seconds())


def test_the_waits_double_up_to_an_hour_and_then_it_is_dead(small_sending):
    store, anna, worker = small_sending
    signed(anna)
    waits = []
    while outbox.deliver(worker, send=Lab(AWAY)) == outbox.Counts(waiting=1):
        (delivery,) = outbox.waiting(anna)
        waits.append(seconds_until(store, delivery.next_at))
        later(store, waits[-1] - 1)
        assert outbox.deliver(worker, send=Lab()) == outbox.Counts()  # a second too early
        later(store, 1)
    assert waits == [30, 60, 120, 240, 480, 960, 1920, *[3600] * 52]
    (dead,) = outbox.dead(anna)
    assert (dead.attempts, dead.target, dead.version) == (60, "lis", 1)
    assert "cannot be reached" in dead.error
    assert len(audited(store, "delivery.dead")) == 1
    outbox.retry(anna, dead.id)
    assert outbox.deliver(worker, send=Lab()) == outbox.Counts(sent=1)
    with pytest.raises(ClinicError, match="only a dead one"):
        outbox.retry(anna, dead.id)


def test_what_is_refused_for_good_is_dead_at_once_and_holds_up_nothing(small_sending):
    _, anna, worker = small_sending
    case = signed(anna)
    signing.withdraw(anna, case, why="another patient")
    assert outbox.deliver(worker, send=Lab(REFUSED)) == outbox.Counts(sent=1, dead=1)
    (dead,) = outbox.dead(anna)
    assert dead.version == 1
    with pytest.raises(ClinicError, match="Version 2"):  # it would come behind the withdrawal
        outbox.retry(anna, dead.id)
    with pytest.raises(ClinicError, match="Version 2"):
        outbox.queue(anna, dead.report, "lis")


def test_a_process_that_is_killed_sends_again_under_the_same_id_and_loses_nothing(sending):
    store, anna, worker = sending
    signed(anna)

    class Killed(BaseException):
        pass

    lab = Lab()

    def deliver_and_die(message, **where):
        lab(message, **where)
        raise Killed

    with pytest.raises(Killed):
        outbox.deliver(worker, send=deliver_and_die)
    assert outbox.deliver(worker, send=lab) == outbox.Counts()  # somebody else may be sending it
    later(store, 31)
    assert outbox.deliver(worker, send=lab) == outbox.Counts(sent=1)
    assert len(lab.got) == 2
    assert len(set(lab.got)) == 1


def test_two_processes_do_not_send_the_same_at_once(small_sending):
    _, anna, worker = small_sending
    signed(anna)
    first, second = Lab(), Lab()
    first.before = lambda: outbox.deliver(worker, send=second)
    assert outbox.deliver(worker, send=first) == outbox.Counts(sent=1)
    assert (len(first.got), second.got) == (1, [])


def test_a_case_that_is_erased_while_its_report_is_on_the_way_is_gone(small_sending):
    store, anna, worker = small_sending
    case = signed(anna)
    lab = Lab()
    lab.before = lambda: erasure.erase(anna, case, why="asked for")
    assert outbox.deliver(worker, send=lab) == outbox.Counts()
    assert rows(store, t.deliveries) == []
    assert verify(store) == []


def test_a_target_that_is_away_is_asked_once_a_round_and_others_go_on(small):
    store, anna = small
    for name in ("away", "here"):
        outbox.set_target(anna, name, LIS | {"host": name})
    for number in range(3):
        signed(anna, order=f"A-{number}", seed=number)
    asked = []

    def send(message, *, host, port):
        asked.append(host)
        if host == "away":
            raise AWAY
        return mllp.Acknowledgement("AA", "", message.decode().split("|")[9])

    assert outbox.deliver(access.worker(store), send=send) == outbox.Counts(sent=3, waiting=1)
    assert asked.count("away") == 1


def test_a_target_that_was_removed_gets_nothing_and_its_reports_are_dead(small):
    store, anna = small
    outbox.set_target(anna, "lis", LIS)
    signed(anna)
    outbox.set_target(anna, "lis", None)
    lab = Lab()
    assert outbox.deliver(access.worker(store), send=lab) == outbox.Counts(dead=1)
    assert lab.got == []
    assert "no target lis" in outbox.dead(anna)[0].error


def test_a_report_that_was_signed_before_there_was_a_target_is_queued_by_hand(small):
    store, anna = small
    case = signed(anna)
    outbox.set_target(anna, "lis", LIS)
    worker = access.worker(store)
    assert outbox.deliver(worker, send=Lab()) == outbox.Counts()
    delivery = outbox.queue(anna, case, "lis")
    assert outbox.queue(anna, case, "lis") == delivery  # it waits already
    assert outbox.deliver(worker, send=Lab()) == outbox.Counts(sent=1)
    assert outbox.queue(anna, case, "lis") == delivery  # asked for again
    assert outbox.deliver(worker, send=Lab()) == outbox.Counts(sent=1)
    for report, target in ((case, "other"), ("X" * 26, "lis")):
        with pytest.raises(ClinicError):
            outbox.queue(anna, report, target)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("", LIS), ("../lis", LIS), ("a" * 41, LIS), ("lis\n", LIS), ("lis", {}),
        ("lis", LIS | {"kind": "ftp"}), ("lis", LIS | {"host": "a b"}), ("lis", LIS | {"host": 5}),
        ("lis", LIS | {"host": "http://lis"}), ("lis", LIS | {"host": "x" * 300}),
        ("lis", LIS | {"port": 0}), ("lis", LIS | {"port": True}), ("lis", LIS | {"port": "2575"}),
        ("lis", LIS | {"port": 10**4000}), ("lis", LIS | {"more": 1}), ("lis", None),
    ],
)  # fmt: skip
def test_a_target_that_cannot_be_is_refused(small, name, values):
    store, anna = small
    with pytest.raises(ClinicError):
        outbox.set_target(anna, name, values)
    with store.read() as connection:
        assert targets(store, connection) == {}


def test_only_an_admin_says_where_results_go_and_the_audit_knows(small):
    store, anna = small
    access.add_person(anna, "bert", ["signer"])
    with pytest.raises(AccessError):
        outbox.set_target(access.sign_in(store, "bert"), "lis", LIS)
    outbox.set_target(anna, "lis", LIS | {"host": "lis.example"})
    (row,) = audited(store, "target.set")
    assert (row.object, row.detail["host"], row.who) == ("lis", "lis.example", "anna")


# ── over the network ──────────────────────────────────────────────────────────────────────────


def test_an_order_comes_in_by_mllp_and_its_signed_report_goes_back(small):
    store, anna = small
    got = []

    def taken(data):
        got.append(data)
        from allkit.clinic.orders import acknowledge

        return acknowledge(data, code="AA", at="2026-02-01T09:00:00Z")

    with (
        outbox.serve_orders(lambda: access.worker(store)) as orders,
        mllp.Receiver(taken) as laboratory,
    ):
        answer = mllp.send(message(), host="127.0.0.1", port=orders.port)
        assert (answer.code, answer.control_id) == ("AA", "M1")
        with pytest.raises(SendError) as refused:
            mllp.send(message(control="M2", patient="P-2"), host="127.0.0.1", port=orders.port)
        assert not refused.value.retry
        outbox.set_target(anna, "lis", LIS | {"port": laboratory.port})
        (case,) = rows(store, t.cases)
        (field,) = fields.add(anna, case.id, [incoming(0)])
        reading.relabel(anna, field.field, "Pro")
        report = signing.sign(anna, case.id, Statement("Pro"))
        assert outbox.deliver(access.worker(store)) == outbox.Counts(sent=1)
    assert report.sha256[:20].upper().encode() in got[0]
