"""The checks of a backbone."""

from __future__ import annotations

import copy
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from allkit.errors import AllkitError
from allkit.network.modules import measure_width
from allkit.network.standardise import Standardise, to_batches
from allkit.records import Backbone
from allkit.testing.alone import imports_quickly
from allkit.testing.checks import ConformanceError, Skipped, require
from allkit.testing.examples import host_of, kept, model_of, sample_images
from allkit.testing.surroundings import changed, global_state, no_network

__all__ = ["CHECKS"]

BUILD_SECONDS = 60.0
TOLERANCE = 1e-4


@kept
def _net(record: Backbone) -> nn.Module:
    # The same random weights every time: a check must not pass today and fail tomorrow.
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        return record.build("none").eval()


def _inputs(record: Backbone, count: int = 3) -> torch.Tensor:
    """Return `(count, 3, S, S)` float32: drawn smears of several sizes, as the network gets them."""
    standardise = Standardise(record.input)
    images = list(sample_images())[:count]
    rows = torch.empty(len(images), 3, record.input.size, record.input.size)
    for indices, pixels in to_batches(images):
        rows[indices] = standardise(pixels)
    return rows


def _features(record: Backbone, inputs: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        output: torch.Tensor = _net(record).eval()(inputs)
    return output.clone()


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    scale = max(1.0, float(b.abs().max()))
    return a.shape == b.shape and float((a - b).abs().max()) <= TOLERANCE * scale


def states_its_licence(record: Backbone) -> None:
    """The licence of the weights is stated."""
    require(
        record.license not in ("", "unknown"),
        f"Its license is {record.license!r}. State that of the weights, or 'none' without weights.",
    )


def builds_quickly_and_without_network(record: Backbone) -> None:
    """`build("none")` needs no network, and at most a minute."""
    start = time.perf_counter()
    with no_network() as attempts:
        net = record.build("none")
    seconds = time.perf_counter() - start
    require(isinstance(net, nn.Module), f"`build` returned {type(net).__name__}, no nn.Module.")
    require(not attempts, f'build("none") tried to reach {", ".join(attempts)}.')
    require(seconds <= BUILD_SECONDS, f'build("none") takes {seconds:.0f} s.')


def default_weights_or_one_clear_error(record: Backbone) -> None:
    """Without a network `build("default")` gives trained weights, or an AllkitError that helps."""
    with no_network():
        try:
            net = record.build("default")
        except AllkitError as error:
            require(len(str(error)) > 20, f"The error says only {str(error)!r}.")
            return
    require(isinstance(net, nn.Module), f"`build` returned {type(net).__name__}, no nn.Module.")


def maps_images_to_features(record: Backbone) -> None:
    """`(N, 3, S, S)` float32 becomes `(N, D)` float32 that is finite, for N = 1, 2 and 3."""
    widths = set()
    for count in (1, 2, 3):
        output = _features(record, _inputs(record, count))
        require(
            output.ndim == 2 and output.shape[0] == count,
            f"For {count} images it returned {tuple(output.shape)}; ({count}, D) is wanted.",
        )
        require(output.dtype == torch.float32, f"Its features are {output.dtype}, not float32.")
        require(bool(output.isfinite().all()), "Some of its features are not finite.")
        widths.add(output.shape[1])
    width = measure_width(_net(record), record.input, record.name)
    require(widths == {width}, f"Its width is {width}, but other batches gave {widths}.")


def features_follow_the_image(record: Backbone) -> None:
    """Different images have different features."""
    output = _features(record, _inputs(record))
    require(not torch.equal(output[0], output[1]), "Two different images have the same features.")


def answers_alike_every_time(record: Backbone) -> None:
    """In eval mode the same images give the same bits, also after it was in train mode."""
    inputs = _inputs(record)
    first = _features(record, inputs)
    require(torch.equal(first, _features(record, inputs)), "Twice the same images, two results.")
    _net(record).train()
    require(
        torch.equal(first, _features(record, inputs)),
        "After train() and eval() the result is another one.",
    )


def images_do_not_disturb_each_other(record: Backbone) -> None:
    """The features of an image do not depend on what else is in the batch."""
    inputs = _inputs(record)
    together = _features(record, inputs)
    alone = torch.cat([_features(record, row[None]) for row in inputs])
    difference = float((together - alone).abs().max())
    require(_close(together, alone), f"In a batch the features differ by up to {difference:.2g}.")


def gradients_reach_every_stage(record: Backbone) -> None:
    """Every part that has weights can be trained: a gradient reaches it, finite and not zero."""
    net = copy.deepcopy(_net(record)).requires_grad_(True).eval()
    if not list(net.parameters()):
        raise Skipped("it has no weights to train")
    net(_inputs(record, 2)).square().sum().backward()
    parts = [(n, m) for n, m in net.named_children() if list(m.parameters())] or [("it", net)]
    for name, part in parts:
        grads = [p.grad for p in part.parameters() if p.grad is not None]
        require(grads, f"No gradient reaches {name!r}.")
        require(
            all(bool(g.isfinite().all()) for g in grads), f"A gradient in {name!r} is not finite."
        )
        require(any(bool(g.any()) for g in grads), f"Every gradient in {name!r} is zero.")


def changes_no_global_state(record: Backbone) -> None:
    """Building and running change nothing of the process, and set no seed."""
    _features(record, _inputs(record, 1))  # the first time may import libraries
    before = global_state()
    with torch.random.fork_rng(devices=[]):
        drawn = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            net = record.build("none").eval()
            with torch.inference_mode():
                net(_inputs(record, 1))
            drawn.append(torch.rand(4))
    different = changed(before, global_state())
    require(not different, f"It changed: {', '.join(different)}.")
    require(not torch.equal(drawn[0], drawn[1]), "It sets torch's seed. Leave that to the user.")


def reads_a_weights_file(record: Backbone) -> None:
    """`build(path)` reads its own tensors back, and refuses a file that lacks some."""
    from safetensors.torch import save_file

    state = {name: t.contiguous().clone() for name, t in _net(record).state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.safetensors"
        save_file({"nothing": torch.zeros(1)}, empty)
        if list(_net(record).parameters()):
            try:
                record.build(empty)
            except AllkitError:
                pass
            except Exception as error:  # noqa: BLE001 - which is what is checked
                require(False, f"A file without its tensors raised {type(error).__name__}: {error}")
            else:
                require(False, "It took a file that lacks its tensors. Use allkit.load_weights.")
        whole = Path(folder) / "whole.safetensors"
        save_file(state or {"nothing": torch.zeros(1)}, whole)
        try:
            again = record.build(whole).eval()
        except AllkitError as error:
            raise Skipped(
                f"its weights files have names of their own ({str(error)[:80]})"
            ) from None
    with torch.inference_mode():
        output = again(_inputs(record))
    require(
        _close(output, _features(record, _inputs(record))), "Read back, it gives other features."
    )


def goes_through_the_model_folder(record: Backbone) -> None:
    """A classifier on it, saved and loaded, gives the same probabilities."""
    import allkit
    from allkit.plugins import using

    images = list(sample_images())
    model = model_of(record)
    with tempfile.TemporaryDirectory() as folder, using(host_of(record)):
        again = allkit.Classifier.load(model.save(Path(folder) / "model"))
    difference = float(np.abs(model.probabilities(images) - again.probabilities(images)).max())
    require(difference <= 1e-6, f"Loaded, its probabilities differ by up to {difference:.2g}.")


def exports_to_onnx(record: Backbone) -> None:
    """A classifier on it, written as ONNX, answers like the classifier."""
    with tempfile.TemporaryDirectory() as folder:
        # `export` runs the file on these images and raises when an answer differs.
        model_of(record).export(Path(folder) / "model.onnx", check=list(sample_images()))


def stages_can_be_cut(record: Backbone) -> None:
    """Cut behind any stage, and its activations kept as arrays, the features are the same."""
    if not record.stages:
        raise Skipped("it declares no stages")
    net = _net(record)
    require(isinstance(net, nn.Sequential), "With `stages` the network must be an nn.Sequential.")
    names = [name for name, _ in net.named_children()]
    missing = [name for name in record.stages if name not in names]
    require(not missing, f"Its stages {missing} are none of its children {names}.")
    order = [names.index(name) for name in record.stages]
    require(
        order == sorted(set(order)), f"Its stages {record.stages} are not in the order {names}."
    )
    inputs, sequence = _inputs(record, 2), list(net.children())
    whole = _features(record, inputs)
    with torch.inference_mode():
        for position in order:
            until_cut = nn.Sequential(*sequence[: position + 1])(inputs)
            require(
                isinstance(until_cut, torch.Tensor) and until_cut.shape[0] == 2,
                f"Behind {names[position]!r} there is not one tensor with a row for each image.",
            )
            restored = torch.from_numpy(until_cut.numpy().copy())
            output = nn.Sequential(*sequence[position + 1 :])(restored)
            require(_close(output, whole), f"Cut behind {names[position]!r}, the features differ.")


def explanation_layer_is_faithful(record: Backbone) -> None:
    """`cam_layer` sees where things are, and its most weighted places matter most."""
    if record.cam_layer is None:
        raise Skipped("it declares no cam_layer")
    net = copy.deepcopy(_net(record)).eval()
    layer = dict(net.named_modules()).get(record.cam_layer)
    require(layer is not None, f"The network has no module {record.cam_layer!r}.")
    inputs = _inputs(record, 1)
    seen = _activation(net, layer, inputs)
    _, places = _grid(seen)
    require(min(places) >= 2, f"{record.cam_layer!r} gives {tuple(seen.shape)}: no places in it.")
    # A change at the top right must show at the top right, more than at the bottom left.
    size = record.input.size
    other = inputs.clone()
    noise = torch.rand(3, size // 3, size // 3, generator=torch.Generator().manual_seed(0))
    other[0, :, : size // 3, size - size // 3 :] = 4 * noise - 2
    moved = _by_place(_activation(net, layer, other) - seen)
    half = [max(1, n // 2) for n in places]
    here, there = moved[: half[0], -half[1] :].mean(), moved[-half[0] :, : half[1]].mean()
    require(
        float(here) > float(there),
        f"A change at the top right of the image shows in {record.cam_layer!r} as {float(here):.2g} "
        f"there, and as {float(there):.2g} at the bottom left.",
    )
    _require_weighted_places_matter(net, layer, inputs, record.cam_layer)


def _require_weighted_places_matter(
    net: nn.Module, layer: Any, inputs: torch.Tensor, name: str
) -> None:
    held: dict[str, torch.Tensor] = {}
    weights = torch.randn(4096, generator=torch.Generator().manual_seed(1))

    def keep(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        held["output"] = output.detach().clone().requires_grad_(True)
        return held["output"].clone()

    def score(output: torch.Tensor) -> torch.Tensor:
        return (output[0] * weights.repeat(-(-output.shape[1] // 4096))[: output.shape[1]]).sum()

    handle = layer.register_forward_hook(keep)
    try:
        value = score(net.requires_grad_(False)(inputs))
        value.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
    finally:
        handle.remove()
    gradient = held["output"].grad
    if gradient is None:
        raise ConformanceError(f"The features do not depend on {name!r}.")
    product = held["output"].detach() * gradient
    signed = _grid(product)[0].sum(dim=2)
    flat = signed.flatten().abs()
    order = flat.argsort(descending=True)
    count = max(1, len(order) // 5)
    effects = []
    for chosen in (order[:count], order[-count:]):
        mask = torch.ones_like(flat)
        mask[chosen] = 0

        def blank(_: nn.Module, __: Any, output: torch.Tensor, mask: Any = mask) -> torch.Tensor:
            return _masked(output, mask.view(signed.shape))

        handle = layer.register_forward_hook(blank)
        try:
            with torch.no_grad():
                effects.append(abs(float(score(net(inputs)) - value.detach())))
        finally:
            handle.remove()
    require(
        effects[0] > effects[1],
        f"Blanking the fifth of {name!r} that a map weights most changes the features by "
        f"{effects[0]:.2g}, blanking the least weighted fifth by {effects[1]:.2g}.",
    )


def _activation(net: nn.Module, layer: Any, inputs: torch.Tensor) -> torch.Tensor:
    held: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _, __, output: held.append(output))
    try:
        with torch.no_grad():
            net(inputs)
    finally:
        handle.remove()
    require(held, "The cam_layer is not used by the network.")
    require(isinstance(held[-1], torch.Tensor), "The cam_layer does not give a tensor.")
    return held[-1].detach().clone()


def _prefix(tokens: int) -> tuple[int, int]:
    """Return (side of the grid, tokens in front of it) of a sequence of tokens."""
    side = int(tokens**0.5)
    return side, tokens - side * side


def _grid(output: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return one image's activations as `(h, w, C)`: from `(1, C, h, w)` or `(1, T, C)`."""
    if output.ndim == 4:
        return output[0].permute(1, 2, 0), (output.shape[2], output.shape[3])
    require(output.ndim == 3, f"The cam_layer gives {tuple(output.shape)}; (N, C, h, w) is wanted.")
    side, front = _prefix(output.shape[1])
    return output[0, front:].reshape(side, side, -1), (side, side)


def _by_place(output: torch.Tensor) -> torch.Tensor:
    return _grid(output)[0].abs().mean(dim=2)


def _masked(output: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if output.ndim == 4:
        return output * mask
    front = _prefix(output.shape[1])[1]
    return output * torch.cat([torch.ones(front), mask.flatten()])[None, :, None]


CHECKS = (
    states_its_licence,
    imports_quickly,
    builds_quickly_and_without_network,
    default_weights_or_one_clear_error,
    maps_images_to_features,
    features_follow_the_image,
    answers_alike_every_time,
    images_do_not_disturb_each_other,
    gradients_reach_every_stage,
    changes_no_global_state,
    reads_a_weights_file,
    stages_can_be_cut,
    explanation_layer_is_faithful,
    goes_through_the_model_folder,
    exports_to_onnx,
)
