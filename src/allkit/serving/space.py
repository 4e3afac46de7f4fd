"""How much may be inside at once: images, and the bytes of requests and of decoded pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["Full", "Held", "Space"]


class Full(Exception):
    """There is no room for a request now; a little later there is."""


class Held:
    """What one request holds of a `Space`; it takes more as it needs it."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.images = self.bytes = 0

    def require(self, *, images: int = 0, memory: int = 0) -> None:
        """Raise `Full` when there is no room for more images, or bytes.

        A request that is alone is let in whatever it holds; its own limits bound it.
        """
        space = self._space
        alone = space.images == self.images and space.bytes == self.bytes
        full = space.bytes + memory > space.most_bytes and not alone
        if space.images + images > space.most_images or full:
            raise Full

    def take(self, *, images: int = 0, memory: int = 0) -> None:
        """Take room for images, or bytes; raise `Full` when there is none."""
        self.require(images=images, memory=memory)
        self.images, self.bytes = self.images + images, self.bytes + memory
        self._space.add(images, memory)


class Space:
    """Room for `most_images` and `most_bytes`; used on one thread. `changed` hears the images inside."""

    def __init__(
        self,
        most_images: int,
        most_bytes: int,
        changed: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.most_images, self.most_bytes, self._changed = most_images, most_bytes, changed
        self.images = self.bytes = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[Held]:
        """Give what a request holds while it is inside: nothing at first; in the end all is given back."""
        held = Held(self)
        try:
            yield held
        finally:
            self.add(-held.images, -held.bytes)

    def add(self, images: int, memory: int) -> None:
        """Count what a request takes, or gives back."""
        self.images, self.bytes = self.images + images, self.bytes + memory
        self._changed(self.images)
