"""Records of what is done with a model and around it: exporters, explainers, commands, health checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from allkit.errors import PluginError
from allkit.records.answers import Predictor
from allkit.records.naming import require_callable, require_name, require_settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from pydantic import BaseModel

__all__ = ["Command", "Explainer", "Exporter", "Finding", "HealthCheck", "MapRequest"]


@dataclass(frozen=True)
class Exporter:
    """A file format for trained models, offered by a plugin.

    `write(model, path, *, precision, calibration)` writes the whole way from uint8 RGB pixels to
    probabilities: `model` is a `Classifier`, `precision` is `"float32"` or `"int8"`, and
    `calibration` holds training images (`(H, W, 3)` uint8 arrays) for int8, else `None`.
    `open(path)` returns a `Predictor` and imports no torch, unless `needs_torch` says that it
    does. `suffix` is that of the file (`.onnx`). `precisions` are those that `write` can write: others
    are refused before any work is done. `allkit.exporting` has everything to make both of.

    With `settings`, a class of pydantic, `write` is called with `settings=`, an instance of it.
    """

    name: str
    suffix: str
    write: Callable[..., None]
    open: Callable[[Path], Predictor]
    summary: str = ""
    needs_torch: bool = False
    precisions: tuple[str, ...] = ("float32", "int8")
    settings: type[BaseModel] | None = field(default=None, kw_only=True)
    chosen: Any = field(default=None, kw_only=True, repr=False)
    """The settings that it was asked for with; filled by allkit."""

    def __post_init__(self) -> None:
        require_name("exporter", self.name)
        require_callable("exporter", self.name, "write", self.write)
        require_callable("exporter", self.name, "open", self.open)
        require_settings("exporter", self.name, self.settings)
        if not isinstance(self.suffix, str) or not self.suffix.startswith("."):
            raise PluginError(
                f"The exporter {self.name!r} has the suffix {self.suffix!r:.200}; it must start with a dot."
            )
        if not self.precisions or not set(self.precisions) <= {"float32", "int8"}:
            raise PluginError(
                f"The exporter {self.name!r} has the precisions {self.precisions!r:.200}; they must be "
                "float32, int8 or both."
            )


@dataclass(frozen=True)
class MapRequest:
    """What an explainer is asked: where in an image a network sees one class.

    `network` maps `(N, 3, S, S)` float32, as a backbone is given it, to logits `(N, K)` float32;
    `inputs` is `(1, 3, S, S)`, `target` the number of the class. `layers` are the modules whose outputs
    maps may be made of (the `cam_layer` of the backbone), one for each member of an ensemble; empty
    where the backbone names none.
    """

    network: torch.nn.Module
    inputs: torch.Tensor
    target: int
    layers: tuple[torch.nn.Module, ...] = ()


@dataclass(frozen=True)
class Explainer:
    """A way to show where an answer comes from, offered by a plugin.

    `explain(request)` takes a `MapRequest` and returns a map `(h, w)` float32 of any size: how much
    each place speaks for the class, 0 where it does not. It leaves the network as it was (hooks
    removed, gradients not kept) and keeps no state. With `needs_layer` it is only asked about networks
    that name a layer. `title` is how the method is called on pictures.

    With `settings`, a class of pydantic, `explain` is called with `settings=`, an instance of it.
    """

    name: str
    explain: Callable[..., npt.NDArray[np.float32]]
    title: str = ""
    needs_layer: bool = False
    summary: str = ""
    settings: type[BaseModel] | None = field(default=None, kw_only=True)
    chosen: Any = field(default=None, kw_only=True, repr=False)
    """The settings that it was asked for with; filled by allkit."""

    def __post_init__(self) -> None:
        require_name("explainer", self.name)
        require_callable("explainer", self.name, "explain", self.explain)
        require_settings("explainer", self.name, self.settings)


@dataclass(frozen=True)
class Command:
    """A command of `allkit`, offered by a plugin: `allkit NAME`.

    `build()` returns what the command is: a function as typer takes it, a `typer.Typer`, or a
    `click.Command`. It is called when the command is run, not for `allkit --help`, which shows `name`
    and `summary`. A command of allkit's own is never replaced.
    """

    name: str
    build: Callable[[], Any]
    summary: str = ""

    def __post_init__(self) -> None:
        require_name("command", self.name)
        require_callable("command", self.name, "build", self.build)


@dataclass(frozen=True)
class Finding:
    """What a health check found: a `problem`, or a `note` that is shown and breaks nothing.

    `message` says what is so, with the thing that it concerns, and `fix` what to do.
    """

    state: Literal["problem", "note"]
    message: str
    fix: str = ""

    def __post_init__(self) -> None:
        if self.state not in ("problem", "note"):
            # Of Python's own kind, so that the guard says by which check of which package.
            raise ValueError(f"A finding has the state {self.state!r:.100}; give problem or note.")


@dataclass(frozen=True)
class HealthCheck:
    """Something that `allkit doctor` looks at, offered by a plugin.

    `run()` returns the findings, none where all is well. It changes nothing and needs no network.
    """

    name: str
    run: Callable[[], Iterable[Finding]]
    summary: str = ""

    def __post_init__(self) -> None:
        require_name("health check", self.name)
        require_callable("health check", self.name, "run", self.run)
