"""The whole extension contract: three hooks that return records.

A plugin is a module with functions of these names, marked with `allkit.hookimpl`, that its
distribution names under the entry-point group `allkit`. A name claimed by two plugins is an
error when it is asked for; a plugin that fails is kept out and shown by `allkit plugins`.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from allkit.records import Augmentation, Backbone, BackboneFamily, Exporter

__all__ = ["allkit_augmentations", "allkit_backbones", "allkit_exporters", "hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("allkit")
hookimpl = pluggy.HookimplMarker("allkit")
"""Marks a function of a plugin as the implementation of a hook."""


@hookspec
def allkit_backbones() -> Iterable[Backbone | BackboneFamily]:
    """Return the networks that this plugin offers.

    from allkit import Backbone, hookimpl

    def build(weights):
        import timm
        return timm.create_model("test_resnet", pretrained=weights == "default", num_classes=0)

    @hookimpl
    def allkit_backbones():
        return [Backbone("tiny-resnet", build, license="apache-2.0")]
    """
    return ()


@hookspec
def allkit_augmentations() -> Iterable[Augmentation]:
    """Return the augmentations that this plugin offers.

    from allkit import Augmentation, hookimpl

    def darken(image, rng):
        return (image * rng.uniform(0.7, 1.0)).astype("uint8")

    @hookimpl
    def allkit_augmentations():
        return [Augmentation("darken", darken, "uniformly darker, down to 70 %")]
    """
    return ()


@hookspec
def allkit_exporters() -> Iterable[Exporter]:
    """Return the file formats that this plugin can write and open.

    from allkit import Exporter, hookimpl

    @hookimpl
    def allkit_exporters():
        return [Exporter("myformat", ".myf", write, open_file, "what it is for")]
    """
    return ()
