"""Quality of a set of images: check, audit, suggested groups, suspect labels, burnt-in marks."""

from allkit._moved import also_in

__path__ = also_in("quality", __path__)
