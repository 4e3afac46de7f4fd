"""Looking at images before and after training: duplicates, faults, coverage."""

from allkit._moved import also_in

__path__ = also_in("quality", __path__)
