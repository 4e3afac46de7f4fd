"""How a part of a plugin is used: in a file of settings, on the command line, in Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from allkit.plugins.offers import Offer
from allkit.records import Reference

__all__ = ["SETTING_OF", "defaults_of", "examples_of"]

SETTING_OF = {"backbone": "backbone", "augmentation": "augment", "view": "view", "finder": "finder"}
"""The setting of a training that takes a part of a kind."""


def defaults_of(offer: Offer, examples: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for each setting: its default, or an example where it has none."""
    values = {s.name: json.loads(s.default) for s in offer.settings if s.default}
    return {s.name: values.get(s.name, examples.get(s.name)) for s in offer.settings}


def examples_of(offer: Offer, reference: Reference) -> dict[str, str]:
    """Return examples by what they are for: `YAML`, `--set`, `command`, `Python`.

    `reference` is how the part is asked for, with a value for each of its settings.
    """
    if offer.kind in SETTING_OF:
        return _of_training(SETTING_OF[offer.kind], reference)
    if offer.kind == "exporter":
        file, format = f"model{offer.suffixes[0]}", reference.qualified
        given = [f"{key}={_yaml(value)}" for key, value in reference.settings.items()]
        words = "".join(f" --set {shlex.quote(text)}" for text in given)
        settings = f", settings={dict(reference.settings)!r}" if given else ""
        return {
            "command": f"allkit export MODEL --out {file} --format {format}{words}",
            "Python": f"model.export({file!r}, format={format!r}{settings})",
        }
    if offer.kind == "explainer":
        return {
            "command": f"allkit explain MODEL IMAGE --out map.png --method {_word(reference)}",
            "Python": f"model.explain(image, method={reference.plain!r})",
        }
    if offer.kind == "reader":
        file = f"image{offer.suffixes[0]}"
        if not reference.settings:
            return {"command": f"allkit predict MODEL {file}", "Python": f"model.predict({file!r})"}
        return {
            "command": f"allkit predict MODEL {file} --reader {_word(reference)}",
            "all commands": f"export ALLKIT_READERS={_word(reference)}",
            "Python": "from allkit.images.readers import chosen\n"
            f"with chosen([{reference.plain!r}]):\n    model.predict({file!r})",
        }
    if offer.kind == "command":
        return {"command": f"allkit {reference.qualified} --help"}
    return {"command": "allkit doctor"}


def _of_training(setting: str, reference: Reference) -> dict[str, str]:
    import yaml

    value: Any = [reference.plain] if setting == "augment" else reference.plain
    lines = yaml.safe_dump({setting: value}, sort_keys=False, default_flow_style=False, width=1000)
    return {
        "YAML": lines.rstrip(),
        "--set": f"--set {shlex.quote(f'{setting}={_yaml(value)}')}",
        "Python": f"allkit.Trainer({setting}={value!r})",
    }


def _yaml(value: Any) -> str:
    """Return a value as YAML of one line."""
    import yaml

    flow = yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=1000)
    return flow.removesuffix("...\n").strip()


def _word(reference: Reference) -> str:
    return shlex.quote(reference.text)
