"""Parts of plugins in a training: by name, in full, with settings; in the model and in the caches."""

import json
import sys
import warnings

import numpy as np
import pytest
import torch
import yaml

import allkit
from allkit.config import TrainConfig, override
from allkit.errors import ConfigError, ExportError, PluginError
from allkit.plugins import Registry, registry, using
from allkit.records import Backbone, View
from allkit.training.backbone import load_backbone
from parts_of_others import INPUT, RECORDS, SETTINGS, Exponent, Gamma, Net, host, module

CELLS = {"bag": "both", "finder": {"diagonal": {"cells": 3}}, "cell_size": 32}
CHOSEN = {
    "backbone": {"net": {"gain": 2.0}},
    "view": {"gamma": {"gamma": 0.5}},
    "augment": [{"shade": {"depth": 0.1}}, "flip"],
    "copies": 1,
}


@pytest.fixture
def acme():
    with using(host()) as made:
        yield made


@pytest.fixture(scope="module")
def chosen(few):
    """A classifier of parts with settings."""
    with using(host()):
        return allkit.Trainer(**SETTINGS | CHOSEN | CELLS).fit(allkit.Dataset.open(few))


@pytest.fixture(scope="module")
def folder(chosen, tmp_path_factory):
    with using(host()):
        return chosen.save(tmp_path_factory.mktemp("chosen") / "m")


@pytest.fixture(scope="module")
def images(few):
    data = allkit.Dataset.open(few)
    return [data.read(index) for index in range(4)]


def config(**changed):
    return TrainConfig.parse(
        {n: v for n, v in SETTINGS.items() if n not in ("cache", "progress")} | changed
    )


# ── how they are given ────────────────────────────────────────────────────────────────────────


def test_yaml_the_command_line_and_python_take_settings_alike(acme):
    of_file = TrainConfig.parse(yaml.safe_load("augment: [{shade: {depth: 0.1}}, flip]\ncopies: 1"))
    of_line = TrainConfig.parse(override({}, ["augment=[{shade: {depth: 0.1}}, flip]", "copies=1"]))
    of_python = allkit.Trainer(augment=[{"shade": {"depth": 0.1}}, "flip"], copies=1).config
    assert of_file == of_line == of_python
    assert yaml.safe_load(of_file.to_yaml())["augment"] == [{"shade": {"depth": 0.1}}, "flip"]
    assert TrainConfig.parse(yaml.safe_load(of_file.to_yaml())) == of_file


def test_a_package_may_be_named_and_settings_be_left_out():
    one = TrainConfig.parse({"view": {"acme/gamma": {"gamma": 2}}, "backbone": {"vgg16": None}})
    assert (one.view, one.backbone) == ('acme/gamma{"gamma":2}', "vgg16")


@pytest.mark.parametrize("wrong", [{"shade": 0.1}, {"shade": {}, "flip": {}}, {"shade": [1]}, {}])
def test_a_mapping_that_names_no_part_is_refused_with_the_form(wrong):
    with pytest.raises(ConfigError, match=r"augment.*\{NAME: \{SETTING: VALUE\}\}"):
        allkit.Trainer(augment=[wrong])


def test_to_read_settings_no_plugin_is_looked_for(monkeypatch, cli):
    def discovered(self):
        raise AssertionError("plugins were looked for")

    monkeypatch.setattr(Registry, "_installed", discovered)
    status, out, _ = cli("train", "x", "--print-config", "--set", "view={far/away: {depth: 1}}")
    assert status == 0
    assert "view: {far/away: {depth: 1}}" in out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"augment": [{"shade": {"depth": 3}}]}, r"depth = 3 .*'shade' of acme 1\.2.*less than"),
        ({"augment": [{"shade": {"dept": 0.1}}]}, r"Unknown setting 'dept'.*Did you mean 'depth'"),
        ({"augment": [{"flip": {"p": 1}}]}, r"'flip' of allkit .* has no settings"),
        ({"backbone": {"net": {"gain": -1}}}, r"gain = -1.*'net' of acme 1\.2"),
        ({"view": {"gamma": {"gamma": 50}}}, r"gamma = 50.*'gamma' of acme"),
        ({"view": "gama"}, r"view = gama: Unknown view 'gama'\. Did you mean 'gamma'"),
        ({"finder": "diagonals"}, r"finder = diagonals: .*Did you mean 'diagonal'"),
        ({"finder": {"diagonal": {"cells": 99}}}, r"cells = 99.*'diagonal' of acme"),
    ],
)
def test_a_wrong_setting_of_a_part_is_said_before_an_image_is_read(acme, given, message):
    with pytest.raises(ConfigError, match=message):
        allkit.Trainer(**SETTINGS | given)


def test_the_search_takes_parts_with_settings(acme):
    from allkit.training.space import read_space

    space = read_space(
        "augment: {choices: [[flip], [{shade: {depth: 0.1}}]]}", config(augment=["flip"])
    )
    assert space["augment"]["choices"][1] == [{"shade": {"depth": 0.1}}]
    with pytest.raises(ConfigError, match="names no part"):
        read_space("augment: {choices: [[{shade: 1}]]}", config(augment=["flip"]))


# ── what a model keeps ────────────────────────────────────────────────────────────────────────


def test_a_model_keeps_every_part_in_full(folder):
    info = json.loads((folder / "model.json").read_text())
    assert info["format"] == 2
    assert info["config"]["augment"] == [{"acme/shade": {"depth": 0.1}}, "flip"]
    assert info["config"]["view"] == {"acme/gamma": {"gamma": 0.5}}
    assert info["config"]["finder"] == {"acme/diagonal": {"cells": 3}}
    assert info["backbone"]["settings"] == {"gain": 2.0}
    assert info["backbone"]["view"] == 'acme/gamma{"gamma":0.5}'
    assert info["backbone"]["finder"] == 'acme/diagonal{"cells":3}'
    assert info["plugins"] == {"acme": "1.2", "allkit": allkit.__version__}
    card = (folder / "README.md").read_text()
    assert 'seen as `acme/gamma{"gamma":0.5}`' in card
    assert "`net` (gain = 2.0) from acme 1.2" in card


def test_loaded_it_answers_alike_whoever_else_offers_the_names(chosen, folder, images):
    crowd = host()
    other = [Backbone("net", lambda weights: Net(7.0), INPUT)]
    crowd.register(module(allkit_backbones=other), name="x", distribution="other", version="9")
    with using(crowd):
        again = allkit.Classifier.load(folder)
        with pytest.raises(PluginError, match="acme/net or other/net"):
            allkit.Trainer(**SETTINGS)
        assert again.content_hash() == chosen.content_hash()
        assert [one.count for one in again.find(images)] == [3] * 4
        np.testing.assert_array_equal(again.predict_proba(images), chosen.predict_proba(images))
        assert allkit.Trainer(again.info.config).config == again.info.config


@pytest.mark.parametrize(
    ("hook", "what"),
    [
        ("allkit_backbones", "backbone 'net'"),
        ("allkit_views", "view 'gamma'"),
        ("allkit_finders", "cell finder 'diagonal'"),
    ],
)
def test_a_plugin_that_is_gone_is_an_error_that_says_what_to_install(folder, hook, what):
    rest = {other: kept for other, kept in RECORDS.items() if other != hook}
    with using(host(**rest)), pytest.raises(PluginError, match=rf"{what}.*install acme==1\.2"):
        allkit.Classifier.load(folder)


def test_a_plugin_of_another_version_is_told(folder):
    with using(host(version="1.3")), pytest.warns(UserWarning, match="acme 1.2") as told:
        allkit.Classifier.load(folder)
    text = " ".join(str(one.message) for one in told)
    assert "view 'gamma' of acme 1.2, and acme 1.3 is installed" in text
    assert "cell finder 'diagonal' of acme 1.2, and acme 1.3 is installed" in text


def test_a_view_with_other_code_of_the_same_version_is_told(folder):
    views = [View("gamma", lambda size, settings: Gamma(2 * settings.gamma), settings=Exponent)]
    told = pytest.warns(UserWarning, match=r"view 'gamma' of acme 1\.2.*another than then")
    with using(host(**RECORDS | {"allkit_views": views})), told:
        allkit.Classifier.load(folder)
    with using(host()), warnings.catch_warnings():
        warnings.simplefilter("error")
        allkit.Classifier.load(folder)


@pytest.mark.parametrize("format", ["onnx", pytest.param("pt2", marks=pytest.mark.nightly)])
def test_an_exported_file_holds_backbone_and_view_and_needs_the_finder(
    folder, images, tmp_path, format
):
    file = tmp_path / f"m.{format}"
    with using(host()):
        model = allkit.Classifier.load(folder)
        model.export(file, format=format, check=images)
        expected = model.predict_proba(images)
    with using(host(allkit_finders=RECORDS["allkit_finders"])):
        answers = allkit.load(file).predict_proba(images)
    np.testing.assert_allclose(answers, expected, atol=1e-4)
    with (
        using(Registry(discover=False)),
        pytest.raises(ExportError, match=r"cell finder 'acme/diagonal.*Install acme==1\.2"),
    ):
        allkit.load(file)


@pytest.fixture(scope="module")
def plain(few):
    """A classifier of built-in parts."""
    with using(Registry(discover=False)):
        return allkit.Trainer(**SETTINGS | {"backbone": "timm:test_resnet"}).fit(
            allkit.Dataset.open(few)
        )


def test_models_of_built_in_parts_are_as_they_were(plain):
    info = json.loads(plain.info.model_dump_json())
    assert info["format"] == 1
    assert "settings" not in info["backbone"]
    assert "finder" not in info["config"]
    assert (info["backbone"]["view"], info["config"]["augment"]) == ("rgb", ["standard"])


def test_a_model_of_built_in_parts_looks_for_no_plugin(plain, few, monkeypatch, tmp_path):
    plain.save(tmp_path / "m")

    def discovered(self):
        raise AssertionError("plugins were looked for")

    monkeypatch.setattr(Registry, "_installed", discovered)
    with using(Registry(discover=False)):
        assert len(allkit.Classifier.load(tmp_path / "m").predict(few)) == 24


# ── the caches ────────────────────────────────────────────────────────────────────────────────


def edited(mark):
    made = host()
    for plugin in made.plugins:
        if plugin.distribution == "acme":
            plugin.mark = f"1.2+{mark}"
    return made


def keys(made, **changed):
    """Return what is part of every key of features, activations and measures."""
    from allkit.data.measures import statistics_by
    from allkit.features import Extractor, row_key

    with using(made):
        shown = load_backbone(config(**CHOSEN | changed), torch.device("cpu"))
        extractor = Extractor(
            shown.module, shown.input, shown.identity, torch.device("cpu"), finder=shown.finder
        )
        key = row_key("0" * 64, shown.identity, shown.input, extractor.frozen.signature)
        copy = extractor.key("0" * 64, shown.copy(1))
        return key, copy, statistics_by(shown.finder).name


def test_the_same_parts_are_taken_from_the_cache():
    assert keys(host(), **CELLS) == keys(host(), **CELLS)
    in_full = {"backbone": {"acme/net": {"gain": 2}}, "view": 'acme/gamma{"gamma":0.5}'}
    assert keys(host()) == keys(host(), **in_full)


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"backbone": {"net": {"gain": 3}}}, [2]),
        ({"view": {"gamma": {"gamma": 0.6}}}, [2]),
        ({"augment": [{"shade": {"depth": 0.2}}, "flip"]}, [0, 2]),
        ({"finder": {"diagonal": {"cells": 4}}}, []),
    ],
)
def test_another_setting_of_a_part_is_another_key(changed, same):
    pairs = list(zip(keys(host(), **CELLS), keys(host(), **CELLS | changed), strict=True))
    assert [i for i, (a, b) in enumerate(pairs) if a == b] == same


@pytest.mark.parametrize("other", [host(version="1.3"), edited("an edited source")])
@pytest.mark.parametrize("part", ["backbone", "view", "augment", "finder"])
def test_another_version_or_an_edited_source_is_another_key(other, part):
    """Of each part alone: the others are allkit's own."""
    plain = {"backbone": "timm:test_resnet", "view": "rgb", "augment": ["flip"], "finder": None}
    one = plain | CELLS | {"finder": None} | {part: (CHOSEN | CELLS)[part]}
    before, after = keys(host(), **one), keys(other, **one)
    wanted = {"augment": [1], "finder": [0, 1, 2]}.get(part, [0, 1])
    assert [i for i in range(3) if before[i] != after[i]] == wanted


def test_a_model_takes_features_only_of_the_code_that_is_installed(chosen):
    backbone = chosen.info.backbone
    with using(host()):
        before = backbone.identity
    with using(edited("an edited source")):
        assert backbone.identity != before


def test_keys_of_built_in_parts_are_as_they_were():
    own = {"backbone": "timm:test_resnet", "view": "haematoxylin", "augment": ["flip"]}
    with using(Registry(discover=False)):
        shown = load_backbone(config(**own), torch.device("cpu"))
        assert shown.identity[:3] == ("timm:test_resnet", "allkit", allkit.__version__)
        assert shown.augment_names == (f"flip allkit {allkit.__version__}",)
        assert shown.input.view == "haematoxylin"


# ── the guard around a network ────────────────────────────────────────────────────────────────


def of(act):
    return host(allkit_backbones=[Backbone("odd", lambda weights: Net(act=act), INPUT)])


def ended(features):
    sys.exit(0)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda f: 1 / 0, "failed in `forward`: ZeroDivisionError"),
        (ended, r"failed in `forward`: it tried to end the program \(SystemExit: 0\)"),
        (lambda f: f[:1], r"returned \(1, 8\).*2 images.*must return"),
        (lambda f: f[:, : 9 - len(f)], r"\(1, 8\), \(2, 7\), \(3, 6\).*same for every batch"),
        (lambda f: f * float("nan"), "no numbers"),
        (lambda f: f[..., None, None], r"returned \(1, 8, 1, 1\).*must return \(1, D\)"),
        (lambda f: (f, f), "returned a tuple in `forward`"),
    ],
)
def test_whatever_a_network_does_wrong_is_named_with_its_package(act, message):
    with using(of(act)), pytest.raises(PluginError, match=message) as error:
        load_backbone(config(backbone="odd"), torch.device("cpu"))
    assert "acme 1.2: the backbone 'odd'" in str(error.value)


def test_a_network_that_goes_wrong_later_is_named_too(few):
    doing = [lambda features: features]
    with using(of(lambda features: doing[-1](features))):
        model = allkit.Trainer(**SETTINGS | {"backbone": "odd"}).fit(allkit.Dataset.open(few))
        for act in (ended, lambda f: f[:1], lambda f: f[:, :3], lambda f: (f, f)):
            doing.append(act)
            with pytest.raises(PluginError, match=r"acme 1\.2: the backbone 'odd' .*`forward`"):
                model.predict_proba([np.full((64, 64, 3), 200, np.uint8)] * 3)


def test_a_lack_of_memory_goes_on_to_those_who_make_do_with_less():
    def without(features):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with using(of(without)), pytest.raises(RuntimeError, match="allocate memory"):
        load_backbone(config(backbone="odd"), torch.device("cpu"))


@pytest.mark.parametrize("where", ["build", "forward"])
def test_a_plugin_that_ends_the_program_ends_it_with_an_error(few, cli, where, tmp_path):
    def leave(weights):
        sys.exit(0)

    build = leave if where == "build" else lambda weights: Net(act=ended)
    with using(host(allkit_backbones=[Backbone("odd", build, INPUT)])):
        status, _, err = cli(
            "train", few, "--out", tmp_path / "m", "--backbone", "odd", "--weights", "none"
        )
    assert status == 2
    assert f"acme 1.2: the backbone 'odd' failed in `{where}`" in err
    assert not (tmp_path / "m").exists()


def test_who_made_a_network_is_known_when_it_is_copied_and_cut():
    import copy

    from allkit.network.calls import maker_of
    from allkit.network.modules import build_backbone, cut, joined

    with using(Registry(discover=False)):
        module = build_backbone(registry().get("backbone", "timm:test_resnet"), "none", "allkit 1")
    trunk, tail = cut(copy.deepcopy(module), 2)
    for part in (trunk, tail, joined(trunk, tail)):
        assert maker_of(part).name == "timm:test_resnet"
    assert module.state_dict().keys() == joined(trunk, tail).state_dict().keys()
