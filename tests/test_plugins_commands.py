"""`allkit plugins list | show | check | doctor`, and the page of plugins."""

import importlib.util
import json
import os
import re
import shlex
from pathlib import Path

import pytest

from allkit.errors import PluginError
from allkit.plugins import Registry, using
from allkit.testing import ConformanceError, checks_of

installing = pytest.importorskip("installing", reason="tests/ is not on the path")
ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings("ignore:The plugin .* has been importing")
"""A busy machine is slow to import them."""

FADE = """
from allkit import Augmentation, hookimpl
from pydantic import BaseModel, Field
import numpy as np
api_version = 2
class Settings(BaseModel):
    strength: float = Field(0.3, gt=0, le=1, description="how much of the light is lost")
    corner: str = Field("all", pattern="^(all|left)$", description="where")
def fade(image, rng, *, settings):
    return (image * rng.uniform(1 - settings.strength, 1)).astype(np.uint8)
@hookimpl
def allkit_augmentations():
    return [Augmentation("fade", fade, "less light", settings=Settings)]
"""
METADATA = (
    "License-Expression: MIT\nSummary: Less light\nProject-URL: Repository, https://example.org/x\n"
    "Requires-Dist: numpy>=1.26\nRequires-Dist: no-such-package>=2\n"
    "Requires-Dist: left-out>=1; extra == 'test'\n"
)
LATE = FADE.replace("api_version = 2\n", "").replace(", settings=Settings", "").replace(
    "*, settings", "settings=Settings()"
)  # fmt: skip


@pytest.fixture
def install(tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    there = []

    def run(name, source, **options):
        installing.put(site, name, source, **options)
        there.append(name)
        monkeypatch.setenv("ALLKIT_PLUGINS", ",".join(there))  # the others are not asked again

    return run


@pytest.fixture
def told(cli):
    """Run a command with a registry of its own: `told("plugins", "list")`."""

    def run(*words):
        with using(Registry()):
            return cli(*words)

    return run


# ── list ──────────────────────────────────────────────────────────────────────────────────────


def test_the_list_shows_licence_contract_settings_and_whether_it_was_checked(install, told):
    install("acme-fade", FADE, metadata=METADATA)
    status, out, _ = told("plugins")
    assert status == 0
    line = next(line for line in out.splitlines() if line.startswith("acme-fade 1.2"))
    assert re.fullmatch(
        r"acme-fade 1\.2 · acme_fade · \d+ ms · contract 2 · MIT · not checked", line
    )
    assert 'settings: strength = 0.3, corner = "all"' in out


def test_the_list_for_programs_keeps_its_keys_and_has_more(install, told):
    install("acme-fade", FADE, metadata=METADATA)
    rows = {row["distribution"]: row for row in json.loads(told("plugins", "list", "--json")[1])}
    row = rows["acme-fade"]
    before = {"plugin", "distribution", "version", "api_version", "state", "error", "milliseconds"}
    assert before | {"provides", "license", "notes", "checked"} <= set(row)
    assert (row["state"], row["license"], row["checked"]) == ("ok", "MIT", None)
    (part,) = row["provides"]
    assert {"kind", "name", "summary", "license"} <= set(part)
    assert part["settings"][0] == {
        "name": "strength", "type": "float", "default": "0.3",
        "description": "how much of the light is lost",
    }  # fmt: skip


def test_the_list_can_be_limited_to_a_kind(install, told):
    install("acme-fade", FADE)
    assert "acme-fade" in told("plugins", "list", "--kind", "augmentation")[1]
    out = told("plugins", "list", "--kind", "view")[1]
    assert "acme-fade" not in out
    assert "haematoxylin" in out


def test_a_deprecated_plugin_and_a_name_of_two_are_told(install, told):
    install("acme-fade", LATE)
    install("bolt-fade", FADE)
    _, out, err = told("plugins")
    assert "NOTE  Deprecated: it is written for version 1" in out
    assert "the augmentation 'fade' is offered by acme-fade 1.2 and bolt-fade 1.2" in err
    assert "acme-fade/fade, bolt-fade/fade" in err


# ── show ──────────────────────────────────────────────────────────────────────────────────────


def test_show_tells_everything_of_a_package(install, told):
    install("acme-fade", FADE, metadata=METADATA)
    status, out, _ = told("plugins", "show", "acme-fade")
    assert status == 0
    for words in (
        "licence       MIT",
        "home page     https://example.org/x",
        "contract      version 2",
        "numpy>=1.26 (",
        "no-such-package>=2: NOT MET, it is not installed",
        "strength: how much of the light is lost (float, more than 0, at most 1, default 0.3)",
        'corner: where (str, of the form ^(all|left)$, default "all")',
        "checked       not here: allkit plugins check acme-fade",
    ):
        assert words in out
    assert "left-out" not in out


PACK = """
from allkit import Exporter, hookimpl
from pydantic import BaseModel, Field
from typing import Literal
api_version = 2
class Settings(BaseModel):
    optimise: Literal["basic", "extended"] = Field("extended", description="how far")
    mean: tuple[float, float, float] = Field((0.5, 0.5, 0.5), description="of each colour")
def write(model, path, *, precision, calibration, settings): 1 / 0
def opens(path): 1 / 0
@hookimpl
def allkit_exporters():
    return [Exporter("pack", "{0}", write, opens, settings=Settings)]
"""


def test_an_exporter_is_shown_as_its_page_says_and_nothing_is_told_twice(install, told):
    install("acme-pack", PACK.format(".pack"))
    out = told("plugins", "show", "acme-pack")[1]
    for words in (
        'optimise: how far (one of basic, extended, default "extended")',
        "mean: of each colour (3 numbers, default [0.5, 0.5, 0.5])",
        "--out model.pack --format acme-pack/pack --set optimise=extended --set 'mean=[0.5, 0.5, 0.5]'",
        "model.export('model.pack', format='acme-pack/pack', settings={'optimise': 'extended', 'mean'",
    ):
        assert words in out


def test_an_exporter_with_a_suffix_of_allkits_own_fails_its_check_and_the_doctor(install, told):
    install("acme-pack", PACK.format(".onnx"))
    status, out, _ = told("plugins", "doctor")
    assert (status, "PROBLEM  acme-pack 1.2: The exporter acme-pack/pack claims .onnx" in out) == (
        1,
        True,
    )
    with using(Registry()):
        checks = {check.name: check for check in checks_of("acme-pack")}
        with pytest.raises(ConformanceError, match="are those of allkit/onnx"):
            checks["has_a_suffix_of_its_own"]()


@pytest.mark.parametrize("name", ["fade", "acme-fade/fade", "acme_fade"])
def test_a_part_is_shown_by_its_name_in_full_and_by_its_package(name, install, told):
    install("acme-fade", FADE)
    (shown,) = json.loads(told("plugins", "show", name, "--json")[1])
    assert [part["name"] for part in shown["parts"]] == ["fade"]


def test_what_is_not_there_is_one_line_with_the_nearest_name(told):
    status, out, err = told("plugins", "show", "haematoxilin")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "Did you mean 'haematoxylin'?" in err


def test_a_broken_plugin_is_shown_with_what_is_wrong(install, told):
    install("acme-fade", "import no_such_module")
    out = told("plugins", "show", "acme-fade")[1]
    assert "BROKEN        ModuleNotFoundError" in out


def test_the_examples_of_a_training_are_taken_by_one(install, told, monkeypatch):
    import allkit
    from allkit.config import TrainConfig, override
    from allkit.config.files import parse_yaml

    install("acme-fade", FADE)
    monkeypatch.delenv("ALLKIT_PLUGINS")
    fed = 0
    with using(Registry()) as host:
        shown = json.loads(told("plugins", "show", "acme-fade", "--json")[1])
        for package in sorted({p.distribution for p in host.plugins if not p.error}):
            shown += json.loads(told("plugins", "show", package, "--json")[1])
        for package in shown:
            for part in package["parts"]:
                examples = part["examples"]
                if "YAML" not in examples:
                    continue
                name, assignment = shlex.split(examples["--set"])
                assert name == "--set"
                by_file = TrainConfig.parse(parse_yaml(examples["YAML"]), source="YAML")
                by_option = TrainConfig.parse(override({}, [assignment]), source="--set")
                given = examples["Python"].removeprefix("allkit.Trainer")
                by_python = eval(f"allkit.TrainConfig{given}", {"allkit": allkit})
                assert by_file == by_option == by_python
                key = assignment.partition("=")[0]
                value = getattr(by_file, key)
                for asked in value if isinstance(value, tuple) else [value]:
                    if part["kind"] != "backbone" or ":" not in asked:
                        assert host.get(part["kind"], asked).name == part["name"]
                fed += 1
    assert fed > 20


# ── check ─────────────────────────────────────────────────────────────────────────────────────

LAMP = """
from allkit import HealthCheck, hookimpl
api_version = 2
def run():
    return []
@hookimpl
def allkit_health_checks():
    return [HealthCheck("lamp", run, "the lamp is on")]
"""
FAMILY = """
from allkit import Backbone, BackboneFamily, hookimpl
api_version = 2
@hookimpl
def allkit_backbones():
    return [BackboneFamily("many", lambda name: None, lambda: ["one"], license="none")]
"""


def test_skipped_checks_are_told_at_the_end_with_their_reasons(install, told):
    install("acme-many", FAMILY)
    status, out, _ = told("plugins", "check", "acme-many")
    assert status == 0
    assert "1 SKIPPED, so not checked:\n  many:NAME  names_an_example: The family names no" in out
    assert out.endswith("acme-many 1.2: 0 checks passed, but 1 was skipped.\n")


CAMERA = """
import numpy as np
from pydantic import BaseModel
from allkit import Raster, Reader, hookimpl

api_version = 2

class Settings(BaseModel):
    order: str = "bgr"

def read(data, name, *, settings):
    if data.startswith(b"CAM1"):
        raise ValueError(f"the scan of {data[4:12].decode()} is odd")
    raise SystemExit(data)

@hookimpl
def allkit_readers():
    return [Reader("cam", (".cam",), read, magic=((0, b"CAM1"),), settings=Settings)]
"""


def test_a_failing_reader_shows_nobodys_name_and_what_was_skipped_is_said_once(
    install, told, tmp_path
):
    install("acme-cam", CAMERA)
    status, out, _ = told("plugins", "check", "acme-cam")
    assert status == 1
    assert out.count("There is no file to check on") == 1
    assert "Name one: `--file FILE`" in out
    file = tmp_path / "a.cam"
    file.write_bytes(b"CAM1Jane Doe" + bytes(90))
    given = ("--file", str(file), "--identity", "Jane Doe")
    status, out, _ = told("plugins", "check", "acme-cam", *given)
    assert status == 1
    assert "It raised ValueError. What that says is not shown" in out
    assert "Jane" not in out


def test_the_examples_of_a_reader_give_it_its_settings(install, told):
    from allkit.plugins.written import part_of

    install("acme-cam", CAMERA)
    (package,) = json.loads(told("plugins", "show", "cam", "--json")[1])
    examples = package["parts"][0]["examples"]
    *_, option, word = shlex.split(examples["command"])
    assert option == "--reader"
    assert f"with chosen([{part_of(word, '--reader').plain!r}]):" in examples["Python"]
    assert part_of(word, "").settings == {"order": "bgr"}
    assert shlex.split(examples["all commands"]) == ["export", f"ALLKIT_READERS={word}"]


def test_several_packages_are_checked_and_the_results_are_in_a_file(install, told, tmp_path):
    install("acme-lamp", LAMP)
    install("acme-many", FAMILY)
    file = tmp_path / "results.json"
    status, out, _ = told("plugins", "check", "acme-lamp", "acme-many", "--out", file)
    assert status == 0
    assert re.search(r"^acme-lamp 1\.2: \d checks passed\.$", out, re.MULTILINE)
    lamp, many = json.loads(file.read_text())["packages"]
    assert (lamp["package"], lamp["version"], lamp["contract"]) == ("acme-lamp", "1.2", 2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", lamp["date"])
    assert {"allkit", "python", "next"} <= set(lamp)
    assert {check["state"] for check in lamp["checks"]} == {"passed"}
    assert [check["state"] for check in many["checks"]] == ["skipped"]
    # The list and the page of a package tell it from then on.
    assert re.search(r"checked: \d passed \(", told("plugins")[1])
    assert "checked: 0 passed, 1 SKIPPED (" in told("plugins")[1]
    shown = told("plugins", "show", "acme-many")[1]
    assert "SKIPPED  many:NAME names_an_example: The family names no" in shown


def test_results_of_other_code_are_not_shown(install, told):
    install("acme-lamp", LAMP)
    assert told("plugins", "check", "acme-lamp")[0] == 0
    assert "checked: " in told("plugins")[1]
    install("acme-lamp", LAMP.replace("return []", "return list(())"))
    assert "checked: " not in told("plugins")[1]


def test_a_folder_is_checked_as_the_package_that_is_in_it(install, told, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    project = folder / "pyproject.toml"
    project.write_text("[project]\nname = 'acme-fade'\n")
    status, _, err = told("plugins", "check", folder)
    assert (status, "is the folder of acme-fade, which is not installed" in err) == (2, True)
    assert f"pip install --editable {folder}" in err
    install("acme-fade", FADE)
    status, out, _ = told("plugins", "check", folder)
    assert (status, "acme-fade 1.2: " in out) == (0, True)
    project.write_text("[tool]\n")
    assert "names no package" in told("plugins", "check", folder)[2]


def test_damaged_results_are_none_and_nothing_checked_is_not_a_pass(install, told):
    install("acme-lamp", LAMP)
    assert told("plugins", "check", "acme-lamp")[0] == 0
    (file,) = (Path(os.environ["ALLKIT_CACHE"]) / "plugin-checks").glob("*.json")
    whole = file.read_text()

    def damaged(change):
        held = json.loads(whole)
        change(held["packages"][0])
        file.write_text(json.dumps(held))

    for change in (
        lambda result: result["checks"][0].pop("subject"),
        lambda result: result["checks"][0].update(message=None),
        lambda result: result.update(checks=[]),
        lambda result: result.update(checks={}),
        lambda result: result.update(date=7),
    ):
        damaged(change)
        assert "not checked" in told("plugins")[1]
        assert told("plugins", "show", "acme-lamp")[0] == 0
    damaged(lambda result: None)
    assert "not checked" not in told("plugins")[1]


def test_what_is_deprecated_fails_against_the_next_version(install, told):
    install("acme-fade", LATE)
    status, out, _ = told("plugins", "check", "acme-fade", "--next")
    assert status == 1
    assert "1 FAILED:\n  acme_fade  uses_nothing_deprecated: Deprecated: it is written for" in out
    install("acme-lamp", LAMP)
    assert told("plugins", "check", "acme-lamp", "--next")[0] == 0


def test_a_part_can_be_checked_in_full_and_with_settings_of_its_own(install):
    install("acme-fade", FADE)
    install("bolt-fade", FADE)
    with using(Registry()):
        checks = checks_of('acme-fade/fade{"strength":0.9}')
        assert [check.name for check in checks] == [c.name for c in checks_of("bolt-fade")]
        checks[0]()


def test_a_setting_says_what_it_does_and_has_a_default_or_an_example(install):
    def first():
        with using(Registry()):
            return checks_of("acme-fade")[0]

    install("acme-fade", FADE.replace(', description="where"', ""))
    with pytest.raises(ConformanceError, match="No description: corner"):
        first()()
    install("acme-fade", FADE.replace("Field(0.3, ", "Field(examples=[0.2], "))
    first()()
    install("acme-fade", FADE.replace("Field(0.3, ", "Field("))
    with pytest.raises(PluginError, match="has neither default nor example"):
        first()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-package"], "No package and no record is called 'no-such-package'"),
        (["allkit-stain", "--file", "nothing.dcm"], "is not a file"),
        (["allkit-stain", "--identity", "Jane"], "Give the file too: --file FILE"),
        (["allkit-stain", "--expect", "no_such=why"], "There is no check 'no_such'"),
        (["allkit-stain", "--expect", "is_quick"], "lacks its reason"),
        (["allkit-stain", "--out", "no/such/folder/x.json"], "there is no folder"),
        (["hed{"], "are not JSON"),
        (["{}"], "No package and no record"),
    ],
)
def test_wrong_use_is_one_line_and_never_a_traceback(words, said, told):
    status, _, err = told("plugins", "check", *words)
    assert status == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("from allkit import hookimpl", "offers nothing that could be checked"),
        ("import no_such_module", "cannot be loaded"),
    ],
)
def test_a_package_with_nothing_to_check_does_not_pass(source, said, install, told):
    install("acme", source)
    status, _, err = told("plugins", "check", "acme")
    assert (status, said in err) == (2, True)


def test_a_plugin_that_ends_the_program_fails_its_check(install, told):
    install("acme-fade", FADE.replace("    return (image", "    raise SystemExit(0)\n    (image"))
    status, out, _ = told("plugins", "check", "acme-fade")
    assert status == 1
    assert "tried to end the program" in out


# ── doctor ────────────────────────────────────────────────────────────────────────────────────


def test_the_doctor_of_plugins_fails_for_what_is_broken_and_not_for_notes(install, told):
    install("acme-fade", LATE)
    status, out, _ = told("plugins", "doctor")
    assert status == 0
    assert "note     acme-fade 1.2: Deprecated: " in out
    install("bolt", "raise RuntimeError('at import')")
    status, out, _ = told("plugins", "doctor")
    assert status == 1
    assert "PROBLEM  bolt 1.2: RuntimeError: at import." in out
    assert "1 broken, 1 to know." in out
    problems = json.loads(told("plugins", "doctor", "--json")[1])
    assert {problem["state"] for problem in problems} == {"problem", "note"}
    status, out, _ = told("doctor")
    assert status == 1
    assert "PROBLEM          Plugin bolt 1.2: RuntimeError: at import." in out


def test_a_name_of_two_packages_is_a_conflict_and_breaks_nothing(install, told):
    install("acme-fade", FADE)
    install("crux", FADE)
    status, out, _ = told("plugins", "doctor")
    assert status == 0
    assert "note     acme-fade 1.2 and crux 1.2: Conflict: the augmentation 'fade'" in out
    assert "2 packages with plugins: nothing is broken, 1 conflict." in out
    status, out, _ = told("doctor")
    assert "acme-fade 1.2 and crux 1.2: Conflict" in out.partition("PROBLEM")[0]


# ── the page ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def plugin_list():
    spec = importlib.util.spec_from_file_location("plugin_list", ROOT / "docs" / "plugin_list.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_lists_every_package_of_this_repository(plugin_list):
    text = plugin_list.listed(ROOT)
    for path in ROOT.glob("plugins/*/pyproject.toml"):
        assert f"\n## {path.parent.name}\n" in text
    assert "augmentations" in text


def test_the_page_says_what_was_not_checked_and_what_was_skipped(
    plugin_list, install, told, tmp_path
):
    root = tmp_path / "root"
    for name, source in (("acme-lamp", LAMP), ("acme-many", FAMILY)):
        folder = root / "plugins" / name
        folder.mkdir(parents=True)
        (folder / f"{name.replace('-', '_')}.py").write_text(source)
        (folder / "pyproject.toml").write_text(
            f'[project]\nname = "{name}"\nversion = "1.2"\nlicense = "MIT"\n'
            f'[project.entry-points.allkit]\nx = "{name.replace("-", "_")}"\n'
        )
        install(name, source)
    assert plugin_list.listed(root).count("Not checked: there are no results") == 2
    (root / "docs" / plugin_list.CHECKS).mkdir(parents=True)
    for name in ("acme-lamp", "acme-many"):
        file = root / "docs" / plugin_list.CHECKS / f"{name}.json"
        assert told("plugins", "check", name, "--out", file)[0] == 0
    text = plugin_list.listed(root)
    assert re.search(r"\| MIT \| health checks \| \d passed \|", text)
    assert "| MIT | backbones | 0 passed, **1 SKIPPED** |" in text
    assert "- **SKIPPED** `many:NAME` `names_an_example`: The family names no" in text
