"""A model card in the form of Hugging Face's template. It says which facts are not known."""

import json
from collections.abc import Iterable
from typing import Any

from fedpolyp import __version__
from fedpolyp.config import PHANTOM
from fedpolyp.experiment.findings import SIZE_BOUNDS, SIZES
from fedpolyp.inference.export.facts import (
    INTENDED,
    NOT_KNOWN,
    OUT_OF_SCOPE,
    TITLE,
    images_called,
    licences,
    plain,
    scores,
    setting,
    weights_from,
)
from fedpolyp.inference.export.subject import Subject
from fedpolyp.text import printable

_METRICS = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "hd95": "HD95, as a fraction of the image's diagonal (lower is better)",
}
_MOST_HOSPITALS = 30  # hospitals with their own row


def card(subject: Subject) -> str:
    """The text of README.md."""
    parts = (_head, _details, _uses, _risks, _start, _training, _evaluation, _technical)
    return "\n\n".join(part(subject) for part in parts) + "\n"


def _head(subject: Subject) -> str:
    about, found = subject.about, scores(subject)
    lines = [
        "license: unknown  # chosen by whoever publishes the model, within the licences of images and weights",
        "library_name: keras",
        "pipeline_tag: image-segmentation",
        *_list("tags", ("image-segmentation", "polyp-segmentation", "colonoscopy", "medical", "u-net", "fedpolyp")),
        *_list("metrics", ("dice", "iou")),
    ]
    values = {name: one.value for name, one in found.items() if name in ("dice", "iou")}
    if not values and about is not None and about.dice is not None:
        values = {"dice": about.dice}
    if values:
        # At sites the settings name the held-out images, if there are any.
        source = setting(subject, "data", "source") if about is not None and about.heldout else "sites"
        called = json.dumps(f"{source}, held-out images" if source != "sites" else "the sites' own test images")
        lines += [
            "model-index:",
            f"- name: {json.dumps(TITLE)}",
            "  results:",
            "  - task: {type: image-segmentation}",
            f"    dataset: {{type: {json.dumps(source)}, name: {called}}}",
            "    metrics:",
            *(f"    - {{type: {name}, value: {value:.4f}, name: mean over images}}" for name, value in values.items()),
        ]
    return "\n".join(["---", *lines, "---"])


def _details(subject: Subject) -> str:
    about, encoder = subject.about, setting(subject, "model", "encoder")
    size = subject.predictor.image_size
    kind = "U-Net" if encoder == NOT_KNOWN else f"U-Net, encoder: {plain(encoder)}"
    which = "It does not say where it comes from." if about is None else _sentence(about.sentence())
    return f"""# {TITLE}

A network that gives each pixel of a colonoscopy image the probability that it is polyp. {which}

**For research only. Not a medical device.**

## Model Details

- **Developed by:** {NOT_KNOWN}
- **Model type:** {kind}; {subject.predictor.model.count_params():,} parameters; {size} x {size} pixels, RGB
- **License:** none yet. Whoever publishes the model chooses it and sets it in the head of this file, within the
  [licences](#licences) of the images and weights.
- **Finetuned from:** {"; ".join(weights_from(subject)) or _from_nothing(subject)}
- **Repository:** made with fedpolyp {__version__ if about is None else plain(about.version)}"""


def _uses(subject: Subject) -> str:
    return f"""## Uses

### Direct Use

{INTENDED}

### Out-of-Scope Use

{OUT_OF_SCOPE}"""


def _risks(subject: Subject) -> str:
    about = subject.about
    known = (
        "\n- `fedpolyp.json` in `model.keras` has the beginnings of the hashes of its training images. They show no "
        "image, but whoever has one of these files can tell that the model was trained or selected on it."
        if about is not None and about.learnt_from
        else ""
    )
    return f"""## Bias, Risks, and Limitations

- Nothing is known about patients, hospitals, endoscopes and kinds of polyps that were not among its images. Expect
  lower scores there.
- Who the patients were (age, sex, origin) is {NOT_KNOWN}: fedpolyp records nothing about them.
- What it predicts in images that show no colon, and how well its probabilities are calibrated, was not measured
  here.{known}

### Recommendations

Score it on images of your own before you believe it:
`fedpolyp evaluate --model model.keras --data FOLDER --out scores`."""


def _start(subject: Subject) -> str:
    size, cut = subject.predictor.image_size, subject.predictor.threshold
    return f"""## How to Get Started with the Model

```python
import cv2, keras

model = keras.saving.load_model("model.keras", compile=False)
image = cv2.imread("image.png", cv2.IMREAD_COLOR_RGB)  # values 0 to 255: the model scales them itself
square = cv2.resize(image, ({size}, {size}), interpolation=cv2.INTER_AREA)
mask = cv2.resize(model.predict(square[None])[0], image.shape[1::-1]) >= {cut:g}  # True: polyp
```

Or `fedpolyp predict --model model.keras --out found IMAGES`."""


def _training(subject: Subject) -> str:
    rows = {
        "algorithm": setting(subject, "algorithm", "name"),
        "hospitals": setting(subject, "hospitals", "count"),
        "how images were partitioned": setting(subject, "hospitals", "scheme"),
        "rounds": setting(subject, "federation", "rounds"),
        "local epochs": setting(subject, "training", "local_epochs"),
        "batch size": setting(subject, "training", "batch_size"),
        "optimizer": setting(subject, "training", "optimizer"),
        "learning rate": setting(subject, "training", "learning_rate"),
        "loss": setting(subject, "training", "loss"),
        "augmentation": setting(subject, "training", "augment"),
        "precision of the training": setting(subject, "training", "precision"),
        "precision of this file": "float32",
        "seed": printable(subject.settings.get("seed", NOT_KNOWN), 200),
    }
    if subject.at_sites:
        del rows["how images were partitioned"]
    if setting(subject, "training", "local_steps") != NOT_KNOWN:
        del rows["local epochs"]
        rows["local steps"] = setting(subject, "training", "local_steps")
    return f"""## Training Details

### Training Data

{_images(subject)}

{_split(subject)}

### Training Procedure

Images are resized to the model's square by area, whatever their proportions.

{_table(("setting", "value"), ((name, plain(value)) for name, value in rows.items()))}

All settings are in `config.json`.

#### Speeds, Sizes, Times

{_hardware(subject)}

### Licences

{_bullets(licences(subject)) or f"- {NOT_KNOWN}"}"""


def _evaluation(subject: Subject) -> str:
    about, found = subject.about, scores(subject)
    if found:
        arm, analysis = subject.arm, subject.analysis
        assert arm is not None
        assert analysis is not None
        table = _table(
            ("score", "mean over images", "95 % interval"),
            ((_METRICS[name], f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}") for name, one in found.items()),
        )
        body = (
            f"On the {len(analysis.partition.heldout)} held-out images, which "
            f"{'the coordinator had' if subject.at_sites else 'no hospital had'}, at the model's size; "
            "where some show no polyp, over those that do. Intervals are over images alone: they say nothing about "
            f"another training.\n\n{table}"
        )
        sizes = [(name, one) for name, one in zip(SIZES, arm.by_size, strict=True) if one is not None]
        if subject.kind == "last" and sizes:
            by_size = ((name, f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}") for name, one in sizes)
            small, large = SIZE_BOUNDS
            body += (
                f"\n\nBy the lesion's size; small is less than {small:.0%} of the image, large more than {large:.0%}:"
                f"\n\n{_table(('lesion', 'Dice', '95 % interval'), by_size)}"
            )
        if subject.kind == "last" and arm.own_tests and len(arm.own_tests) <= _MOST_HOSPITALS:
            rows = ((plain(name), f"{one.value:.3f}") for name, one in arm.own_tests.items())
            body += f"\n\nOn each hospital's own test images:\n\n{_table(('hospital', 'Dice'), rows)}"
    elif about is not None and about.dice is not None:
        on = f"on {about.heldout} held-out images" if about.heldout else "on the sites' own test images"
        body = f"Mean Dice {about.dice:.3f} {on}, as the model says of itself. Its interval is {NOT_KNOWN}."
    else:
        body = f"Its scores are {NOT_KNOWN}."
    chosen = ""
    if subject.kind == "best":
        chosen = "\n\nIt is the model of the round that was best on validation images, which are not the held-out ones."
    return f"""## Evaluation

### Metrics

A pixel is polyp from a probability of {subject.predictor.threshold:g} on. Each image is scored by itself.

### Results

{body}{chosen}

On images of other hospitals: {_unseen(subject)}."""


def _technical(subject: Subject) -> str:
    return f"""## Technical Specifications

Input: uint8 or float32, `(N, {subject.predictor.image_size}, {subject.predictor.image_size}, 3)`, RGB, 0 to 255.
Output: float32, `(N, {subject.predictor.image_size}, {subject.predictor.image_size}, 1)`, probabilities.
`export.json` has the same for programs.

## Citation

{NOT_KNOWN.capitalize()}: whoever publishes the model says how to cite it. Cite the authors of the images, too.

## Model Card Contact

{NOT_KNOWN.capitalize()}"""


def _images(subject: Subject) -> str:
    called = images_called(subject)
    if subject.at_sites:
        return f"Images of real sites, which keep them to themselves: which they are is {NOT_KNOWN}."
    if subject.run is not None:
        if subject.run.config().data.source == PHANTOM:
            return "Phantom frames, drawn by fedpolyp: no patient's images. **It has never seen a real polyp.**"
    elif called == PHANTOM:
        return (
            "Images that are called `phantom`, as those are that fedpolyp draws; if they were, it has never seen a "
            "real polyp."
        )
    if called == NOT_KNOWN:
        return f"Which images it learnt from is {NOT_KNOWN}."
    return f"Images that were called {plain(called)} by those who trained it."


def _from_nothing(subject: Subject) -> str:
    return NOT_KNOWN if setting(subject, "model", "encoder") == NOT_KNOWN else "nothing: it began with random weights"


def _split(subject: Subject) -> str:
    analysis, about = subject.analysis, subject.about
    if analysis is None or subject.at_sites:
        held = f"{about.heldout} images were held out. " if about is not None and about.heldout else ""
        return f"{held}How many images each hospital had is {NOT_KNOWN}."
    partition = analysis.partition
    if len(partition.hospitals) > _MOST_HOSPITALS:
        counts = [len(own.train) for own in partition.hospitals.values()]
        return (
            f"{len(partition.heldout)} images were held out from all hospitals. Each of the {len(counts)} had "
            f"{min(counts)} to {max(counts)} training images."
        )
    rows = (
        (plain(name), len(own.train), len(own.val), len(own.test)) for name, own in sorted(partition.hospitals.items())
    )
    table = _table(("hospital", "training", "validation", "test"), rows)
    return f"{len(partition.heldout)} images were held out from all hospitals. Each of these had:\n\n{table}"


def _unseen(subject: Subject) -> str:
    arm = subject.arm
    if arm is None or not arm.unseen or subject.kind != "last":
        return NOT_KNOWN
    told = (f"{plain(name)} {one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for name, one in arm.unseen.items())
    return f"mean Dice with 95 % intervals: {', '.join(told)}"


def _hardware(subject: Subject) -> str:
    if subject.run is None:
        return f"Hardware and hours are {NOT_KNOWN}: they are in the run's folder, which was not given."
    environment, records = subject.run.environment(), subject.run.rounds()
    hours = sum(record["seconds"] for record in records) / 3600
    processor, cores = (plain(environment.get(name) or NOT_KNOWN) for name in ("processor", "cores"))
    packages = environment.get("packages")
    told = packages if isinstance(packages, dict) else {}
    versions = ", ".join(f"{plain(name)} {plain(own)}" for name, own in told.items()) or NOT_KNOWN
    return _bullets(
        [
            f"Hardware: the run was begun on {processor}, {cores} cores; whether a GPU was used is {NOT_KNOWN}.",
            f"Hours used: {hours:.2f}, as recorded for {len(records) - 1} rounds and the scoring before them.",
            f"Software: {versions}.",
            f"Carbon emitted: {NOT_KNOWN}.",
        ]
    )


def _list(name: str, values: Iterable[str]) -> list[str]:
    return [f"{name}:", *(f"- {value}" for value in values)]


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: tuple[str, ...], rows: Iterable[Iterable[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in lines)


def _sentence(text: str) -> str:
    told = plain(text)
    return f"{told[0].upper()}{told[1:]}."
