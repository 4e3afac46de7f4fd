"""Opening what answers: a model folder, or an exported file by its suffix and by what it says of itself."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.errors import CheckpointError, ConfigError, ExportError, PluginError
from allkit.plugins import Plugin, registry
from allkit.plugins.asked import bound
from allkit.plugins.catalogue import plain
from allkit.runtime.guarded import GuardedPredictor
from allkit.runtime.reading import look_alike, named_otherwise, read_plain
from allkit.runtime.seal import exporter_in
from allkit.runtime.signature import require_trusted

if TYPE_CHECKING:
    from allkit.records import Exporter, Predictor

__all__ = ["load", "open_file", "opened", "own_suffix", "same_exporter", "suffix_conflicts"]

OWN = "allkit"
Offered = list[tuple[Plugin, str]]
"""Plugins with the names of exporters of theirs."""


def load(path: str | Path, *, device: str = "cpu") -> Predictor:
    """Open a model folder, or an exported file of any format: both answer alike.

    `device` is that of a folder, as in `Classifier.load`; an exported file computes on the processor,
    and needs no PyTorch. Raises `CheckpointError`, `ExportError` or `PluginError` where it cannot be
    opened, and `ConfigError` for a device that it cannot have.
    """
    path = Path(path)
    if path.is_dir():
        # What learns lies above this layer, and is opened only where it is asked for.
        classifier: Any = importlib.import_module("allkit.model.classifier").Classifier
        model: Predictor = classifier.load(path, device=device)
        return model
    if device not in ("auto", "cpu"):
        raise ConfigError(
            f"{path} is an exported file, which computes on the processor, not on {device!r}. Leave the "
            f"device out, or give the model folder that it was exported from."
        )
    return open_file(path)


def open_file(path: Path) -> Predictor:
    """Open an exported file; raise `CheckpointError` where there is none, else as `load`.

    A suffix of allkit's own formats is theirs alone: no plugin is looked for. For any other one the
    plugin that offers it is imported, and no further one; where several do, the file says by which of
    them it was written.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist. Give a model folder or an exported file.")
    own = own_suffix(path.name)
    if own:
        exporter = registry().get("exporter", own)
    else:
        exporter = _chosen(path, _offered(path.name))
    require_trusted(path)  # here too: the exporter of a plugin may not ask
    return opened(exporter, path)


def opened(exporter: Exporter, path: Path) -> Predictor:
    """Open a file with an exporter as the registry gives it; what fails, then or later, is named.

    Raises `PluginError` where what it returns is no `Predictor`.
    """
    from allkit.records import Predictor
    from allkit.runtime.graph import GraphPredictor

    predictor = exporter.open(path)
    origin = str(getattr(exporter.open, "origin", "a plugin"))
    if not isinstance(predictor, Predictor):
        raise PluginError(
            f"{origin}: the exporter {exporter.name!r} opened {path} and returned a "
            f"{type(predictor).__name__}, which is no Predictor. Its author derives it from "
            f"`allkit.exporting.FilePredictor`."
        )
    if isinstance(
        predictor, GraphPredictor | GuardedPredictor
    ):  # they name what fails in `compute`
        return predictor
    return GuardedPredictor(predictor, origin, exporter.name)


def own_suffix(name: str) -> str:
    """Return the format of allkit's own that a file of this name has, `allkit/onnx`; empty where none.

    No plugin is looked for.
    """
    for plugin, offer in registry().offers("exporter", own=True):
        if name.endswith(offer.suffixes):
            return f"{plugin.distribution}/{offer.name}"
    return ""


def _offered(name: str) -> Offered:
    """Return which exporters have the suffix of a file of this name; nothing is imported."""
    return [
        (plugin, offer.name)
        for plugin, offer in registry().offers("exporter")
        if name.endswith(offer.suffixes)
    ]


def _chosen(path: Path, offered: Offered) -> Exporter:
    """Return the one exporter that is to open a file, of those that have its suffix."""
    if not offered:
        raise _nobody(path)
    named = exporter_in(read_plain(path, ExportError, follow=True))
    of_file = [
        (plugin, name)
        for plugin, name in offered
        if not named or same_exporter(named, plugin.distribution, name)
    ]
    if len(of_file) == 1:
        return _record(*of_file[0])
    others = " and ".join(f"{plugin.distribution}/{name}" for plugin, name in offered)
    if named and not of_file:
        package = named.partition("/")[0]
        raise ExportError(
            f"{path} was written by the exporter {named}, which is not installed here, and {others} is "
            f"another one for the same suffix. Type: pip install {package}"
        )
    packages = " or ".join(
        sorted({f"ALLKIT_PLUGINS={plugin.distribution}" for plugin, _ in offered})
    )
    raise ExportError(
        f"{path} could be a file of {others}, and does not say of which. Set {packages}, with every other "
        f"package that is needed, or export the model again, so that the file says it."
    )


def same_exporter(named: str, package: str, name: str) -> bool:
    """Say whether the full name in a file, `PACKAGE/NAME`, is that of an exporter of a package."""
    of_file, _, short = named.rpartition("/")
    if of_file == OWN != package:  # it wraps a format of allkit's under a suffix of its own
        return True
    # A module that was registered by hand has no package.
    return short == name and plain(package) in (plain(of_file), "unpackaged")


def _record(plugin: Plugin, name: str) -> Exporter:
    """Return an exporter of a plugin, its calls guarded; to open a file it needs no settings."""
    for kind, record in plugin.records:
        if kind == "exporter" and record.name == name:
            exporter: Exporter = bound(record, None, plugin.origin, kind)
            return exporter
    raise PluginError(
        f"{plugin.origin} offers the exporter {name!r}, but fails: {plugin.error or 'it is gone'}"
    )


def _nobody(path: Path) -> ExportError:
    try:
        what = look_alike(read_plain(path, ExportError, follow=True)) or named_otherwise(path)
    except FileNotFoundError:
        what = ""
    if what:
        return ExportError(f"{path} {what}")
    broken = [plugin.origin for plugin in registry().plugins if plugin.error]
    note = f" Plugins that failed to load: {', '.join(broken)}; see `allkit plugins`."
    return ExportError(
        f"{path} is no model: no exporter has the suffix {path.suffix!r}. Give a model "
        f"folder or an exported file.{note if broken else ''}"
    )


def suffix_conflicts() -> Iterator[str]:
    """Yield a sentence for each suffix of files that several exporters have; nothing is imported."""
    own = {
        suffix for _, offer in registry().offers("exporter", own=True) for suffix in offer.suffixes
    }
    by_suffix: dict[str, Offered] = {}
    for plugin, offer in registry().offers("exporter"):
        for suffix in offer.suffixes:
            by_suffix.setdefault(suffix, []).append((plugin, offer.name))
    for suffix, offered in sorted(by_suffix.items()):
        others = [(p, name) for p, name in offered if not p.built_in]
        names = " and ".join(f"{p.distribution}/{name} ({p.origin})" for p, name in others)
        taken = next((one for one in own if suffix.endswith(one)), "")
        if taken and others:
            yield (
                f"{names}: the suffix {suffix} is that of a format of allkit's own, which opens every such "
                f"file, so that nothing can be exported with it. Its author chooses another suffix."
            )
        elif len(others) > 1:
            yield (
                f"The files of {names} have the suffix {suffix}. Each says by which it was written; one "
                f"that does not cannot be opened while both are installed."
            )
