"""Run commands of allkit, each in a process of its own: python commands.py JOB.json.

The job names the steps, each a command line. They are forked from a process that has imported
torch and what is for graphs, tables and statistics, which takes longest and reports nothing;
what allkit imports besides, each step imports anew. `serve` and `app` are started as programs of
their own, asked once, and stopped. How each step ended, and what it left in the temporary folder,
is written beside the job.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

STEP = "/:step:/"  # as in tracer.py
FIRST = (
    "torch", "torchvision", "torch._dynamo", "torch.onnx", "onnxscript", "pandas", "sklearn.ensemble", "scipy.stats",
    "skimage.color", "pydantic", "typer", "rich",
)  # fmt: skip
WATCHED = (
    "accelerate", "albumentations", "allkit", "huggingface_hub", "matplotlib", "onnxruntime",
    "openvino", "optuna", "peft", "ray", "streamlit", "timm",
)  # fmt: skip
SECONDS = 60
SLOW, TRIES = b"timed out during startup", 3
"""What Ray says on a busy machine, to which it gives 30 seconds; such a step is tried again."""


def main() -> None:
    """Run the steps, one after the other."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text(encoding="utf-8"))
    temporary = Path(os.environ["TMPDIR"])
    for name in FIRST:
        importlib.import_module(name)
    early = sorted(set(WATCHED) & set(sys.modules))
    if early:
        raise RuntimeError(f"imported before the steps: {early}")
    # What torch has set and made by being imported belongs to no step.
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
    _empty(temporary)
    ended = {}
    for name, arguments in job["steps"]:
        with contextlib.suppress(FileNotFoundError):
            Path(STEP, name).read_bytes()  # the tracer reads it as a heading
        log = Path(job["logs"]) / f"{name}.txt"
        for _ in range(TRIES):
            begun = os.times()
            child = os.fork()
            if child == 0:
                _step(arguments, log, job["image"])
                return
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            done = os.times()
            if not log.is_file() or SLOW not in log.read_bytes():
                break
            log.unlink()
        ended[name] = {
            "status": status,
            "left": sorted(str(p.relative_to(temporary)) for p in temporary.rglob("*")),
            "seconds": done.elapsed - begun.elapsed,
            "cpu": sum(done[2:4]) - sum(begun[2:4]),
        }
        _empty(temporary)
    path.with_suffix(".ended.json").write_text(json.dumps(ended), encoding="utf-8")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _step(arguments: list[str], log: Path, image: str) -> None:
    """Run one command; ends by SystemExit, as a program does."""
    stream = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    if arguments[0] == "serve":
        _serve(arguments, image)
    elif arguments[0] == "app":
        _app(arguments)
    elif arguments[:2] == ["clinic", "receive"]:
        _receive(arguments)
    else:
        sys.argv = ["allkit", *arguments]
        importlib.import_module("allkit.cli").main()


def _serve(arguments: list[str], image: str) -> None:
    program = [sys.executable, "-m", "allkit", *arguments, "--port", "0"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = re.search(r"http://\S+?:\d+", process.stderr.readline())[0]
            _until(lambda: _get(f"{address}/v2/health/ready") is not None, process)
            form = (
                b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
                b"Content-Type: image/png\r\n\r\n%b\r\n--x--\r\n" % Path(image).read_bytes()
            )
            kind = {"Content-Type": "multipart/form-data; boundary=x"}
            asked = urllib.request.Request(f"{address}/predict", form, kind)
            with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
                sys.stdout.write(answer.read().decode())
        finally:
            sys.stdout.write(_stopped(process))
    sys.exit(process.returncode)


def _receive(arguments: list[str]) -> None:
    program = [sys.executable, "-m", "allkit", *arguments, "--port", "0"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        try:
            port = int(re.search(r":(\d+);", process.stderr.readline())[1])
            with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as one:
                one.sendall(b"\x0bno message\x1c\r")
        finally:
            sys.stdout.write(_stopped(process))
    sys.exit(process.returncode)


def _app(arguments: list[str]) -> None:
    """Open the app's page and have its script run once, as a browser does."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.sync.client import connect

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "allkit", *arguments, "--no-browser", "--port", str(port)]
    with subprocess.Popen(program) as process:
        try:
            _until(lambda: _get(f"http://127.0.0.1:{port}/_stcore/health") == b"ok", process)
            if b"<html" not in (_get(f"http://127.0.0.1:{port}/") or b""):
                raise RuntimeError("the app gave no page")
            stream = f"ws://127.0.0.1:{port}/_stcore/stream"
            origin = f"http://127.0.0.1:{port}"
            with connect(stream, subprotocols=["streamlit"], origin=origin, proxy=None) as page:
                question = BackMsg()
                question.rerun_script.query_string = ""
                page.send(question.SerializeToString())
                finished, drawn = False, 0
                while not finished:
                    message = ForwardMsg()
                    message.ParseFromString(page.recv(SECONDS))
                    drawn += message.WhichOneof("type") == "delta"
                    finished = message.WhichOneof("type") == "script_finished"
            sys.stdout.write(f"the script ran and drew {drawn} elements\n")
        finally:
            _stopped(process)
    sys.exit(process.returncode if drawn else 1)


def _stopped(process: subprocess.Popen[str]) -> str:
    """End a program and return what it said; one that does not end is killed, and fails the step."""
    process.terminate()
    try:
        return process.communicate(timeout=SECONDS)[1] or ""
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def _get(address: str) -> bytes | None:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return None


def _until(true: object, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError("it did not start")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
