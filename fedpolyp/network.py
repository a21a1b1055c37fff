"""The network: a U-Net, its optimizer, and the steps of both, compiled once for any number of trainings."""

from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from typing import Any

import fedpolyp.quiet_tensorflow  # noqa: F401

# isort: split
import keras
import tensorflow as tf

from fedpolyp.algorithms.base import Start
from fedpolyp.algorithms.finding import find, make
from fedpolyp.config import AlgorithmConfig, Config, DataConfig, TrainingConfig
from fedpolyp.model import arrays as named
from fedpolyp.model import registry
from fedpolyp.model.arrays import Arrays
from fedpolyp.model.blocks import LOGITS
from fedpolyp.model.losses import segmentation_loss
from fedpolyp.model.normalization import FusedBatchNormalization
from fedpolyp.optimizers import optimizer_of, remembered
from fedpolyp.privacy.gradients import UnitGradients

# The training settings that are compiled into the steps; the others concern only the trainer.
_COMPILED = ("optimizer", "weight_decay", "loss", "precision", "threads")


class Network:
    """A U-Net whose weights, optimizer state and random draws are all passed in.

    Building it and tracing its steps costs seconds, and building many leaks memory: see `shared_network`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config = compiled(config)  # so that nothing else can have an effect
        prepare_tensorflow(config.training.threads)
        self.model = registry.build(config, for_training=True)
        self.logits = keras.Model(self.model.input, self.model.get_layer(LOGITS).output)
        self.variables = {variable.path: variable for variable in self.model.weights}
        self.optimizer = optimizer_of(config.training, self.model)
        self.remembered = remembered(self.optimizer, self.model.trainable_variables)
        self.dropouts = [
            (number, layer) for number, layer in enumerate(self.model.layers) if isinstance(layer, keras.layers.Dropout)
        ]
        self._normalizations = [layer for layer in self.model.layers if isinstance(layer, FusedBatchNormalization)]
        self._algorithm = make(config)
        self.corrections = {name: self._like_trainable() for name in self._algorithm.corrections}
        self.gradients = self._like_trainable() if self._algorithm.wants_gradients else {}
        slow = config.model.encoder_rate < 1
        self._slowed = [v for v in self.model.trainable_variables if slow and v.path.startswith(registry.ENCODER)]
        self.start = Start(named.read(self.variables), named.read(self.remembered))
        self.traces = 0
        size = config.data.image_size
        # One signature for every batch size, or each hospital's last partial batch would be traced again.
        image, mask = tf.TensorSpec((None, size, size, 3), tf.uint8), tf.TensorSpec((None, size, size), tf.uint8)
        # None of our branches depends on a tensor, so rewriting Python would only take time.
        function: Callable[..., Callable[..., Any]] = partial(tf.function, autograph=False)
        self.train_step = function(self._step, input_signature=[image, mask])
        self.train_step_with_fixed_statistics = function(partial(self._step, fixed=True), input_signature=[image, mask])
        self.logits_of = function(partial(self.logits, training=False), input_signature=[image])
        self.score = function(self._scores, input_signature=[image, mask])

    @cached_property
    def initial(self) -> Arrays:
        """The initial weights of a run: random, or a pretrained encoder's under a random decoder.

        Raises:
            FedpolypError: the encoder's weights are missing, or do not fit.
        """
        return registry.initial(self.config, self.start.model)

    @cached_property
    def saved(self) -> keras.Model:
        """The model as it is saved, of Keras's own layers and in float32; each saving sets its weights."""
        plain = self.config.training.model_copy(update={"precision": "float32"})
        return registry.build(self.config.model_copy(update={"training": plain}))

    @cached_property
    def unit_gradients(self) -> UnitGradients:
        """The gradients of single units, of the arrays that learn."""
        return UnitGradients(self.logits, registry.learning(self.config, self.model), self.config.training.loss)

    def _step(self, images: tf.Tensor, masks: tf.Tensor, fixed: bool = False) -> tf.Tensor:
        self.traces += 1  # runs in Python, so only when TensorFlow traces
        for normalization in self._normalizations:
            normalization.fixed = fixed
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.logits(images, training=True)[..., 0]
            loss = tf.reduce_mean(segmentation_loss(self.config.training.loss, tf.cast(masks, tf.float32), logits))
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        for total, gradient in zip(self.gradients.values(), gradients, strict=False):
            total.assign_add(gradient)
        if self._algorithm.steers():
            own = [{name: each[v.path] for name, each in self.corrections.items()} for v in variables]
            gradients = [
                self._algorithm.gradient(gradient, variable.value, correction)
                for gradient, variable, correction in zip(gradients, variables, own, strict=True)
            ]
        # A lower rate for some variables is a shorter step, with every optimizer.
        before = [tf.identity(variable.value) for variable in self._slowed]
        self.optimizer.apply(gradients, variables)
        for variable, was in zip(self._slowed, before, strict=True):
            variable.assign(was + self.config.model.encoder_rate * (variable.value - was))
        return loss

    def _scores(self, images: tf.Tensor, masks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        self.traces += 1
        logits = self.logits(images, training=False)[..., 0]
        losses = segmentation_loss(self.config.training.loss, tf.cast(masks, tf.float32), logits)
        return tf.cast(logits > 0.0, tf.uint8), losses  # a probability above 0.5 is a logit above 0

    def _like_trainable(self) -> dict[str, tf.Variable]:
        return {v.path: tf.Variable(tf.zeros_like(v), trainable=False) for v in self.model.trainable_variables}


def shared_network(config: Config) -> Network:
    """This process's network for `config`, built once and shared by trainings with the same compiled settings."""
    return _network(compiled(config))


def compiled(config: Config) -> Config:
    """The part of `config` that is compiled into a network; everything else has its default."""
    kind = find(config.algorithm.name)
    traced = kind.steers() or bool(kind.corrections) or kind.wants_gradients
    return Config(
        seed=config.seed,
        data=DataConfig(image_size=config.data.image_size),
        model=config.model,
        training=TrainingConfig(**{name: getattr(config.training, name) for name in _COMPILED}),
        algorithm=config.algorithm if traced else AlgorithmConfig(),
    )


@lru_cache(maxsize=1)
def _network(what_matters: Config) -> Network:
    return Network(what_matters)


def prepare_tensorflow(threads: int) -> None:
    """Fix the threads of this process, which decide the bits, and make GPU kernels deterministic.

    Raises:
        RuntimeError: TensorFlow has already computed here, with other threads.
    """
    gpus = tf.config.list_physical_devices("GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if gpus:
        tf.config.experimental.enable_op_determinism()
