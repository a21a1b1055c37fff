"""Imports TensorFlow fast, and without the lines that its C++ start-up prints at every log level."""

import gc
import os
import sys
from pathlib import Path

from fedpolyp.imports import without
from fedpolyp.processor import choose_kernels

# TensorFlow reads these when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
choose_kernels()

if "tensorflow" not in sys.modules:
    sys.stderr.flush()
    _terminal = os.dup(2)
    _collects = gc.isenabled()
    gc.disable()  # a third of the import would go to looking for garbage among objects that stay
    try:
        with Path(os.devnull).open("wb") as _nowhere:
            os.dup2(_nowhere.fileno(), 2)
        # Keras would load these for plots, and to be wrapped for scikit-learn: over a quarter of the import.
        with without("matplotlib", "sklearn"):
            import tensorflow  # noqa: F401
    finally:
        os.dup2(_terminal, 2)
        os.close(_terminal)
        gc.freeze()
        if _collects:
            gc.enable()
