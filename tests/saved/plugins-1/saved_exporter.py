"""An exporter as `allkit plugins new --kind exporter` wrote it for allkit 0.2.0."""

from __future__ import annotations

from allkit import Exporter, hookimpl

api_version = 1


def write(model, path, *, precision, calibration):
    """Write `model` to `path`: from uint8 pixels to probabilities."""
    from allkit.plugins import registry

    onnx = registry().get("exporter", "onnx")
    onnx.write(model, path, precision=precision, calibration=calibration)


def open_file(path):
    """Return what answers from the file, without torch."""
    from allkit.runtime.onnx import OnnxPredictor

    return OnnxPredictor(path)


@hookimpl
def allkit_exporters():
    """Offer `saved`."""
    return [Exporter("saved", ".saved", write, open_file, summary="my format")]
