"""The plugin host: discovery, broken plugins, clashes, names, weights."""

import importlib.metadata
from types import SimpleNamespace

import pytest

from allkit import Augmentation, Backbone, BackboneFamily, Exporter, hookimpl
from allkit.errors import ConfigError, PluginError
from allkit.plugins import Registry, registry, resolve_weights


def build(weights):
    raise AssertionError("not built in these tests")


def plugin(**hooks):
    """A plugin module with the given hooks."""
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def backbones(*names):
    return plugin(allkit_backbones=lambda: [Backbone(name, build) for name in names])


class Entry:
    """An entry point of a distribution that is not installed."""

    def __init__(self, name, distribution, load, version="1.2"):
        self.name, self.value, self.load = name, name, load
        self.dist = SimpleNamespace(name=distribution, version=version)


@pytest.fixture
def installed(monkeypatch):
    def install(*entries):
        monkeypatch.setattr("allkit.plugins.entry_points", lambda group: list(entries))

    return install


def test_the_built_ins_come_in_through_the_same_hooks():
    host = Registry(discover=False)
    assert "vgg16" in host.names("backbone")
    assert "timm:NAME" in host.names("backbone")
    assert "standard" in host.names("augmentation")
    assert host.names("exporter") == ["onnx"]
    assert host.provider("backbone", "vgg16").origin.startswith("allkit ")


def test_hook_allkit_backbones_offers_a_backbone_by_name():
    host = Registry(discover=False)
    host.register(backbones("mine"), name="mine")
    assert host.get("backbone", "mine").build is build


def test_hook_allkit_augmentations_offers_an_augmentation_by_name():
    host = Registry(discover=False)
    record = Augmentation("darken", lambda image, rng: image)
    host.register(plugin(allkit_augmentations=lambda: [record]), name="mine")
    assert host.get("augmentation", "darken") is record


def test_hook_allkit_exporters_offers_an_exporter_by_name():
    host = Registry(discover=False)
    record = Exporter("mine", ".mine", write=lambda *a, **k: None, open=lambda path: None)
    host.register(plugin(allkit_exporters=lambda: [record]), name="mine")
    assert host.get("exporter", "mine") is record


def test_an_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(PluginError, match=r"Unknown backbone 'vgg61'\. Did you mean 'vgg16'"):
        Registry(discover=False).get("backbone", "vgg61")


def test_a_name_claimed_by_two_is_an_error_when_asked_for_and_names_both(installed):
    installed(
        Entry("a", "acme", lambda: backbones("net"), "1.0"),
        Entry("b", "bolt", lambda: backbones("net", "other"), "2.0"),
    )
    host = Registry()
    assert host.get("backbone", "other")
    with pytest.raises(PluginError, match=r"acme 1\.0 and bolt 2\.0"):
        host.get("backbone", "net")


def test_two_distributions_may_use_one_entry_point_name(installed):
    installed(
        Entry("same", "acme", lambda: backbones("a")), Entry("same", "bolt", lambda: backbones("b"))
    )
    host = Registry()
    assert host.get("backbone", "a").name == "a"
    assert host.get("backbone", "b").name == "b"


def broken(error):
    def load():
        raise error

    return load


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (broken(ImportError("no module named x")), "ImportError: no module named x"),
        (broken(SystemExit(3)), "SystemExit"),
        (broken(RuntimeError("at import")), "RuntimeError: at import"),
        (lambda: plugin(allkit_backbones=lambda: ["not a record"]), "must return Backbone"),
        (lambda: plugin(allkit_backbones=lambda: 1 / 0), "ZeroDivisionError"),
        (
            lambda: plugin(allkit_backbone=lambda: []),
            "no such hook. Did you mean 'allkit_backbones'",
        ),
        (lambda: plugin(allkit_backbones=lambda extra: []), "extra"),
        (lambda: plugin(allkit_backbones=lambda: [Backbone("two words", build)]), "without spaces"),
        (lambda: plugin(allkit_backbones=lambda: [Backbone("x", "no")]), "not callable"),
    ],
)
def test_a_broken_plugin_is_kept_out_shown_and_harms_nobody(installed, load, message):
    installed(Entry("bad", "acme", load), Entry("good", "bolt", lambda: backbones("net")))
    host = Registry()
    state = {p.distribution: p for p in host.plugins}
    assert message in state["acme"].error
    assert state["acme"].records == []
    assert host.get("backbone", "net")
    assert host.get("backbone", "vgg16")
    with pytest.raises(PluginError, match=r"failed to load: acme 1\.2"):
        host.get("backbone", "unheard-of")


def test_allkit_plugins_limits_what_is_loaded(installed, monkeypatch):
    loaded = []

    def load(name):
        return lambda: loaded.append(name) or backbones(name)

    installed(Entry("a", "Acme_Nets", load("a")), Entry("b", "bolt", load("b")))
    monkeypatch.setenv("ALLKIT_PLUGINS", "acme-nets")
    assert "b" not in Registry().names("backbone")
    assert loaded == ["a"]
    monkeypatch.setenv("ALLKIT_PLUGINS", "")
    Registry()
    assert loaded == ["a"]
    monkeypatch.setenv("ALLKIT_PLUGINS", "bolts")
    with pytest.raises(PluginError, match=r"'bolts', which is not installed\. Did you mean 'bolt'"):
        Registry()


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
    with pytest.raises(PluginError, match="acme 0 failed to look up fam:x: ZeroDivisionError"):
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
