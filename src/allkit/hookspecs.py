"""The whole extension contract: nine hooks that return records.

A plugin is a module with functions of these names, marked with `allkit.hookimpl`, that its
distribution names under the entry-point group `allkit`. Every record is reached by `PACKAGE/NAME`,
and by its name alone where that is unambiguous; a plugin that fails is kept out and shown by
`allkit plugins`. allkit's own parts come in through the same hooks.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from allkit.records import (
    Augmentation,
    Backbone,
    BackboneFamily,
    Command,
    Explainer,
    Exporter,
    Finder,
    HealthCheck,
    Reader,
    View,
)

__all__ = [
    "allkit_augmentations",
    "allkit_backbones",
    "allkit_commands",
    "allkit_explainers",
    "allkit_exporters",
    "allkit_finders",
    "allkit_health_checks",
    "allkit_readers",
    "allkit_views",
    "hookimpl",
    "hookspec",
]

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


@hookspec
def allkit_views() -> Iterable[View]:
    """Return the views that this plugin offers: what a network is shown. Since contract version 2.

    from allkit import View, hookimpl

    def build(size):
        import torch

        class Green(torch.nn.Module):
            def forward(self, image, whole):
                return image[:, 1:2]

        return Green()

    @hookimpl
    def allkit_views():
        return [View("green", build, "green light only, which nuclei take up")]
    """
    return ()


@hookspec
def allkit_finders() -> Iterable[Finder]:
    """Return the finders of white cells that this plugin offers. Since contract version 2.

    from allkit import Finder, Found, hookimpl

    def find(image):
        return Found(centres, diameters, red_cell=15.0)

    @hookimpl
    def allkit_finders():
        return [Finder("mine", find, "by colour")]
    """
    return ()


@hookspec
def allkit_readers() -> Iterable[Reader]:
    """Return the formats of images that this plugin reads. Since contract version 2.

    from allkit import Raster, Reader, hookimpl

    def read(data, name):
        return Raster(pixels)

    @hookimpl
    def allkit_readers():
        return [Reader("mine", (".myf",), read, magic=((0, b"MYF1"),))]
    """
    return ()


@hookspec
def allkit_explainers() -> Iterable[Explainer]:
    """Return the ways to explain an answer that this plugin offers. Since contract version 2.

    from allkit import Explainer, hookimpl

    def explain(request):
        return places

    @hookimpl
    def allkit_explainers():
        return [Explainer("mine", explain, title="by gradients")]
    """
    return ()


@hookspec
def allkit_commands() -> Iterable[Command]:
    """Return the commands that this plugin adds to `allkit`. Since contract version 2.

    from allkit import Command, hookimpl

    def build():
        def tiles(slide: str):
            print(slide)
        return tiles

    @hookimpl
    def allkit_commands():
        return [Command("tiles", build, "cut a slide into tiles")]
    """
    return ()


@hookspec
def allkit_health_checks() -> Iterable[HealthCheck]:
    """Return what this plugin lets `allkit doctor` look at. Since contract version 2.

    from allkit import Finding, HealthCheck, hookimpl

    def run():
        return [Finding("problem", "The engine cannot be loaded.", "pip install engine")]

    @hookimpl
    def allkit_health_checks():
        return [HealthCheck("engine", run, "the engine can be loaded")]
    """
    return ()
