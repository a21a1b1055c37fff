"""fedpolyp: what federated learning costs, and what it gains, for polyp segmentation with a U-Net.

From Python: `simulate`, `compare`, `load_run`, `load_comparison` and `Predictor`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedpolyp.api import Comparison, Run, compare, load_comparison, load_run, simulate
    from fedpolyp.inference.predictor import Predictor

__version__ = "0.2.0"
__all__ = ["Comparison", "Predictor", "Run", "compare", "load_comparison", "load_run", "simulate"]


def __getattr__(name: str) -> Any:
    """Load a name only when it is asked for, so that a command does not wait for what it does not use."""
    if name == "Predictor":
        from fedpolyp.inference.predictor import Predictor

        return Predictor
    if name in __all__:
        from fedpolyp import api

        return getattr(api, name)
    raise AttributeError(f"module 'fedpolyp' has no attribute '{name}'")
