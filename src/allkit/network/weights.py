"""Weights from a file, for the modules of plugins; importing this brings no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from allkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load_weights"]


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a `.safetensors` file into `module`; every tensor of the module must be in the file.

    Tensors that the module does not have (a classifier's last layer) are left out. Raises
    `CheckpointError` that names what is missing or has another shape.
    """
    import safetensors
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"The weights file {path} does not exist. Check the path.") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is not a readable .safetensors file: {error}.") from None
    wanted = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    missing = [key for key in wanted if key not in tensors]
    if missing:
        raise CheckpointError(
            f"The weights file {path} lacks {len(missing)} of {len(wanted)} tensors of this "
            f"backbone, first {missing[0]!r}. Give the weights of this backbone."
        )
    for key, value in wanted.items():
        if tensors[key].shape != value.shape:
            raise CheckpointError(
                f"{key!r} has the shape {tuple(tensors[key].shape)} in {path}; this backbone "
                f"wants {tuple(value.shape)}. Give the weights of this backbone."
            )
    module.load_state_dict({key: tensors[key] for key in wanted}, strict=False)
