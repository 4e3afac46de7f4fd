"""What the components of the workplace are made of: no code from data, no word without a text."""

import re

import pytest

from desk_stand import texts
from workplace_sources import module, script, style

COMPONENTS = ["desk", "drop"]
SAID = re.compile(r"""(?:say|button|step|zoom|picker)\(\s*([`"])([a-z_]+[^`"]*)\1""")
CHOSEN = re.compile(r"""(?<![\w.])"([a-z]+\.[a-z_]+)"|\? "([a-z_]+)" : "([a-z_]+)"\)""")


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize(
    "way",
    [
        r"innerHTML", r"outerHTML", r"insertAdjacentHTML", r"document\.write", r"\beval\(",
        r"new Function", r"srcdoc", r"\bimport\(", r"@import", r"https?://(?!www\.w3\.org/2000/svg)",
        r"cookie",
    ],
)  # fmt: skip
def test_no_data_become_code_and_nothing_is_fetched_from_elsewhere(name, way):
    assert re.findall(way, script(name) + style(name)) == []


def test_the_style_fetches_nothing():
    assert not [name for name in COMPONENTS if "url(" in style(name)]


def code(name):
    """The JavaScript without its comments."""
    return "\n".join(line.split("// ")[0] for line in script(name).splitlines())


def keys_of(name):
    """The texts that the JavaScript of a component names: whole keys, and beginnings of made ones."""
    whole, begun = set(), set()
    for _, key in SAID.findall(code(name)):
        begin, made, _ = key.partition("${")
        (begun if made else whole).add(begin)
    for several in CHOSEN.findall(code(name)):
        whole |= {key for key in several if key}
    return whole, begun


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_text_that_a_component_says_is_there(name):
    known = {re.sub(r"\.(one|other)$", "", key) for key in texts(name)}
    said = {key for _, key in SAID.findall(code(name)) if "${" not in key}
    assert said - known - {"a"} == set()


@pytest.mark.parametrize("name", COMPONENTS)
def test_no_text_is_left_that_no_component_says(name):
    whole, begun = keys_of(name)
    known = {re.sub(r"\.(one|other)$", "", key) for key in texts(name)}
    assert {k for k in known - whole if not any(b and k.startswith(b) for b in begun)} == set()


def test_every_file_of_the_components_is_part_of_one():
    used = {path for parts in (*module.PARTS.values(), *module.STYLES.values()) for path in parts}
    there = {
        path.relative_to(module.HERE).as_posix()
        for folder in module.HERE.glob("*_web")
        for path in folder.iterdir()
    }
    there |= {path.name for path in module.HERE.iterdir() if path.suffix in (".js", ".css")}
    assert there == used
