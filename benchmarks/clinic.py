"""What the clinic's store promises: nothing lost, the chain whole, and quick with many cases.

    python benchmarks/clinic.py changes     16 processes, 100 changes each, on one store
    python benchmarks/clinic.py kills       a process is killed at random moments of its work
    python benchmarks/clinic.py many        100,000 cases: time of a search and of opening a case, memory
    python benchmarks/clinic.py report      time of a report of 50 fields, in every format
    python benchmarks/clinic.py away        the database is stopped and started again under load

`--url postgresql://…` takes a PostgreSQL database (empty) instead of SQLite in a temporary folder; with
`--postgres` a server of its own is started from Debian's packages. `--out FILE` writes the figures as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from PIL import Image

from allkit.clinic import access, cases, fields, models, reading, search, signing
from allkit.clinic.intake.incoming import take_image
from allkit.clinic.records import Identifier, Specimen
from allkit.clinic.reporting import report_of
from allkit.clinic.reports.formats import FORMATS, render
from allkit.clinic.store import chain
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Store
from allkit.clinic.store.verify import verify
from allkit.clinic.view import open_case, view_of
from allkit.clinic.worker import Worker
from allkit.errors import StoreError
from allkit.records import Prediction

BLOOD = Specimen("blood", "2026-01-31", "May-Grünwald-Giemsa")
CLASSES = ("Benign", "Early", "Pre", "Pro")


class Answering:
    """A model that answers at once, by the name of the file: what is measured is the store."""

    classes = CLASSES

    def stream(self, images, *, batch_size=16):
        for image in images:
            label = CLASSES[int(Path(image).name[:2], 16) % 4]
            p = {name: 0.97 if name == label else 0.01 for name in CLASSES}
            yield Prediction(
                str(image),
                "accepted",
                label=label,
                probability=0.97,
                probabilities=p,
                white_cells=3,
            )


def picture(seed, side=48):
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return take_image(stream.getvalue(), f"{seed}.png")


def new_clinic(folder, url=None):
    """Make a clinic with a person who may everything, and a model."""
    store = Store.create(folder, url)
    anna = access.first_person(store, "anna")
    path = Path(folder) / "model.bin"
    path.write_bytes(b"a model")
    models.add_model(anna, path, Answering())
    return store, anna


def child(*arguments):
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# ── many processes ────────────────────────────────────────────────────────────────────────────


def change_many(folder, url, number, count):
    """What one of the processes does: notes and cases, each acknowledged when it returns."""
    with Store.open(folder, url) as store:
        anna = access.sign_in(store, "anna")
        case = cases.create(anna, specimen_=BLOOD, patient=f"P-{number}")
        done = 1
        while done < count:
            if done % 5:
                reading.add_note(anna, f"note {done} of {number}", case=case)
            else:
                cases.create(anna, specimen_=BLOOD, patient=f"P-{number}")
            done += 1
    print(json.dumps({"done": done}))


def changes(folder, url=None, *, processes=16, count=100):
    """Let processes change one store at once; return what became of it."""
    store, _ = new_clinic(folder, url)
    with store.read() as connection:
        before = chain.head(connection)[0]
    began = time.perf_counter()
    running = [child("_change", folder, url or "", number, count) for number in range(processes)]
    ended = [one.communicate() for one in running]
    seconds = time.perf_counter() - began
    refused = [error.strip().splitlines()[-1] for _, error in ended if error.strip()]
    acknowledged = sum(json.loads(out)["done"] for out, _ in ended if out.strip())
    with store.read() as connection:
        notes = connection.scalar(sa.select(sa.func.count()).select_from(t.readings))
        made = connection.scalar(sa.select(sa.func.count()).select_from(t.cases))
        rows = chain.head(connection)[0] - before
    problems = verify(store)
    store.close()
    return {
        "database": "postgresql" if url else "sqlite",
        "wanted": processes * count,
        "acknowledged": acknowledged,
        "kept": notes + made,
        "audit_rows": rows,
        "refused": refused,
        "problems": problems,
        "seconds": round(seconds, 1),
    }


# ── killed at any moment ──────────────────────────────────────────────────────────────────────


def work_until_killed(folder, url, seed):
    """Take in, answer, read and sign without end; say what was acknowledged, a line each."""
    choose = random.Random(int(seed))

    def tell(kind, **what):
        sys.stdout.write(json.dumps({"kind": kind, **what}) + "\n")
        sys.stdout.flush()

    with Store.open(folder, url or None) as store:
        anna, worker = (
            access.sign_in(store, "anna"),
            Worker(access.worker(store), lambda p: Answering()),
        )
        tell("ready")
        while True:
            case = cases.create(anna, specimen_=BLOOD)
            tell("case", case=case)
            for number in range(choose.randint(1, 3)):
                image = picture(choose.getrandbits(40))
                (added,) = fields.add(anna, case, [image])
                tell("field", case=case, field=added.field, sha256=image.sha256, number=number)
            while worker.step():
                pass  # also the jobs of cases before, whose process was killed
            tell("answered", case=case)
            view = open_case(anna, case)
            for field in view.fields:
                label = choose.choice(CLASSES)
                seq = reading.relabel(anna, field.id, label, why="seen")
                tell("reading", case=case, field=field.id, label=label, seq=seq)
            with contextlib.suppress(signing.ClinicError):
                report = signing.sign(
                    anna, case, signing.Statement(label, "seen", limits_read=True)
                )
                tell("signed", case=case, sha256=report.sha256)


def missing(store, told):
    """Return what was acknowledged and is not there, in words."""
    lost = []
    with store.read() as connection:
        held = {
            "case": set(connection.scalars(sa.select(t.cases.c.id))),
            "field": set(connection.scalars(sa.select(t.fields.c.id))),
            "reading": set(connection.scalars(sa.select(t.readings.c.seq))),
            "signed": set(connection.scalars(sa.select(t.reports.c.sha256))),
            "answered": set(connection.scalars(sa.select(t.slide_answers.c.case_id))),
        }
    keys = {
        "case": "case",
        "field": "field",
        "reading": "seq",
        "signed": "sha256",
        "answered": "case",
    }
    for one in told:
        if one["kind"] in keys and one[keys[one["kind"]]] not in held[one["kind"]]:
            lost.append(f"{one['kind']} {one[keys[one['kind']]]}")
    return lost


def halves(store):
    """Return what is there only in part: a signature without report, a state without its rows."""
    found = []
    with store.read() as connection:
        signatures = set(connection.scalars(sa.select(t.signatures.c.id)))
        reports = set(connection.scalars(sa.select(t.reports.c.signature_id)))
        signed = set(
            connection.scalars(sa.select(t.cases.c.id).where(t.cases.c.status == "signed"))
        )
        with_report = set(connection.scalars(sa.select(t.reports.c.case_id)))
        audited = {row.object for row in chain.rows(connection)}
        found += [f"signature {id} without a report" for id in signatures - reports]
        found += [f"case {id} is signed without a report" for id in signed ^ with_report]
        for table in (t.cases, t.fields, t.answers):
            ids = set(connection.scalars(sa.select(table.c.id)))
            found += [f"{table.name} {id} is not in the audit" for id in ids - audited]
    parts = [p.name for p in store.blobs.folder.rglob("*.part")]
    return found, len(parts)


def kills(folder, url=None, *, times=200, longest=0.6, seed=0):
    """Kill a working process at random moments; return what was lost, and what is left in part."""
    store, _ = new_clinic(folder, url)
    choose = random.Random(seed)
    told, moments = [], []
    for number in range(times):
        running = child("_work", folder, url or "", choose.getrandbits(30))
        first = running.stdout.readline()
        if '"ready"' not in first:
            raise RuntimeError(f"The process did not begin: {running.communicate()[1][-500:]}")
        time.sleep(choose.uniform(0, longest))
        running.send_signal(signal.SIGKILL)
        rest, _ = running.communicate()
        lines = [line for line in rest.splitlines() if line.endswith("}")]
        told += [json.loads(line) for line in lines]
        moments.append(lines and json.loads(lines[-1])["kind"])
        if (number + 1) % 50 == 0:
            print(f"{number + 1} kills, {len(told)} acknowledged", file=sys.stderr)
    problems, (half, parts) = verify(store), halves(store)
    lost = missing(store, told)
    # What was begun is taken up: with the leases run out nothing stays behind.
    later = Store.open(folder, url, now=lambda: "2999-01-01T00:00:00.000Z")
    left, _ = Worker(access.worker(later), lambda p: Answering()).drain()
    with later.read() as connection:
        unfinished = connection.scalar(
            sa.select(sa.func.count()).select_from(t.jobs).where(t.jobs.c.state != "done")
        )
    later.close()
    store.close()
    after = {kind: moments.count(kind) for kind in {m for m in moments if m}}
    return {
        "database": "postgresql" if url else "sqlite",
        "kills": times,
        "acknowledged": len(told),
        "killed_behind": after,
        "lost": lost,
        "half": half,
        "problems": problems,
        "temporary_files_left": parts,
        "jobs_taken_up": left,
        "jobs_not_done": unfinished,
    }


# ── many cases ────────────────────────────────────────────────────────────────────────────────


def memory():
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def times(work, repeats=40):
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return {"median_ms": round(float(np.median(taken)), 1), "worst_ms": round(max(taken), 1)}


def many(folder, url=None, *, count=100_000):
    """Fill a store by the ordinary way of opening cases, and time what a reader does."""
    store, anna = new_clinic(folder, url)
    began = time.perf_counter()
    for start in range(0, count, 5_000):
        with anna.change("reader") as change:
            for number in range(start, min(start + 5_000, count)):
                cases.create_in(
                    change,
                    specimen_=Specimen(
                        "marrow" if number % 3 else "blood", "2026-01-31", None, f"S{number}"
                    ),
                    order=Identifier(f"LAB-2026-{number:06d}", "LIS"),
                    identifiers=[Identifier(f"K{number // 2}", "KIS")],
                )
    filled = time.perf_counter() - began
    case = search.resolve(anna, f"LAB-2026-{count // 2:06d}")
    images = [picture(i) for i in range(50)]
    fields.add(anna, case, images)
    Worker(access.worker(store), lambda p: Answering()).drain()
    if url:
        with store.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")
    deep = None
    for _ in range(20):
        deep = search.find(anna, after=deep, limit=1000).next or deep
    before = memory()
    wanted = search.Filter
    asked = {
        "first page": lambda: search.find(anna),
        "page 21,000": lambda: search.find(anna, after=deep),
        "order number": lambda: search.find(anna, wanted(f"LAB-2026-{count // 3:06d}")),
        "end of a number": lambda: search.find(anna, wanted(f"{count // 3:06d}")),
        "beginning that 10,000 share": lambda: search.find(anna, wanted("LAB-2026-01")),
        "beginning that all share": lambda: search.find(anna, wanted("LAB")),
        "nothing": lambda: search.find(anna, wanted("no such number")),
        "state and specimen": lambda: search.find(anna, wanted(status=("new",), specimen="blood")),
        "state that none has": lambda: search.find(anna, wanted(status=("signed",))),
        "a day": lambda: search.find(anna, wanted(since="2026-01-01", until="2999-01-01")),
        "counts by state": lambda: search.counts(anna),
    }
    searches = {name: times(work) for name, work in asked.items()}
    opening = times(lambda: open_case(anna, case))
    for _ in range(500):
        search.find(anna, wanted("LAB-2026-01"))
    after = memory()
    began = time.perf_counter()
    problems = verify(store)
    checked = time.perf_counter() - began
    store.close()
    return {
        "database": "postgresql" if url else "sqlite",
        "cases": count,
        "filled_seconds": round(filled),
        "searches": searches,
        "open_50_fields": opening,
        "memory_mb": {"before": before, "after 500 searches": after, "after verify": memory()},
        "verify_seconds": round(checked, 1),
        "problems": problems,
    }


# ── reports, and a database that comes back ───────────────────────────────────────────────────


def report(folder, url=None, *, count=50):
    """Time a report of so many fields (pictures of 768 × 576 pixels) in each format."""
    store, anna = new_clinic(folder, url)
    case = cases.create(anna, specimen_=BLOOD, patient="P-1")
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = np.kron(
            rng.integers(90, 255, (36, 48, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8)
        )
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=92)
        fields.add(anna, case, [take_image(stream.getvalue(), f"field {number}.jpg")])
    Worker(access.worker(store), lambda p: Answering()).drain()
    with store.read() as connection:
        frozen = report_of(view_of(connection, case))
    found = {}
    for format in FORMATS:
        began = time.perf_counter()
        first = render(frozen, format, image_of=store.blobs.get)
        cold = time.perf_counter() - began
        began = time.perf_counter()
        again = render(frozen, format, image_of=store.blobs.get)
        found[format] = {
            "first_seconds": round(cold, 2),
            "seconds": round(time.perf_counter() - began, 2),
            "bytes": len(first),
            "same": first == again,
        }
    store.close()
    return {"fields": count, "formats": found}


def away(folder, url, stop, start, *, rounds=3):
    """Stop the database while a process works, start it again, and go on with the same objects."""
    store, anna = new_clinic(folder, url)
    case = cases.create(anna, specimen_=BLOOD)
    done, refused = 0, 0
    for _ in range(rounds):
        for _ in range(20):
            reading.add_note(anna, "before", case=case)
            done += 1
        stop()
        for _ in range(3):
            try:
                reading.add_note(anna, "while it is away", case=case)
                done += 1
            except StoreError:
                refused += 1
        start()
        for _ in range(20):
            reading.add_note(anna, "after", case=case)
            done += 1
    with store.read() as connection:
        kept = connection.scalar(sa.select(sa.func.count()).select_from(t.readings))
    problems = verify(store)
    store.close()
    return {
        "rounds": rounds,
        "acknowledged": done,
        "kept": kept,
        "refused_while_away": refused,
        "problems": problems,
    }


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "_change":
        folder, url, number, count = sys.argv[2:]
        change_many(folder, url or None, int(number), int(count))
        return
    if len(sys.argv) > 1 and sys.argv[1] == "_work":
        work_until_killed(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["changes", "kills", "many", "report", "away"])
    parser.add_argument("--url")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--count", type=int, help="of cases, of kills or of changes")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        url, server = given.url, None
        if given.postgres or given.what == "away":
            sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
            from clinic_places import Server

            server = Server()
            stack.callback(server.close)
            url = server.database()
        limit = (
            {}
            if given.count is None
            else {{"kills": "times"}.get(given.what, "count"): given.count}
        )
        if given.what == "away":
            found = away(folder, url, server.stop, server.start)
        else:
            found = globals()[given.what](folder, url, **limit)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
