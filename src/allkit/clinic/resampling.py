"""Cohen's kappa with an interval that takes whole cases, as fields of one case are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allkit.types import Doubles

__all__ = ["Pairs", "kappa_by_cases"]

Pairs = tuple[tuple[str, str, int], ...]
"""The pairs of classes (first reader's, second's) in a case, each with its number of fields."""
RESAMPLES = 1_000
AT_ONCE = 500_000
"""Most numbers that are drawn at once: 4 MB."""
DEFINED = 0.95
"""The share of resamples that must have a kappa for an interval to be given."""


def kappa_by_cases(
    cases: Mapping[Pairs, int], *, seed: int = 0
) -> tuple[float | None, tuple[float, float] | None]:
    """Return Cohen's kappa over all fields, −1 to 1, and its 95 % interval; `None` where not defined.

    `cases` says how many cases have which pairs. The interval is the percentile bootstrap (Efron 1979)
    over cases: 1,000 times as many cases are drawn with replacement, from `numpy.random.default_rng(seed)`.
    There is none for a single case, where more than 5 % of the draws have no kappa (all of one class), or
    where all draws give the same value: that would promise what so few cases cannot.
    """
    import numpy as np

    kinds = sorted(cases)
    names = sorted(
        {name for kind in kinds for first, second, _ in kind for name in (first, second)}
    )
    if not names:
        return None, None
    place = {name: i for i, name in enumerate(names)}
    tables = np.zeros((len(kinds), len(names), len(names)))
    for number, kind in enumerate(kinds):
        for first, second, count in kind:
            tables[number, place[first], place[second]] += count
    repeats = np.array([cases[kind] for kind in kinds])
    total = int(repeats.sum())
    whole = float(_kappas(np.tensordot(repeats, tables, 1)[None])[0])
    value = None if np.isnan(whole) else whole
    if total < 2 or value is None:
        return value, None
    rng = np.random.default_rng(seed)
    drawn = []
    for size in _parts(len(kinds)):
        draws = rng.multinomial(total, repeats / total, size=size)
        drawn.append(_kappas(np.tensordot(draws, tables, 1)))
    found = np.concatenate(drawn)
    found = found[~np.isnan(found)]
    if len(found) < DEFINED * RESAMPLES or found.min() == found.max():
        return value, None
    low, high = np.quantile(found, (0.025, 0.975))
    return value, (float(low), float(high))


def _parts(kinds: int) -> Sequence[int]:
    most = max(1, min(RESAMPLES, AT_ONCE // kinds))
    return [min(most, RESAMPLES - start) for start in range(0, RESAMPLES, most)]


def _kappas(tables: Doubles) -> Doubles:
    """Return the kappa of each table `(N, K, K)` of counts, `(N,)`; not a number where there is none."""
    import numpy as np

    count = tables.sum((1, 2))
    observed = np.trace(tables, axis1=1, axis2=2) / count
    chance = (tables.sum(2) * tables.sum(1)).sum(1) / count**2
    certain = np.isclose(chance, 1, rtol=0, atol=1e-12)
    below = np.where(certain, 1, 1 - chance)
    kappas: Doubles = np.where(certain, np.nan, (observed - chance) / below)
    return kappas
