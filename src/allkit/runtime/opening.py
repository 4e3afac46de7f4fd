"""Opening what answers: a model folder, or an exported file by its suffix and by what it says of itself."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.errors import CheckpointError, ConfigError, ExportError, PluginError
from allkit.plugins import Plugin, registry
from allkit.plugins.asked import bound
from allkit.plugins.catalogue import plain
from allkit.plugins.host import OWN
from allkit.plugins.suffixes import own_suffix
from allkit.runtime.guarded import GuardedPredictor
from allkit.runtime.reading import PACKED, ZIP, look_alike, named_otherwise, read_plain
from allkit.runtime.seal import exporter_in
from allkit.runtime.signature import require_trusted
from allkit.runtime.trailer import broken_trailer, has_trailer, parts_of

if TYPE_CHECKING:
    from allkit.records import Exporter, Predictor

__all__ = ["format_of_name", "load", "open_file", "opened", "same_exporter"]

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
    own = own_suffix(registry(), path.name)
    exporter = registry().get("exporter", own) if own else _chosen(path, _offered(path.name))
    require_trusted(path)  # here too: the exporter of a plugin may not ask
    try:
        return opened(exporter, path)
    except ExportError as error:
        named = exporter_in(read_plain(path, ExportError, follow=True)) if own else ""
        if named not in ("", own):
            raise ExportError(f"{path} {_whose(named)}") from error
        raise


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


def _offered(name: str) -> Offered:
    """Return which exporters have the suffix of a file of this name; nothing is imported."""
    return [
        (plugin, offer.name)
        for plugin, offer in registry().offers("exporter")
        if name.endswith(offer.suffixes)
    ]


def _chosen(path: Path, offered: Offered) -> Exporter:
    """Return the one exporter that is to open a file, of those that have its suffix.

    What the file says of itself goes before what it looks like: a payload may be a zip.
    """
    try:
        data = read_plain(path, ExportError, follow=True)
    except FileNotFoundError:  # it went away meanwhile
        data = b""
    named = exporter_in(data)
    of_file = [
        (plugin, name)
        for plugin, name in offered
        if not named or same_exporter(named, plugin.distribution, name)
    ]
    if len(of_file) == 1:
        return _record(*of_file[0])
    if named and not of_file:
        raise ExportError(f"{path} {broken_trailer(data) or _whose(named)}")
    what = _wrong_with(data) or (not offered and _mistaken(path, data))
    if what:
        raise ExportError(f"{path} {what}")
    if not offered:
        raise _nobody(path)
    packages = " or ".join(
        sorted({f"ALLKIT_PLUGINS={plugin.distribution}" for plugin, _ in offered})
    )
    raise ExportError(
        f"{path} could be a file of {_names(offered)}, and does not say of which. If one of them wrote it, "
        f"it was cut off: copy it again. An older file may say nothing: set {packages}, with every other "
        f"package that is needed, or export the model again."
    )


def _names(offered: Offered) -> str:
    return " and ".join(f"{plugin.distribution}/{name}" for plugin, name in offered)


def _wrong_with(data: bytes) -> str:
    """Return what is wrong with a file whatever its format is; empty where nothing is known to be."""
    if has_trailer(data):
        try:
            parts_of(data, "")
        except ExportError as error:
            return str(error).strip()
    if not data or not data.strip(b"\0"):
        return look_alike(data)
    return broken_trailer(data)


def _mistaken(path: Path, data: bytes) -> str:
    """Return what a file without an exporter is instead, by its content, then by its name."""
    what = look_alike(data)
    return named_otherwise(path) if what in ("", ZIP, PACKED) else what


def _whose(named: str) -> str:
    """Return who wrote a file that nobody here opens, and what to do; `named` is what the file names."""
    package, _, name = named.partition("/")
    host, by = registry(), f"was written by the exporter {named}"
    mine = [plugin for plugin in host.plugins if plain(plugin.distribution) == plain(package)]
    for plugin in mine:
        for offer in plugin.offers:
            if (offer.kind, offer.name) == ("exporter", name):
                ends = " or ".join(offer.suffixes)
                return f"{by}, whose files end in {ends}. Give it that end of its name again."
    for plugin in mine:
        if plugin.error:
            return f"{by}, which is installed but broken: {plugin.error}"
    if mine:
        return (
            f"{by}, which {mine[0].origin} does not offer. Install the version of {package} that wrote it, "
            f"or export the model again."
        )
    if any(plain(origin.partition(" ")[0]) == plain(package) for origin in host.left_out):
        return f"{by}, which ALLKIT_PLUGINS leaves out here. Add {package} to it."
    return f"{by}, which is not installed here. Type: pip install {package}"


def format_of_name(name: str) -> str:
    """Return the one format whose suffix a file of this name has; raise `ConfigError` unless it is one."""
    host = registry()
    offers = host.offers("exporter")
    own = own_suffix(host, name)
    if own:
        return own.rpartition("/")[2]
    found = [f"{p.distribution}/{o.name}" for p, o in offers if name.endswith(o.suffixes)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"Several formats have the suffix of {name!r}. Name one: --format {' or '.join(found)}."
        )
    known = ", ".join(
        f"{o.name if p.built_in else f'{p.distribution}/{o.name}'} ({', '.join(o.suffixes)})"
        for p, o in offers
    )
    raise ConfigError(
        f"No format has the suffix of {name!r}. Name the file after one, or give --format too: {known}."
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
    host = registry()
    broken = [plugin.origin for plugin in host.plugins if plugin.error]
    note = f" Plugins that failed to load: {', '.join(broken)}; see `allkit plugins`."
    out = f" ALLKIT_PLUGINS leaves out: {', '.join(host.left_out)}."
    return ExportError(
        f"{path} is no model: no exporter has the suffix {path.suffix!r}, and nothing in it says which "
        f"wrote it. Give a model folder or an exported file; of one that was cut off, copy it again."
        f"{note if broken else ''}{out if host.left_out else ''}"
    )
