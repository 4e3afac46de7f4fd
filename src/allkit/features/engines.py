"""A frozen module on images, through the fastest engine that agrees with PyTorch."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from allkit.errors import ConfigError
from allkit.network.standardise import Standardise, to_batches
from allkit.records import InputSpec
from allkit.telemetry import import_silent, quiet_logging

__all__ = ["BLOCK", "ENGINES", "HALF", "FrozenPass", "native_bfloat16"]

ENGINES = ("auto", "torch", "openvino")
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""The precisions below float32, by the names of the settings."""
BLOCK = 16
"""Images that go through a frozen module together while a training is prepared."""
CHECKED = 4
"""Images on which an engine is compared with PyTorch before it is used."""
FLOOR, FACTOR = 1e-3, 1.5
"""An engine may differ from PyTorch in float32 by 0.1 %, or by 1.5 times what PyTorch itself
differs in the same precision, whichever is more (Euclidean distance over the length, per image)."""


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
    PyTorch computes and a warning says why. `signature` names the engine, its version, device
    and precision: it belongs into the key of whatever is kept.
    """

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
        self._wanted = engine
        self.standardise = Standardise(spec).to(device)
        self._compiled: Callable[[torch.Tensor], torch.Tensor] | None = None

    @property
    def settled(self) -> bool:
        """Whether it is known which engine computes."""
        return self.engine == "torch" or self._compiled is not None

    @property
    def signature(self) -> tuple[str, ...]:
        """Engine, version, device and precision."""
        return (self.engine, _version(self.engine), self.device.type, self.precision)

    @torch.inference_mode()
    def __call__(self, images: Sequence[npt.NDArray[np.uint8]], *, block: int = 0) -> torch.Tensor:
        """Return `(N, …)` float32 on the CPU for N images, in order.

        With `block`, exactly that many images go through the module at a time; the last batch is
        padded. A convolution may round differently in a batch of another size; with a fixed size an
        image gets the same bits whichever others are computed with it.
        """
        if not images:
            raise ValueError("no images were given")
        size = self.standardise.size
        inputs = torch.empty((len(images), 3, size, size), device=self.device)
        for indices, pixels in to_batches(images):
            inputs[indices] = self.standardise(pixels.to(self.device))
        return self.on(inputs, block=block)

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

    @torch.inference_mode()
    def prepare(self, images: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Choose the engine, by comparing it with PyTorch on some of `images`.

        `signature` names it from then on. A second call does nothing.
        """
        if not self.settled:
            _, pixels = next(iter(to_batches(images[:CHECKED])))
            self.prepare_on(self.standardise(pixels))

    @torch.inference_mode()
    def prepare_on(self, inputs: torch.Tensor) -> None:
        """Do the same with standardised inputs `(N, 3, S, S)`."""
        if self.settled:
            return
        inputs = inputs[:CHECKED]
        try:
            compiled = _openvino(self.module, inputs, self.precision)
            reason = self._disagreement(compiled, inputs)
        except Exception as error:  # noqa: BLE001 - export and OpenVINO raise types of their own
            compiled, reason = None, f"{type(error).__name__}: {str(error).strip()[:200]}"
        if compiled is None or reason:
            warnings.warn(f"OpenVINO is not used, PyTorch computes instead: {reason}", stacklevel=3)
            self.engine = "torch"
            return
        self._compiled = compiled

    def _disagreement(
        self, compiled: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor
    ) -> str | None:
        exact = self._torch(inputs, "float32").float()
        allowed = FLOOR
        if self.precision in HALF:
            rounded = self._torch(inputs, self.precision).float()
            allowed = max(FLOOR, FACTOR * _distance(rounded, exact))
        found = _distance(compiled(inputs), exact)
        if found <= allowed:
            return None
        return f"its results differ from PyTorch's by {found:.2g}, allowed are {allowed:.2g}."

    def _run(self, inputs: torch.Tensor) -> torch.Tensor:
        try:
            if self._compiled is not None:
                return self._compiled(inputs)
            return self._torch(inputs, self.precision)
        except torch.OutOfMemoryError:
            if len(inputs) == 1:
                raise
            half = (len(inputs) + 1) // 2
            warnings.warn(
                f"{len(inputs)} images at once do not fit into the memory of {self.device}; "
                f"they are computed in halves.",
                stacklevel=3,
            )
            return torch.cat([self._run(inputs[:half]), self._run(inputs[half:])])

    def _torch(self, inputs: torch.Tensor, precision: str) -> torch.Tensor:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        half = HALF.get(precision)
        with torch.autocast(self.device.type, half or torch.bfloat16, enabled=half is not None):
            return cast(torch.Tensor, self.module(inputs))


def _chosen(engine: str, device: torch.device) -> str:
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
    """Return the largest ‖ours − exact‖ / ‖exact‖ over the images; infinity when not a number."""
    ours, exact = ours.flatten(1), exact.flatten(1)
    far = (ours - exact).norm(dim=1) / exact.norm(dim=1).clamp(min=1e-12)
    return float(far.nan_to_num(float("inf")).max())


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

    def run(inputs: torch.Tensor) -> torch.Tensor:
        outputs = compiled(inputs.contiguous().numpy())[0]
        return torch.from_numpy(np.array(outputs, dtype=np.float32))  # theirs is overwritten

    return run
