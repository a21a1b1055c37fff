"""fedpolyp: what federated learning costs, and what it gains, for polyp segmentation with a U-Net."""

__version__ = "0.2.0"
