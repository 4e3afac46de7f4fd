"""`allkit clinic model, work, watch, send, target, settings`: what runs beside it."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from allkit.cli.clinic_options import As, Url, Where, opened, signed_in
from allkit.cli.models import open_model
from allkit.cli.options import Device, Model
from allkit.cli.progress import put, say
from allkit.errors import ConfigError

__all__ = ["model", "receive", "send", "settings", "target", "watch", "work"]

Once = Annotated[bool, typer.Option("--once", help="end when nothing waits")]


def model(
    model: Model,
    name: Annotated[
        str | None, typer.Option(help="its name in reports", show_default="the file's")
    ] = None,
    default: Annotated[bool, typer.Option(help="whether it answers from now on")] = True,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Take up a model. It answers from now on, and every case that is not signed is answered anew.

    Example:
    allkit clinic model model.onnx
    """
    from allkit.clinic.models import add_model

    with signed_in(store, url, as_) as user:
        add_model(user, model, open_model(model), name=name, default=default)
    say(f"{name or model.resolve().stem} is taken up. Next: allkit clinic work")


@contextlib.contextmanager
def _until_stopped() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set, so that what was begun is finished."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # A signal may come while this thread is inside `stop.wait()` and holds the event's lock, which a
    # handler that sets it would then wait for, for ever. Another thread can wait for it.
    before = {
        number: signal.signal(number, lambda *_: _thread.start_new_thread(stop.set, ()))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def work(
    once: Once = False,
    until_closed: Annotated[
        bool, typer.Option("--until-closed", help="end when standard input is closed")
    ] = False,
    device: Device = "auto",
    store: Where = None,
    url: Url = None,
) -> None:
    """Answer the cases that wait, until it is told to stop. It may be killed at any time.

    With --once the exit status is 1 where a job failed, and it says why. With
    --until-closed it ends with the program that started it.

    Example:
    allkit clinic work
    allkit clinic work --once
    """
    from allkit.clinic.access import worker
    from allkit.clinic.worker import Worker

    with opened(store, url) as clinic:
        answering = Worker(worker(clinic), lambda path: open_model(path, device))
        if once:
            done, failed = answering.drain()
            say(f"{done} jobs done{f', {failed} failed' if failed else ''}.")
            for why in answering.why:
                say(why)
            if failed:
                raise typer.Exit(1)
            return
        say("Answering; Ctrl-C ends it.")
        with _until_stopped() as stop:
            if until_closed:
                threading.Thread(target=_stop_when_closed, args=(stop,), daemon=True).start()
            answering.run(stop)
    say("Ended; what was answered is kept.")


def _stop_when_closed(stop: threading.Event) -> None:
    # Not through Python's own buffer, which a thread must not hold while the program ends.
    while os.read(0, 1024):
        pass
    stop.set()


def watch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="where files arrive")],
    once: Once = False,
    store: Where = None,
    url: Url = None,
) -> None:
    """Take files that arrive in a folder: orders, DICOM, and images in a folder named like their case.

    A file is moved to FOLDER/taken when it is safe in the clinic, or to
    FOLDER/refused, with a text that says why.

    Example:
    allkit clinic watch /srv/microscope
    """
    from allkit.clinic.watching import POLL, look
    from allkit.clinic.watching import watch as keep_watching

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder. Make it first, or name another one.")
    with opened(store, url) as clinic:
        if once:
            seen: dict[Path, Any] = {}
            look(clinic, folder, seen, tell=say)
            time.sleep(POLL)  # a file is taken when it did not change meanwhile
            say(f"{look(clinic, folder, seen, tell=say)} files moved to taken or refused.")
            return
        say(f"Watching {folder}; Ctrl-C ends it.")
        with _until_stopped() as stop:
            keep_watching(clinic, folder, stop=stop, tell=say)


def send(
    once: Once = False,
    again: Annotated[bool, typer.Option("--again", help="also what was given up")] = False,
    store: Where = None,
    url: Url = None,
) -> None:
    """Send the reports that wait to the laboratory systems that `allkit clinic target` names.

    What is not taken is tried again, at longer and longer intervals. What never
    was is listed; exit status 1 then.

    Example:
    allkit clinic send
    """
    from allkit.clinic import outbox
    from allkit.clinic.access import worker

    with opened(store, url) as clinic:
        user = worker(clinic)
        for one in outbox.dead(user) if again else ():
            outbox.retry(user, one.id)
        if once:
            done = outbox.deliver(user)
        else:
            say("Sending; Ctrl-C ends it.")
            with _until_stopped() as stop:
                while True:
                    done = outbox.deliver(user)
                    if stop.wait(5):
                        break
        dead = outbox.dead(user)
        say(f"{done.sent} sent, {len(outbox.waiting(user))} wait, {len(dead)} given up.")
    for one in dead:
        put(f"{one.id}  {one.target}  case {one.case}  {one.error or ''}\n")
    if dead:
        raise typer.Exit(1)


def receive(
    host: Annotated[str, typer.Option(help="the address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 2575,
    store: Where = None,
    url: Url = None,
) -> None:
    """Take orders by HL7 over MLLP (ORM^O01, OML^O21) and acknowledge them.

    MLLP knows no login and no encryption: listen elsewhere than on this machine
    only in a tunnel.

    Example:
    allkit clinic receive --port 2575
    """
    from allkit.clinic.access import worker
    from allkit.clinic.outbox import serve_orders

    with (
        _until_stopped() as stop,
        opened(store, url) as clinic,
        serve_orders(lambda: worker(clinic), host, port) as receiver,
    ):
        say(f"Taking orders on {host}:{receiver.port}; Ctrl-C ends it.")
        # A signal that another thread got does not wake this one out of a wait without an end.
        while not stop.wait(0.5):
            pass


def target(
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the laboratory system")],
    host: Annotated[str | None, typer.Option(help="where it listens")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="of its MLLP listener")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="send nothing there any more")] = False,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Name a system that gets every signed report by HL7 (ORU^R01 over MLLP). There is none at first.

    Example:
    allkit clinic target lis --host 10.0.0.5 --port 2575
    """
    from allkit.clinic.outbox import set_target

    if remove == (host is not None and port is not None):
        raise ConfigError("Give --host and --port, or --remove.")
    with signed_in(store, url, as_) as user:
        set_target(user, name, None if remove else {"kind": "mllp", "host": host, "port": port})
    say(
        f"{name} is removed." if remove else f"Reports go to {name} when `allkit clinic send` runs."
    )


def settings(
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one setting; repeatable")
    ] = None,
    store: Where = None,
    url: Url = None,
    as_: As = None,
) -> None:
    """Show the clinic's settings, or change some.

    Example:
    allkit clinic settings --set second_reader=yes --set idle_minutes=10
    """
    from allkit.clinic.access import change_settings, settings_of

    with signed_in(store, url, as_) as user:
        if set_:
            change_settings(user, dict(_setting(text) for text in set_))
        for name, value in settings_of(user).items():
            put(f"{name} = {value}\n")


def _setting(text: str) -> tuple[str, Any]:
    from allkit.clinic.access import OWN_SETTINGS

    key, sign, value = text.partition("=")
    kind = OWN_SETTINGS.get(key)
    if kind is None or not sign:
        known = ", ".join(OWN_SETTINGS)
        raise ConfigError(f"{text!r} is no setting. Write KEY=VALUE; there are {known}.")
    if kind is str:
        return key, value
    if kind is bool:
        words = {"yes": True, "true": True, "no": False, "false": False}
        if value.lower() not in words:
            raise ConfigError(f"{key} is yes or no, not {value!r}.")
        return key, words[value.lower()]
    try:
        return key, float(value)
    except ValueError:
        raise ConfigError(f"{key} is a number, not {value!r}.") from None
