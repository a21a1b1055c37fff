"""The optimizers of a hospital's training: Adam, AdamW, Muon and SGD, with their state as named arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from fedpolyp.config import TrainingConfig

MOMENTUM = 0.9  # of SGD
# An optimizer's state for each variable: the end of its name in Keras, and its name in a checkpoint.
_REMEMBERED = {"momentum": "m", "velocity": "v"}


@dataclass(frozen=True)
class _State:
    """Muon's state for a variable, and the layout of its kernel."""

    momentum: Any
    velocity: Any  # None for a matrix
    transposed: bool


class Muon(keras.optimizers.Optimizer):
    """Momentum, orthogonalized by Newton-Schulz iterations, for kernels; Adam for everything else.

    K. Jordan et al., Muon (2024), with the update's scale of Liu et al. (arXiv 2502.16982): each step has about the
    size of Adam's. Keras's own Muon treats only 2-D kernels, of which a U-Net has none. Here a convolution's kernel is
    the matrix (height * width * in, out), a transposed convolution's (in, height * width * out). A kernel with one
    output (the logits', a depthwise convolution's) is not treated as a matrix: it uses Adam, like biases and
    normalizations.

    Args:
        learning_rate: of kernels; Adam's is `ADAM_RATIO` of it.
        transposed: paths of the kernels of transposed convolutions.
    """

    MOMENTUM = 0.95
    ITERATIONS = 5
    COEFFICIENTS = (3.4445, -4.7750, 2.0315)
    SCALE = 0.2
    # A kernel's step grows with its size, a vector's does not.
    ADAM_RATIO = 0.15
    ADAM = (0.9, 0.999, 1e-7)

    def __init__(self, learning_rate: float, transposed: Sequence[str] = ()) -> None:
        super().__init__(learning_rate, name="muon")
        self._transposed = frozenset(transposed)
        self._state: dict[Any, _State] = {}

    def build(self, variables: list[Any]) -> None:
        """Make the momentum of each variable, and the second moment of those that use Adam."""
        super().build(variables)
        for variable in variables:
            momentum = self.add_variable_from_reference(variable, name="momentum")
            velocity = None if self.is_matrix(variable) else self.add_variable_from_reference(variable, name="velocity")
            self._state[variable.value.ref()] = _State(momentum, velocity, variable.path in self._transposed)

    @staticmethod
    def is_matrix(variable: Any) -> bool:
        """Whether the variable is a kernel with more than one output."""
        return len(variable.shape) == 4 and variable.shape[-1] > 1

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Update `variable` from its `gradient`."""
        state = self._state[variable.ref()]
        if state.velocity is not None:
            self._adam_step(gradient, variable, learning_rate, state.momentum, state.velocity)
            return
        decay = self.MOMENTUM
        state.momentum.assign(decay * state.momentum.value + (1 - decay) * gradient)
        look_ahead = decay * state.momentum.value + (1 - decay) * gradient  # Nesterov's
        if state.transposed:  # (height, width, out, in)
            look_ahead = tf.transpose(look_ahead, (3, 0, 1, 2))
            matrix = tf.reshape(look_ahead, (look_ahead.shape[0], -1))
        else:
            matrix = tf.reshape(look_ahead, (-1, look_ahead.shape[3]))
        direction = tf.reshape(self._orthogonal(matrix), look_ahead.shape)
        if state.transposed:
            direction = tf.transpose(direction, (1, 2, 3, 0))
        variable.assign_sub(learning_rate * self.SCALE * math.sqrt(max(matrix.shape)) * direction)

    def _adam_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor, momentum: Any, velocity: Any
    ) -> None:
        first, second, epsilon = self.ADAM
        momentum.assign(first * momentum.value + (1 - first) * gradient)
        velocity.assign(second * velocity.value + (1 - second) * tf.square(gradient))
        step = tf.cast(self.iterations.value + 1, tf.float32)
        rate = learning_rate * self.ADAM_RATIO * tf.sqrt(1 - second**step) / (1 - first**step)
        variable.assign_sub(rate * momentum.value / (tf.sqrt(velocity.value) + epsilon))

    def _orthogonal(self, matrix: tf.Tensor) -> tf.Tensor:
        """About U Vᵀ of `matrix` = U S Vᵀ: its singular values brought to between 0.7 and 1.2.

        The iteration X <- X (a I + b XᵀX + c (XᵀX)²) is carried out on the small matrix XᵀX, with the product of the
        brackets beside it: half the multiplications or less, as the long side is met only at the start and the end.
        XᵀX needs float32: in bfloat16 its small eigenvalues are lost, and the iteration diverges.
        """
        rows, columns = matrix.shape
        tall = tf.transpose(matrix) if rows < columns else matrix
        tall = tall / (tf.norm(tall) + 1e-7)
        a, b, c = self.COEFFICIENTS
        gram = tf.matmul(tall, tall, transpose_a=True)
        identity = product = tf.eye(min(rows, columns))
        for iteration in range(self.ITERATIONS):
            bracket = a * identity + b * gram + c * tf.matmul(gram, gram)
            product = bracket if iteration == 0 else tf.matmul(product, bracket)
            if iteration < self.ITERATIONS - 1:
                gram = tf.matmul(tf.matmul(bracket, gram), bracket)
        result = tf.matmul(tall, product)
        return tf.transpose(result) if rows < columns else result


def optimizer_of(training: TrainingConfig, model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer that `training` names, built for `model`'s trainable variables."""
    optimizer = _unbuilt(training, model)
    optimizer.build(model.trainable_variables)
    return optimizer


def _unbuilt(training: TrainingConfig, model: keras.Model) -> keras.optimizers.Optimizer:
    rate = training.learning_rate or 0.0  # each training assigns its own
    if training.optimizer == "muon":
        transposed = [layer.kernel.path for layer in model.layers if isinstance(layer, keras.layers.Conv2DTranspose)]
        return Muon(rate, transposed)
    if training.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=training.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    if training.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True)
    return keras.optimizers.Adam(rate)


def remembered(optimizer: keras.optimizers.Optimizer, trainable: Sequence[Any]) -> dict[str, Any]:
    """The state of a built `optimizer`, by name: `iterations`, its number of steps (int64), then for each variable
    `m/<path>`, the first moment or momentum, and `v/<path>`, the second moment, if it has them; each of the variable's
    shape, float32.
    """
    state: dict[str, Any] = {"iterations": optimizer.iterations}
    own = {variable.path.removeprefix(f"{optimizer.name}/"): variable for variable in optimizer.variables}
    for variable in trainable:
        stem = variable.path.replace("/", "_")
        for ending, name in _REMEMBERED.items():
            if f"{stem}_{ending}" in own:
                state[f"{name}/{variable.path}"] = own[f"{stem}_{ending}"]
    return state
