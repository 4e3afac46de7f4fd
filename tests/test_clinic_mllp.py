"""HL7 over the network: against each other, against another library, and against hostile peers."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from allkit.clinic.mllp import MAX_MESSAGE, Acknowledgement, Receiver, send
from allkit.clinic.orders import acknowledge
from allkit.errors import SendError

AT = "2026-01-31T09:15:00Z"
MESSAGE = b"MSH|^~\\&|LIS|LAB|||20260131||ORM^O01|M-1|P|2.5.1\rPID|||P-1||Doe^Jane\r"


def taken(message):
    return acknowledge(message, code="AA", at=AT)


def framed(message):
    return b"\x0b" + message + b"\x1c\r"


def to(receiver, message=MESSAGE, **options):
    return send(message, host=receiver.host, port=receiver.port, timeout=5, **options)


@contextmanager
def plain(receiver):
    with socket.create_connection((receiver.host, receiver.port), timeout=5) as connection:
        yield connection


def answer_on(connection):
    got = b""
    while not got.endswith(b"\x1c\r"):
        piece = connection.recv(4096)
        if not piece:
            break
        got += piece
    return got


@contextmanager
def answering(answer, *, wait=0.0):
    """A server that reads once and answers what it is told."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                time.sleep(wait)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


def refusal(port, message=MESSAGE, timeout=5.0):
    with pytest.raises(SendError) as caught:
        send(message, host="127.0.0.1", port=port, timeout=timeout)
    assert "Doe" not in str(caught.value)
    return caught.value


# ── against each other ────────────────────────────────────────────────────────────────────────


def test_a_message_arrives_whole_and_its_answer_comes_back():
    got = []
    with Receiver(lambda message: got.append(message) or taken(message)) as receiver:
        assert receiver.host == "127.0.0.1"
        assert to(receiver) == Acknowledgement("AA", "", "M-1")
    assert got == [MESSAGE]


def test_a_message_of_nearly_a_megabyte_arrives():
    big = MESSAGE + b"NTE|1||" + b"x" * (MAX_MESSAGE - len(MESSAGE) - 100) + b"\r"
    with Receiver(taken) as receiver:
        assert to(receiver, big).code == "AA"


@pytest.mark.parametrize(("code", "retry"), [("AE", True), ("AR", False)])
def test_a_refusal_says_whether_sending_again_can_help(code, retry):
    with Receiver(lambda message: acknowledge(message, code=code, text="why", at=AT)) as receiver:
        error = refusal(receiver.port)
    assert error.retry is retry
    assert f"{code}: why" in str(error)


def test_a_handler_that_raises_answers_that_it_failed_and_quotes_nothing():
    failures = []

    def broken(message):
        raise RuntimeError("Doe^Jane")

    with Receiver(broken, failed=failures.append) as receiver:
        assert refusal(receiver.port).retry is True
        with plain(receiver) as connection:
            connection.sendall(framed(MESSAGE))
            assert b"Jane" not in answer_on(connection)
        assert refusal(receiver.port).retry is True
    assert [type(error) for error in failures] == [RuntimeError] * 3


def test_several_messages_on_one_connection_are_answered_in_turn():
    with Receiver(taken) as receiver, plain(receiver) as connection:
        connection.sendall(framed(MESSAGE) + framed(MESSAGE.replace(b"M-1", b"M-2")))
        got = b""
        while got.count(b"\x1c\r") < 2:
            got += connection.recv(4096)
    assert [part.split(b"|")[2] for part in got.split(b"MSA")[1:]] == [
        b"M-1\r\x1c\r\x0bMSH",
        b"M-2\r\x1c\r",
    ]


def test_twenty_senders_at_once_are_all_served():
    results = []
    with Receiver(taken, connections=32) as receiver:
        threads = [
            threading.Thread(target=lambda: results.append(to(receiver).code)) for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert results == ["AA"] * 20


# ── hostile senders ───────────────────────────────────────────────────────────────────────────


def test_garbage_half_frames_and_slow_senders_do_not_disturb():
    with Receiver(taken) as receiver:
        for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x0bMSH|half", b"\x1c\r\x1c\r", b"\xff" * 9000):
            with plain(receiver) as connection:
                connection.sendall(junk)
            assert to(receiver).code == "AA"
        with plain(receiver) as connection:
            connection.sendall(b"junk \x0bMSH|half a message" + framed(MESSAGE)[:10])
            for byte in framed(MESSAGE)[10:]:
                connection.sendall(bytes([byte]))
            assert b"MSA|AA|M-1" in answer_on(connection)


def test_what_is_no_message_is_handed_on_and_answered():
    with Receiver(taken) as receiver, plain(receiver) as connection:
        connection.sendall(framed(b"hello"))
        assert b"\rMSA|AA\r" in answer_on(connection)


def test_a_message_over_the_limit_is_refused_and_the_connection_closed():
    with Receiver(taken) as receiver:
        with plain(receiver) as connection:
            with_end = framed(MESSAGE + b"x" * MAX_MESSAGE)
            try:
                connection.sendall(with_end)
                answer = answer_on(connection)
            except ConnectionError:  # closed while we were still sending
                answer = b"MSA|AR|M-1|The message is over 1 MiB."
            assert b"MSA|AR|M-1|The message is over 1 MiB." in answer or answer == b""
        assert to(receiver).code == "AA"


@pytest.mark.parametrize(
    ("limits", "begin"),
    [({"idle": 0.2}, b""), ({"idle": 0.2}, b"junk"), ({"whole": 0.2}, b"\x0bMSH")],
)
def test_a_silent_sender_is_cut_off(limits, begin):
    with Receiver(taken, **limits) as receiver, plain(receiver) as connection:
        connection.sendall(begin)
        assert connection.recv(1) == b""


def test_more_connections_than_allowed_are_closed_at_once():
    with Receiver(taken, connections=1) as receiver, plain(receiver) as first:
        first.sendall(framed(MESSAGE))
        answer_on(first)
        with plain(receiver) as second:
            assert second.recv(1) == b""
        first.sendall(framed(MESSAGE))
        assert b"MSA|AA" in answer_on(first)


def test_closing_ends_open_connections_and_frees_the_port():
    with Receiver(taken) as receiver, plain(receiver) as connection:
        connection.sendall(framed(MESSAGE))
        answer_on(connection)
        begun = time.monotonic()
        receiver.__exit__(None, None, None)
        assert time.monotonic() - begun < 3
        assert connection.recv(1) == b""
    assert refusal(receiver.port).retry is True


def test_a_port_that_is_taken_is_an_error_for_the_user():
    with Receiver(taken) as receiver, pytest.raises(SendError, match="another port"):
        Receiver(taken, port=receiver.port).__enter__()


# ── hostile receivers ─────────────────────────────────────────────────────────────────────────


def test_nobody_there_is_worth_another_try():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert refusal(port).retry is True


def test_a_receiver_that_is_silent_is_worth_another_try():
    with answering(b"", wait=0.5) as port:
        error = refusal(port, timeout=0.2)
    assert error.retry is True
    assert "0.2 seconds" in str(error)


@pytest.mark.parametrize(
    ("answer", "retry", "words"),
    [
        (b"", True, "without an answer"),
        (b"\x0bMSH|half", True, "without an answer"),
        (framed(b"HTTP/1.1 400"), False, "no acknowledgement"),
        (framed(MESSAGE), False, "no acknowledgement"),
        (framed(taken(MESSAGE.replace(b"M-1", b"M-2"))), False, "another message"),
        (framed(taken(MESSAGE).replace(b"|AA|", b"||")), False, "no code"),
        (framed(taken(MESSAGE).replace(b"|AA|", b"|CE|")), True, "CE"),
        (b"\x0b" + b"x" * (MAX_MESSAGE + 10), False, "1 MiB"),
    ],
)
def test_an_answer_that_is_none_is_an_error(answer, retry, words):
    with answering(answer) as port:
        error = refusal(port)
    assert error.retry is retry
    assert words in str(error)


@pytest.mark.parametrize(
    "message",
    [b"", b"hello", MESSAGE.replace(b"M-1", b""), MESSAGE + b"NTE|\x1c\r", MESSAGE * 20_000],
)
def test_what_is_no_message_is_not_sent(message):
    assert refusal(1, message).retry is False


def test_an_address_that_cannot_be_is_an_error():
    with pytest.raises(SendError):
        send(MESSAGE, host="127.0.0.1", port=99_999)
    with pytest.raises(SendError):
        send(MESSAGE, host="a" * 300, port=1)


# ── against another library ───────────────────────────────────────────────────────────────────


def test_the_client_of_python_hl7_reaches_our_receiver():
    client = pytest.importorskip("hl7.client")
    with Receiver(taken) as receiver, client.MLLPClient(receiver.host, receiver.port) as sender:
        for _ in range(3):
            assert b"MSA|AA|M-1" in sender.send_message(MESSAGE)


def test_our_sender_reaches_the_server_of_python_hl7():
    mllp = pytest.importorskip("hl7.mllp")
    ready, done, got = threading.Event(), threading.Event(), {}

    async def answer(reader, writer):
        message = await reader.readmessage()
        got["patient"] = str(message.segment("PID")[3])
        writer.writemessage(message.create_ack("AA"))
        await writer.drain()
        writer.close()

    async def serve():
        server = await mllp.start_hl7_server(answer, "127.0.0.1", 0, encoding="utf-8")
        async with server:
            got["port"] = server.sockets[0].getsockname()[1]
            ready.set()
            while not done.is_set():
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        answer_of_it = send(MESSAGE, host="127.0.0.1", port=got["port"])
    finally:
        done.set()
        thread.join(10)
    assert answer_of_it == Acknowledgement("AA", "", "M-1")
    assert got["patient"] == "P-1"


def test_our_sender_reaches_the_server_of_hl7apy():
    server_module = pytest.importorskip("hl7apy.mllp")

    class Handler(server_module.AbstractHandler):
        def reply(self):
            answer = taken(self.incoming_message.encode()).decode()
            return f"\x0b{answer}\x1c\r"

    server = server_module.MLLPServer("127.0.0.1", 0, {"ORM^O01": (Handler,)}, timeout=5)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        port = server.server_address[1]
        assert send(MESSAGE, host="127.0.0.1", port=port).code == "AA"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
