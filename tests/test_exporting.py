"""The kit for exporters, and opening by what is offered: what a stranger's format needs, and may not do."""

import base64
import importlib
import io
import json
import os
import subprocess
import sys
import types
import warnings
import zipfile
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import BaseModel

import allkit
import blocks
from allkit import Exporter, exporting, hookimpl
from allkit.errors import ConfigError, ExportError, PluginError
from allkit.plugins import Registry, using
from allkit.runtime import signature
from allkit.runtime.seal import SEAL_BLANK, describe, read_sealed, seal
from allkit.testing import ConformanceError, checks_of, run_checks

PAGE = blocks.DOCS / "plugins" / "exporters.md"
CELLS = "answers_like_a_model_with_cells"


# ── the page ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def ort(tmp_path_factory):
    """The module that the page shows, imported from a file as an author has it."""
    folder = tmp_path_factory.mktemp("author")
    (folder / "allkit_ort.py").write_text(blocks.blocks_of(PAGE)[0].text, encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield importlib.import_module("allkit_ort")
    sys.path.remove(str(folder))
    del sys.modules["allkit_ort"]


def record_of(module):
    (record,) = module.allkit_exporters()
    return record


@pytest.mark.slow
def test_the_exporter_of_the_page_passes_every_check(ort):
    checks = [check for check in checks_of(record_of(ort)) if check.name != CELLS]
    for check in checks:
        check()
    assert len(checks) == 17


@pytest.mark.nightly
def test_and_so_it_does_with_cells(ort):
    outcomes = run_checks(record_of(ort))
    assert [o for o in outcomes if o.state != "passed"] == []


# ── any payload ───────────────────────────────────────────────────────────────────────────────


FULL = "allkit-fake/fake"


class Fake(exporting.FilePredictor):
    """Its engine is the model itself, in torch: what is tested is what lies around an engine."""

    exporter = FULL
    pipeline: torch.nn.Module

    def open_payload(self, payload):
        self.payload = payload

    def compute(self, feed, names):
        with torch.inference_mode():
            found = self.pipeline(*map(torch.from_numpy, feed.values()))
        return [found[exporting.OUTPUTS.index(name)].numpy() for name in names]


@pytest.fixture(scope="module", autouse=True)
def engine(tiny):
    Fake.pipeline = tiny.pipeline()


def packed():
    """A compressed zip, whose files have checksums."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("weights", bytes(range(256)) * 40)
    return stream.getvalue()


def fake(payload=b"payload", name="fake", **fields):
    def write(model, path, *, precision, calibration):
        exporting.write(path, payload, model, exporter=f"allkit-fake/{name}", precision=precision)

    return replace(Exporter(name, ".fake", write, Fake), **fields)


def plugin(*records):
    return types.SimpleNamespace(allkit_exporters=hookimpl(lambda: list(records)), api_version=2)


def host_of(*records, distribution="allkit-fake"):
    host = Registry(discover=False)
    added = host.register(plugin(*records), name="fake", distribution=distribution, version="1.0")
    assert added.error is None, added.error
    return host


@pytest.mark.parametrize("payload", ["zip", "onnx", "one byte"])
def test_any_payload_is_carried_untouched_and_proves_itself(
    payload, tiny, tiny_onnx, tmp_path, cli
):
    data = {"zip": packed(), "onnx": tiny_onnx.read_bytes(), "one byte": b"\0"}[payload]
    path = tmp_path / "m.fake"
    with using(host_of(fake(data))):
        report = tiny.export(path, format=FULL)
        content = exporting.read(path, exporter=FULL)
        assert content.payload == data
        assert content.info["exporter"] == FULL
        assert content.info["proof"]["images"] == report.images == 8
        assert allkit.load(path).predict(np.full((60, 80, 3), 200, np.uint8))
        status, out, _ = cli("verify", path)
        assert (status, "Agrees." in out, "same class on 8" in out) == (0, True, True)
    if payload == "zip":
        with zipfile.ZipFile(io.BytesIO(content.payload)) as file:
            assert file.testzip() is None


@pytest.fixture
def file(tiny, tmp_path):
    path = tmp_path / "m.fake"
    fake().write(tiny, path, precision="float32", calibration=None)
    return path


def test_every_changed_bit_and_every_cut_is_noticed(file):
    original = file.read_bytes()
    rng = np.random.default_rng(0)
    ends = range(len(original) - 60, len(original))
    for position in [0, 6, *rng.integers(len(original), size=40), *ends]:
        data = bytearray(original)
        data[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(data)
        with pytest.raises(ExportError):
            exporting.read(file)
    cut = r"is empty|no trailer|by the exporter allkit-fake/fake, and was cut off"
    for length in (0, 1, 40, len(original) // 2, len(original) - 1):
        file.write_bytes(original[:length])
        with pytest.raises(ExportError, match=cut):
            exporting.read(file)
    file.write_bytes(original + b"\n")
    with pytest.raises(ExportError, match="has bytes behind its trailer"):
        exporting.read(file)


def test_a_file_of_another_exporter_or_a_newer_allkit_is_refused_with_what_to_do(file, tmp_path):
    with pytest.raises(ExportError, match=r"written by the exporter allkit-fake/fake.*own suffix"):
        exporting.read(file, exporter="allkit-other/other")
    data = bytearray(file.read_bytes())
    data[-1] = 9
    file.write_bytes(data)
    with pytest.raises(ExportError, match=r"trailer of the kind 9.*Update allkit"):
        exporting.read(file)
    with pytest.raises(ExportError, match="does not exist"):
        exporting.read(tmp_path / "none.fake")
    (tmp_path / "page.fake").write_text("<!DOCTYPE html><html>Sign in</html>")
    with pytest.raises(ExportError, match="web page"):
        exporting.read(tmp_path / "page.fake")


def test_what_cannot_be_a_payload_or_a_name_is_told_to_the_author(tiny, tmp_path):
    with pytest.raises(ExportError, match="str was given"):
        exporting.write(tmp_path / "m", "text", tiny, exporter=FULL, precision="float32")
    with pytest.raises(ExportError, match="at least one"):
        exporting.write(tmp_path / "m", b"", tiny, exporter=FULL, precision="float32")
    with pytest.raises(ExportError, match="PACKAGE/NAME, as in allkit-ort/ort"):
        exporting.write(tmp_path / "m", b"x", tiny, exporter="fake", precision="float32")
    assert list(tmp_path.iterdir()) == []


def test_a_site_that_trusts_certain_keys_opens_no_other_file(file, tmp_path, monkeypatch, cli):
    signature.new_key(tmp_path / "lab")
    monkeypatch.setenv("ALLKIT_TRUSTED_KEYS", str(tmp_path / "lab.pub"))
    with pytest.raises(ExportError, match="is not signed"):
        exporting.read(file)
    status, _, err = cli("sign", file, "--key", tmp_path / "lab")
    assert status == 0, err
    assert exporting.read(file).payload == b"payload"
    other = file.with_name("other.fake")
    other.write_bytes(file.read_bytes())
    os.replace(f"{file}.sig", f"{other}.sig")
    assert exporting.read(other).payload == b"payload"


def test_a_signature_of_another_file_is_doubted(file, tiny, tmp_path, cli):
    signature.new_key(tmp_path / "lab")
    cli("sign", file, "--key", tmp_path / "lab")
    fake(b"another").write(tiny, file, precision="float32", calibration=None)
    with pytest.warns(UserWarning, match="not the signature of what lies there now"):
        exporting.read(file)


# ── a seal in the file ────────────────────────────────────────────────────────────────────────


def described(tiny):
    return json.dumps(describe(tiny.info, format=1, precision="float32")).encode()


def test_a_seal_that_would_break_a_zip_is_refused(tiny):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as zipped:
        zipped.writestr("graph", b"graph")
        zipped.writestr("info.json", described(tiny))
    with pytest.raises(ExportError, match=r"'info.json'.*checksum.*allkit\.exporting\.write"):
        seal(stream.getvalue())


def test_a_file_that_holds_a_sealed_one_is_refused_when_it_is_written(tiny, tiny_onnx):
    with pytest.raises(ExportError, match=r"two seals.*allkit\.exporting\.write"):
        seal(tiny_onnx.read_bytes() + described(tiny))
    with pytest.raises(ExportError, match=r"no blank seal, or several"):
        seal(described(tiny) * 2)


class Old(Fake):
    """A format of version 1: a description with a seal, and behind it a checksum of its own."""

    checked = True

    def __init__(self, path):
        text, checksum = read_sealed(path)[:-8], read_sealed(path)[-8:]
        info = json.loads(text)
        blank = text.replace(info["sha256"].encode(), SEAL_BLANK.encode())
        if self.checked and checksum != b"%08x" % zlib.crc32(blank):
            raise ExportError(f"{path} has a wrong checksum.")
        exporting.GraphPredictor.__init__(self, path, info, info["trust"])


def write_old(model, path, *, precision, calibration):
    trust = base64.b64encode(model.trust.to_bytes()).decode()
    info = describe(model.info, format=1, precision=precision, trust=trust)
    text = json.dumps(info).encode()
    path.write_bytes(seal(text + b"%08x" % zlib.crc32(text)))


def test_a_file_that_its_report_would_break_is_not_kept(tiny, tmp_path, monkeypatch):
    with using(host_of(Exporter("old", ".old", write_old, Old))):
        write_old(tiny, tmp_path / "m.old", precision="float32", calibration=None)
        allkit.load(tmp_path / "m.old")
        with pytest.raises(ExportError, match=r"opened again.*wrong checksum"):
            tiny.export(tmp_path / "n.old", format="old")
        assert [p.name for p in tmp_path.iterdir()] == ["m.old"]
        monkeypatch.setattr(Old, "checked", False)
        tiny.export(tmp_path / "n.old", format="old")
        assert "proof" in allkit.load(tmp_path / "n.old").info


@pytest.mark.slow
def test_a_format_of_allkit_under_another_suffix_goes_on_as_it_was(tiny, tmp_path):
    onnx = Registry(discover=False).get("exporter", "onnx")
    record = Exporter("wrapped", ".wrapped", onnx.write, onnx.open)
    with using(host_of(record)):
        tiny.export(tmp_path / "m.wrapped", format="wrapped")
        assert allkit.load(tmp_path / "m.wrapped").info["proof"]["images"] == 8


# ── opening by what is offered ────────────────────────────────────────────────────────────────


CONSTANT = """
import numpy as np
from allkit import Exporter, exporting, hookimpl
api_version = 2
def write(model, path, *, precision, calibration):
    exporting.write(path, b"x", model, exporter="{0}/{1}", precision=precision)
class Constant(exporting.FilePredictor):
    exporter = "{0}/{1}"
    def open_payload(self, payload):
        self.width = len(self.trust.content.mean)
    def compute(self, feed, names):
        count, classes = len(feed["pixels"]), len(self.classes)
        rows = dict(probabilities=1 / classes, logits=0, features=0)
        wide = dict(probabilities=classes, logits=classes, features=self.width)
        return [np.full((count, wide[n]), rows[n], np.float32) for n in names]
@hookimpl
def allkit_exporters():
    return [Exporter("{1}", "{2}", write, Constant)]
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Install plugins: `site("allkit-one", source)`."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    names = []

    def install(distribution, source):
        module = distribution.replace("-", "_")
        names.append(module)
        (folder / f"{module}.py").write_text(source)
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[allkit]\nplugin = {module}\n")
        importlib.invalidate_caches()
        monkeypatch.setenv("ALLKIT_PLUGINS", ",".join(n.replace("_", "-") for n in names))

    yield install
    for module in names:
        sys.modules.pop(module, None)


def in_a_process_of_its_own(path, tmp_path):
    """Answer from a file; return which plugins were imported, and whether any was looked for."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import allkit, numpy as np\n"
        "from allkit.plugins import registry\n"
        f"answers = allkit.load({str(path)!r}).predict(np.full((64, 64, 3), 200, np.uint8))\n"
        "found = sorted(n for n in sys.modules if n.startswith('allkit_') or n == 'torch')\n"
        "print([len(answers), found, not registry()._discover])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


BROKEN = "from allkit import nothing_of_that_name\n"


@pytest.fixture
def three(site, tiny, tmp_path):
    """Two plugins of one suffix and a broken one, and a file of each of the two."""
    site("allkit-one", CONSTANT.format("allkit-one", "npz", ".npz"))
    site("allkit-two", CONSTANT.format("allkit-two", "npz", ".npz"))
    site("allkit-broken", BROKEN)
    files = []
    for name in ("one", "two"):
        files.append(tmp_path / f"{name}.npz")
        exporting.write(files[-1], b"x", tiny, exporter=f"allkit-{name}/npz", precision="float32")
    return files


def test_answering_imports_the_one_plugin_that_is_needed(three, tiny_onnx, tmp_path):
    assert in_a_process_of_its_own(tiny_onnx, tmp_path) == "[1, [], False]"
    assert in_a_process_of_its_own(three[1], tmp_path) == "[1, ['allkit_two'], True]"


def test_a_built_in_format_is_opened_whatever_is_installed(site, tiny, tiny_onnx, tmp_path):
    site("allkit-early", CONSTANT.format("allkit-early", "aaa", ".onnx"))
    with using(Registry()) as host:
        found = allkit.load(tiny_onnx)
        assert type(found).__name__ == "OnnxPredictor"
        assert "allkit_early" not in sys.modules
        with pytest.raises(PluginError, match=r"allkit-early 1.0.*the suffix of allkit/onnx"):
            tiny.export(tmp_path / "m.onnx", format="aaa")
        assert host.conflicts() == []
        said = [p for p in host.problems() if "allkit-early/aaa claims .onnx" in p.what]
        assert [(p.state, "allkit's own" in p.what) for p in said] == [("problem", True)]
    assert not (tmp_path / "m.onnx").exists()


def test_the_name_in_the_file_decides_between_two_of_one_suffix(three, tiny, tmp_path):
    with using(Registry()) as host:
        for path, module in zip(three, ("allkit_one", "allkit_two"), strict=True):
            assert type(allkit.load(path)).__module__ == module
        (said,) = [p for p in host.problems() if p.state == "conflict" and ".npz" in p.what]
        assert "allkit-one/npz and allkit-two/npz claim .npz" in said.what
        (tmp_path / "old.npz").write_bytes(b"nothing of allkit")
        with pytest.raises(
            ExportError, match=r"allkit-one/npz and allkit-two/npz.*ALLKIT_PLUGINS="
        ):
            allkit.load(tmp_path / "old.npz")
        exporting.write(
            tmp_path / "third.npz", b"x", tiny, exporter="allkit-three/npz", precision="float32"
        )
        with pytest.raises(ExportError, match="pip install allkit-three"):
            allkit.load(tmp_path / "third.npz")
        (tmp_path / "m.other").write_bytes(b"something")
        with pytest.raises(ExportError, match=r"no exporter has.*allkit-broken 1.0"):
            allkit.load(tmp_path / "m.other")
        for content, said in (
            (b"", "is empty"),
            (three[0].read_bytes()[:-1], "npz, and was cut off"),
        ):
            (tmp_path / "cut.npz").write_bytes(content)
            with pytest.raises(ExportError, match=said):
                allkit.load(tmp_path / "cut.npz")


def said_of(path):
    with pytest.raises(ExportError) as error:
        allkit.load(path)
    return str(error.value)


def test_what_is_wrong_with_a_file_whose_payload_is_a_zip_is_what_is_told(
    site, tiny, tmp_path, monkeypatch
):
    file = tmp_path / "m.onnxzip"
    by = "was written by the exporter allkit-zipped/onnxzip"
    exporting.write(file, packed(), tiny, exporter="allkit-zipped/onnxzip", precision="float32")
    whole = file.read_bytes()

    def all_damaged():
        for data in (whole[:-1], whole[:-20], whole + b"\r\n"):
            file.write_bytes(data)
            assert f"{by}, and was cut off or has bytes behind its trailer. Copy it" in said_of(
                file
            )
        file.write_bytes(whole[: len(packed()) // 2])
        assert "was cut off" in said_of(file)
        altered = bytearray(whole)
        altered[9] ^= 1
        file.write_bytes(altered)
        assert "altered or damaged" in said_of(file)
        file.write_bytes(whole)

    with using(Registry(discover=False)):  # the package is not installed
        all_damaged()
        assert said_of(file).endswith(
            f"{by}, which is not installed here. Type: pip install allkit-zipped"
        )
    site("allkit-zipped", CONSTANT.format("allkit-zipped", "onnxzip", ".onnxzip"))
    with using(Registry()):
        all_damaged()
        assert allkit.load(file).classes == tiny.classes
        for name in ("m.bin", "m.zip", "m.onnx"):
            (tmp_path / name).write_bytes(whole)
            assert f"{by}, whose files end in .onnxzip. Give it that end" in said_of(
                tmp_path / name
            )
    monkeypatch.setenv("ALLKIT_PLUGINS", "")
    with using(Registry()):
        assert said_of(file).endswith(
            f"{by}, which ALLKIT_PLUGINS leaves out here. Add allkit-zipped to it."
        )
    monkeypatch.setenv("ALLKIT_PLUGINS", "allkit-zipped")
    (tmp_path / "site" / "allkit_zipped.py").write_text(BROKEN)
    with using(Registry(fresh=True)):
        assert f"{by}, which is installed but broken: ImportError" in said_of(file)


def test_an_engine_that_is_not_there_is_named_with_what_to_install(site, tiny, tmp_path):
    file = tmp_path / "m.npz"
    exporting.write(file, b"x", tiny, exporter="allkit-one/npz", precision="float32")
    needs = CONSTANT.replace(
        "        self.width", "        import engine_of_one.core\n        self.width"
    )
    site("allkit-one", needs.format("allkit-one", "npz", ".npz"))
    metadata = tmp_path / "site" / "allkit_one-1.0.dist-info" / "METADATA"
    lacks = "the module engine_of_one, which allkit-one needs, is not installed."
    for required, what in (
        ("", "allkit-one does not require it: tell its author"),
        ("Requires-Dist: no-such-package>=2\n", "Type: pip install 'no-such-package>=2'"),
        (
            "Requires-Dist: engine-of-one>=1; extra == 'run'\n",
            r"Type: pip install 'allkit-one[run]'",
        ),
    ):
        metadata.write_text(f"Name: allkit-one\nVersion: 1.0\n{required}")
        with using(Registry()):
            assert f"{lacks} {what}" in said_of(file)


def test_an_export_without_a_format_takes_the_one_of_the_suffix(
    three, tiny_folder, tmp_path, cli, site
):
    site("allkit-three", CONSTANT.format("allkit-three", "three", ".three"))
    with using(Registry()):
        # Its answers are not those of the model, so it is not kept; but it was asked.
        assert (
            "allkit-three/three file does not answer"
            in cli("export", tiny_folder, "--out", tmp_path / "m.three")[2]
        )
        several = cli("export", tiny_folder, "--out", tmp_path / "m.npz")[2]
        assert "--format allkit-one/npz or allkit-two/npz" in several
        none = cli("export", tiny_folder, "--out", tmp_path / "m.bin")[2]
        assert "No format has the suffix of 'm.bin'" in none
        assert "onnx (.onnx)" in none
        assert "allkit-three/three (.three)" in none
        other = cli("export", tiny_folder, "--out", tmp_path / "m.bin", "--format", "onnx")[2]
        assert "a file of the format onnx ends in .onnx, and 'm.bin' does not" in other


# ── settings ──────────────────────────────────────────────────────────────────────────────────


class Level(BaseModel):
    level: int = 1


def with_settings():
    def write(model, path, *, precision, calibration, settings):
        payload = b"x" * settings.level
        exporting.write(path, payload, model, exporter=FULL, precision=precision)

    return fake(write=write, settings=Level)


def test_settings_are_checked_given_to_write_and_kept_in_the_file(tiny, tiny_folder, tmp_path, cli):
    with using(host_of(with_settings())):
        for number, options in enumerate(
            [
                {"format": FULL, "settings": {"level": 3}},
                {"format": {FULL: {"level": 3}}},
                {"format": {"fake": {"level": 7}}, "settings": {"level": 3}},
            ]
        ):
            tiny.export(tmp_path / f"{number}.fake", **options)
            found = allkit.load(tmp_path / f"{number}.fake")
            assert (found.payload, found.info["settings"]) == (b"xxx", {"level": 3})
        tiny.export(tmp_path / "default.fake", format="fake")
        assert allkit.load(tmp_path / "default.fake").info["settings"] == {"level": 1}
        with pytest.raises(ConfigError, match=r"'lavel'.*Did you mean 'level'"):
            tiny.export(tmp_path / "m.fake", format="fake", settings={"lavel": 3})
        with pytest.raises(ConfigError, match=r"optimise: .*'onnx'.* has no settings"):
            tiny.export(tmp_path / "m.onnx", settings={"optimise": 3})
        call = ("export", tiny_folder, "--out", tmp_path / "c.fake", "--format", FULL, "--set")
        status, _, err = cli(*call, "level=2")
        assert status == 0, err
        assert allkit.load(tmp_path / "c.fake").payload == b"xx"
        status, _, err = cli(*call, "level=[1]", "--overwrite")
        assert (status, "level = [1]" in err) == (2, True)


# ── a plugin that fails ───────────────────────────────────────────────────────────────────────


def leaving(model, path, **options):
    path.with_suffix(".bin").write_bytes(b"half")
    path.write_bytes(b"half")
    raise SystemExit(0)


def two_files(model, path, *, precision, calibration):
    fake().write(model, path, precision=precision, calibration=calibration)
    path.with_suffix(".weights").write_bytes(b"more")


def nothing(model, path, **options):
    pass


def under_another_name(model, path, *, precision, calibration):
    exporting.write(path, b"x", model, exporter="allkit-fake/other", precision=precision)


class Ending(Fake):
    def open_payload(self, payload):
        raise SystemExit(0)


class Silent(Fake):
    def compute(self, feed, names):
        sys.exit(0)


class Narrow(Fake):
    def compute(self, feed, names):
        return super().compute(feed, names)[:-1]


class Fewer(Fake):
    def compute(self, feed, names):
        return [values[:-1] for values in super().compute(feed, names)]


class Own:
    """A predictor that is derived from nothing, and fails when it is asked."""

    def __init__(self, path):
        self.classes = exporting.read(path).info["classes"]

    def probabilities(self, images):
        raise KeyError("weights")

    predict = stream = lambda self, images, *, batch_size=16: self.probabilities(images)


FAULTS = {
    "write ends the program": ({"write": leaving}, r"allkit-fake 1.0.*`write`.*end the program"),
    "write leaves two files": ({"write": two_files}, r"more than one file \(.*\.weights\)"),
    "write leaves nothing": ({"write": nothing}, "wrote nothing"),
    "a file under another name": ({"write": under_another_name}, "gives the name of this one"),
    "open ends the program": ({"open": Ending}, r"allkit-fake/fake.*end the program"),
    "open returns nothing": ({"open": lambda path: None}, "no Predictor"),
    "open raises": ({"open": lambda path: 1 / 0}, "allkit-fake 1.0.*`open`.*ZeroDivisionError"),
    "compute ends the program": ({"open": Silent}, "'fake' of allkit-fake.*`compute`.*end the"),
    "compute gives too little": ({"open": Narrow}, r"`compute` gave \d"),
    "compute drops an image": ({"open": Fewer}, "have the shape"),
    "an answer raises": ({"open": Own}, "allkit-fake 1.0.*`(predict|stream|probabilities)`"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_plugin_that_fails_is_named_and_leaves_nothing(what, tiny, tmp_path):
    fields, message = FAULTS[what]
    with using(host_of(fake(**fields))), pytest.raises((ExportError, PluginError), match=message):
        tiny.export(tmp_path / "m.fake", format="fake")
    assert list(tmp_path.iterdir()) == []


def test_an_older_exporter_without_room_for_a_report_is_warned_about(tiny, tmp_path):
    class Plain(Own):
        classes = tiny.classes

        def __init__(self, path):
            pass

        def probabilities(self, images):
            return tiny.probabilities(images)

        def predict(self, images, *, batch_size=16):
            return tiny.predict(images)

        def stream(self, images, *, batch_size=16):
            return tiny.stream(images)

    record = fake(write=lambda model, path, **options: path.write_bytes(b"plain"), open=Plain)
    with using(host_of(record)), pytest.warns(UserWarning, match=r"allkit\.exporting\.write"):
        tiny.export(tmp_path / "m.fake", format="fake")
    with using(host_of(record)), warnings.catch_warnings():
        found = allkit.load(tmp_path / "m.fake")
        assert found.predict(np.full((50, 50, 3), 9, np.uint8))[0].verdict


# ── the checks find their faults ──────────────────────────────────────────────────────────────


def no_cells(model, path, *, precision, calibration):
    if model.spec.bag != "field":
        raise ExportError("This format takes one input.")


def half_a_file(model, path, *, precision, calibration):
    path.write_bytes(b"begun")
    model.pipeline()


def unsealed(model, path, *, precision, calibration):
    path.write_bytes(b"x")


def nameless(model, path, *, precision, calibration):
    path.write_bytes(seal(described(model)))


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (no_cells, CELLS),
        (half_a_file, "an_error_leaves_no_file"),
        (unsealed, "its_file_is_sealed_and_names_its_exporter"),
        (nameless, "its_file_is_sealed_and_names_its_exporter"),
        (under_another_name, "its_file_is_sealed_and_names_its_exporter"),
    ],
)
def test_a_check_of_exporters_finds_its_fault(write, name):
    (check,) = (c for c in checks_of(fake(write=write)) if c.name == name)
    with pytest.raises(ConformanceError):
        check()
