"""`[training]`: what a hospital does in a round."""

from typing import Literal

from pydantic import Field

from fedpolyp.section import Section


class TrainingConfig(Section):
    """What a hospital does with the global model in one round."""

    local_epochs: int = Field(1, ge=1, le=1000, description="passes over a hospital's training images in a round")
    local_steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="steps of each hospital in a round, instead of epochs: the same for large and small hospitals",
    )
    batch_size: int = Field(8, ge=1, le=1024, description="images per step; a smaller last batch is kept")
    optimizer: Literal["adam", "adamw", "muon", "sgd"] = Field(
        "muon",
        description="local optimizer: adam, adamw, muon (orthogonalized momentum for kernels, adam for the rest), "
        "sgd (Nesterov momentum 0.9)",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="local learning rate in the first round; unset: a default for the optimizer and the arm",
    )
    weight_decay: float = Field(
        0.01, ge=0, lt=1, description="adamw: how much a step shrinks each kernel, as a fraction of the learning rate"
    )
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="how the learning rate changes over the rounds"
    )
    fix_statistics_after: int | None = Field(
        None,
        ge=1,
        description="round after which batch normalization keeps its moving statistics and trains with them (FixBN)",
    )
    warmup_rounds: int = Field(0, ge=0, description="rounds over which the learning rate rises linearly at the start")
    loss: Literal["bce", "bce+dice"] = Field("bce+dice", description="binary cross-entropy, plus soft Dice per image")
    optimizer_state: Literal["reset", "keep", "average"] = Field(
        "average",
        description="the optimizer's moments across rounds: reset, kept at each hospital, or averaged by the server",
    )
    augment: bool = Field(True, description="random flips, rotations, scaled crops and colour")
    wire: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="type in which weights and updates are sent: bfloat16 takes half the bytes",
    )
    precision: Literal["float32", "mixed_bfloat16"] | None = Field(
        None,
        description="precision of the U-Net's layers; unset: mixed_bfloat16 if the processor supports it, else float32",
    )
    threads: int = Field(1, ge=1, le=256, description="intra-op threads of each training; the bits depend on this")

    def fixes_statistics(self, round: int) -> bool:
        """Whether a training of `round` uses the moving statistics that it is sent, and leaves them as they are."""
        return self.fix_statistics_after is not None and round > self.fix_statistics_after

    def steps(self, images: int) -> int:
        """How many steps a training on this many `images` takes: `local_steps`, or the steps of the epochs."""
        if self.local_steps is not None:
            return self.local_steps
        return -(-images // self.batch_size) * self.local_epochs

    def images_seen(self, images: int) -> int:
        """How many images the steps of a training on this many `images` use, counting each as often as it is used."""
        epochs, left = divmod(self.steps(images), -(-images // self.batch_size))
        return epochs * images + min(left * self.batch_size, images)
