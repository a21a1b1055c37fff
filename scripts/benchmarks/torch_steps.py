"""The same U-Net's training steps in PyTorch. Started by `steps.py` in an environment that has torch."""

import json
import sys
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits


class UNet(nn.Module):
    """fedpolyp's U-Net with batch normalization; its parameters are in the order of the Keras model's."""

    def __init__(self, filters: int, depth: int = 4) -> None:
        super().__init__()
        widths = [filters * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(block(*pair) for pair in zip([3, *widths], widths, strict=False))
        self.decoder = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.decoder += [nn.ConvTranspose2d(2 * width, width, 2, stride=2), block(2 * width, width)]
        self.logits = nn.Conv2d(filters, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, S, S) in [0, 1] to logits (N, 1, S, S)."""
        skips = []
        for level in self.encoder[:-1]:
            x = level(x)
            skips.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.encoder[-1](x)
        for up, level in zip(self.decoder[::2], self.decoder[1::2], strict=True):
            x = level(torch.cat([up(x), skips.pop()], dim=1))
        with torch.autocast("cpu", enabled=False):  # as ours: logits and loss are float32 in every precision
            return self.logits(x.float())


def block(before: int, after: int) -> nn.Sequential:
    """Twice a convolution, batch normalization and ReLU."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers.append(nn.Conv2d(channels, after, 3, padding=1, bias=False))
        layers += [nn.BatchNorm2d(after, eps=1e-3, momentum=0.1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def loss_of(model: nn.Module, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and soft Dice of images (N, S, S, 3) uint8 and masks (N, S, S) uint8, mean over the images."""
    # The channels come last in memory already: permuting makes PyTorch's channels-last layout without a copy.
    logits = model(images.permute(0, 3, 1, 2).float() / 255).squeeze(1)
    truth, probability = masks.float(), torch.sigmoid(logits)
    overlap = (truth * probability).sum((1, 2))
    dice = (2 * overlap + 1) / (truth.sum((1, 2)) + probability.sum((1, 2)) + 1)
    return binary_cross_entropy_with_logits(logits, truth) + (1 - dice).mean()


def main(job: str, precision: str, threads: int, how: str) -> None:
    """Answer each line of standard input, a number of steps, with the seconds that they took."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    torch.set_flush_denormal(True)  # as TensorFlow does
    with np.load(job) as arrays:
        batches = list(zip(*(torch.from_numpy(arrays[name]) for name in ("images", "masks")), strict=True))
        weights = [arrays[f"weight_{number}"] for number in range(sum(name[0] == "w" for name in arrays))]
    model = UNet(filters=weights[0].shape[-1])
    parameters = list(model.parameters())
    with torch.no_grad():
        for parameter, weight in zip(parameters, weights, strict=True):
            # Keras's kernels are (height, width, in, out), and of a transposed convolution (height, width, out, in).
            given = torch.from_numpy(weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight)
            if parameter.shape != given.shape:
                raise ValueError(f"a parameter is {tuple(parameter.shape)} here and {tuple(given.shape)} in Keras")
            parameter.copy_(given)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
    compute = torch.compile(loss_of) if how == "compiled" else loss_of
    mixed = precision == "mixed_bfloat16"

    def step(images: Any, masks: Any) -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16) if mixed else nullcontext():
            loss = compute(model, images, masks)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    losses = [step(*batch) for batch in batches]
    about = {"parameters": sum(p.numel() for p in parameters), "losses": losses, "version": torch.__version__}
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        began = time.monotonic()
        for number in range(int(line)):
            step(*batches[number % len(batches)])
        print(time.monotonic() - began, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
