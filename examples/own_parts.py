"""A backbone, an augmentation and a stopping rule of your own, without a package."""

import numpy as np
from torch import nn

import allkit


def shade(image, rng):
    """Darken one side of a field `(H, W, 3)` uint8, as a lamp that is off centre does."""
    ramp = np.linspace(rng.uniform(0.7, 1.0), 1.0, image.shape[1])
    return np.rint(image * ramp[None, :, None]).astype(np.uint8)


def network():
    """Map `(N, 3, S, S)` float32 to `(N, D)`; here without training, yours with weights."""
    first, second = nn.Conv2d(3, 16, 7, stride=4), nn.Conv2d(16, 64, 5, stride=4)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def good_enough(epoch):
    """Look at every epoch; to return True ends the training of the head."""
    return epoch.metrics["train_loss"] < 0.2


data = allkit.Dataset.sample(24, groups=12, seed=0)
train, test = data.split(test=0.34, by="group", seed=0)
trainer = allkit.Trainer(
    backbone=network, augment=["orientation", shade], copies=2, callbacks=[good_enough]
)
model = trainer.fit(train)
print(trainer)
print(model.evaluate(test))
print("The folder names these parts and does not hold them:", model.info.config.augment)
