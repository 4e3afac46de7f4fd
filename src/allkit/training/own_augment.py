"""An augmentation of the user's own: a record, a transform of albumentations, or any function."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from allkit.errors import ConfigError
from allkit.records import Augmentation
from allkit.types import Pixels

__all__ = ["OwnAugmentation", "own_augmentation"]


@dataclass(frozen=True)
class OwnAugmentation:
    """An own augmentation, and what it does where that can be known.

    `content` is SHA-256 of all that decides a result beside image and draw. Where it is empty, two
    augmentations of one name may do different things, and nothing of them is kept.
    """

    record: Augmentation
    content: str = ""


def own_augmentation(given: Any, name: str) -> OwnAugmentation:
    """Return an own augmentation under that name.

    A transform of albumentations draws by its own generator, which is set before each image; a
    function of an image and a generator of NumPy gets that generator; a function of an image alone
    draws, if it does, as it likes. Raises `ConfigError` for what is none of these.
    """
    if isinstance(given, Augmentation):
        return OwnAugmentation(replace(given, name=name))
    if not callable(given) or isinstance(given, type):
        raise ConfigError(
            f"An augmentation is {given!r:.100}. Give its name, a transform of albumentations, a function "
            f"that maps an (H, W, 3) uint8 array to another, or an allkit.Augmentation."
        )
    if callable(getattr(given, "set_random_seed", None)):
        return OwnAugmentation(Augmentation(name, _reseeded(given)), _content_of(given))
    if _takes_generator(given):
        return OwnAugmentation(Augmentation(name, given))

    def apply(image: Pixels, rng: np.random.Generator) -> Pixels:
        result: Pixels = given(image.copy())
        return result

    return OwnAugmentation(Augmentation(name, apply))


class _Copies(threading.local):
    """A transform holds its generator, so every thread has a copy of its own."""

    def __init__(self) -> None:
        self.transform: Any = None


def _reseeded(transform: Any) -> Callable[[Pixels, np.random.Generator], Pixels]:
    copies = _Copies()

    def apply(image: Pixels, rng: np.random.Generator) -> Pixels:
        if copies.transform is None:
            copies.transform = copy.deepcopy(transform)
        copies.transform.set_random_seed(int(rng.integers(2**31)))
        result = copies.transform(image=image.copy())["image"]
        kept: Pixels = np.ascontiguousarray(result) if isinstance(result, np.ndarray) else result
        return kept

    return apply


def _content_of(transform: Any) -> str:
    """Return SHA-256 of a transform as albumentations writes it, or an empty string.

    Functions in it, and classes that are not albumentations' own, are written by their names alone.
    """
    if type(transform).__module__.partition(".")[0] != "albumentations":
        return ""
    try:
        written = transform.to_dict()
        names = [str(value) for value in _under("__class_fullname__", written)]
        if not names or any("." in name or name == "Lambda" for name in names):
            return ""
        return hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()
    except Exception:  # noqa: BLE001 - whatever a transform raises that cannot be written
        return ""


def _under(key: str, value: Any) -> Iterator[Any]:
    """Yield all values under a key, however deep."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from _under(key, inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _under(key, inner)


def _takes_generator(function: Callable[..., Any]) -> bool:
    """Say whether a function takes a generator beside the image."""
    try:
        known = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    places = [p for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(places) < 2:
        return False
    return places[1].default is places[1].empty or places[1].name == "rng"
