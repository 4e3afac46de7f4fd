"""Clinics for tests: people, cases, images, and a PostgreSQL server of one's own."""

import datetime
import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allkit.clinic.intake.incoming import Incoming, take_image
from allkit.clinic.records import Specimen
from allkit.clinic.store.store import Store

BLOOD = Specimen("blood", "2026-01-31", "May-Grünwald-Giemsa", "S-17")


def picture(seed: int, side: int = 48) -> bytes:
    """A small image, as a PNG file, that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def incoming(seed: int) -> Incoming:
    return take_image(picture(seed), f"field {seed}.png")


class Server:
    """A PostgreSQL server in a temporary folder, reached through a socket there."""

    def __init__(self):
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not binaries:
            pytest.skip("PostgreSQL is not on this machine (Debian: apt-get install postgresql)")
        if os.getuid() == 0 and not shutil.which("runuser"):
            pytest.skip("PostgreSQL refuses root, and there is no runuser")
        self.bin, self.count = binaries[-1].parent, 0
        self.folder = Path(tempfile.mkdtemp(prefix="allkit-pg-"))
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        self.run(
            self.bin / "initdb",
            "-D",
            self.folder / "data",
            "-A",
            "trust",
            "-U",
            "allkit",
            "--no-sync",
        )
        self.start()

    def run(self, *command):
        command = [str(part) for part in command]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, timeout=180)

    def start(self):
        self.run(
            self.bin / "pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log",
            "-o", f"-k {self.folder} -h '' -c max_connections=60", "start",
        )  # fmt: skip

    def stop(self):
        self.run(self.bin / "pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")

    def database(self) -> str:
        """The URL of a new, empty database."""
        self.count += 1
        name = f"clinic{self.count}"
        self.run(self.bin / "createdb", "-h", self.folder, "-U", "allkit", name)
        return f"postgresql://allkit@/{name}?host={self.folder}"

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Clock:
    """A clock that a test sets: each look at it is a millisecond later."""

    def __init__(self, day: str = "2026-02-01"):
        self.day, self.milliseconds = day, 0

    def __call__(self) -> str:
        self.milliseconds += 1
        passed = datetime.timedelta(milliseconds=self.milliseconds)
        moment = datetime.datetime.fromisoformat(self.day) + passed
        return moment.isoformat(timespec="milliseconds") + "Z"


def new_store(folder: Path, url: str | None = None, **options) -> Store:
    return Store.create(folder, url, **options)


class Scripted:
    """A model that says what it is told to: for each image file, by its hash, (verdict, class)."""

    classes = ("Benign", "Early", "Pre", "Pro")

    def __init__(self, said=None, otherwise=("accepted", "Benign"), cells=3):
        self.said, self.otherwise, self.cells, self.asked = said or {}, otherwise, cells, []

    def stream(self, images, *, batch_size=16):
        from allkit.records import Prediction

        for image in images:
            self.asked.append(Path(image).name)
            verdict, label = self.said.get(Path(image).name, self.otherwise)
            p = {name: 0.97 if name == label else 0.01 for name in self.classes}
            yield Prediction(
                str(image),
                verdict,
                (),
                label=label,
                probability=0.97,
                probabilities=p,
                white_cells=self.cells,
            )

    def predict(self, images, *, batch_size=16):
        return list(self.stream(images))


def with_model(user, path: Path, model, content=b"a model"):
    """Add a model of a file and return (its id, the worker that answers with it)."""
    from allkit.clinic import access, models, worker

    path.write_bytes(content)
    id = models.add_model(user, path, model)
    return id, worker.Worker(access.worker(user.store), lambda place: model)
