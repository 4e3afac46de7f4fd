"""Whatever a plugin does when it is called is an error that names it, and never a silent success."""

import re
import subprocess
import sys
import textwrap
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, Field, SecretStr

from allkit import Augmentation, hookimpl
from allkit.errors import AllkitError, ConfigError, ImageError, PluginError
from allkit.features.extract import _augmented
from allkit.plugins import Registry, calling
from allkit.plugins.guard import Stopped, each


def offered(settings=None, apply=lambda image, rng: image.copy()):
    host = Registry(discover=False)
    function = apply if settings is None else lambda image, rng, settings: image.copy()
    record = Augmentation("mine", function, settings=settings)
    module = SimpleNamespace(api_version=2, allkit_augmentations=hookimpl(lambda: [record]))
    return host, host.register(module, name="mine", distribution="acme", version="1.2")


class Bye(SystemExit):
    pass


class Mute(Exception):
    def __str__(self):
        raise SystemExit(0)

    __repr__ = __str__


class OutOfMemoryError(Exception):
    """It only has the name of torch's."""


@pytest.mark.parametrize(
    "error", [Bye(0), SystemExit(0), Mute(), OutOfMemoryError(), GeneratorExit(), BaseException()]
)
def test_no_error_of_a_plugin_ends_the_program_or_hides(error):
    def failing(image, rng):
        raise error

    host, _ = offered(apply=failing)
    with pytest.raises(PluginError, match=r"acme 1.2: the augmentation 'mine' failed in `apply`"):
        host.get("augmentation", "mine").apply(np.zeros((4, 4, 3), np.uint8), None)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), Stopped(130), MemoryError(), RuntimeError("CUDA out of memory")]
)
def test_ctrl_c_and_a_lack_of_memory_are_no_fault_of_a_plugin(error):
    with pytest.raises(type(error)), calling("acme 1.2", "backbone", "mine", "forward"):
        raise error


def test_an_error_of_allkits_keeps_its_type_and_tells_once_whose_it_is():
    with (
        pytest.raises(ImageError) as found,
        calling("acme 1.2", "reader", "mine", "read"),
        calling("acme 1.2", "reader", "mine", "read"),
    ):
        raise ImageError("x.mine is cut off.", code="truncated")
    assert str(found.value) == "x.mine is cut off."
    assert found.value.__notes__ == ["(acme 1.2: the reader 'mine', in `read`.)"]
    with pytest.raises(AllkitError) as found, calling("allkit 1", "reader", "png", "read"):
        raise AllkitError("No.")
    assert not hasattr(found.value, "__notes__")


def test_who_stops_listening_ends_what_a_plugin_yields_and_is_not_blamed():
    ended = []

    def yielding():
        try:
            yield from range(3)
        finally:
            ended.append(True)

    results = each(yielding(), ("acme 1.2", "exporter", "mine", "stream"))
    assert next(results) == 0
    results.close()
    assert ended == [True]


def test_a_command_that_something_ends_with_0_half_way_says_so_and_fails():
    script = """
        import sys
        import allkit.cli.root
        def root(**options): raise SystemExit(0)
        allkit.cli.root.root = root
        from allkit.cli import main
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ended the program" in done.stderr


def test_an_augmentation_cannot_write_into_the_image_of_others():
    def careless(image, rng):
        image[:] = 0
        return image

    image = np.ones((4, 4, 3), np.uint8)
    host, _ = offered(apply=careless)
    with pytest.raises(PluginError, match=r"acme 1.2: the augmentation 'mine'.*read-only"):
        _augmented(host.get("augmentation", "mine"), image, np.random.default_rng(0))
    assert image.all()
    host, _ = offered(apply=lambda image, rng: image)
    same = _augmented(host.get("augmentation", "mine"), image, np.random.default_rng(0))
    assert same.flags.writeable
    assert image.flags.writeable


# ── settings that a model could not keep ───────────────────────────────────────────────────────


class Secret(BaseModel):
    key: SecretStr = SecretStr("a")


class Excluded(BaseModel):
    size: float = Field(0.1, exclude=True)


class Aliased(BaseModel):
    sigma: float = Field(0.1, alias="s")


class Unequal(BaseModel):
    x: Any = float("nan")


class Endless(BaseModel):
    x: float = float("inf")


class Unordered(BaseModel):
    stains: set[str] = {"a", "b"}


class Bytes(BaseModel):
    b: bytes = b"\xff"


class Anything(BaseModel):
    x: Any = None


class Pair(BaseModel):
    x: Any = (1, 2)


class Inner(BaseModel):
    inner: Excluded = Excluded()


HUGE = 10**5000


class Huge(BaseModel):
    x: int = HUGE


class Leaving(BaseModel):
    x: int = 1

    def model_dump(self, **options):
        raise SystemExit(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Secret, "key does not come back"),
        (Excluded, "Take `exclude` off"),
        (Aliased, "Take its alias off"),
        (Unequal, "x does not come back"),
        (Endless, "cannot be written as JSON"),
        (Unordered, "stains is a set"),
        (Bytes, "cannot be written as JSON"),
        (Pair, "x does not come back"),
        (Inner, "inner holds a model of which size"),
        (Huge, "JSON|digits"),
        (Leaving, "tried to end the program"),
    ],
)
def test_settings_that_json_loses_are_refused_when_they_are_loaded(settings, message):
    assert re.search(message, offered(settings)[1].error)


@pytest.mark.parametrize(
    "value",
    [float("nan"), object(), {1: 2}, {"a"}, {1: 1, "b": 2}, HUGE],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_json_loses_is_refused_when_it_is_asked_for(value):
    host, plugin = offered(Anything)
    assert plugin.error is None
    with pytest.raises((ConfigError, PluginError), match=r"'mine' of acme 1\.2"):
        host.reference("augmentation", {"mine": {"x": value}})
    assert host.reference("augmentation", {"mine": {"x": [1, "a"]}}).settings == {"x": [1, "a"]}


@pytest.mark.parametrize("text", ['mine{"x":NaN}', 'mine{"x":1,"x":2}'])
def test_a_text_that_json_does_not_hold_names_no_part(text):
    with pytest.raises(PluginError, match="not JSON"):
        offered(Anything)[0].get("augmentation", text)
