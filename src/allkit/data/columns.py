"""What was measured on the images of a set, kept small: a value is made when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, overload

import numpy as np

from allkit.images.arrays import large_array
from allkit.types import Indices, Ints, Singles

__all__ = ["Column", "Store", "VectorStore", "table_of"]


class Store(Protocol):
    """Room for the values of a measure, which need not fit into the memory."""

    def keep(self, row: int, value: Any) -> None:
        """Store a value in a row."""

    def get(self, row: int) -> Any:
        """Return the value of a row."""


class VectorStore:
    """Room for `count` vectors `(D,)` float32; D is that of the first."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.table: Singles = np.empty((0, 0), np.float32)

    def keep(self, row: int, value: Singles) -> None:
        """Store a vector in a row."""
        if not self.table.size:
            self.table = large_array((self._count, len(value)), np.float32)
        self.table[row] = value

    def get(self, row: int) -> Singles:
        """Return the vector of a row, which cannot be written to."""
        vector: Singles = self.table[row]
        vector.flags.writeable = False
        return vector


class _Objects:
    """Room for values of any kind, as they are."""

    def __init__(self) -> None:
        self._values: dict[int, Any] = {}

    def keep(self, row: int, value: Any) -> None:
        self._values[row] = value

    def get(self, row: int) -> Any:
        return self._values[row]


class _Both:
    """The rows of one store, `count` of them, and behind them those of another."""

    def __init__(self, first: Store, count: int, second: Store) -> None:
        self._first, self._count, self._second = first, count, second

    def keep(self, row: int, value: Any) -> None:
        store, place = self._at(row)
        store.keep(place, value)

    def get(self, row: int) -> Any:
        store, place = self._at(row)
        return store.get(place)

    def _at(self, row: int) -> tuple[Store, int]:
        if row < self._count:
            return self._first, row
        return self._second, row - self._count


class Column(Sequence[Any]):
    """One value an image; `None` where it was not measured.

    The values lie in a store, without one as they are. Columns of parts of a set share it.
    """

    def __init__(self, count: int, store: Store | None = None, *, rows: Ints | None = None) -> None:
        self._store: Store = _Objects() if store is None else store
        self._rows: Ints = np.arange(count) if rows is None else rows
        self._there = np.zeros(count, dtype=bool)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._store.get(int(self._rows[index])) if self._there[index] else None

    def keep(self, index: int, value: Any) -> None:
        """Take the value of an image."""
        self._store.keep(int(self._rows[index]), value)
        self._there[index] = True

    def missing(self) -> Ints:
        """Return the positions of the images on which it was not measured."""
        return np.flatnonzero(~self._there)

    def at(self, indices: Sequence[int] | Indices) -> Column:
        """Return the values of the images at `indices`, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        column = Column(len(chosen), self._store, rows=self._rows[chosen])
        column._there = self._there[chosen]
        return column

    def and_then(self, other: Column) -> Column:
        """Return these values, followed by those of `other`."""
        behind = int(self._rows.max(initial=-1)) + 1
        column = Column(
            len(self) + len(other),
            _Both(self._store, behind, other._store),
            rows=np.concatenate([self._rows, other._rows + behind]),
        )
        column._there = np.concatenate([self._there, other._there])
        return column

    def table(self) -> Singles:
        """Return vectors `(N, D)` float32, which were measured on every image."""
        if isinstance(self._store, VectorStore):
            return self._store.table[self._rows]
        return np.stack(list(self))


def table_of(values: Sequence[Any]) -> Singles:
    """Return the vectors of a measure, one an image, as `(N, D)` float32."""
    return values.table() if isinstance(values, Column) else np.stack(values)
