"""Nothing is sent out: every command is watched, and whoever would report is imported in silence."""

import ast
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import allkit
from allkit import telemetry

ROOT = Path(__file__).resolve().parents[1]
TOOLS = Path(__file__).parent / "outgoing"
TINY = ("--backbone", "timm:test_resnet", "--weights", "none")
SMALL = ("epochs=1", "finetune_epochs=1", "calibration_folds=0", "bag=field")
QUICK = (*TINY, *(word for setting in SMALL for word in ("--set", setting)))


def clinic_steps():
    """The commands of the clinic, the whole way of a case and back."""
    way = {
        "init": [], "person": ["bert", "--role", "reader"], "key": ["bert"], "settings": [],
        "add": ["IMAGE", "--specimen", "blood", "--order", "L1", "--patient", "P1"],
        "list": [], "show": ["L1"], "assign": ["L1", "--second", "bert"],
        "read": ["L1", "--field", "1", "--label", "Pro"],
        "sign": ["L1", "--result", "Pro", "--yes"], "model": ["model.onnx"],
        "references": ["model.onnx", "DATA"], "work": ["--once"],
        "report": ["L1", "--format", "pdf", "--out", "r.pdf"],
        "report sr": ["L1", "--format", "sr", "--out", "r.dcm"],
        "reopen": ["L1", "--why", "x"], "withdraw": ["L1", "--why", "x"],
        "move": ["L1", "--field", "1", "--to", "L1", "--why", "x"],
        "reassign": ["L1", "--to", "P2", "--why", "x"],
        "join": ["P2", "--to", "P1", "--why", "x"],
        "part": ["P2", "--case", "L1", "--why", "x"],
        "quality": [], "overridden": ["--out", "corrected"], "target": ["lis", "--remove"],
        "send": ["--once"], "watch": ["allkit-mine", "--once"], "receive": [],
        "backup": ["copy"], "restore": ["copy", "--store", "again"], "verify": [],
        "audit verify": [], "audit export": ["--out", "audit.jsonl"],
        "lower": ["L1", "--why", "x"], "erase": ["L1", "--why", "x", "--yes"],
    }  # fmt: skip
    return {
        f"clinic {name}": [
            "clinic", *name.removesuffix(" sr").split(), *words,
            *([] if "--store" in words else ["--store", "clinic"]),
        ]
        for name, words in way.items()
    }  # fmt: skip


# In this order: a later command works on what an earlier one has made.
STEPS = {
    "doctor": ["doctor"],
    "plugins list": ["plugins", "list", "--refresh"],
    "plugins show": ["plugins", "show", "allkit-stain"],
    "plugins doctor": ["plugins", "doctor"],
    "plugins check": ["plugins", "check", "allkit-blobs"],
    "plugins new": ["plugins", "new", "allkit-mine"],
    "check": ["check", "DATA", *TINY, "--html", "check.html"],
    "audit": ["audit", "DATA", "--html", "audit.html"],
    "clean": ["clean", "DATA", "--out", "cleaned", "--region", "0.9,0.9,1,1"],
    "split": ["split", "DATA", "--out", "split.csv"],
    "train": ["train", "DATA", "--out", "model", *QUICK],
    "evaluate": ["evaluate", "model", "DATA", "--html", "evaluation.html"],
    "explain": ["explain", "model", "IMAGE", "--out", "explanation.png"],
    "predict": ["predict", "model", "IMAGE", "--out", "answers.csv"],
    "adapt": ["adapt", "model", "DATA", "--out", "adapted"],
    "export": ["export", "model", "--out", "model.onnx"],
    "verify": ["verify", "model.onnx"],
    "sign key": ["sign", "--new-key", "lab.key"],
    "sign": ["sign", "model.onnx", "--key", "lab.key"],
    "verify key": ["verify", "model.onnx", "--key", "lab.key.pub"],
    "benchmark": ["benchmark", "model.onnx", "--plot", "benchmark.png"],
    "cache list": ["cache", "list"],
    "cache clear": ["cache", "clear"],
    "serve": ["serve", "model.onnx"],
    "app": ["app", "model.onnx", "--store", "workplace"],
    "tune": ["tune", "DATA", "--out", "tuned", "--trials", "1", *QUICK],
    "reproduce": ["reproduce", "model", "DATA"],
    "export openvino": ["export", "model", "--out", "m.openvino", "--format", "openvino"],
    "predict openvino": ["predict", "m.openvino", "IMAGE"],
    "predict ray": ["predict", "model", "IMAGE", "--out", "ray.csv", "--engine", "ray"],
    "demo": ["demo", "--data", "DATA", "--out", "demo"],
}
STEPS |= {
    f"clinic {name}": clinic_steps()[f"clinic {name}"]
    for name in ("init", "add", "report", "receive")
}
MORE = {  # other ways through the same commands
    "train": STEPS["train"],
    "train last": ["train", "DATA", "--out", "last", *QUICK, "--strategy", "last"],
    "train lora": ["train", "DATA", "--out", "lora", *QUICK, "--strategy", "lora"],
    "export distil": [
        "export",
        "model",
        "--distil",
        "DATA",
        "--student",
        "timm:test_resnet",
        "--student-weights",
        "none",
        "--out",
        "student.onnx",
    ],
    "export int8": ["export", "model", "--out", "int8.onnx", "--int8", "--calibrate", "DATA"],
}
MORE |= {"plugins new": STEPS["plugins new"], "export": STEPS["export"]} | clinic_steps()
REPORTERS = {"albumentations", "onnxruntime", "openvino"}  # by being imported
FINDS = (1, 0)  # `check` ends with 1 where there is something to fix, and so does `reproduce`
MAY_REFUSE = (
    "export int8",  # where the answers of a network that has learnt nothing are other ones
    # What they ask for is not there on the way above; that they ask nobody is to be seen.
    "clinic sign", "clinic reopen", "clinic withdraw", "clinic move", "clinic target", "clinic overridden", "clinic join",
)  # fmt: skip


@pytest.fixture(scope="module")
def strace():
    """The tracer's module, or a skip; an error where CI runs."""
    if sys.platform != "linux" or shutil.which("strace") is None:
        reason = "no strace here (Linux, apt-get install strace), so no command is watched"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    import importlib.util

    spec = importlib.util.spec_from_file_location("allkit_tracer", TOOLS / "tracer.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its records look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def machine(tmp_path):
    """An empty home on a new machine: its environment, and the folders that may be written."""
    import certifi

    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as short:  # a socket's path is short
        folders = {name: tmp_path / name for name in ("home", "work", "logs", "own")}
        for folder in folders.values():
            folder.mkdir()
        settings = {
            variable for habit in telemetry.LIBRARIES.values() for variable in [habit.variable]
        }
        kept = {
            name: value for name, value in os.environ.items()
            if name not in settings and not name.startswith(("XDG_", "ALLKIT_", "MPL", "HF_", "RAY_"))
        }  # fmt: skip
        environment = kept | {
            "HOME": str(folders["home"]), "TMPDIR": short, "ALLKIT_CACHE": str(folders["own"]),
            "ALLKIT_SITE_KEY_FILE": str(folders["own"] / "site-key"),
            "PYTHONDONTWRITEBYTECODE": "1",  # Python's own, beside the sources
            "OMP_NUM_THREADS": "1",
            "SSL_CERT_FILE": certifi.where(),  # with it ONNX Runtime is able to report
            "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip
        environment.pop("CI", None)  # OpenVINO reports nothing where it is set
        yield environment, folders | {"temporary": Path(short)}


def watched(strace, machine, steps, drawn):
    """Run the steps and return how each ended, what was seen of each, and the log of each."""
    environment, folders = machine
    image = str(sorted(drawn.parent.glob("images/*.png"))[0])
    names = {"DATA": str(drawn), "IMAGE": image}
    job = folders["logs"] / "job.json"
    todo = [[name, [names.get(word, word) for word in words]] for name, words in steps.items()]
    job.write_text(json.dumps({"steps": todo, "logs": str(folders["logs"]), "image": image}))
    allowed = [folders[name] for name in ("work", "logs", "own", "temporary")]
    status, seen = strace.trace(
        [sys.executable, str(TOOLS / "commands.py"), str(job)], allowed,
        env=environment, cwd=folders["work"], capture_output=True,
    )  # fmt: skip
    assert status == 0
    ended = json.loads(job.with_suffix(".ended.json").read_text())
    assert list(ended) == list(steps)
    for name, end in ended.items():
        log = (folders["logs"] / f"{name}.txt").read_text()
        expected = (*FINDS, 2) if name in MAY_REFUSE else FINDS
        assert end["status"] in expected, f"{name}: {log}"
        assert "Traceback" not in log, f"{name}: {log}"
    return ended, seen


def assert_nothing_left(machine, ended, seen):
    assert not seen, "\n".join(f"{one.step}: {one.kind} {one.what}" for one in seen)
    assert {name: end["left"] for name, end in ended.items() if end["left"]} == {}
    assert list(machine[1]["home"].iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1500)  # on a busy machine; it watches every command
def test_no_command_sends_or_writes_anything_that_was_not_named(strace, machine, few):
    ended, seen = watched(strace, machine, STEPS, few)
    assert_nothing_left(machine, ended, seen)


@pytest.mark.nightly
@pytest.mark.slow
def test_nor_do_other_ways_through_them(strace, machine, drawn):
    ended, seen = watched(strace, machine, MORE, drawn)
    assert_nothing_left(machine, ended, seen)


def test_no_command_is_forgotten():
    import typer

    from allkit.cli.root import root

    def names(command, before=()):
        inner = getattr(command, "commands", None)
        if inner is None:
            yield " ".join(before)
        else:
            for name, one in inner.items():
                yield from names(one, (*before, name))

    ours = {*STEPS, *MORE}
    assert {name for name in names(typer.main.get_command(root)) if name not in ours} == set()


OTHERWISE = """
import os, sys, time
import onnxruntime
folder = os.path.join(os.path.dirname(onnxruntime.__file__), "datasets")
session = onnxruntime.InferenceSession(os.path.join(folder, "sigmoid.onnx"))
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.slow
def test_the_watch_sees_what_onnx_runtime_does_without_the_setting(strace, machine):
    environment, folders = machine
    command = [sys.executable, "-c", OTHERWISE]
    _, seen = strace.trace(
        [*command, "14"], [folders["temporary"]], env=environment, capture_output=True
    )
    reports = [one for one in seen if one.kind == "file" and "Microsoft" in one.what]
    assert reports, "onnxruntime no longer writes there; is the setting still needed?"
    assert (folders["home"] / ".cache" / "Microsoft" / "DeveloperTools").is_dir()
    # It asks for the address of its makers some seconds later, where there is a resolver to ask.
    if Path("/etc/resolv.conf").is_file():
        assert [one for one in seen if one.kind in ("look-up", "connection")]
    shutil.rmtree(folders["home"] / ".cache")
    (folders["temporary"] / ".ses").unlink(missing_ok=True)  # it leaves that too
    ours = (
        "from allkit.telemetry import import_silent\nonnxruntime = import_silent('onnxruntime')\n"
    )
    silent = [*command[:2], OTHERWISE.replace("import onnxruntime\n", ours), "0"]
    _, seen = strace.trace(silent, [folders["temporary"]], env=environment, capture_output=True)
    assert seen == []
    assert list(folders["home"].iterdir()) == list(folders["temporary"].iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REPORTERS - {"onnxruntime"}))
def test_a_library_that_reports_its_import_does_not_when_allkit_imports_it(strace, machine, name):
    environment, folders = machine
    found = []
    for code in (f"import {name}", f"from allkit.telemetry import import_silent as i; i({name!r})"):
        command = [sys.executable, "-c", code]
        status, seen = strace.trace(
            command, [folders["temporary"]], env=environment, capture_output=True
        )
        assert status == 0
        found.append(seen)
    assert found[0], f"{name} no longer reports; is its row in the table still needed?"
    assert found[1] == []


def test_the_watch_sees_connections_look_ups_and_files_of_every_kind(strace, tmp_path):
    code = (
        "import contextlib, os, socket, subprocess, sys\n"
        "os.chdir(sys.argv[1])\n"
        "os.mkdir('folder'); os.rename('folder', 'renamed'); os.symlink('/nowhere', 'link')\n"
        "open('file', 'w').close(); os.truncate('file', 3); os.mkfifo('pipe')\n"
        "subprocess.run(['touch', 'child'])\n"
        "os.close(os.open('file', os.O_RDONLY))\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n"
        "    with contextlib.suppress(OSError): s.sendto(b'x', ('192.0.2.7', 9))\n"
        "    with contextlib.suppress(OSError): s.sendto(b'x', ('127.0.0.1', 53))\n"
        "    with contextlib.suppress(OSError): s.sendto(b'x', ('127.0.0.1', 9))\n"
        "with socket.socket(socket.AF_INET6) as s:\n"
        "    s.setblocking(False)\n"
        "    with contextlib.suppress(OSError): s.connect(('2001:db8::7', 443))\n"
    )
    outside, inside = tmp_path / "outside ä", tmp_path / "inside"
    found = {}
    for folder in (outside, inside):
        folder.mkdir()
        command = [sys.executable, "-c", code, str(folder)]
        _, seen = strace.trace(command, [inside], env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
        found[folder] = [(one.kind, one.what) for one in seen]
    network = [
        ("connection", "192.0.2.7:9"), ("look-up", "127.0.0.1:53"), ("connection", "2001:db8::7:443")
    ]  # fmt: skip
    assert found[inside] == network
    names = ("folder", "renamed", "link", "file", "pipe", "child")
    assert found[outside] == [*(("file", str(outside / name)) for name in names), *network]


WATCHED_FOR = {*telemetry.LIBRARIES, "timm", "matplotlib", "peft"}
IMPORTERS = {"import_module", "__import__", "importorskip"}


def imports(path):
    """Yield the modules that a source imports, by statement or by function, outside type checks."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner) for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }  # fmt: skip
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in IMPORTERS:
                yield str(node.args[0].value)


def test_whoever_reports_is_imported_in_one_way_only():
    found = {}
    for folder in ("src", "plugins", "streamlit_app", "tests", "benchmarks", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            shipped = folder in ("src", "plugins", "streamlit_app") and "tests" not in path.parts
            names = {name.partition(".")[0] for name in imports(path)}
            found[path.relative_to(ROOT).as_posix()] = names & (
                WATCHED_FOR if shipped else REPORTERS
            )
    # The one way itself imports what keeps matplotlib's list of fonts.
    assert found.pop("src/allkit/telemetry.py") == {"matplotlib"}
    # It shows how to do without allkit, and so without its one way.
    assert found.pop("examples/run_without_allkit.py") == {"onnxruntime"}
    assert {path: names for path, names in found.items() if names} == {}


def test_that_search_finds_imports_of_every_kind(tmp_path):
    source = tmp_path / "source.py"
    source.write_text(
        "import onnxruntime.quantization as q\nfrom timm import models\n"
        "def f():\n    import albumentations\n    importlib.import_module('openvino')\n"
        "    __import__('peft')\nfrom . import ray\n"
        "if TYPE_CHECKING:\n    import matplotlib\n"
    )
    names = ["onnxruntime.quantization", "timm", "albumentations", "openvino", "peft"]
    assert sorted(imports(source)) == sorted(names)


def run(code, **variables):
    """Run `code` in a new process and return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "CI")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.slow
def test_importing_allkit_and_its_imports_leave_the_environment_as_it_was():
    code = (
        "import os, cv2; before = dict(os.environ)\n"  # OpenCV sets variables of its own
        "import allkit, allkit.telemetry as t\n"
        "assert dict(os.environ) == before\n"
        "for name in ('onnxruntime', 'onnxruntime.quantization', 'albumentations', 'openvino',\n"
        "             'matplotlib.figure', 'huggingface_hub'):\n"
        "    t.import_silent(name); assert dict(os.environ) == before, name\n"
        "print(t.reports())"
    )
    assert "may report" not in run(code)[0]


@pytest.mark.slow
@pytest.mark.parametrize("value", ["0", "1"])
def test_what_the_user_has_set_stays_and_the_doctor_says_so(value, tmp_path):
    code = (
        "import os, sys; from allkit.telemetry import import_silent; import_silent('onnxruntime')\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == sys.argv[1] if sys.argv[1:] else True\n"
        "sys.argv = ['allkit', 'doctor']; from allkit.cli import main; main()"
    )
    home = {"HOME": str(tmp_path), "ORT_DISABLE_TELEMETRY": value, "SSL_CERT_FILE": "/nowhere"}
    told, warned = run(code, **home)
    said = f"onnxruntime: may report: ORT_DISABLE_TELEMETRY is {value!r}, and stays as you set it"
    assert (said in told) == (value != "1")
    assert "imported before allkit" not in told + warned
    assert (tmp_path / ".cache" / "Microsoft").exists() == (value != "1")


@pytest.mark.slow
def test_the_doctor_says_when_onnx_runtime_was_imported_before(tmp_path):
    code = (
        "import sys, warnings, onnxruntime\n"
        "from allkit.telemetry import import_silent\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    import_silent('onnxruntime'); import_silent('onnxruntime.quantization')\n"
        "print(len(told), told[0].message)\n"
        "sys.argv = ['allkit', 'doctor']; from allkit.cli import main; main()"
    )
    told, _ = run(code, HOME=str(tmp_path), SSL_CERT_FILE="/nowhere")
    assert told.startswith(
        "1 onnxruntime was imported before allkit, with its reports to its makers"
    )
    assert "telemetry        onnxruntime: may report: onnxruntime was imported before" in told
    assert "Set ORT_DISABLE_TELEMETRY=1 before that" in told


def test_a_plugin_that_imports_onnx_runtime_by_itself_is_imported_in_silence(tmp_path):
    (tmp_path / "chatty.py").write_text("import os, onnxruntime\nSEEN = dict(os.environ)\n")
    code = (
        "import importlib, sys; sys.path.insert(0, sys.argv[0] or '.')\n"
        "from allkit.plugins.loading import load\n"
        "load('chatty 1', 'chatty', lambda: importlib.import_module('chatty'))\n"
        "print(sys.modules['chatty'].SEEN['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {"HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    code = code.replace("sys.argv[0] or '.'", repr(str(tmp_path)))
    assert run(code, **environment)[0] == "1\n"
    assert list((tmp_path / "home").iterdir()) == []


def test_imports_at_once_in_several_threads_are_all_silent():
    import threading

    before, inside = dict(os.environ), threading.Barrier(4)
    seen = []

    def work(wait):
        with telemetry.silence():
            inside.wait()
            if wait:
                done.wait(5)
            seen.append(os.environ["MLFLOW_DISABLE_TELEMETRY"])  # of what is never imported here

    done = threading.Event()
    threads = [threading.Thread(target=work, args=(number == 0,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    done.set()
    threads[0].join()
    assert seen == ["true"] * 4
    assert dict(os.environ) == before


def test_the_hub_is_told_no_more_than_the_question(monkeypatch):
    from allkit.telemetry import import_silent, silent_hub

    headers = import_silent("huggingface_hub.utils").build_hf_headers
    constants = import_silent("huggingface_hub.constants")
    agent = functools.partial(headers, library_name="timm", library_version="1")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)  # imported by others
    assert "torch/" in agent()["user-agent"]
    with silent_hub():
        assert "torch/" not in agent()["user-agent"]
    assert "torch/" in agent()["user-agent"]
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")  # the user's wish
    with silent_hub():
        assert "torch/" in agent()["user-agent"]


@pytest.mark.slow
def test_pictures_keep_the_users_own_style_and_folders(tmp_path):
    home, own = tmp_path / "home", tmp_path / "own"
    (home / ".config" / "matplotlib").mkdir(parents=True)
    (home / ".config" / "matplotlib" / "matplotlibrc").write_text("lines.linewidth: 7.5\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    fonts = programs / "fc-list"  # as fontconfig does where its caches are old
    fonts.write_text(
        "#!/bin/sh\nset -e\ncase $1 in --help) echo --format;; *)\n"
        "folder=${FONTCONFIG_FILE:+$(dirname $FONTCONFIG_FILE)}\n"
        "mkdir -p ${folder:-$HOME/.cache/fontconfig}\n: > ${folder:-$HOME/.cache/fontconfig}/c;;\nesac\n"
    )
    fonts.chmod(0o755)
    code = (
        "from allkit.data.canvas import figure_of, png; png(figure_of(1, 1))\n"
        "import matplotlib; print(matplotlib.rcParams['lines.linewidth'])"
    )
    variables = {
        "HOME": str(home), "ALLKIT_CACHE": str(own), "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "",
        "MPLCONFIGDIR": "", "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    before = sorted(home.rglob("*"))
    assert run(code, **variables)[0] == "7.5\n"
    assert sorted(home.rglob("*")) == before
    assert [path.name.partition("-")[0] for path in (own / "matplotlib").iterdir()] == ["fontlist"]
    mine = tmp_path / "mine"
    run(code, **variables | {"MPLCONFIGDIR": str(mine)})
    assert list(mine.glob("fontlist*"))


def test_allkit_has_one_folder_of_its_own(monkeypatch, tmp_path):
    from allkit.files import cache_folder

    monkeypatch.setenv("ALLKIT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("ALLKIT_CACHE")
    assert cache_folder().name == "allkit"
    assert allkit.__version__
