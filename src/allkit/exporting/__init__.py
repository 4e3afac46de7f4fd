"""All that an exporter is made of: the graph of a model, a file for it, and what answers from the file.

    onnx_graph, program    the graph of a model, from pixels to answers
    calibration_feeds      its inputs for images to calibrate on
    write, read            a file with any payload, sealed, which carries its parity report
    FilePredictor          what answers from such a file, but for the engine
    GraphPredictor         the same for files of another form
    import_silent          an engine, with its reports of usage switched off

graph      the graph, as ONNX or as a program of torch
quantise   an ONNX graph in 8-bit integers
files      payload and trailer
predictor  what answers

Nothing here imports torch before a graph is asked for.
"""

from allkit.exporting.files import Content, read, write
from allkit.exporting.graph import calibration_feeds, onnx_graph, program
from allkit.exporting.predictor import FilePredictor
from allkit.runtime.graph import OUTPUTS, GraphPredictor, TooMuch
from allkit.telemetry import import_silent
from allkit.trust.arrays import Arrays

__all__ = [
    "OUTPUTS",
    "Arrays",
    "Content",
    "FilePredictor",
    "GraphPredictor",
    "TooMuch",
    "calibration_feeds",
    "import_silent",
    "onnx_graph",
    "program",
    "read",
    "write",
]
