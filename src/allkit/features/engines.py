"""A frozen module on images, through the cheapest engine of this machine that agrees with PyTorch."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import math
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from allkit.errors import AllkitError, ConfigError
from allkit.network.around import ordinary
from allkit.network.calls import run
from allkit.network.device import full_float32
from allkit.network.standardise import Standardise, to_batches
from allkit.plugins.kept import mark_of_kept
from allkit.records import InputSpec
from allkit.telemetry import import_silent, quiet_logging

__all__ = [
    "BLOCK",
    "ENGINES",
    "HALF",
    "WORTH_AN_ENGINE",
    "FrozenPass",
    "describe_engine",
    "native_bfloat16",
]

ENGINES = ("auto", "torch", "openvino")
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""The precisions below float32, by the names of the settings."""
BLOCK = 16
"""Images that go through a frozen module together while a training is prepared."""
WORTH_AN_ENGINE = 500
"""Fewest images for which a network is converted for another engine, which takes seconds."""
CHECKED = 16
"""Images on which an engine is compared with PyTorch before it is used."""
FLOOR, FACTOR = 1e-3, 3.0
"""An engine may differ from PyTorch in float32 by 0.1 %, or by three times what PyTorch itself
differs in the same precision, whichever is more: means over the images of the Euclidean distance over
the length. Two roundings to bfloat16 that are both right are apart by less (decision 33)."""
PROGRAMS = {"torch": "PyTorch", "openvino": "OpenVINO"}
log = logging.getLogger(__name__)
_CHOOSING = threading.Lock()


def native_bfloat16(device: torch.device) -> bool:
    """Say whether `device` computes bfloat16 in hardware; emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


class FrozenPass:
    """Images `(H, W, 3)` uint8 of any size → outputs of a frozen module.

    `module` maps `(N, 3, S, S)` float32 to `(N, …)`: a backbone, or its first stages. With the
    engine `auto`, OpenVINO computes where it is installed and the device is the processor. It is
    compared with PyTorch on the first images; where it disagrees, or cannot take the module,
    PyTorch computes. What was chosen and why is in `account`, and logged once, when it is known. With
    the engine `openvino` a disagreement is a `ConfigError`.

    `signature` names the engine, its version, device and precision, and the version of a view that a
    plugin offers: it belongs into the key of whatever is kept.
    """

    @ordinary()
    def __init__(
        self,
        module: nn.Module,
        spec: InputSpec,
        device: torch.device,
        *,
        precision: str = "float32",
        engine: str = "torch",
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        # Twice as fast for convolutions on CPUs, and a plain view elsewhere.
        # torch's types lack the form with a memory format.
        self.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = device
        self.precision = precision
        self.engine = _chosen(engine, device)
        self.asked_for = engine
        """What was asked for, one of `ENGINES`; `engine` is what computes."""
        self.standardise = Standardise(spec).to(device)
        self._view = mark_of_kept("view", spec.view)
        self._compiled: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._fitting = sys.maxsize  # images at once, once it was too many
        self.account = describe_engine(self.signature) if self.settled else ""
        """What computes, and how far it is from PyTorch, in a sentence; empty before it is settled."""

    @property
    def settled(self) -> bool:
        """Whether it is known which engine computes."""
        return self.engine == "torch" or self._compiled is not None

    @property
    def signature(self) -> tuple[str, ...]:
        """Engine, version, device and precision, and what a plugin's view adds."""
        engine = (self.engine, _version(self.engine), self.device.type, self.precision)
        return (*engine, *self._view)

    @ordinary()
    @torch.inference_mode()
    def __call__(self, images: Sequence[npt.NDArray[np.uint8]], *, block: int = 0) -> torch.Tensor:
        """Return `(N, …)` float32 on the CPU for N images, in order.

        With `block`, exactly that many images go through the module at a time; the last batch is
        padded. A convolution may round differently in a batch of another size; with a fixed size an
        image gets the same bits whichever others are computed with it.
        """
        return self.on(self._standardised(images), block=block)

    @ordinary()
    @torch.inference_mode()
    def on(self, inputs: torch.Tensor, *, block: int = 0) -> torch.Tensor:
        """Return `(N, …)` float32 on the CPU for `(N, 3, S, S)` standardised inputs."""
        self.prepare_on(inputs)
        if not block:
            return self._run(inputs).float().cpu()
        rows = []
        for part in (inputs[start : start + block] for start in range(0, len(inputs), block)):
            full = torch.cat([part, part[-1:].expand(block - len(part), -1, -1, -1)])
            rows.append(self._run(full)[: len(part)].float().cpu())
        return torch.cat(rows)

    @ordinary()
    @torch.inference_mode()
    def prepare(self, images: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Choose the engine, by comparing it with PyTorch on some of `images`.

        `signature` names it from then on. A second call does nothing.
        """
        if not self.settled:
            self.prepare_on(self._standardised(images[:CHECKED]))

    @ordinary()
    @torch.inference_mode()
    def prepare_on(self, inputs: torch.Tensor) -> None:
        """Do the same with standardised inputs `(N, 3, S, S)`."""
        with _CHOOSING:  # threads that share a model wait for the first one's choice
            if not self.settled:
                self._choose(inputs[:CHECKED])

    def _choose(self, inputs: torch.Tensor) -> None:
        compiled = None
        try:
            compiled = _openvino(self.module, inputs, self.precision)
            found, own = self._distances(compiled, inputs)
        except Exception as error:  # noqa: BLE001 - export and OpenVINO raise types of their own
            reason = f"{type(error).__name__}: {str(error).strip()[:200]}"
            agrees, note = False, f"it cannot compute the network ({reason})"
        else:
            allowed = max(FLOOR, FACTOR * own)
            agrees = found <= allowed
            note = f"they differ from PyTorch's by {_percent(found)}"
            if own:
                note = f"{note} (in float32; PyTorch's in {self.precision} by {_percent(own)})"
            if not agrees:
                note = (
                    f"it differs from PyTorch by {_percent(found)}, more than {_percent(allowed)}"
                )
        if not agrees and self.asked_for == "openvino":
            raise ConfigError(
                f"engine = openvino: OpenVINO is of no use here, {note}. Choose `engine: auto`, or "
                f"`torch`."
            )
        if not agrees:
            self.engine, compiled, note = "torch", None, f"OpenVINO is not used: {note}"
        self._compiled = compiled
        self.account = describe_engine(self.signature, note)
        log.info("%s", self.account)

    def _standardised(self, images: Sequence[npt.NDArray[np.uint8]]) -> torch.Tensor:
        """Return `(N, 3, S, S)` float32 on the device for N images."""
        if not images:
            raise ValueError("no images were given")
        size = self.standardise.size
        inputs = torch.empty((len(images), 3, size, size), device=self.device)
        for indices, pixels in to_batches(images):
            inputs[indices] = self.standardise(pixels.to(self.device))
        return inputs

    def _distances(
        self, compiled: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor
    ) -> tuple[float, float]:
        """Return how far an engine and PyTorch in the same precision are from PyTorch in float32."""
        exact = self._torch(inputs, "float32").float()
        found = _distance(compiled(inputs), exact)
        if self.precision not in HALF:
            return found, 0.0
        return found, _distance(self._torch(inputs, self.precision).float(), exact)

    def _run(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) <= self._fitting:
            try:
                if self._compiled is not None:
                    return self._compiled(inputs)
                return self._torch(inputs, self.precision)
            except torch.OutOfMemoryError:
                if len(inputs) == 1:
                    raise AllkitError(
                        f"One image does not fit into the memory of {self.device}. End what else uses "
                        f"it, or choose `device: cpu`."
                    ) from None
            # Only here is what the failed try held free again.
            self._fitting = (len(inputs) + 1) // 2
            warnings.warn(
                f"{len(inputs)} images at once do not fit into the memory of {self.device}; "
                f"they are computed in halves.",
                stacklevel=3,
            )
        return torch.cat([self._run(part) for part in torch.split(inputs, self._fitting)])

    def _torch(self, inputs: torch.Tensor, precision: str) -> torch.Tensor:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        half = HALF.get(precision)
        if half is None:
            with full_float32(self.device):
                return run(self.module, inputs)
        with torch.autocast(self.device.type, half):
            return run(self.module, inputs)


def describe_engine(signature: Sequence[str], note: str = "") -> str:
    """Return in a sentence what computes the features; `note` says how it compares with PyTorch."""
    engine, version, device, precision = signature[:4]
    threads = torch.get_num_threads()
    place = (
        f", {threads} thread{'s' if threads > 1 else ''}" if device == "cpu" else f" on {device}"
    )
    text = f"Features are computed by {PROGRAMS[engine]} {version} in {precision}{place}"
    return f"{text}; {note}." if note else f"{text}."


def _percent(share: float) -> str:
    """Return a share in per cent: of what is near zero a bound, of the rest the figure."""
    if share < FLOOR:
        bound = 10.0 ** math.ceil(math.log10(max(share, 1e-5)))
        return f"less than {100 * bound:g} %"
    return f"{100 * share:.2g} %"


def _chosen(engine: str, device: torch.device) -> str:
    if engine not in ENGINES:
        raise ConfigError(
            f"{engine!r} is no engine. Give {', '.join(ENGINES[:-1])} or {ENGINES[-1]}."
        )
    installed = importlib.util.find_spec("openvino") is not None
    if engine == "openvino":
        if not installed:
            raise ConfigError(
                "engine = openvino: OpenVINO is not installed. Type: pip install 'allkit[openvino]'"
            )
        if device.type != "cpu":
            raise ConfigError(
                f"engine = openvino computes on the processor, not on {device}. Choose "
                f"`device: cpu` or `engine: auto`."
            )
    if engine == "auto":
        return "openvino" if installed and device.type == "cpu" else "torch"
    return engine


@functools.cache
def _version(distribution: str) -> str:
    """Return an installed version, cached: reading takes 1 ms, and every image's key needs it."""
    return importlib.metadata.version(distribution)


def _distance(ours: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the mean of ‖ours − exact‖ / ‖exact‖ over the images; infinity when not a number.

    The mean, because the largest of a few images depends on which come first.
    """
    ours, exact = ours.flatten(1), exact.flatten(1)
    far = (ours - exact).norm(dim=1) / exact.norm(dim=1).clamp(min=1e-12)
    return float(far.nan_to_num(float("inf")).mean())


def _openvino(
    module: nn.Module, example: torch.Tensor, precision: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return `module`, compiled by OpenVINO for batches of any size."""
    openvino = import_silent("openvino")
    frontends = import_silent("openvino.frontend")
    decoders = import_silent("openvino.frontend.pytorch.fx_decoder")
    # The parts of `openvino.convert_model`, which itself would report its use to its makers.
    example = example.repeat(2, 1, 1, 1)[:2]  # one image would fix the size of the batch to one
    # It logs tracebacks for operators that have other names in this version of torch.
    with quiet_logging(logging.CRITICAL), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module, (example,), dynamic_shapes=({0: torch.export.Dim("images", min=1, max=4096)},)
        )
        decoder = decoders.TorchFXPythonDecoder.from_exported_program(program)
    frontend: Any = frontends.FrontEndManager().load_by_framework("pytorch")
    model = frontend.convert(frontend.load(decoder))
    names = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
    hints = {
        "INFERENCE_PRECISION_HINT": names[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(model, "CPU", hints)
    # A compiled model has one place for inputs and outputs, whichever thread calls it.
    alone = threading.Lock()

    def run(inputs: torch.Tensor) -> torch.Tensor:
        with alone:
            outputs = compiled(inputs.contiguous().numpy())[0]
            return torch.from_numpy(np.array(outputs, dtype=np.float32))  # theirs is overwritten

    return run
