"""The trainer: trains and scores a hospital's images with a network that was compiled once."""

import itertools
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import fedpolyp.quiet_tensorflow  # noqa: F401

# isort: split
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fedpolyp import metrics
from fedpolyp.algorithms.base import Start, Trained
from fedpolyp.config import Config, rate_of
from fedpolyp.data import augmentation
from fedpolyp.files import replacing
from fedpolyp.model import arrays as named
from fedpolyp.model.arrays import Arrays
from fedpolyp.network import Network, shared_network
from fedpolyp.privacy.gradients import Unit

Images = NDArray[np.uint8]
_T = TypeVar("_T")

_EVALUATION_BATCH = 16


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on a set of images, one row for each image."""

    counts: NDArray[np.int64]  # (N, 4): tp, fp, fn, tn
    losses: NDArray[np.float64]  # (N,)
    predicted: Images  # masks (N, S, S) in {0, 1}

    def means(self) -> dict[str, float]:
        """See `metrics.means`."""
        return metrics.means(self.counts, self.losses)


class Trainer:
    """Trains a network from given weights; no training leaves a trace in the next.

    A reused trainer gives the same bits as a new one: weights, optimizer state and random draws are all arguments or
    are derived from (seed, round, hospital, epoch, index).
    """

    def __init__(self, config: Config, network: Network | None = None) -> None:
        """`network` was compiled for `config`; None builds a new one."""
        self.config = config
        self.network = network or Network(config)

    @property
    def start(self) -> Start:
        """Weights and optimizer state as they were built."""
        return self.network.start

    @property
    def initial(self) -> Arrays:
        """See `Network.initial`."""
        return self.network.initial

    def train(
        self,
        start: Arrays,
        images: Images,
        masks: Images,
        *,
        hospital: str,
        round: int,
        learning_rate: float,
        optimizer: Arrays | None = None,
        corrections: Mapping[str, Arrays] | None = None,
        epochs: int | None = None,
    ) -> Trained:
        """Train from `start` for the config's local epochs, or local steps.

        Args:
            start: weights of the model.
            images: (N, S, S, 3) uint8, RGB.
            masks: (N, S, S) uint8 in {0, 1}.
            hospital: whose images these are; with `round` and the config's seed it fixes every random draw.
            round: from 1.
            learning_rate: the optimizer's, for the whole training.
            optimizer: the optimizer's state at the end of an earlier training; None for a new one.
            corrections: arrays for the algorithm's `gradient`, each like the trainable arrays.
            epochs: instead of the config's epochs or steps.

        Raises:
            ValueError: there are no images, or arrays do not fit the model.
        """
        if len(images) == 0:
            raise ValueError("there are no training images")
        network = self.network
        named.assign(network.variables, start)
        named.assign(network.remembered, network.start.optimizer if optimizer is None else optimizer)
        network.optimizer.learning_rate.assign(learning_rate)
        self._reseed_dropout(round, hospital)
        if (corrections or {}).keys() != network.corrections.keys():
            raise ValueError(
                f"the algorithm corrects by {sorted(network.corrections)}; got {sorted(corrections or {})}"
            )
        for name, arrays in (corrections or {}).items():
            _assign(network.corrections[name], arrays)
        for total in network.gradients.values():
            total.assign(tf.zeros_like(total))
        fixed = self.config.training.fixes_statistics(round)
        step = network.train_step_with_fixed_statistics if fixed else network.train_step
        losses, sizes = [], []
        for batch, truth in _one_ahead(self._batches(images, masks, hospital, round, epochs)):
            losses.append(step(batch, truth))  # read at the end, so that no step waits for a GPU
            sizes.append(len(batch))
        loss = sum(float(loss) * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)
        gradient = {name: total.numpy() / np.float32(len(losses)) for name, total in network.gradients.items()}
        after = named.read(network.variables), named.read(network.remembered)
        return Trained(*after, loss, len(images), len(losses), gradient)

    def clipped_sum(self, weights: Arrays, units: Iterable[Unit], clip: float) -> Arrays:
        """The sum over `units` of each unit's gradient at `weights`, clipped to the length `clip`.

        By name, for the arrays that learn: not those of an encoder with the rate 0.
        """
        named.assign(self.network.variables, weights)
        return self.network.unit_gradients.clipped_sum(units, clip)

    def evaluate(self, arrays: Arrays, images: Images, masks: Images) -> Evaluation:
        """Score the model with weights `arrays` on `images` (N, S, S, 3) uint8 and `masks` (N, S, S) uint8."""
        predicted, losses = self._run(arrays, images, masks)
        return Evaluation(metrics.count_pixels(predicted, masks), losses, predicted)

    def predict(self, arrays: Arrays, images: Images) -> Images:
        """The masks (N, S, S) uint8 in {0, 1} that the model with weights `arrays` predicts in `images`."""
        return self._run(arrays, images, np.zeros(images.shape[:3], np.uint8))[0]

    def probabilities(self, arrays: Arrays, images: Images) -> NDArray[np.float32]:
        """The probability of polyp that the model with weights `arrays` gives to each pixel, (N, S, S) in [0, 1]."""
        named.assign(self.network.variables, arrays)
        found = np.zeros(images.shape[:3], np.float32)
        for first in range(0, len(images), _EVALUATION_BATCH):
            rows = slice(first, first + _EVALUATION_BATCH)
            found[rows] = tf.sigmoid(
                tf.cast(self.network.logits_of(np.asarray(images[rows]))[..., 0], tf.float32)
            ).numpy()
        return found

    def save(self, arrays: Arrays, path: Path, members: Mapping[str, str] | None = None) -> None:
        """Write the model with weights `arrays` as a .keras file, whole or not at all; `members` are added to it.

        Input: uint8 RGB images; output: lesion probability. It is made of Keras's own layers and computes in float32,
        so that it can be used without fedpolyp.
        """
        model = self.network.saved
        named.assign({variable.path: variable for variable in model.weights}, arrays)
        # Keras writes directly to the given path, and only to a name that ends in .keras.
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "model.keras"
            with warnings.catch_warnings():
                # Keras 3.15 does not follow NumPy 2 in one place, and NumPy warns whenever a model is saved.
                warnings.simplefilter("ignore", DeprecationWarning)
                model.save(whole)
            with zipfile.ZipFile(whole, "a") as archive:
                for name, text in (members or {}).items():
                    archive.writestr(zipfile.ZipInfo(name), text)  # without the time: same model, same bytes
            with replacing(path) as stream:
                stream.write(whole.read_bytes())

    def _run(self, arrays: Arrays, images: Images, masks: Images) -> tuple[Images, NDArray[np.float64]]:
        named.assign(self.network.variables, arrays)
        predicted = np.zeros(masks.shape, np.uint8)
        losses = np.zeros(len(images))
        for first in range(0, len(images), _EVALUATION_BATCH):
            rows = slice(first, first + _EVALUATION_BATCH)
            batch = self.network.score(np.asarray(images[rows]), np.asarray(masks[rows]))
            predicted[rows], losses[rows] = batch[0].numpy(), batch[1].numpy()
        return predicted, losses

    def _batches(
        self, images: Images, masks: Images, hospital: str, round: int, epochs: int | None
    ) -> Iterator[tuple[Images, Images]]:
        seed, settings = self.config.seed, self.config.training
        left = settings.steps(len(images)) if epochs is None else -(-len(images) // settings.batch_size) * epochs
        for epoch in itertools.count():
            order = augmentation.shuffle_order(seed, round, hospital, epoch, len(images))
            for first in range(0, len(order), settings.batch_size):
                if not left:
                    return
                left -= 1
                rows = order[first : first + settings.batch_size]
                pairs = [(np.asarray(images[row]), np.asarray(masks[row])) for row in rows]
                if settings.augment:
                    pairs = [
                        augmentation.augment(*pair, augmentation.generator(seed, round, hospital, epoch, int(row)))
                        for pair, row in zip(pairs, rows, strict=True)
                    ]
                yield np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])

    def _reseed_dropout(self, round: int, hospital: str) -> None:
        for number, layer in self.network.dropouts:
            words = np.random.SeedSequence([self.config.seed, round, zlib.crc32(hospital.encode()), number])
            layer.seed_generator.state.assign(words.generate_state(2))


def _one_ahead(batches: Iterator[_T]) -> Iterator[_T]:
    """Each of `batches`; the next one is made in a thread while the caller uses the current one."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


def shared_trainer(config: Config) -> Trainer:
    """A trainer for `config` with this process's network, which is built once."""
    return Trainer(config, shared_network(config))


def _assign(variables: Mapping[str, tf.Variable], arrays: Arrays) -> None:
    if fault := named.mismatch(arrays, {name: tuple(variable.shape) for name, variable in variables.items()}):
        raise ValueError(fault)
    for name, variable in variables.items():
        variable.assign(arrays[name])


def learning_rate(config: Config, round: int) -> float:
    """The learning rate of `round` (from 1): a linear warm-up, then constant or half a cosine towards zero."""
    training, rounds, first = config.training, config.federation.rounds, rate_of(config)
    if round <= training.warmup_rounds:
        return first * round / (training.warmup_rounds + 1)
    if training.schedule == "constant":
        return first
    progress = (round - 1 - training.warmup_rounds) / max(1, rounds - training.warmup_rounds)
    return float(first * 0.5 * (1 + np.cos(np.pi * progress)))
