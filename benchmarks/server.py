"""Measure `allkit serve` with many clients at once, and stop it under load.

    python benchmarks/server.py vgg16.onnx --images smears --clients 64 --seconds 20

Each client is a thread with one connection that asks for the answer of one image after another. Told:
requests, errors, how long they took; and the same for clients that were asking when the server got
SIGTERM: how many of their requests were cut off without an answer. Clients and server share the cores.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np

from allkit.images.decode import IMAGE_SUFFIXES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    paths = sorted(p for p in options.images.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    bodies = [form(path.read_bytes()) for path in paths[:500]]
    began = time.perf_counter()
    process, port = start(options.model)
    ready = time.perf_counter() - began
    alone = ask(port, bodies, clients=1, seconds=min(5.0, options.seconds))
    crowd = ask(port, bodies, clients=options.clients, seconds=options.seconds)
    ended = ask(port, bodies, clients=options.clients, seconds=600, stop=(process, 3.0))
    status = process.wait(60)
    result = {
        "start_up_s": round(ready, 2),
        "one_client": alone,
        f"{options.clients}_clients": crowd,
        "sigterm": ended | {"exit_status": status},
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    failed = alone["errors"] or crowd["errors"] or ended["errors"] or ended["cut_off"] or status
    return 1 if failed else 0


def form(data: bytes) -> tuple[bytes, str]:
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    return head.encode() + data + f"\r\n--{mark}--\r\n".encode(), mark


def start(model: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "allkit", "serve", str(model), "--port", "0"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    line = process.stderr.readline() if process.stderr else ""
    found = re.search(r":(\d+) ", line)
    if found is None:
        raise SystemExit(line)
    port = int(found[1])
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == 200:
                return process, port
        except OSError:
            time.sleep(0.02)


def ask(
    port: int,
    bodies: list[tuple[bytes, str]],
    *,
    clients: int,
    seconds: float,
    stop: tuple[subprocess.Popen[str], float] | None = None,
) -> dict[str, object]:
    """Let clients ask until the time is over, or until the server refuses connections."""
    times: list[float] = []
    errors: list[str] = []
    ends: list[str] = []
    begun = time.perf_counter()
    gate = threading.Barrier(clients + 1)

    def work(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        gate.wait()
        for turn in itertools.count(number * 7):
            if time.perf_counter() - begun > seconds:
                break
            body, mark = bodies[turn % len(bodies)]
            one = time.perf_counter()
            try:
                if connection.sock is None:
                    connection.connect()
            except OSError:
                ends.append("refused")  # it listens no more: nothing was accepted
                break
            try:
                connection.request(
                    "POST", "/predict", body,
                    {"Content-Type": f"multipart/form-data; boundary={mark}"},
                )  # fmt: skip
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                ends.append(f"cut off: {type(error).__name__}")
                break
            if response.status == 200 and answer["label"]:
                times.append(time.perf_counter() - one)
            else:
                errors.append(f"{response.status} {answer}")
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    gate.wait()
    begun = time.perf_counter()
    if stop is not None:
        time.sleep(stop[1])
        stop[0].send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begun
    return {
        "requests": len(times),
        "images_s": round(len(times) / elapsed, 1),
        "errors": len(errors),
        "cut_off": sum(end.startswith("cut off") for end in ends),
        "p50_ms": round(float(np.percentile(times, 50)) * 1000, 1),
        "p95_ms": round(float(np.percentile(times, 95)) * 1000, 1),
        "p99_ms": round(float(np.percentile(times, 99)) * 1000, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
