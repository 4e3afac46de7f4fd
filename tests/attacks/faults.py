"""Faults of the machine: processes killed, disks full or read-only, two writers, damaged caches, limits."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from attacks import Counts, Scale
from attacks._places import PARTS, QUICK, Place, one_sentence, rows_of, same_weights, whole
from attacks._processes import FAIL_AT, KILL_AT, Ended, allkit, left_behind

TITLE = "Faults of the machine"
STRATEGIES = ("head", "last", "full")
SUFFIXES = (".csv", ".jsonl", ".parquet")
SAVE = "import allkit\nallkit.Classifier.load(model).save(out, overwrite=True)\n"
ENOUGH = 90
"""Moments of one command that are tried at most."""


def run(scale: Scale, folder: Path, place: Place | None = None) -> dict[str, Counts]:
    """Try every fault; in a `long` run 200 processes and more are killed.

    That a killed training ends with the same weights is in the short form of tests/test_resume.py.
    """
    place = place or Place(folder)
    if scale == "short":
        return {
            "kill -9 while a model is saved": killed_saves(place, every=7),
            "kill -9 in `predict --out`": killed_predictions(place, 1, suffixes=(".csv",)),
        }
    return {
        "kill -9 in a training": killed_trainings(place, 34),
        "kill -9 while a model is saved": killed_saves(place, every=1),
        "kill -9 while a file is exported": killed_exports(place, 12),
        "kill -9 in `predict --out`": killed_predictions(place, 12),
        "kill -9 while a table or report is written": killed_tables(place, every=1),
        "a full disk": full_disks(place, every=1),
        "a disk that is read-only": read_only(place),
        "two writers": two_writers(place, long=True),
        "a damaged cache": damaged_caches(place, long=True),
        "damaged parts of `predict`": damaged_parts(place, long=True),
        "Ctrl-C and SIGTERM": signals(place, 8),
        "few handles, threads, memory": limits(place, long=True),
    }


def noted(counts: Counts, wrong: str, what: str, *, refused: bool = False, of: int = 1) -> None:
    """Count an attempt, or several that are judged together."""
    if wrong:
        counts.failed.append(f"{what}: {wrong}")
    elif refused:
        counts.refused += of
    else:
        counts.right += of


# ── kill -9 ────────────────────────────────────────────────────────────────────────────────


def killed_trainings(place: Place, kills: int, strategies: tuple[str, ...] = STRATEGIES) -> Counts:
    """Kill trainings of each strategy at seeded moments, resume, and compare the weights."""
    counts = Counts()
    for strategy in STRATEGIES:
        expected, seconds = place.trained(strategy)
        chance, done, number = random.Random(strategy), 0, 0
        while done < kills and number < 4 * kills:
            number += 1
            out, here, wrong = place.path(f"killed-{strategy}-{number}"), 0, ""
            cache = place.fresh_cache("killed")
            arguments = place.training(out, strategy, "--resume")
            while here < 4 and done < kills:
                process = place.started(*arguments, before=QUICK, environment=cache)
                ended = process.kill_after(chance.uniform(0.02, 0.8) * seconds)
                if ended.status != -signal.SIGKILL:
                    wrong = "" if ended.status == 0 else ended.err[-300:]
                    break
                here, done = here + 1, done + 1
                if out.exists() and whole(out):
                    wrong = f"half a model: {whole(out)}"
            ended = place.train(out, strategy, "--resume", environment=cache)
            wrong = wrong or after_resuming(ended, out, expected)
            noted(counts, wrong, f"{strategy}, {here} kills", of=max(1, here))
    return counts


def after_resuming(ended: Ended, out: Path, expected: Path) -> str:
    """Return what is wrong with a training that was resumed to its end."""
    if ended.status:
        return ended.err[-300:]
    if not same_weights(out, expected):
        return "other weights"
    run = out.with_name(f"{out.name}.run")
    left = left_behind(out.parent, run) + [str(p) for p in run.glob("*.safetensors")]
    return f"left behind: {left}" if left else ""


def moments(
    place: Place, command: Callable[..., Ended], within: Path, every: int
) -> Iterator[Ended]:
    """Run a command that is killed at its first change of files, the second, …, until it ends by itself."""
    for at in range(1, ENOUGH * every, every):
        ended = command(before=KILL_AT, at=at, within=str(within))
        yield ended
        if ended.status != -signal.SIGKILL:
            return


def killed_saves(place: Place, *, every: int) -> Counts:
    """Kill a process that replaces a model, at every change that it makes to files."""
    counts = Counts()
    out = place.path("saved")
    names = {"program": SAVE, "model": str(place.model), "out": str(out)}
    for fresh in (False, True):
        shutil.rmtree(out, ignore_errors=True)
        if not fresh:
            shutil.copytree(place.model, out)

        def save(**more: object) -> Ended:
            return allkit(place.folder, **names, **more)

        for ended in moments(place, save, out.parent, every):
            wrong = whole(out) if out.exists() or not fresh else ""
            if ended.status not in (0, -signal.SIGKILL):
                wrong = ended.err[-300:]
            noted(counts, wrong, "in place of a model" if not fresh else "a new model")
        place.right(save())
        noted(counts, whole(out) or " ".join(left_behind(out.parent)), "after that")
    return counts


def killed_exports(place: Place, kills: int) -> Counts:
    """Kill exports over an earlier file, at changes of files and at seeded moments."""
    counts = Counts()
    out = place.path("exported.onnx")
    shutil.copy(place.onnx, out)
    arguments = ("export", place.model, "--out", out, "--overwrite")

    def export(**more: object) -> Ended:
        return allkit(place.folder, *arguments, **more)

    seconds, chance = place.right(place.started(*arguments).end()).seconds, random.Random(0)
    for ended in moments(place, export, out.parent, 1 if kills > 1 else 3):
        noted(counts, opened(out) or unexpected(ended), "at a change of files")
    for _ in range(kills):
        ended = place.started(*arguments).kill_after(chance.uniform(0, 0.9) * seconds)
        noted(counts, opened(out) or unexpected(ended), "at a moment")
    place.right(export())
    noted(counts, opened(out) or " ".join(left_behind(out.parent)), "after that")
    return counts


def unexpected(ended: Ended) -> str:
    """Return what a process said that ended neither well nor killed."""
    return "" if ended.status in (0, -signal.SIGKILL) else ended.err[-300:]


def opened(file: Path) -> str:
    """Return what is wrong with an exported file, or nothing."""
    from allkit.errors import AllkitError
    from allkit.runtime.seal import read_sealed

    try:
        read_sealed(file)
    except AllkitError as error:
        return str(error)
    return ""


def killed_predictions(place: Place, kills: int, suffixes: tuple[str, ...] = SUFFIXES) -> Counts:
    """Kill `predict --out` again and again: the table in the end is that of an unbroken run."""
    counts = Counts()
    for suffix in suffixes:
        unbroken = place.path(f"unbroken{suffix}")
        arguments = ["predict", place.onnx, place.pictures, "--out"]
        ended = place.started(*arguments, unbroken, before=PARTS).end()
        assert unbroken.exists(), ended.err
        chance, done, number = random.Random(suffix), 0, 0
        while done < kills and number < 4 * kills:
            number += 1
            out, here = place.path(f"broken-{number}{suffix}"), 0
            while here < 5 and done < kills and not out.exists():
                process = place.started(*arguments, out, before=PARTS)
                now = process.kill_after(chance.uniform(0.1, 0.9) * ended.seconds)
                if now.status != -signal.SIGKILL:
                    break
                here, done = here + 1, done + 1
            if not out.exists():
                allkit(place.folder, *arguments, out, before=PARTS)
            noted(counts, unlike(out, unbroken), f"{suffix}, {here} kills", of=max(1, here))
    return counts


def unlike(out: Path, unbroken: Path) -> str:
    """Return in what a table of answers differs from that of a run that was not broken off."""
    if not out.exists():
        return "no table"
    if rows_of(out) != rows_of(unbroken):
        return f"other rows: {len(rows_of(out))} of {len(rows_of(unbroken))}"
    if out.suffix != ".parquet" and out.read_bytes() != unbroken.read_bytes():
        return "other bytes"
    return " ".join(left_behind(out.parent))


def killed_tables(place: Place, *, every: int) -> Counts:
    """Kill `split` and `check` at every change of files: the earlier table or report is whole."""
    counts = Counts()
    for arguments, out in writing(place):
        allkit(place.folder, *arguments)
        before = out.read_bytes()

        def write(arguments: list[object] = arguments, **more: object) -> Ended:
            return allkit(place.folder, *arguments, **more)

        for _ in moments(place, write, out.parent, every):
            wrong = "" if out.read_bytes() == before else "other content"
            noted(counts, wrong, str(arguments[0]))
        write()
        noted(counts, " ".join(left_behind(out.parent)), f"{arguments[0]}, after that")
    return counts


def writing(place: Place) -> list[tuple[list[object], Path]]:
    """Return commands that write one file, in place of an earlier one, and the file."""
    split, report, page = (place.path(name) for name in ("split.csv", "check.json", "check.html"))
    return [
        (["split", place.smears, "--out", split, "--overwrite"], split),
        (["check", place.smears, "--json", report], report),
        (["check", place.smears, "--html", page], page),
    ]


# ── disks ──────────────────────────────────────────────────────────────────────────────────


def full_disks(place: Place, *, every: int) -> Counts:
    """Let the disk be full from the first, second, … change of files on, and files end at many sizes."""
    counts = Counts()
    failing = {"before": FAIL_AT, "error": errno.ENOSPC}
    words = ("No space left", "File too large")
    for arguments, out in [*writing(place), *replacing(place)]:
        allkit(place.folder, *arguments)
        before = content(out)
        for at in range(1, ENOUGH, every):
            ended = allkit(place.folder, *arguments, at=at, within=str(out.parent), **failing)
            if ended.status in (0, 1) and "Error" not in ended.err:
                break
            wrong = one_sentence(ended, *words) or changed(out, before)
            noted(counts, wrong, f"{arguments[0]}, change {at}", refused=True)
        for size in (2_000, 20_000, 200_000)[:: 1 if every == 1 else 2]:
            limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
            ended = allkit(place.folder, *arguments, before=limit)
            well = ended.status in (0, 1) and "Error" not in ended.err
            wrong = "" if well else one_sentence(ended, *words) or changed(out, before)
            noted(counts, wrong, f"{arguments[0]}, {size} bytes", refused=not well)
    full_run(place, counts, every)
    full_predictions(place, counts, every)
    full_cache(place, counts, every)
    return counts


def content(out: Path) -> dict[str, bytes] | bytes:
    """Return what a file holds, or the files of a folder that decide an answer."""
    if out.is_dir():
        return {p.name: p.read_bytes() for p in sorted(out.iterdir()) if p.is_file()}
    return out.read_bytes()


def changed(out: Path, before: dict[str, bytes] | bytes) -> str:
    """Return in what a place differs from before, where nothing should have been written."""
    if content(out) != before:
        return "what was there before is no longer whole"
    return " ".join(left_behind(out.parent))


def replacing(place: Place) -> list[tuple[list[object], Path]]:
    """Return commands that replace a model and an exported file."""
    exported, model = place.path("replaced.onnx"), place.path("replaced")
    return [
        (["export", place.model, "--out", exported, "--overwrite"], exported),
        (place.training(model, "head", "--overwrite"), model),
    ]


def full_run(place: Place, counts: Counts, every: int) -> None:
    """Let the disk be full while a training keeps its state, then go on."""
    expected, _ = place.trained("last")
    for number, at in enumerate(range(3, 40, 4 * every)):
        out = place.path(f"full-{number}")
        before = f"{QUICK}\n{FAIL_AT}"
        names = {"at": at, "within": str(out.parent), "error": errno.ENOSPC}
        ended = place.train(out, "last", before=before, **names)
        if ended.status == 0:
            break
        wrong = one_sentence(ended, "No space left")
        wrong = wrong or ("a model is there" if out.exists() else "")
        wrong = wrong or after_resuming(place.train(out, "last", "--resume"), out, expected)
        noted(counts, wrong, f"train --strategy last, change {at}", refused=True)


def full_predictions(place: Place, counts: Counts, every: int) -> None:
    """Let the disk be full in `predict --out`, then go on."""
    for suffix in SUFFIXES:
        arguments = ["predict", place.onnx, place.pictures, "--out"]
        unbroken = place.path(f"once{suffix}")
        allkit(place.folder, *arguments, unbroken)
        for at in range(1, 30, every):
            out = place.path(f"full-{at}{suffix}")
            names = {"at": at, "within": str(out.parent), "error": errno.ENOSPC}
            ended = allkit(place.folder, *arguments, out, before=f"{PARTS}\n{FAIL_AT}", **names)
            if ended.status == 1 and out.exists():
                break
            wrong = one_sentence(ended, "No space left") or ("a table" if out.exists() else "")
            if not wrong:
                allkit(place.folder, *arguments, out)
                wrong = unlike(out, unbroken)
            noted(counts, wrong, f"predict {suffix}, change {at}", refused=True)


def full_cache(place: Place, counts: Counts, every: int) -> None:
    """Let the disk of the cache be full: a training goes on and says so."""
    expected, _ = place.trained("last")
    for number, size in enumerate((0, 4_096, 40_000, 400_000)[:: 1 if every == 1 else 3]):
        cache = place.fresh_cache(f"full-{number}")
        out = place.path(f"full-cache-{number}")
        limits = f"{QUICK}\nimport os\nwithin = os.environ['ALLKIT_CACHE']\n" + SMALL_FILES
        ended = place.train(out, "last", before=limits, environment=cache, size=size)
        wrong = ended.err[-300:] if ended.status else ""
        wrong = wrong or ("other weights" if not same_weights(out, expected) else "")
        wrong = wrong or ("" if "Warning: " in ended.err else "no warning")
        noted(counts, wrong, f"a cache of {size} bytes")


SMALL_FILES = """
import resource
from allkit.features import cache, activations
def limited(original):
    def call(self, *arguments, **named):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            return original(self, *arguments, **named)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return call
cache.FeatureCache.put = limited(cache.FeatureCache.put)
activations.ActivationStore.write = limited(activations.ActivationStore.write)
"""


def read_only(place: Place) -> Counts:
    """Let a folder be read-only, as every change of files in it finds out."""
    counts = Counts()
    new = [
        ["predict", place.onnx, place.pictures, "--out", place.path("read-only.csv")],
        place.training(place.path("read-only"), "head"),
    ]
    for arguments, out in [*writing(place), *replacing(place), *((a, None) for a in new)]:
        if out is not None:
            allkit(place.folder, *arguments)
        within = (
            out.parent
            if out is not None
            else Path(str(arguments[arguments.index("--out") + 1])).parent
        )
        before = content(out) if out is not None else b""
        ended = allkit(
            place.folder, *arguments, before=FAIL_AT, at=1, within=str(within), error=errno.EROFS
        )
        wrong = one_sentence(ended, "Read-only file system")
        wrong = wrong or (changed(out, before) if out is not None else "")
        if out is None and any(within.iterdir()):
            wrong = wrong or f"left behind: {[p.name for p in within.iterdir()]}"
        noted(counts, wrong, str(arguments[0]), refused=True)
    return counts


# ── two writers ────────────────────────────────────────────────────────────────────────────


def two_writers(place: Place, *, long: bool) -> Counts:
    """Start a second process for a place that another writes to; kill the first, and start again."""
    counts, waits = Counts(), []
    expected, _ = place.trained("last")
    model, table = place.path("twice"), place.path("twice.csv")
    predicted = ["predict", place.onnx, place.pictures, "--out", table]
    cases = [
        (place.training(model, "last"), model.with_name("twice.run") / "lock", "Another training"),
        (predicted, table.with_name("twice.csv.parts") / "lock", "Another process"),
    ]
    for arguments, lock, told in cases:
        for again in range(2 if long else 1):
            first = place.started(*arguments, before=f"{QUICK}\n{PARTS}")
            while not lock.exists() and first.process.is_alive():
                time.sleep(0.001)
            os.kill(first.pid, signal.SIGSTOP)
            second = allkit(place.folder, *arguments)
            waits.append(second.seconds)
            noted(counts, one_sentence(second, told), f"{arguments[0]}, the second", refused=True)
            if again:
                os.kill(first.pid, signal.SIGCONT)
                ended = first.end()
            else:
                first.kill_after(0)
                further = ["--resume"] if arguments[0] == "train" else []
                ended = allkit(place.folder, *arguments, *further)
            wrong = ended.err[-300:] if ended.status not in (0, 1) else ""
            noted(counts, wrong, f"{arguments[0]}, the lock is free again")
            shutil.rmtree(model, ignore_errors=True)
            table.unlink(missing_ok=True)
    counts.measured["most seconds to a refusal"] = max(waits)
    for number in range(3 if long else 1):
        cache = place.fresh_cache("shared")
        outs = [place.path(f"beside-{number}-{i}") for i in range(2)]
        both = [
            place.started(*place.training(out, "last"), before=QUICK, environment=cache)
            for out in outs
        ]
        while any(process.process.is_alive() for process in both):
            cleared = allkit(place.folder, "cache", "clear", environment=cache)
            noted(counts, cleared.err[-300:] if cleared.status else "", "cache clear")
        for out, process in zip(outs, both, strict=True):
            noted(counts, after_resuming(process.end(), out, expected), "one cache for two")
    return counts


# ── damage ─────────────────────────────────────────────────────────────────────────────────


def damages(data: bytes, *, long: bool) -> Iterator[tuple[str, bytes | None]]:
    """Yield damaged forms of a file's content; `None` stands for a folder in its place."""
    chance = random.Random(len(data))
    yield "replaced by a folder", None
    yield "emptied", b""
    yield "truncated", data[: len(data) // 2]
    yield "zeroed", bytes(len(data))
    yield "zeroed at the end", data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
    for _ in range(12 if long else 2):
        at = chance.randrange(len(data))
        yield (
            f"byte {at}",
            data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
        )


def put(path: Path, data: bytes | None) -> None:
    """Put damaged content in the place of a file."""
    path.unlink()
    if data is None:
        path.mkdir()
        (path / "thing").touch()
    else:
        path.write_bytes(data)


def damaged_caches(place: Place, *, long: bool) -> Counts:
    """Damage each file of a cache, and train from it: the same weights, or one sentence."""
    counts = Counts()
    expected, _ = place.trained("last")
    filled = Path(place.fresh_cache("filled")["ALLKIT_CACHE"])
    place.right(
        place.train(place.path("filling"), "last", environment={"ALLKIT_CACHE": str(filled)})
    )
    files = [p.relative_to(filled) for p in sorted(filled.rglob("*")) if p.is_file()]
    files = [p for p in files if p.suffix in (".sqlite", ".bin", ".json")]
    for file in files:
        kinds = list(damages((filled / file).read_bytes(), long=long))
        for what, data in kinds if long else kinds[1::3]:
            cache = place.folder / "cache-damaged"
            shutil.rmtree(cache, ignore_errors=True)
            shutil.copytree(filled, cache)
            put(cache / file, data)
            out = place.path("from-damaged")
            shutil.rmtree(out, ignore_errors=True)
            ended = place.train(
                out, "last", "--overwrite", environment={"ALLKIT_CACHE": str(cache)}
            )
            refused = ended.status == 2
            wrong = one_sentence(ended) if refused else after_resuming(ended, out, expected)
            noted(counts, wrong, f"{file.name}, {what}", refused=refused)
    return counts


def damaged_parts(place: Place, *, long: bool) -> Counts:
    """Damage the parts and the manifest of a broken run: the same table, or one sentence."""
    counts = Counts()
    arguments = ["predict", place.onnx, place.pictures, "--out"]
    unbroken, out = place.path("sound.csv"), place.path("damaged.csv")
    allkit(place.folder, *arguments, unbroken)
    left = out.with_name("damaged.csv.parts")
    kept = place.folder / "kept.parts"
    broken = "from allkit.volume import run\nrun.AnsweringRun.finish = lambda self: 1 / 0\n"
    allkit(place.folder, *arguments, out, before=f"{PARTS}\n{broken}")
    shutil.copytree(left, kept)
    for file in [p for p in sorted(kept.iterdir()) if p.name != "lock"][:: 1 if long else 3]:
        for what, data in damages(file.read_bytes(), long=long):
            shutil.rmtree(left, ignore_errors=True)
            shutil.copytree(kept, left)
            put(left / file.name, data)
            out.unlink(missing_ok=True)
            ended = allkit(place.folder, *arguments, out)
            refused = ended.status == 2
            wrong = one_sentence(ended) if refused else unlike(out, unbroken)
            noted(counts, wrong, f"{file.name}, {what}", refused=refused)
    return counts


# ── signals and limits ─────────────────────────────────────────────────────────────────────


def signals(place: Place, rounds: int) -> Counts:
    """Send Ctrl-C once and twice, and SIGTERM, at seeded moments of every command that writes."""
    counts, chance, slowest = Counts(), random.Random(1), 0.0
    expected, seconds = place.trained("last")
    table = place.path("stopped.csv")
    commands: list[tuple[list[object], Path, str]] = [
        (place.training(place.path("stopped"), "last"), place.path("stopped"), ""),
        (["predict", place.onnx, place.pictures, "--out", table], table, "rows are kept"),
        (
            ["export", place.model, "--out", place.path("stopped.onnx")],
            place.path("stopped.onnx"),
            "",
        ),
        *((arguments, out, "") for arguments, out in writing(place)[:2]),
    ]
    for arguments, out, said in commands:
        for number in range(rounds):
            for sent in ((signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)):
                clear(out)
                process = place.started(*arguments, before=f"{QUICK}\n{PARTS}")
                process.process.join(chance.uniform(0.01, 0.5) * seconds)
                begun = time.monotonic()
                for one in sent:
                    if process.process.is_alive():
                        os.kill(process.pid, one)
                        process.process.join(0.02)
                ended = process.end(20)
                slowest = max(slowest, time.monotonic() - begun)
                wrong = how_stopped(ended, sent, said)
                wrong = wrong or " ".join(left_behind(out.parent))
                if not wrong and arguments[0] == "train":
                    again = place.train(out, "last", "--resume")
                    wrong = after_resuming(again, out, expected)
                name = "+".join(one.name for one in sent)
                noted(counts, wrong, f"{arguments[0]}, {name}, round {number}")
    counts.measured["most seconds to the end"] = slowest
    return counts


def clear(out: Path) -> None:
    """Remove what a command wrote."""
    for path in (out, *(out.with_name(f"{out.name}{end}") for end in (".run", ".parts"))):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def how_stopped(ended: Ended, sent: tuple[signal.Signals, ...], said: str) -> str:
    """Return what is wrong with how a command ended that was told to."""
    if ended.status in (0, 1):  # it had ended before
        return ""
    if ended.status != 128 + sent[0]:
        return f"status {ended.status}: {ended.err[-300:]}"
    if "Traceback" in ended.err or ended.err.count("Stopped.") != 1:
        return f"not one sentence: {ended.err[-500:]}"
    return ""


def limits(place: Place, *, long: bool) -> Counts:
    """Give a command few open files, few threads, little memory or a small stack."""
    counts = Counts()
    out = place.path("limited.csv")
    unbroken = place.path("unlimited.csv")
    predicted: list[object] = ["predict", place.onnx, place.pictures, "--out"]
    allkit(place.folder, *predicted, unbroken)
    model = place.path("limited")
    expected, _ = place.trained("last")
    kinds = [f"handles({n})" for n in ((64, 32, 20, 12) if long else (32,))]
    kinds += [f"threads({n})" for n in ((0, 1, 2, 3, 5) if long else (1,))]
    kinds += [f"memory({n})" for n in ((8, 32, 64, 128, 256, 512, 1024) if long else (64,))]
    kinds += [f"stack({n})" for n in ((128, 512, 2048) if long else ())]
    for kind in kinds:
        clear(out)
        ended = allkit(place.folder, *predicted, out, before=f"{LIMITED}\n{kind}")
        wrong, refused = limited(ended, lambda: unlike(out, unbroken))
        noted(counts, wrong, f"predict, {kind}", refused=refused)
        if not long:
            continue
        clear(model)
        before = f"{QUICK}\n{LIMITED}\n{kind}"
        ended = place.train(model, "last", before=before, environment=place.fresh_cache("limited"))
        wrong, refused = limited(ended, lambda e=ended: after_resuming(e, model, expected))
        noted(counts, wrong, f"train, {kind}", refused=refused)
        ended = allkit(place.folder, "check", place.smears, before=f"{LIMITED}\n{kind}")
        wrong, refused = limited(ended, lambda: "")
        noted(counts, wrong, f"check, {kind}", refused=refused)
    return counts


LIMITED = """
import resource, sys, threading
import allkit.cli.root
def handles(count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
def threads(count):
    started, original = [], threading._start_new_thread
    def start(*arguments):
        if len(started) >= count:
            raise RuntimeError("can't start new thread")
        started.append(1)
        return original(*arguments)
    threading._start_new_thread = start
def memory(megabytes):
    held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + megabytes * 2**20,) * 2)
def stack(kilobytes):
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    resource.setrlimit(resource.RLIMIT_STACK, (kilobytes * 1024, hard))
"""


def limited(ended: Ended, judged: Callable[[], str]) -> tuple[str, bool]:
    """Return what is wrong with how a command came along with little, and whether it was refused."""
    if ended.status == 2:
        return one_sentence(ended), True
    if ended.status not in (0, 1):
        return f"status {ended.status}: {ended.err[-300:]}", False
    return judged(), False
