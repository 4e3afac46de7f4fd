"""Answer from an exported file with onnxruntime, Pillow and NumPy. allkit is not imported.

python examples/run_without_allkit.py model.onnx field-1.png field-2.jpg
"""

import json
import os
import sys

import numpy as np
from PIL import Image, ImageOps


def pixels_of(path):
    """Return (1, H, W, 3) uint8 RGB, upright. Nothing is resized or scaled: the graph does that."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[None]


def main(path, *images):
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before it is imported: no reports to its makers
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    description = json.loads(session.get_modelmeta().custom_metadata_map["allkit"])
    if description["bag"] != "field":
        sys.exit("It also wants the places of white cells, which allkit finds (without PyTorch).")
    names = [description["display_names"].get(name, name) for name in description["classes"]]
    for image in images:
        [probabilities] = session.run(["probabilities"], {"pixels": pixels_of(image)})
        best = probabilities[0].argmax()
        print(f"{image}: {names[best]} {probabilities[0][best]:.4f}", probabilities[0].tolist())
    # A probability is no verdict: it is high for many images that are no smear at all.
    print(
        "NOT JUDGED: whether to accept an answer is told by `allkit predict`, not by this script."
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
