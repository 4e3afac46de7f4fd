"""The texts of the workplace: every language says the same things, and nothing of them is cut or lost."""

import ast
import re
import string
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "streamlit_app"))

from workplace.texts import languages, negotiate, texts  # noqa: E402 - the app is no package
from workplace.texts.pseudo import ACCENTS  # noqa: E402 - the app is no package

LONGEST = 400
OTHERS = [name for name in languages() if name != "en"]


def places(text):
    return sorted(part[1] for part in string.Formatter().parse(text) if part[1] is not None)


@pytest.mark.parametrize("language", OTHERS)
def test_every_english_text_is_there_in_each_language_and_no_other(language):
    english, own = texts("en").own, texts(language).own
    assert sorted(english.keys() - own.keys()) == []
    assert sorted(own.keys() - english.keys()) == []


@pytest.mark.parametrize("language", [*OTHERS, "xx"])
def test_a_translated_text_takes_the_same_values(language):
    own = texts(language).own
    english = {key: text for key, text in texts("en").own.items() if key in own}
    assert english
    assert {k: places(t) for k, t in english.items()} == {k: places(own[k]) for k in english}


@pytest.mark.parametrize("language", languages())
def test_every_plural_has_its_singular(language):
    own = texts(language).own
    singular = {key.removesuffix(".one") for key in own if key.endswith(".one")}
    # `class.other` is a class of its own and `reasons.other` a reason: only what counts is a plural.
    plural = {
        k.removesuffix(".other") for k, t in own.items() if k.endswith(".other") and "{n}" in t
    }
    assert len(plural) > 10
    assert singular == plural


def asked_for(tree):
    """The keys that a module names in calls of `say`, also as one of two (`"a" if x else "b"`), as patterns."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
        first = node.args[0]
        for part in (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,):
            if name == "say" and isinstance(part, ast.Constant):
                yield re.escape(part.value)
            elif name == "say" and isinstance(part, ast.JoinedStr):
                texts_of = (getattr(piece, "value", None) for piece in part.values)
                yield "".join(re.escape(t) if isinstance(t, str) else r"\w+" for t in texts_of)


def test_every_text_that_the_pages_ask_for_is_there():
    known = " ".join(re.sub(r"\.(one|other)$", "", key) for key in texts("en").own)
    known += " " + " ".join(texts("en").own)
    asked = {
        (path.name, pattern)
        for path in (ROOT / "streamlit_app" / "workplace").rglob("*.py")
        for pattern in asked_for(ast.parse(path.read_text("utf-8")))
    }
    assert len(asked) > 300
    assert [o for o in sorted(asked) if not re.search(rf"(?<!\S){o[1]}(?!\S)", known)] == []


@pytest.mark.parametrize("language", languages())
def test_no_text_is_empty_or_too_long_to_be_read(language):
    own = texts(language).own
    assert [key for key, text in own.items() if not text.strip()] == []
    assert [key for key, text in own.items() if len(text) > LONGEST] == []


@pytest.mark.parametrize("language", languages())
def test_no_text_holds_a_place_without_a_name_or_with_an_attribute(language):
    names = [(key, name) for key, text in texts(language).own.items() for name in places(text)]
    assert [one for one in names if not re.fullmatch(r"[a-z_]+", one[1])] == []


def test_a_number_chooses_between_singular_and_plural():
    say = texts("en")
    assert say("field.unread", n=1) == "1 field still needs to be read"
    assert say("field.unread", n=0) == "0 fields still need to be read"
    assert say.section("field")["unread.one"].startswith("{n} field ")


def test_a_value_with_braces_is_shown_as_it_is():
    assert texts("en")("model.none") == "No model"
    assert "{0.__class__}" in texts("en")("frame.signed_in", name="{0.__class__}")


def test_a_text_that_is_missing_is_named():
    with pytest.raises(KeyError, match=r"desk\.nothing_of_this_name"):
        texts("en")("desk.nothing_of_this_name")
    with pytest.raises(KeyError, match="'fr'"):
        texts("fr")
    assert not texts("en").has("desk.nothing_of_this_name")


def test_a_part_of_the_texts_is_the_same_for_a_script():
    section = texts("de").section("job")
    assert section["running"] == "{done} von {total} beantwortet"
    assert all(text == texts("de").own[f"job.{key}"] for key, text in section.items())


def test_the_made_language_shows_what_is_cut_and_what_stands_in_the_code():
    say, english = texts("xx"), texts("en").own
    assert say.direction == "rtl"
    assert texts("de").direction == texts("en").direction == "ltr"
    for key, text in say.own.items():
        if key == "frame.decimal":
            continue
        assert text.startswith("⟦"), key
        assert text.endswith("⟧"), key
        said = re.sub(r"\{[^{}]*\}", "", text)
        plain = re.sub(r"\{[^{}]*\}", "", english[key])
        assert not set(said) & {chr(letter) for letter in ACCENTS}, key
        assert len(said) >= 1.3 * len(plain), key


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.5", "de"),
        ("fr, en;q=0.3, de;q=0.7", "de"),
        ("fr", "en"),
        ("de;q=0, en;q=0.1", "en"),
        ("en;q=nonsense, de;q=0.2", "de"),
        ("xx", "en"),
        ("", "en"),
        (None, "en"),
    ],
)
def test_a_browser_is_spoken_to_in_a_language_that_it_asks_for(header, language):
    assert negotiate(header) == language


def test_the_made_language_is_met_only_where_the_tests_ask_for_it(monkeypatch):
    monkeypatch.setenv("ALLKIT_PSEUDO", "1")
    assert negotiate("xx") == "xx"
    monkeypatch.setenv("ALLKIT_PSEUDO", "0")
    assert negotiate("xx") == "en"
