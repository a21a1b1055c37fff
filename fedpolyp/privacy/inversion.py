"""Can an image be recovered from the gradient that it makes? A picture is drawn until its gradient is alike.

J. Geiping et al., Inverting Gradients: How Easy Is It to Break Privacy in Federated Learning?, NeurIPS 2020: the cosine
distance of the gradients, plus the picture's total variation, by Adam. The attacker is given more than a server has:
the gradient of one image alone, and its mask.

That such an attack fails says something only if it can succeed. So the same code also attacks a control: a network
of one hidden dense layer, whose gradient contains the image almost as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import fedpolyp.quiet_tensorflow  # noqa: F401

# isort: split
import cv2
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fedpolyp.config import Config
from fedpolyp.model import arrays as named
from fedpolyp.model import registry
from fedpolyp.model.arrays import Arrays
from fedpolyp.model.blocks import LOGITS
from fedpolyp.model.losses import segmentation_loss
from fedpolyp.privacy.gradients import clipped

ENOUGH = 20.0  # dB from which on a reconstruction shows what the original shows
SHAPES = 0.5  # correlation from which on coarse shapes are those of the original: by chance it is about 0 ± 0.2
STEPS = 300
_RATE = 0.02  # Adam's, of pixels in [0, 1]; it falls to zero
_SMOOTHNESS = 1e-3  # weight of the total variation
_HIDDEN = 128  # units of the control's hidden layer

Image = NDArray[np.uint8]
Picture = NDArray[np.float32]  # (S, S, 3) in [0, 1]


@dataclass(frozen=True)
class Inverted:
    """A training image, what was recovered of it, and what anybody would guess; (S, S, 3) uint8 RGB each."""

    id: str
    original: Image
    recovered: Image  # from the gradient of the run's model
    mean: Image  # of images that the attacker has: the guess from which it starts
    control: Image  # recovered from the gradient of the control

    @property
    def decibels(self) -> dict[str, float]:
        """The peak signal-to-noise ratios to the original: of what was `recovered`, the `mean` and the `control`."""
        return {name: decibels(getattr(self, name), self.original) for name in ("recovered", "mean", "control")}

    @property
    def shapes(self) -> dict[str, float]:
        """How far the coarse shapes of what was `recovered`, and of the `control`, are those of the original."""
        return {name: shapes(getattr(self, name), self.original, self.mean) for name in ("recovered", "control")}


def decibels(image: Image, original: Image) -> float:
    """The peak signal-to-noise ratio of two images (S, S, 3) uint8, in dB; infinite for the same image."""
    error = np.mean((image.astype(np.float64) - original) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def shapes(image: Image, original: Image, mean: Image) -> float:
    """The correlation, -1 to 1, of the coarse shapes of `image` and `original`; 0 if one of them has none.

    Decibels count the noise of each pixel, the eye looks past it. So brightness is smoothed (Gaussian, a sixteenth of
    the side). What the `mean` image shows already does not count. All are (S, S, 3) uint8.
    """

    def coarse(one: Image) -> NDArray[np.float32]:
        return cv2.GaussianBlur(one.mean(axis=2, dtype=np.float32), (0, 0), one.shape[0] / 16)

    guess = coarse(mean)
    one, other = (each - each.mean() for each in (coarse(image) - guess, coarse(original) - guess))
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size > 1e-3 else 0.0


def conclusion(found: Sequence[Inverted]) -> str:
    """What follows from the reconstructions, in a sentence or two; '' for none.

    Means over the images, and the control's worst: it has to succeed with each of them.
    """
    if not found:
        return ""
    recovered, mean = (float(np.mean([one.decibels[name] for one in found])) for name in ("recovered", "mean"))
    least = min(one.decibels["control"] for one in found)
    alike = float(np.mean([one.shapes["recovered"] for one in found]))
    got = f"{recovered:.1f} dB, where the mean image has {mean:.1f} dB; coarse shapes correlate by {alike:.2f}"
    if least < ENOUGH:
        return f"Gradient inversion says nothing about the run ({got}): on the control it failed, with {least:.1f} dB."
    if recovered >= ENOUGH:
        result = "succeeded"
    elif alike >= SHAPES:
        result = "recovered coarse shapes"
    else:
        result = "recovered something" if recovered > mean else "failed"
    return f"Gradient inversion {result}: {got}. On the control the same code reached {least:.1f} dB or more."


class Inversion:
    """Recovers images from gradients of a run's model, and of the control."""

    def __init__(self, config: Config, weights: Arrays, steps: int = STEPS) -> None:
        """
        Args:
            config: of the run. With privacy on, its gradients are clipped and have the noise of one round's sum.
            weights: of its model, at which the gradient is computed.
            steps: of a reconstruction.
        """
        self._config, self._steps = config, steps
        # In float32, whatever the run computes in: second derivatives need it.
        plain = config.model_copy(update={"training": config.training.model_copy(update={"precision": "float32"})})
        model = registry.build(plain, for_training=True)
        named.assign({variable.path: variable for variable in model.weights}, weights)
        learning = registry.learning(config, model)
        logits = keras.Model(model.input, model.get_layer(LOGITS).output)
        training = not config.privacy.on  # as a hospital computes it
        self._run = _Attacked(lambda image: logits(image, training=training)[..., 0], learning, config, steps)
        control = _control(config.data.image_size, config.seed)
        self._control = _Attacked(control, control.trainable_variables, config, steps)

    def invert(self, id: str, image: Image, mask: Image, mean: Picture, units: int) -> Inverted:
        """Recover `image` (S, S, 3) uint8 from its gradients, given its `mask` (S, S) uint8 in {0, 1}.

        `mean` (S, S, 3) in 0..255 is where the attacker begins. The image's hospital has so many `units`.
        """
        privacy, rounds = self._config.privacy, self._config.federation.rounds
        noise = privacy.noise(rounds, units).sigma if privacy.on else None
        recovered = self._run.recover(image, mask, mean, noise)
        return Inverted(id, image, recovered, _as_image(mean), self._control.recover(image, mask, mean))


class _Attacked:
    """A network, and the step by which a picture is changed until its gradient is that of an image."""

    def __init__(
        self,
        logits_of: Callable[[tf.Tensor], tf.Tensor],
        variables: Sequence[keras.Variable],
        config: Config,
        steps: int,
    ) -> None:
        """`logits_of` takes images (1, S, S, 3) in 0..255 and returns (1, S, S)."""
        side = config.data.image_size
        self._logits_of, self._variables, self._config, self._steps = logits_of, variables, config, steps
        self._picture = tf.Variable(tf.zeros((1, side, side, 3)))
        self._mask = tf.Variable(tf.zeros((1, side, side)))
        self._target = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]
        self._gradients = tf.function(self._gradient, autograph=False)
        self._step = tf.function(self._closer, autograph=False)
        self._optimizer = keras.optimizers.Adam(_RATE)
        self._optimizer.build([self._picture])
        self._fresh = [tf.identity(variable) for variable in self._optimizer.variables]

    def recover(self, image: Image, mask: Image, mean: Picture, noise: float | None = None) -> Image:
        """What is recovered of `image`, from the picture `mean`; of a clipped gradient with this `noise`, if given."""
        self._mask.assign(mask[None].astype(np.float32))
        gradient = self._gradients(tf.constant(image[None].astype(np.float32) / 255))
        if noise is not None:
            clip = self._config.privacy.clip
            random = np.random.default_rng(self._config.seed)
            gradient = [
                each + random.normal(0.0, noise * clip, each.shape).astype(np.float32)
                for each in clipped(gradient, tf.constant(clip, tf.float32))
            ]
        for held, value in zip(self._target, gradient, strict=True):
            held.assign(value)
        for variable, value in zip(self._optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        self._picture.assign(mean[None].astype(np.float32) / 255)
        for step in range(self._steps):
            self._optimizer.learning_rate.assign(_RATE * 0.5 * (1 + np.cos(np.pi * step / self._steps)))
            self._step()
        return _as_image(255 * self._picture.numpy()[0])

    def _gradient(self, picture: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = segmentation_loss(self._config.training.loss, self._mask, self._logits_of(255 * picture))[0]
        gradient: list[tf.Tensor] = tape.gradient(loss, [variable.value for variable in self._variables])
        return gradient

    def _closer(self) -> None:
        with tf.GradientTape() as tape:
            picture = self._picture.value()
            tape.watch(picture)
            own = self._gradient(picture)
            alike = _inner(own, self._target) / tf.sqrt(_inner(own, own) * _inner(self._target, self._target) + 1e-30)
            rough = [tf.abs(picture[:, 1:] - picture[:, :-1]), tf.abs(picture[:, :, 1:] - picture[:, :, :-1])]
            far = 1 - alike + _SMOOTHNESS * tf.add_n([tf.reduce_mean(each) for each in rough])
        self._optimizer.apply([tape.gradient(far, picture)], [self._picture])
        self._picture.assign(tf.clip_by_value(self._picture, 0.0, 1.0))


def _control(side: int, seed: int) -> keras.Model:
    """Images (1, S, S, 3) in 0..255 to logits (1, S, S), by one hidden dense layer: without pooling, without norms."""
    draw = keras.initializers.GlorotUniform
    image = keras.Input((side, side, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Dense(_HIDDEN, "tanh", kernel_initializer=draw(seed))(x)
    x = keras.layers.Dense(side * side, kernel_initializer=draw(seed + 1))(x)
    return keras.Model(image, keras.layers.Reshape((side, side))(x))


def _inner(one: Sequence[tf.Tensor], other: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.add_n([tf.reduce_sum(a * b) for a, b in zip(one, other, strict=True)])


def _as_image(picture: Picture) -> Image:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
