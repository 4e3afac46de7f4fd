"""Offer an augmentation of your own, look at what it does, and train with it.

In a package, the entry point does what `registry().register` does here.
"""

import argparse
from types import SimpleNamespace

import numpy as np

import allkit
from allkit.plugins import registry


def shade(image, rng):
    """Darken one side of the field, as a lamp that is off centre does."""
    ramp = np.linspace(rng.uniform(0.7, 1.0), 1.0, image.shape[1])
    return np.rint(image * ramp[None, :, None]).astype(np.uint8)


@allkit.hookimpl
def allkit_augmentations():
    return [allkit.Augmentation("shade", shade, "one side darker, down to 70 %")]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="timm:test_resnet", help="see `allkit plugins`")
    parser.add_argument("--weights", default="none", help="a .safetensors file, default, or none")
    options = parser.parse_args(arguments)

    host = registry()
    if "shade" not in host.names("augmentation"):
        host.register(SimpleNamespace(allkit_augmentations=allkit_augmentations), name="shade")

    data = allkit.Dataset.sample(24, groups=12, seed=0)
    image = data.read(0)
    for seed in range(3):
        shaded = shade(image, np.random.default_rng(seed))
        print(f"seed {seed}: mean brightness {image.mean():.0f} -> {shaded.mean():.0f}")

    split = data.split(test=0.34, seed=0)
    model = allkit.Trainer(
        backbone=options.backbone,
        weights=options.weights,
        augment=("orientation", "shade"),
        copies=2,
    ).fit(split.train)
    print(f"trained with {', '.join(model.info.config.augment)}: {model.info.plugins}")


if __name__ == "__main__":
    main()
