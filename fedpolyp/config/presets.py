"""Named settings to start from."""

from typing import Any

# 'paper' is the U-Net of Ronneberger et al. 2015 in size; 'seed' is the capstone project this one grew from;
# 'pretrained' begins with an encoder that has seen ImageNet, and so needs fewer rounds.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"data.image_size": 256, "model.base_filters": 64},
    "seed": {
        "data.image_size": 256,
        "model.base_filters": 16,
        "model.dropout": (0.1, 0.3),
        "model.normalization": "none",
        "training.loss": "bce",
    },
    "pretrained": {
        "model.encoder": "efficientnet-lite0",
        "federation.rounds": 20,
    },
}
