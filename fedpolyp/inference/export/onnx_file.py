"""A model as an ONNX file, and its predictions in ONNX Runtime."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fedpolyp.errors import FedpolypError
from fedpolyp.inference.export.format import INPUT, OUTPUT, Written
from fedpolyp.inference.export.network import converting, network, signature
from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Field, Pixels

NEEDS = {"tf2onnx": "tf2onnx", "onnx": "onnx", "onnxruntime": "onnxruntime"}
EXTRA = "export-onnx"
READER = "onnxruntime"


def write(subject: Subject, path: Path, channels_first: bool = False) -> None:
    """Write the model to `path`; input and output have the names that all exports have."""
    side = subject.predictor.image_size
    with converting(subject, "ONNX"):
        import onnx

        _fix_constants(subject.predictor.model)
        model = network(subject, channels_first)
        wanted = signature(side, channels_first=channels_first)
        model.export(path, format="onnx", verbose=False, input_signature=wanted)
        file = onnx.load(path)
        if len(file.graph.input) != 1 or len(file.graph.output) != 1:
            strange = ", ".join(value.name for value in (*file.graph.input, *file.graph.output))
            raise FedpolypError(f"{subject.predictor.path} cannot be converted to ONNX: its graph asks for {strange}")
        _rename(file.graph)
        onnx.checker.check_model(file, full_check=True)
        path.write_bytes(file.SerializeToString())


def probabilities(path: Path, written: Written, squares: Pixels) -> Field:
    """ONNX Runtime's probabilities for `squares` (N, S, S, 3): (N, S, S)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = squares.astype(np.float32)
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if written.channels_first else images
    (found,) = session.run([written.output], {written.input: images})
    return np.asarray(found[:, 0] if written.channels_first else found[..., 0])


def reader() -> str:
    """The program that reads it."""
    return f"{READER} {version(READER)}"


def _fix_constants(model: Any) -> None:
    """Make the mean and variance of Keras's `Normalization` NumPy arrays: tf2onnx takes tensors for further inputs."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)


def _rename(graph: Any) -> None:
    """Give the only input and the only output of a graph their names, and call the number of images 'batch'."""
    (into,), (out,) = graph.input, graph.output
    for value, name in ((into, INPUT), (out, OUTPUT)):
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [name if own == value.name else own for own in names]
        value.name = name
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
