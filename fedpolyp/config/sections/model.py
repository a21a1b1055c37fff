"""`[model]`: the U-Net."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from fedpolyp.section import Section, Sha256

Encoder = Literal["plain", "efficientnet-lite0", "mobilenet-v2", "efficientnet-v2-b0", "resnet50-v2"]
ENCODERS: tuple[Encoder, ...] = get_args(Encoder)
NAMED_WEIGHTS = ("imagenet", "random")  # any other `model.encoder_weights` is a file


class ModelConfig(Section):
    """The U-Net."""

    encoder: Encoder = Field(
        "plain",
        description="the U-Net's encoder: plain, or one with ImageNet weights: efficientnet-lite0, mobilenet-v2, "
        "efficientnet-v2-b0, resnet50-v2",
    )
    encoder_weights: str = Field(
        "imagenet",
        description="initial weights of that encoder: imagenet, random, or a file in Keras's format (not for "
        "efficientnet-lite0); plain is always random",
    )
    encoder_sha256: Sha256 = Field(
        None,
        description="SHA-256 of the file of these weights; unset: recorded when the run begins",
    )
    encoder_rate: float = Field(
        1.0,
        ge=0,
        le=1,
        description="the encoder's learning rate, as a fraction of the decoder's (no effect with plain)",
    )
    frozen_statistics: bool = Field(
        False, description="keep the encoder's initial moving statistics (no effect with plain)"
    )
    initial_weights: str | None = Field(
        None, description="initial weights of the whole model: a run, or a model saved as .keras; unset: random"
    )
    initial_sha256: Sha256 = Field(None, description="SHA-256 of these weights; unset: recorded when the run begins")
    base_filters: int = Field(
        16,
        ge=1,
        le=256,
        description="filters of the plain encoder's first block, doubled at each level, and of the last decoder block",
    )
    normalization: Literal["batch", "group", "none"] = Field(
        "batch", description="after each convolution; an encoder with ImageNet weights always has batch"
    )
    dropout: tuple[float, float] = Field(
        (0.0, 0.0),
        strict=False,
        description="dropout rate of the first encoder block and of the bridge; linear in between; plain only",
    )

    @model_validator(mode="after")
    def _rates(self) -> "ModelConfig":
        if not all(0 <= rate < 1 for rate in self.dropout):
            raise ValueError(f"model.dropout rates must be in [0, 1); got {list(self.dropout)}")
        return self

    @model_validator(mode="after")
    def _fits_the_encoder(self) -> "ModelConfig":
        if self.encoder == "plain":
            return self
        if any(self.dropout):
            raise ValueError(f"model.dropout is for the encoder plain; {self.encoder} takes 0 0; got {self.dropout}")
        if self.normalization != "batch" and not self.frozen_statistics:
            raise ValueError(
                f"the encoder {self.encoder} has batch normalizations: model.normalization must be batch, or "
                f"model.frozen_statistics true; got {self.normalization}"
            )
        if self.encoder_weights not in NAMED_WEIGHTS:
            a_file = self.encoder != "efficientnet-lite0"
            if not (a_file and self.encoder_weights.endswith(".h5")):
                allowed = "imagenet, random or a file (.h5)" if a_file else f"imagenet or random for {self.encoder}"
                raise ValueError(f"model.encoder_weights must be {allowed}; got '{self.encoder_weights}'")
        return self

    @property
    def learns_statistics(self) -> bool:
        """Whether the model has batch normalization whose moving statistics a training changes."""
        return self.normalization == "batch" or (self.encoder != "plain" and not self.frozen_statistics)

    @property
    def architecture(self) -> "ModelConfig":
        """The same without the source of its weights: what a hospital must know, which is sent the weights."""
        return self.model_copy(
            update={
                "encoder_weights": "random",
                "encoder_sha256": None,
                "initial_weights": None,
                "initial_sha256": None,
            }
        )
