"""Training: a head on frozen features, the last stages, the whole network, or adapters in it."""

from allkit.training.description import HeldOut
from allkit.training.device import choose_device
from allkit.training.trainer import Trainer

__all__ = ["HeldOut", "Trainer", "choose_device"]
