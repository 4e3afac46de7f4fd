"""The checks of an explainer."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn

from allkit.model.maps import enlarge
from allkit.records import Explainer, MapRequest
from allkit.testing.alone import imports_quickly
from allkit.testing.checks import Skipped, require
from allkit.testing.examples import asked_as, host_of, sample_images, tiny_model
from allkit.testing.surroundings import changed, global_state, no_network
from allkit.types import Singles

__all__ = ["CHECKS"]

SIDE = 64
SECONDS = 10.0  # for one map of a network of two layers
AT_ONCE = 64
"""Inputs of a network that may be in memory at once."""
ALIKE = 0.99
"""Correlation from which two maps are one."""


class Net(nn.Module):
    """A small network with random weights, which notes how many inputs it is given at once."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(seed)
            self.first = nn.Conv2d(3, 8, 5, stride=2, padding=2)
            self.second = nn.Conv2d(8, 12, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(12)
            self.linear = nn.Linear(12, 3)
        self.most = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map `(N, 3, S, S)` to logits `(N, 3)`."""
        self.most = max(self.most, len(inputs))
        hidden = torch.relu(self.first(inputs))
        hidden = torch.relu(self.norm(self.second(hidden)))
        logits: torch.Tensor = 10 * self.linear(hidden.mean(dim=(2, 3)))
        return logits


class Red(nn.Module):
    """A network whose second class depends on how much is clearly red, and on nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.second.weight.copy_(
                torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1).expand(2, 3, 1, 1)
            )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map `(N, 3, S, S)` to logits `(N, 3)`."""
        red = 50 * torch.relu(self.second(inputs) - 1).mean(dim=(1, 2, 3))
        return torch.stack([0.1 * red, red, torch.zeros_like(red)], dim=1)


def _inputs(number: int = 0) -> torch.Tensor:
    """Return a drawn smear as a network is given it, `(1, 3, S, S)` float32."""
    pixels = torch.from_numpy(sample_images()[number].copy()).permute(2, 0, 1)[None].float()
    small = nn.functional.interpolate(pixels / 255, (SIDE, SIDE), mode="bilinear")
    return (small - 0.7) / 0.2


def _map(
    record: Explainer, network: Any, inputs: torch.Tensor | None = None, target: int = 1
) -> Singles:
    network = network.eval().requires_grad_(False)
    request = MapRequest(
        network, _inputs() if inputs is None else inputs, target, (network.second,)
    )
    found = record.explain(request)
    require(isinstance(found, np.ndarray), f"It returned {type(found).__name__}, no NumPy array.")
    require(found.ndim == 2, f"It returned {found.shape}; a map is (h, w).")
    return found.copy()


def _alike(one: Singles, other: Singles) -> bool:
    if one.shape != other.shape:
        return False
    a, b = (each.ravel() - each.mean() for each in (one, other))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return norm == 0 or float(a @ b) / norm > ALIKE


def gives_a_map(record: Explainer) -> None:
    """For every class it gives `(h, w)` float32, finite and not below zero; not all of them are empty."""
    maps = [_map(record, Net(), target=target) for target in range(3)]
    for found in maps:
        require(found.dtype == np.float32, f"Its map is {found.dtype}, not float32.")
        require(np.isfinite(found).all(), "Its map is not finite everywhere.")
        require(
            found.min() >= 0, "Its map is below zero somewhere. What speaks against a class is 0."
        )
    require(any(found.any() for found in maps), "Its maps are empty for every class.")


def shows_the_place(record: Explainer) -> None:
    """Of a network that looks for red, the map shows the one red spot, and not the green ones."""
    inputs = torch.full((1, 3, SIDE, SIDE), -1.0)
    for number, (top, left) in enumerate(product((12, SIDE - 20), repeat=2)):
        inputs[:, min(number, 1), top : top + 8, left : left + 8] = 2.0
    found = enlarge(_map(record, Red(), inputs), (SIDE, SIDE))
    share = float(found[: SIDE // 2, : SIDE // 2].sum()) / max(float(found.sum()), 1e-12)
    require(share > 0.5, f"{share:.0%} of its map is in the quarter where the network sees red.")


def follows_the_class(record: Explainer) -> None:
    """Two classes have different maps."""
    maps = [_map(record, Net(), target=target) for target in range(3)]
    same = [_alike(maps[0], other) for other in maps[1:]]
    require(not all(same), "All classes have the same map.")


def follows_the_image(record: Explainer) -> None:
    """Two images have different maps."""
    require(
        not _alike(_map(record, Net(), _inputs(0)), _map(record, Net(), _inputs(2))),
        "Two different images have the same map.",
    )


def follows_the_weights(record: Explainer) -> None:
    """Networks with other weights have other maps: it shows the network and not just the image."""
    first = _map(record, Net())
    same = [_alike(first, _map(record, Net(seed))) for seed in (1, 2)]
    require(not all(same), "Other random weights give the same map.")


def answers_alike_every_time(record: Explainer) -> None:
    """The same request gives the same map, whatever the global seeds are."""
    first = _map(record, Net())
    states = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.manual_seed(3)
            np.random.seed(3)  # noqa: TID251 - to show that it does not matter; put back
            second = _map(record, Net())
        finally:
            np.random.set_state(states)
    require(
        np.array_equal(first, second), "Twice the same request, two maps. Use seeds of your own."
    )


def leaves_the_network_as_it_was(record: Explainer) -> None:
    """Weights, modes, hooks and gradients of the network are as before, and so is what it was given."""
    network, inputs = Net().eval(), _inputs()
    network.linear.train()  # a network of which one part is in another mode
    network.requires_grad_(False)
    given, before = inputs.clone(), _state(network)
    record.explain(MapRequest(network, inputs, 1, (network.second,)))
    after = _state(network)
    different = [name for name in before if before[name] != after[name]]
    require(not different, f"Of the network it changed: {', '.join(different)}.")
    require(torch.equal(inputs, given), "It changed the inputs that it was given.")
    require(not inputs.requires_grad and inputs.grad is None, "It left gradients on the inputs.")


def _state(network: nn.Module) -> dict[str, Any]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "weights": {name: value.numpy().tobytes() for name, value in network.state_dict().items()},
        "modes": [module.training for module in network.modules()],
        "hooks": [len(getattr(m, name)) for m in network.modules() for name in hooks],
        "requires_grad": [weights.requires_grad for weights in network.parameters()],
        "gradients": [weights.grad is not None for weights in network.parameters()],
    }


def threads_do_not_disturb_each_other(record: Explainer) -> None:
    """Four threads at once, each with a network of its own, get what each would get alone."""
    networks = [Net(seed) for seed in range(4)]
    alone = [_map(record, network) for network in networks]
    ready = threading.Barrier(4)

    def run(network: Net) -> Singles:
        ready.wait(60)
        return _map(record, network)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, networks))
    require(
        all(map(np.array_equal, alone, together)),
        "In threads it gave other maps than alone: it keeps state, or shares a source of chance.",
    )


def changes_no_global_state(record: Explainer) -> None:
    """Explaining changes nothing of the process, and uses no network."""
    _map(record, Net())  # the first time may import libraries
    with no_network() as attempts:
        before = global_state()
        request = MapRequest(network := Net().eval(), _inputs(), 1, (network.second,))
        record.explain(request)
        different = changed(before, global_state())
    require(not different, f"It changed: {', '.join(different)}.")
    require(not attempts, f"It tried to reach {', '.join(attempts)}.")


def explains_an_answer(record: Explainer) -> None:
    """It explains a classifier's answer, and whether that map is faithful is measured."""
    from allkit.plugins import using

    if record.needs_layer:
        raise Skipped("the classifier of the checks names no layer")
    model, image = tiny_model(), sample_images()[0]
    with using(host_of(record)):
        found = model.explain(image, method=asked_as(record))
    require(found.map.shape == image.shape[:2], f"Enlarged, its map is {found.map.shape}.")


def is_modest(record: Explainer) -> None:
    """One map of a small network takes at most ten seconds, and at most 64 inputs are in memory at once."""
    network = Net()
    start = time.perf_counter()
    _map(record, network)
    seconds = time.perf_counter() - start
    require(seconds <= SECONDS, f"One map takes {seconds:.0f} s; at most {SECONDS:g} s is fair.")
    require(
        network.most <= AT_ONCE,
        f"It gave the network {network.most} inputs at once. Give it at most {AT_ONCE}.",
    )


CHECKS = (
    imports_quickly,
    gives_a_map,
    shows_the_place,
    follows_the_class,
    follows_the_image,
    follows_the_weights,
    answers_alike_every_time,
    leaves_the_network_as_it_was,
    threads_do_not_disturb_each_other,
    changes_no_global_state,
    explains_an_answer,
    is_modest,
)
