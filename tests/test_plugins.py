"""The plugin host: discovery, broken plugins, clashes, names, weights."""

import importlib
import importlib.metadata
import os
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from allkit import Augmentation, Backbone, BackboneFamily, Exporter, hookimpl
from allkit.errors import ConfigError, PluginError
from allkit.plugins import Registry, registry, resolve_weights, using
from allkit.plugins.offers import HOOKS


def build(weights):
    raise AssertionError("not built in these tests")


def plugin(**hooks):
    """A plugin module with the given hooks."""
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def backbones(*names):
    return plugin(allkit_backbones=lambda: [Backbone(name, build) for name in names])


HEAD = "from allkit import Augmentation, Backbone, hookimpl\ndef build(weights): 1 / 0\n"


def offering(*names):
    """The source of a plugin that offers backbones."""
    records = ", ".join(f"Backbone({name!r}, build)" for name in names)
    return f"{HEAD}@hookimpl\ndef allkit_backbones(): return [{records}]\n"


def hook(body, name="allkit_backbones", arguments=""):
    return f"{HEAD}@hookimpl\ndef {name}({arguments}): {body}\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution with one plugin on the path: `install("acme", source)`."""
    site = tmp_path / "installed"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def run(distribution, source, version="1.2", entry="plugin"):
        module = distribution.lower().replace("-", "_")
        (site / f"{module}.py").write_text(source)
        info = site / f"{module}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Name: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[allkit]\n{entry} = {module}\n")
        importlib.invalidate_caches()
        sys.modules.pop(module, None)

    return run


def test_the_built_ins_come_in_through_the_same_hooks():
    host = Registry(discover=False)
    assert "vgg16" in host.names("backbone")
    assert "timm:NAME" in host.names("backbone")
    assert "standard" in host.names("augmentation")
    assert host.names("exporter") == ["onnx", "pt2"]
    assert host.provider("backbone", "vgg16").origin.startswith("allkit ")


def test_hook_allkit_backbones_offers_a_backbone_by_name():
    host = Registry(discover=False)
    host.register(backbones("mine"), name="mine")
    assert host.get("backbone", "mine").build.func is build


def test_hook_allkit_augmentations_offers_an_augmentation_by_name():
    host = Registry(discover=False)
    record = Augmentation("darken", lambda image, rng: image)
    host.register(plugin(allkit_augmentations=lambda: [record]), name="mine")
    assert host.get("augmentation", "darken").apply.func is record.apply


def test_hook_allkit_exporters_offers_an_exporter_by_name():
    host = Registry(discover=False)
    record = Exporter("mine", ".mine", write=lambda *a, **k: None, open=lambda path: None)
    host.register(plugin(allkit_exporters=lambda: [record]), name="mine")
    assert host.get("exporter", "mine").write.func is record.write


def test_an_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(PluginError, match=r"Unknown backbone 'vgg61'\. Did you mean 'vgg16'"):
        Registry(discover=False).get("backbone", "vgg61")


def test_a_name_claimed_by_two_is_an_error_when_asked_for_and_names_both(install):
    install("acme", offering("net"), "1.0")
    install("bolt", offering("net", "other"), "2.0")
    host = Registry()
    assert host.get("backbone", "other")
    with pytest.raises(PluginError, match=r"acme 1\.0 and bolt 2\.0"):
        host.get("backbone", "net")


def test_two_distributions_may_use_one_entry_point_name(install):
    install("acme", offering("a"), entry="same")
    install("bolt", offering("b"), entry="same")
    host = Registry()
    assert host.get("backbone", "a").name == "a"
    assert host.get("backbone", "b").name == "b"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)", "SystemExit"),
        ("raise RuntimeError('at import')", "RuntimeError: at import"),
        ("this is no python", "SyntaxError"),
        ("import os; os._exit(0)", "ended the Python process (status 0)"),
        ("import os; os.kill(os.getpid(), 11)", "crashed the Python process (signal 11), in "),
        ("print('x' * 100000)\nraise KeyError('loud')", "KeyError: 'loud'"),
        (hook("return ['not a record']"), "must return Backbone"),
        (hook("return 7"), "must return a list of records"),
        (hook("return 1 / 0"), "ZeroDivisionError"),
        (hook("return []", name="allkit_backbone"), "Did you mean 'allkit_backbones'"),
        (hook("return []", arguments="extra"), "extra"),
        (hook("return [Backbone('two words', build)]"), "without spaces"),
        (hook("return [Backbone('x', 'no')]"), "not callable"),
        (hook("return [Backbone('x', build), Backbone('x', build)]"), "'x' twice"),
        ("api_version = '1'\n" + offering("x"), "must be a whole number"),
        (
            "api_version = 0\n" + offering("x"),
            "no longer takes (it takes 1 to 2). Update the plugin",
        ),
        ("api_version = 9\n" + offering("x"), "version 9 of the plugin contract, and this allkit"),
        ("from allkit import Segmenter\napi_version = 9", "knows versions up to 2. Update allkit"),
    ],
)
def test_a_broken_plugin_is_kept_out_shown_and_harms_nobody(install, source, message):
    install("acme", source)
    install("bolt", offering("net"))
    host = Registry()
    state = {p.distribution: p for p in host.plugins}
    assert message in state["acme"].error
    assert state["acme"].records == ()
    assert host.get("backbone", "net")
    assert host.get("backbone", "vgg16")
    with pytest.raises(PluginError, match=r"failed to load: acme 1\.2"):
        host.get("backbone", "unheard-of")


def test_an_import_that_hangs_is_given_up_named_and_not_waited_for_again(install, monkeypatch):
    monkeypatch.setenv("ALLKIT_PLUGIN_SECONDS", "0.7")
    install("acme", "import time\nwhile True: time.sleep(9)\n")
    install("bolt", offering("net"))
    start = time.monotonic()
    host = Registry()
    assert time.monotonic() - start < 10
    state = {p.distribution: p for p in host.plugins}
    assert "took longer than 0.7 seconds, in " in state["acme"].error
    assert "acme.py line 2" in state["acme"].error
    assert host.get("backbone", "net")
    start = time.monotonic()
    again = Registry()
    assert time.monotonic() - start < 0.7
    assert "took longer" in next(p for p in again.plugins if p.distribution == "acme").error


@pytest.mark.slow
def test_a_slow_import_is_named_while_it_goes_on(install, monkeypatch):
    monkeypatch.setattr("allkit.plugins.probe.NAMED_AFTER", 0.3)
    install("acme", "import time; time.sleep(1.2)\n" + offering("net"))
    said = []
    monkeypatch.setattr("warnings.warn", lambda message, *a, **k: said.append(str(message)))
    host = Registry()
    assert "net" in host.names("backbone")
    assert any("acme 1.2 has been importing for 0.3 seconds" in text for text in said)
    assert host.provider("backbone", "net").error is None


def test_no_plugin_is_imported_here_until_one_of_its_records_is_asked_for(install):
    install("acme", offering("a"))
    install("bolt", offering("b"))
    host = Registry()
    assert {"a", "b"} <= set(host.names("backbone"))
    assert "acme" not in sys.modules
    host.get("backbone", "a")
    assert "acme" in sys.modules
    assert "bolt" not in sys.modules


def test_what_a_plugin_offers_is_asked_once_and_again_when_it_changes(install, monkeypatch):
    install("acme", offering("a"))
    assert "a" in Registry().names("backbone")
    with monkeypatch.context() as patch:
        patch.setattr("allkit.plugins.probe.probe", lambda *a: pytest.fail("asked again"))
        assert "a" in Registry().names("backbone")
    install("acme", offering("another"))
    assert "another" in Registry().names("backbone")
    assert "a" not in Registry().names("backbone")


def test_a_damaged_cache_is_no_matter(install, monkeypatch, tmp_path):
    monkeypatch.setenv("ALLKIT_CACHE", str(tmp_path / "cache"))
    install("acme", offering("a"))
    (tmp_path / "cache").mkdir()
    for text in ("", "[]", '{"x": 1}', "\x00"):
        (tmp_path / "cache" / "plugins.json").write_text(text)
        assert "a" in Registry().names("backbone")


def test_allkit_plugins_limits_what_is_loaded(install, monkeypatch):
    install("Acme_Nets", offering("a"))
    install("bolt", "raise SystemExit('imported all the same')")
    monkeypatch.setenv("ALLKIT_PLUGINS", "acme-nets")
    host = Registry()
    assert "a" in host.names("backbone")
    assert "bolt 1.2" in host.left_out
    assert [p.error for p in host.plugins if p.error] == []
    monkeypatch.setenv("ALLKIT_PLUGINS", "")
    assert "a" not in Registry().names("backbone")
    monkeypatch.setenv("ALLKIT_PLUGINS", "bolts")
    with pytest.raises(PluginError, match=r"'bolts', which is not installed\. Did you mean 'bolt'"):
        Registry().names("backbone")


def test_a_trace_tells_every_import_hook_and_call(install, monkeypatch, capfd):
    monkeypatch.setenv("ALLKIT_TRACE", "1")
    install("acme", offering("a"))
    with pytest.raises(PluginError, match=r"acme 1\.2: the backbone 'a' failed in `build`"):
        Registry().get("backbone", "a").build("none")
    err = capfd.readouterr().err
    assert "[allkit] acme 1.2: import acme ·" in err
    assert "[allkit] acme 1.2: allkit_backbones() → Backbone a ·" in err
    assert "[allkit] acme 1.2: a.build('none') ✗ ZeroDivisionError" in err


@pytest.mark.parametrize("forks", [True, False])
def test_one_bad_import_condemns_no_other(install, monkeypatch, forks):
    monkeypatch.setattr("allkit.plugins.probe.FORKS", forks and hasattr(os, "fork"))
    bad = {
        "aaa-strict": ("import warnings; warnings.simplefilter('error')", "error of every warning"),
        "aab-path": ("import sys; del sys.path[:]", "takes folders off sys.path"),
        "aac-ends": ("import os; os._exit(5)", "ended the Python process (status 5)"),
        "aad-stops": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    }
    for name, (source, _) in bad.items():
        install(name, source)
    install(
        "warns", "import warnings; warnings.warn('old', DeprecationWarning)\n" + offering("net")
    )
    state = {p.distribution: p for p in Registry().plugins}
    for name, (_, words) in bad.items():
        assert words in state[name].error
    assert state["warns"].error is None
    assert state["warns"].offers


def test_the_time_that_is_told_is_the_time_that_was_taken(install):
    install("acme", "import os; os._exit(1)")
    install("bolt", "import time; time.sleep(0.3)\n" + offering("net"))
    state = {p.distribution: p for p in Registry().plugins}
    assert state["acme"].seconds < 5
    assert 0.3 <= state["bolt"].seconds < 5


def test_ctrl_c_in_a_call_of_a_plugin_is_no_fault_of_it():
    from allkit.cli.ending import Stopped
    from allkit.plugins import calling

    with pytest.raises(Stopped), calling("acme 1.2", "backbone", "net", "forward"):
        raise Stopped(130)
    with (
        pytest.raises(PluginError, match="tried to end the program"),
        calling("acme 1.2", "backbone", "net", "forward"),
    ):
        sys.exit(0)


def damaged(site, name, **files):
    info = site / f"{name}.dist-info"
    info.mkdir()
    for file, text in files.items():
        (info / file.replace("_txt", ".txt")).write_text(text)
    return info


def test_a_damaged_installation_is_named_with_its_path_and_stops_nothing(install, cli, tmp_path):
    install("bolt", offering("net"))
    site = tmp_path / "installed"
    bare = damaged(site, "acme-1.0", entry_points_txt="[allkit]\nplugin = acme\n")
    twice = [
        damaged(
            site,
            f"crux-{version}.0",
            METADATA=f"Name: crux\nVersion: {version}.0\n",
            entry_points_txt="[allkit]\nplugin = crux\n",
        )
        for version in (1, 2)
    ]
    host = Registry()
    told = [str(problem) for problem in host.problems()]
    assert [t for t in told if f"{bare} has no METADATA with a name and a version." in t]
    assert [t for t in told if all(str(folder) in t for folder in twice)]
    assert all("pip install --force-reinstall" in t for t in told if "damaged" in t)
    assert host.get("backbone", "net")
    assert host.get("backbone", "vgg16")
    with using(Registry()):
        status, out, _ = cli("plugins")
        assert status == 0
        assert f"BROKEN  Its installation is damaged. {bare}" in out
        assert cli("doctor")[0] == 1
    status, out, _ = cli("--help")
    assert status == 0


def test_a_requirement_that_is_not_met_is_named_where_it_matters(install, tmp_path):
    install("acme", "import no_such_module")
    install("bolt", offering("net"))
    for name in ("acme", "bolt"):
        with (tmp_path / "installed" / f"{name}-1.2.dist-info" / "METADATA").open("a") as file:
            file.write("Requires-Dist: no-such-package>=2\nRequires-Dist: numpy>=99\n")
            file.write("Requires-Dist: another; extra == 'more'\nRequires-Dist: numpy>=1\n")
    host = Registry()
    state = {p.distribution: p for p in host.plugins}
    assert "It requires no-such-package>=2 (not installed), numpy>=99 (" in state["acme"].error
    assert state["bolt"].error is None
    told = [str(p) for p in host.problems() if p.where == "bolt 1.2" and "requires" in p.what]
    assert told[0] == (
        "bolt 1.2: It requires no-such-package>=2, which is not installed. "
        "Type: pip install 'no-such-package>=2'"
    )
    assert len(told) == 2
    assert not any("another" in text for text in told)


def test_problems_tell_of_an_offer_of_nothing_an_old_contract_and_a_conflict(install):
    install("acme", "from allkit import hookimpl\napi_version = 2\n")
    install("bolt", offering("net", "vgg16"))
    install("crux", offering("net"))
    found = {
        (p.where, p.state): p.what
        for p in Registry().problems()
        if not p.where.startswith("allkit-")
    }
    assert "offers nothing" in found["acme 1.2", "note"]
    assert "Deprecated: it is written for version 1" in found["crux 1.2", "note"]
    assert "bolt/net, crux/net" in found["bolt 1.2 and crux 1.2", "conflict"]
    both = [
        what for (where, state), what in found.items() if state == "note" and " and bolt" in where
    ]
    assert "allkit's own is used" in both[0]


READS = """
from allkit import Reader, hookimpl
def read(data, name): 1 / 0
api_version = 2
@hookimpl
def allkit_readers(): return [Reader("{0}", {1}, read, magic=((0, b"MINE"),))]
"""


def test_files_that_two_readers_claim_and_those_that_never_come_to_one_are_told(install):
    install("acme", READS.format("a", '(".mine", ".acme")'))
    install("bolt", READS.format("b", '(".mine", ".png")'))
    found = {p.what: p.state for p in Registry().problems() if "bolt" in p.where}
    suffix, magic, png = sorted(found, key=lambda what: (found[what], "4d494e45" in what))
    assert "The readers acme/a and bolt/b claim .mine. Such a file is refused until one" in suffix
    assert "claim files with 4d494e45 at byte 0. Such a file is refused" in magic
    assert "The reader bolt/b claims .png: such files are read by allkit itself" in png
    assert [found[what] for what in (suffix, magic, png)] == ["conflict", "conflict", "note"]


def test_nothing_is_wrong_with_what_comes_with_allkit():
    assert Registry(discover=False).problems() == []


def editable(site, name):
    (site / f"{name}-1.2.dist-info" / "direct_url.json").write_text(
        '{"dir_info": {"editable": true}, "url": "file:///somewhere"}'
    )


def test_an_edited_editable_plugin_gives_other_results_another_mark(install, tmp_path):
    install("acme", offering("net"))
    site = tmp_path / "installed"
    editable(site, "acme")
    (site / "acme.py").unlink()
    package = site / "acme"
    package.mkdir()
    (package / "__init__.py").write_text(offering("net"))
    (package / "table.json").write_text("{}")

    def mark():
        return Registry().mark("backbone", "net")

    first = mark()
    assert "acme 1.2+" in first
    assert mark() == first
    (package / "table.json").write_text('{"edited": 1}')
    second = mark()
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "acme.pyc").write_bytes(b"made")
    assert second != first
    assert mark() == second
    (package / "__init__.py").write_text(offering("net") + "# edited\n")
    assert mark() not in (first, second)
    installed = site / "acme-1.2.dist-info"
    (installed / "direct_url.json").unlink()
    (installed / "RECORD").write_text("acme/__init__.py,sha256=a,1\n")
    third = mark()
    assert "acme 1.2+" in third
    # The same version once more, with other code.
    (installed / "RECORD").write_text("acme/__init__.py,sha256=b,1\nacme/a.pyc,,\n../bin/a,x,1\n")
    fourth = mark()
    (installed / "RECORD").write_text("acme/__init__.py,sha256=b,1\nacme-1.2.dist-info/x,y,1\n")
    assert mark() == fourth != third
    # As uv writes it.
    (installed / "direct_url.json").write_text('{"url":"file:///x","dir_info":{"editable":true}}')
    edited = mark()
    (package / "__init__.py").write_text(offering("net") + "# edited again\n")
    assert mark() != edited


def test_what_a_stranger_writes_is_shown_as_one_short_line(install, cli):
    summary = "red \\x1b[31m and \\u202e turned\\n" + "long " * 99
    source = f'{HEAD}@hookimpl\ndef allkit_backbones(): return [Backbone("net", build, summary="{summary}")]'
    install("acme", source)
    with using(Registry()) as host:
        ((_, offer),) = [o for o in host.offers("backbone") if o[1].name == "net"]
        out = cli("plugins")[1]
    assert offer.summary.startswith(r"red \u001b[31m and \u202e turned long long")
    assert len(offer.summary) <= 300
    assert "\x1b" not in out
    assert "\u202e" not in out


@pytest.mark.parametrize("name", ["../../up", "\x1b[31m", "x" * 300, "two words", "a/b", "", "A"])
def test_a_name_that_leads_elsewhere_is_refused(name):
    host = Registry(discover=False)
    module = plugin(allkit_backbones=lambda: [Backbone(name, build)])
    module.api_version = 2
    error = host.register(module, name="mine").error
    assert "name" in error
    assert "\x1b" not in error
    assert len(error) < 500


# ── version 1 of the contract ─────────────────────────────────────────────────────────────────

SAVED = Path(__file__).parent / "saved" / "plugins-1"


@pytest.fixture
def saved(install):
    """A registry with the plugins that were written for allkit 0.2.0."""
    for file in sorted(SAVED.glob("*.py")):
        install(file.stem.replace("_", "-"), file.read_text(), "0.2.0")
    with using(Registry()) as host:
        yield host


def test_plugins_of_version_1_of_the_contract_load_and_are_called_deprecated(saved):
    state = {p.distribution: p for p in saved.plugins if p.distribution.startswith("saved-")}
    assert set(state) == {"saved-augmentation", "saved-backbone", "saved-exporter", "saved-family"}
    for one in state.values():
        assert one.error is None
        assert one.api_version == 1
        assert "until 0.4" in one.notes[0]


@pytest.mark.parametrize(
    ("name", "width"), [("saved-net", 8), ("saved:narrow", 4), ("saved:wide", 16)]
)
def test_backbones_of_version_1_build_and_compute(saved, name, width):
    torch = pytest.importorskip("torch")
    record = saved.get("backbone", name)
    assert record.input.size == 32
    assert record.build("none")(torch.zeros(2, 3, 32, 32)).shape == (2, width)


def test_augmentations_of_version_1_apply(saved):
    image = np.full((8, 8, 3), 100, np.uint8)
    changed = saved.get("augmentation", "saved-strong").apply(image, np.random.default_rng(0))
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert (changed != image).any()
    assert saved.get("backbone", "saved-net").license == "bsd-3-clause"


@pytest.mark.slow
def test_exporters_of_version_1_write_and_open(saved, tiny, drawn, tmp_path):
    path = tmp_path / "model.saved"
    record = saved.get("exporter", "saved")
    record.write(tiny, path, precision="float32", calibration=None)
    field = sorted(drawn.parent.rglob("*.png"))[0]
    (answer,) = record.open(path).predict(field)
    assert answer.label == tiny.predict(field)[0].label


def test_a_registry_can_stand_in_for_the_installed_ones():
    host = Registry(discover=False)
    with using(host):
        assert registry() is host
    assert registry() is not host


def test_a_family_makes_its_backbones_when_they_are_asked_for():
    asked = []

    def get(name):
        asked.append(name)
        return Backbone(f"fam:{name}", build)

    host = Registry(discover=False)
    family = BackboneFamily("fam", get, names=lambda: ["x"])
    host.register(plugin(allkit_backbones=lambda: [family]), name="fam")
    assert asked == []
    assert host.get("backbone", "fam:x").name == "fam:x"
    assert "fam:NAME" in host.names("backbone")


def test_a_family_that_fails_is_named():
    host = Registry(discover=False)
    family = BackboneFamily("fam", lambda name: 1 / 0, names=lambda: [])
    host.register(plugin(allkit_backbones=lambda: [family]), name="fam", distribution="acme")
    with pytest.raises(
        PluginError, match=r"acme 0: the backbone 'fam:x' failed in `get`: ZeroDivisionError"
    ):
        host.get("backbone", "fam:x")


def test_every_model_of_timm_is_there_with_its_own_normalisation():
    record = Registry(discover=False).get("backbone", "timm:tf_efficientnet_lite0")
    assert record.input.mean == (0.5, 0.5, 0.5)
    with pytest.raises(PluginError, match="Did you mean 'resnet18'"):
        Registry(discover=False).get("backbone", "timm:resnet81")


def test_weights_come_from_the_option_then_the_folder_then_the_default(tmp_path, monkeypatch):
    assert resolve_weights("vgg16", "default") == "default"
    assert resolve_weights("vgg16", "none") == "none"
    file = tmp_path / "timm_resnet18.safetensors"
    file.write_bytes(b"")
    monkeypatch.setenv("ALLKIT_WEIGHTS", str(tmp_path))
    assert resolve_weights("timm:resnet18", "default") == file
    assert resolve_weights("vgg16", "default") == "default"
    assert resolve_weights("timm:resnet18", "none") == "none"
    with pytest.raises(ConfigError, match="not a file"):
        resolve_weights("vgg16", str(tmp_path / "missing.safetensors"))


def test_the_plugins_of_this_repository_are_whole():
    found = {d.name for d in importlib.metadata.distributions()}
    for plugin in registry().plugins:
        assert plugin.error is None, f"{plugin.origin}: {plugin.error}"
    assert "allkit-efficientnet-lite" in found
    assert "efficientnet-lite0" in registry().names("backbone")


SCALED = """
from allkit import Backbone, InputSpec, hookimpl
def build(weights):
    from torch import nn
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Conv2d(3, 8, 3, stride=8)
        def forward(self, inputs):
            return FACTOR * self.net(inputs).abs().mean(dim=(2, 3)) OTHER
    return Scaled()
@hookimpl
def allkit_backbones(): return [Backbone("scaled", build, InputSpec(32), license="none")]
"""


def scaled(factor, other=""):
    return SCALED.replace("FACTOR", factor).replace("OTHER", other)


@pytest.mark.slow
def test_another_version_warns_when_it_computes_other_features_and_only_then(
    install, drawn, tmp_path, recwarn
):
    import allkit

    def seen():
        return using(Registry())

    install("acme", scaled("1"), "1.0")
    with seen():
        data = allkit.Dataset.open(drawn)
        settings = {"weights": "none", "epochs": 1, "val": 0.0, "cache": None}
        folder = allkit.Trainer(backbone="scaled", **settings).fit(data).save(tmp_path / "model")
    for version, source, warned in [
        ("1.0", scaled("1", "+ 0"), False),
        ("1.0", scaled("3"), True),
        ("1.1", scaled("1", "+ 0"), False),
        ("1.2", scaled("2"), True),
        ("1.3", scaled("1", ".flip(1)"), True),
    ]:
        (tmp_path / "installed" / "acme-1.0.dist-info").exists()
        for old in (tmp_path / "installed").glob("acme-*.dist-info"):
            shutil.rmtree(old)
        install("acme", source, version)
        recwarn.clear()
        with seen():
            allkit.Classifier.load(folder)
        said = [str(w.message) for w in recwarn if "other features" in str(w.message)]
        assert bool(said) == warned, (version, said)
        assert not warned or f"made with acme 1.0; acme {version} computes" in said[0]


@pytest.mark.slow
def test_a_host_of_bad_plugins_trains_predicts_and_says_what_is_wrong(
    install, drawn, cli, monkeypatch
):
    monkeypatch.setenv("ALLKIT_PLUGIN_SECONDS", "1")
    install("raises", "raise RuntimeError('at import')")
    install("hangs", "import time\nwhile True: time.sleep(9)\n")
    install("wrong", hook("return [42]"))
    install("one", offering("net"))
    install("two", offering("net"))
    with using(Registry()):
        options = ["--backbone", "timm:test_resnet", "--weights", "none", "--epochs", "2"]
        status, _, err = cli("train", drawn, "--out", "model", *options)
        assert status == 0, err
        assert cli("predict", "model", drawn.parent)[0] == 0
        status, _, err = cli("train", drawn, "--out", "other", "--backbone", "net")
        assert status == 2
        assert "one 1.2 and two 1.2" in err
        status, out, err = cli("plugins")
    assert "RuntimeError: at import" in out
    assert "took longer than 1 seconds, in " in out
    assert "must return Backbone" in out
    assert "Conflict: the backbone 'net' is offered by one 1.2 and two 1.2" in err


@pytest.mark.parametrize("hook_name", [name for name, _, _ in HOOKS.values()])
def test_a_hook_has_documentation_a_test_and_a_real_package(hook_name):
    root = Path(__file__).parents[1]
    assert f"## `{hook_name}(" in (root / "docs" / "reference" / "hooks.md").read_text()
    tests = (root / "tests").glob("test_*.py")
    assert any(f"def test_hook_{hook_name}_" in p.read_text() for p in tests)
    packages = [*root.glob("plugins/*/allkit_*.py"), *root.glob("plugins/*/allkit_*/__init__.py")]
    assert any(f"@hookimpl\ndef {hook_name}(" in p.read_text() for p in packages)
