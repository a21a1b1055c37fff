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


class AdamKernel:
    """Adam's step of a variable as TensorFlow's one operation for it.

    Keras writes it down as some thirty operations for each variable. This is half of the time that it takes to trace a
    training step.
    """

    def __init__(self, iterations: Any, decays: tuple[float, float], epsilon: float) -> None:
        """The step after `iterations`, with the `decays` of the first and of the second moment."""
        step = tf.cast(iterations.value + 1, tf.float32)
        self._settings = {
            "beta1_power": tf.pow(decays[0], step),
            "beta2_power": tf.pow(decays[1], step),
            "beta1": tf.constant(decays[0]),
            "beta2": tf.constant(decays[1]),
            "epsilon": tf.constant(epsilon),
        }

    def step(self, variable: tf.Variable, gradient: tf.Tensor, rate: tf.Tensor, first: Any, second: Any) -> None:
        """Update `variable` and its `first` and `second` moment, Keras variables, from its `gradient`."""
        moments = {"m": first.value.handle, "v": second.value.handle}
        tf.raw_ops.ResourceApplyAdam(var=variable.handle, grad=gradient, lr=rate, **moments, **self._settings)


class _FewerOperations:
    """Keras's Adam and AdamW with `AdamKernel` for each variable."""

    def apply(self: Any, grads: Any, trainable_variables: Any = None) -> None:
        """Update `trainable_variables` from their gradients."""
        self._kernel = AdamKernel(self.iterations, (self.beta_1, self.beta_2), self.epsilon)
        super().apply(grads, trainable_variables)  # type: ignore[misc]
        del self._kernel  # it belongs to the step that is being traced

    def update_step(self: Any, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Update `variable` from its `gradient`."""
        index = self._get_variable_index(variable)  # as Keras's own optimizers do
        self._kernel.step(variable, gradient, learning_rate, self._momentums[index], self._velocities[index])


class Adam(_FewerOperations, keras.optimizers.Adam):
    """Keras's Adam, traced in half of the time."""


class AdamW(_FewerOperations, keras.optimizers.AdamW):
    """Keras's AdamW, traced in half of the time."""


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
    ADAM = ((0.9, 0.999), 1e-7)

    def __init__(self, learning_rate: float, transposed: Sequence[str] = ()) -> None:
        super().__init__(learning_rate, name="muon")
        self._transposed = frozenset(transposed)
        self._state: dict[Any, _State] = {}
        self._iterations_of: dict[int, Any] = {}

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

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Update `trainable_variables` from their gradients."""
        self._adam = AdamKernel(self.iterations, *self.ADAM)
        super().apply(grads, trainable_variables)
        del self._adam  # it belongs to the step that is being traced

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Update `variable` from its `gradient`."""
        state = self._state[variable.ref()]
        if state.velocity is not None:
            self._adam.step(variable, gradient, learning_rate * self.ADAM_RATIO, state.momentum, state.velocity)
            return
        fresh = (1 - self.MOMENTUM) * gradient
        momentum = self.MOMENTUM * state.momentum.value + fresh
        state.momentum.assign(momentum)
        look_ahead = self.MOMENTUM * momentum + fresh  # Nesterov's
        if state.transposed:  # (height, width, out, in)
            look_ahead = tf.transpose(look_ahead, (3, 0, 1, 2))
            matrix = tf.reshape(look_ahead, (look_ahead.shape[0], -1))
        else:
            matrix = tf.reshape(look_ahead, (-1, look_ahead.shape[3]))
        direction = tf.reshape(self._orthogonal(matrix), look_ahead.shape)
        if state.transposed:
            direction = tf.transpose(direction, (1, 2, 3, 0))
        variable.assign_sub(learning_rate * (self.SCALE * math.sqrt(max(matrix.shape))) * direction)

    def _orthogonal(self, matrix: tf.Tensor) -> tf.Tensor:
        """About U Vᵀ of `matrix` = U S Vᵀ: its singular values brought to between 0.7 and 1.2.

        The iteration X <- X (a I + b XᵀX + c (XᵀX)²) is carried out on the small one of XᵀX and XXᵀ, with the product
        of the brackets beside it: half the multiplications or less, as the long side is met only at the start and the
        end. XᵀX needs float32: in bfloat16 its small eigenvalues are lost, and the iteration diverges.
        """
        rows, columns = matrix.shape
        wide, side = rows < columns, min(rows, columns)
        if side not in self._iterations_of:  # traced once for all kernels of this side
            square = tf.TensorSpec((side, side), tf.float32)
            self._iterations_of[side] = tf.function(self._brackets, input_signature=[square], autograph=False)
        product = self._iterations_of[side](tf.matmul(matrix, matrix, transpose_a=not wide, transpose_b=wide))
        return tf.matmul(product, matrix) if wide else tf.matmul(matrix, product)

    def _brackets(self, gram: tf.Tensor) -> tf.Tensor:
        """The product of all brackets, and of one over the norm of the matrix from which `gram` was made."""
        norm = tf.sqrt(tf.linalg.trace(gram)) + 1e-7
        gram = gram / tf.square(norm)
        a, b, c = self.COEFFICIENTS
        scaled = a * tf.eye(gram.shape[0])
        product = None
        for iteration in range(self.ITERATIONS):
            bracket = scaled + b * gram + c * tf.matmul(gram, gram)
            product = bracket if product is None else tf.matmul(product, bracket)
            if iteration < self.ITERATIONS - 1:
                gram = tf.matmul(tf.matmul(bracket, gram), bracket)
        return product / norm


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
        optimizer = AdamW(rate, weight_decay=training.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    if training.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True)
    return Adam(rate)


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
