"""EfficientNet-Lite0 in PyTorch, written from the names in its own file of weights: what our features are checked with.

Run in an environment that has torch, on the photographs that `python -m tests.model.photographs FILE.npz` wrote:

    python scripts/encoder/torch_reference.py WEIGHTS.pth PHOTOGRAPHS.npz > tests/model/lite0_torch.json
"""

import json
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

STRIDES = {0: 1, 1: 2, 3: 2, 5: 2, 8: 1, 11: 2, 15: 1}  # of the first block of each stage; every other block has 1
PICKED = 16  # values of each feature map, evenly spread


class Network:
    """The network under one set of conventions."""

    def __init__(self, weights: dict[str, torch.Tensor], epsilon: float = 1e-3, same: bool = True) -> None:
        self.weights, self.epsilon, self.same = weights, epsilon, same
        self.strayed: list[list[float]] | None = None

    def convolution(self, x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        """Convolve (N, C, H, W), padded as TensorFlow does ('same') or by half the kernel on every side."""
        kernel = self.weights[f"{name}.weight"]
        size = kernel.shape[-1]
        if self.same:
            needed = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in x.shape[:1:-1]]
            x = functional.pad(x, [part for whole in needed for part in (whole // 2, whole - whole // 2)])
        else:
            x = functional.pad(x, [size // 2] * 4)
        return functional.conv2d(x, kernel, stride=stride, groups=x.shape[1] if kernel.shape[1] == 1 else 1)

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Normalize by the moving statistics, or, with `self.strayed`, by those of `x`, noting how far they are off."""
        mean, variance, scale, shift = (
            self.weights[f"{name}.{value}"] for value in ("running_mean", "running_var", "weight", "bias")
        )
        if self.strayed is not None:
            own, spread = x.double().mean((0, 2, 3)), x.double().var((0, 2, 3))
            alive = variance > 1e-8
            off = ((own - mean).abs() / variance.sqrt(), (spread / variance).log().abs())
            self.strayed.append([float(values[alive].median()) for values in off])
            return functional.batch_norm(x, None, None, scale, shift, training=True, eps=self.epsilon)
        return functional.batch_norm(x, mean, variance, scale, shift, eps=self.epsilon)

    def run(self, x: torch.Tensor) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
        """The last features at each stride, and the logits of (N, 3, H, W)."""
        relu = functional.relu6
        x = relu(self.norm(self.convolution(x, "_conv_stem", 2), "_bn0"))
        features, scale, number = {2: x}, 2, 0
        while f"_blocks.{number}._project_conv.weight" in self.weights:
            block, before, stride = f"_blocks.{number}.", x, STRIDES.get(number, 1)
            if f"{block}_expand_conv.weight" in self.weights:
                x = relu(self.norm(self.convolution(x, f"{block}_expand_conv"), f"{block}_bn0"))
            x = relu(self.norm(self.convolution(x, f"{block}_depthwise_conv", stride), f"{block}_bn1"))
            x = self.norm(self.convolution(x, f"{block}_project_conv"), f"{block}_bn2")
            if x.shape == before.shape:
                x = x + before
            scale, number = scale * stride, number + 1
            features[scale] = x
        x = relu(self.norm(self.convolution(x, "_conv_head"), "_bn1")).mean((2, 3))
        return features, functional.linear(x, self.weights["_fc.weight"], self.weights["_fc.bias"])


def tensor(images: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> torch.Tensor:
    """(N, H, W, 3) as (N, 3, H, W) float32."""
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)


def main(weights: str, photographs: str) -> None:
    """Print what the network says of the photographs, and how sure of the right classes it is under each convention."""
    torch.set_num_threads(1)
    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    with np.load(photographs) as archive:
        images, names = archive["images"], [str(name) for name in archive["names"]]
        right, crops = json.loads(str(archive["right"])), tensor(archive["crops"])
    x = tensor(images)
    mean, deviation = (
        torch.tensor(values).reshape(1, 3, 1, 1) * 255 for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )

    def usual(x: torch.Tensor) -> torch.Tensor:
        return (x - 127) / 128

    conventions: dict[str, tuple[Network, Callable[[torch.Tensor], torch.Tensor]]] = {
        "same padding, epsilon 1e-3, (x - 127) / 128": (Network(tensors), usual),
        "padding by half the kernel": (Network(tensors, same=False), usual),
        "epsilon 1e-5": (Network(tensors, epsilon=1e-5), usual),
        "ImageNet's mean and deviation": (Network(tensors), lambda x: (x - mean) / deviation),
        "x / 255": (Network(tensors), lambda x: x / 255),
        "blue, green, red": (Network(tensors), lambda x: usual(x).flip(1)),
    }
    sureness, strayed = {}, {}
    with torch.no_grad():
        for convention, (network, scaled) in conventions.items():
            log = network.run(scaled(x))[1].double().log_softmax(1)
            sureness[convention] = [
                round(float(row[classes].logsumexp(0)), 4) for row, classes in zip(log, right, strict=True)
            ]
            network.strayed = []
            network.run(scaled(crops))
            strayed[convention] = dict(zip(("mean", "variance"), np.mean(network.strayed, 0).round(4), strict=True))
        features, logits = Network(tensors).run(usual(x))
    picked = {}
    for stride, maps in features.items():
        last = maps.permute(0, 2, 3, 1).reshape(len(images), -1).numpy()
        places = np.linspace(0, last.shape[1] - 1, PICKED).astype(int)
        picked[str(stride)] = {
            "norm": [float(np.linalg.norm(row)) for row in last.astype(np.float64)],
            "values": [[float(value) for value in row[places]] for row in last],
        }
    best = logits.argsort(1, descending=True)[:, :5]
    found = {
        "torch": torch.__version__,
        "photographs": names,
        "statistics_off": strayed,
        "log_probability_of_the_right_classes": sureness,
        "classes": best.tolist(),
        "logits": logits.gather(1, best).tolist(),
        "features": picked,
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
