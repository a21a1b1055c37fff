"""`fedpolyp data`: download, ingest and audit images, and describe a folder of images."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedpolyp.cli.console import PlainConsole
from fedpolyp.cli.options import Given, with_settings
from fedpolyp.cli.tables import plain_table
from fedpolyp.config import Config, DataConfig, load
from fedpolyp.data import places
from fedpolyp.errors import UsageError

if TYPE_CHECKING:
    from fedpolyp.data.store import Store

app = typer.Typer(help="Download, ingest, audit or show images.", no_args_is_help=True)
_REJECTED_SHOWN = 20
DataSetName = Literal["kvasir-seg", "hyper-kvasir", "clinicdb", "polypgen"]


def _about(setting: str) -> str:
    return DataConfig.model_fields[setting].description or ""


@app.command()
def ingest(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER", help="folder of images and masks, as --data of simulate; several by name: kvasir=FOLDER"
        ),
    ],
    image_size: Annotated[int, typer.Option(help="side of the square images, pixels")] = DataConfig().image_size,
    masks: Annotated[str, typer.Option(help=_about("masks"))] = DataConfig().masks,
    lesion_values: Annotated[str | None, typer.Option(help=_about("lesion_values"), show_default=False)] = None,
    group_by: Annotated[str | None, typer.Option(help=_about("group_by"), show_default=False)] = None,
) -> None:
    """Decode a folder of images and masks into a store that every later command opens at once."""
    given = {"data.image_size": image_size, "data.masks": masks, "data.lesion_values": lesion_values}
    given |= {"data.group_by": group_by}
    wanted = places.by_name(places.parse(folders))
    config = load(overrides=given).data  # refuses what the config would refuse

    from fedpolyp.data.ingest import ingest_all
    from fedpolyp.data.masks import MaskSettings

    size, settings = config.image_size, MaskSettings.of_config(config)
    store, console = ingest_all(wanted, size, masks=settings, group_by=config.group_by), PlainConsole()
    rejected = store.report.rejected
    console.print(f"{store.report.used} pairs ingested at {size}x{size} pixels, {len(rejected)} left out")
    if rejected:
        table = plain_table(None, "left out", "why", numbers_from=2)
        for rejection in rejected[:_REJECTED_SHOWN]:
            table.add_row(rejection.file, rejection.reason)
        console.print(table)
        if len(rejected) > _REJECTED_SHOWN:
            more = len(rejected) - _REJECTED_SHOWN
            console.print(f"and {more} more, under 'rejected' in {store.path / 'table.json'}", soft_wrap=True)
    _print_notes(console, store)
    _print_duplicates(console, store)
    console.print(f"store: {store.path} (a copy of these images: protect it like them)", soft_wrap=True)


@app.command()
@with_settings(("", "data", "hospitals"))
def show(
    given: Given,
    folders: Annotated[list[str] | None, typer.Argument(metavar="FOLDER", help="folder of images, as --data")] = None,
    out: Annotated[Path, typer.Option(help="PNG to write")] = Path("samples.png"),
) -> None:
    """Describe the images and how they would be partitioned among hospitals, and draw some of them."""
    named = given.overrides.get("data.source")
    if folders:
        given = replace(given, overrides={**given.overrides, "data.source": places.parse(folders)})
        if named is not None and named != given.overrides["data.source"]:
            raise UsageError(f"the folder of images is given twice: by '{' '.join(folders)}' and by --data")
    config = given.config()
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out must name a .png file; got {out}")

    from fedpolyp.data.source import open_source
    from fedpolyp.report.samples import draw_samples

    store, console = open_source(config.data, config.data_seed), PlainConsole()
    left_out = len(store.report.rejected)
    console.print(f"{len(store.records)} images" + (f", {left_out} pairs left out" if left_out else ""))
    _print_sizes(console, store)
    _print_notes(console, store)
    _print_lesions(console, store)
    _print_duplicates(console, store)
    _print_partition(console, store, config)
    try:
        draw_samples(out, store)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from None
    console.print(f"pictures: {out}", soft_wrap=True)


@app.command()
def download(
    name: Annotated[DataSetName, typer.Argument(help="which data set", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder to download to  [dim]\\[the data set's name][/dim]")
    ] = None,
    accept_licence: Annotated[bool, typer.Option("--accept-licence", help="accept the licence that is shown")] = False,
    url: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="another address of the same archive, with https://")
    ] = None,
) -> None:
    """Download a public data set under its licence, verify it, and unpack it; an interrupted download resumes.

    No checksums are published: that of the first download is saved beside it, and later ones must equal it.
    """
    from fedpolyp.data.download.datasets import DATA_SETS

    wanted, console = DATA_SETS[name], PlainConsole()
    for said in (wanted.title, f"authors: {wanted.page}", f"licence: {wanted.licence}", f"cite: {wanted.citation}"):
        console.print(said, soft_wrap=True)
    if not accept_licence:
        raise UsageError("read the licence above, and accept it with --accept-licence")

    from fedpolyp.data.download.download import download
    from fedpolyp.data.download.transfer import Transfer

    last = -1

    def tell(done: int, total: int | None) -> None:
        nonlocal last
        tenth = 10 * done // total if total else done // 10**8
        if tenth > last:
            last = tenth
            console.print(f"{_megabytes(done)}{f' of {_megabytes(total)}' if total else ''}", soft_wrap=True)

    found = download(wanted, out or Path(name), url, lambda archive: Transfer(archive, tell))
    if found.first:
        pinned = f"no checksum is published: this one is saved in {found.pin}, and later downloads must equal it"
        console.print(f"SHA-256 {found.sha256}; {pinned}", soft_wrap=True)
    else:
        console.print(f"SHA-256 {found.sha256}, the same as at the first download", soft_wrap=True)
    if found.files is None:
        console.print(
            f"{found.archive} is not a .zip or .tar.gz: unpack it with another program (bsdtar -xf, of "
            "libarchive-tools)",
            soft_wrap=True,
        )
    else:
        console.print(f"images: {found.files} (next: fedpolyp data ingest {found.files})", soft_wrap=True)


@app.command()
def audit(
    data: Annotated[
        str,
        typer.Option(
            help="folder of images and masks, an archive, IMAGES:MASKS or a CSV; NAME=FOLDER for a named source"
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder for audit.html and audit.csv")],
    partition: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a partition.json: also look for leaks between its sets")
    ] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="a run: also look for leaks between its sets")] = None,
    masks: Annotated[str, typer.Option(help=_about("masks"))] = DataConfig().masks,
    lesion_values: Annotated[str | None, typer.Option(help=_about("lesion_values"), show_default=False)] = None,
    group_by: Annotated[str | None, typer.Option(help=_about("group_by"), show_default=False)] = None,
) -> None:
    """Look for duplicates, odd masks, leaks, text and more; write one page to judge them by eye. Nothing is changed."""
    if partition is not None and run is not None:
        raise UsageError("--partition and --run both name a partition; give one of them")
    given = {"data.masks": masks, "data.lesion_values": lesion_values, "data.group_by": group_by}
    config = load(overrides=given).data
    ((name, place),) = places.by_name(places.parse([data])).items()

    from fedpolyp import runs
    from fedpolyp.data.audit.audit import audit
    from fedpolyp.data.masks import MaskSettings
    from fedpolyp.data.partition.partition import Partition
    from fedpolyp.report.audit import counts, verdict, write_audit

    known = runs.find(run).partition() if run is not None else None
    if partition is not None:
        known = Partition.load(partition)
    settings, console = MaskSettings.of_config(config), PlainConsole()
    found = audit(place, known, settings, group_by=config.group_by, name=name)
    page = write_audit(out, found)
    console.print(verdict(found), soft_wrap=True)
    if found.refusal:
        console.print(f"ingest refuses this folder: {found.refusal}", soft_wrap=True)
    if found.findings:
        table = plain_table(None, "found", "count", "weight")
        for kind, count in counts(found.findings).items():
            table.add_row(kind.heading, str(count), kind.weight.value)
        console.print(table)
    console.print(f"page: {page} (it shows images and masks: protect it like them)", soft_wrap=True)


@app.command()
def stores(
    prune: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0, help="remove stores that were not used for this many days"),
    ] = None,
) -> None:
    """List the stores of images, and remove old ones.

    A store is a copy of the images and masks at the size used for training: protect it like the images themselves. A
    store that a command is using is never removed; a removed store is made again when it is needed.
    """
    import time

    from fedpolyp.data import pruning
    from fedpolyp.data.store import stores_folder

    folder, console = stores_folder(), PlainConsole()
    removed, left = ([], pruning.stores_in(folder)) if prune is None else pruning.prune(folder, prune * 86_400)
    if removed:
        console.print(f"removed {_stores(len(removed))}, {_megabytes(pruning.total(removed))}")
    table = plain_table(None, "store", "size", "days unused")
    for store in left:
        days = "in use" if store.open else f"{max(0.0, time.time() - store.used) / 86_400:.0f}"
        table.add_row(store.path.name, _megabytes(store.size), days)
    if left:
        console.print(table)
    console.print(
        f"{_stores(len(left))}, {_megabytes(pruning.total(left))} of copies of images and masks, in {folder} "
        "(FEDPOLYP_STORES names another folder)",
        soft_wrap=True,
    )


def _stores(count: int) -> str:
    return "1 store" if count == 1 else f"{count} stores"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _print_notes(console: PlainConsole, store: "Store") -> None:
    for note in store.report.notes:
        console.print(note, soft_wrap=True)


def _print_sizes(console: PlainConsole, store: "Store") -> None:
    sizes = Counter((record.width, record.height) for record in store.records)
    (common, count), *others = sizes.most_common()
    text = f"{common[0]}x{common[1]} pixels"
    if others:
        smallest, largest = (choose(sizes, key=lambda size: size[0] * size[1]) for choose in (min, max))
        text = (
            f"{smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]} pixels, {len(sizes)} different ones; "
            f"most common {common[0]}x{common[1]} ({count} images)"
        )
    console.print(f"original size: {text}", soft_wrap=True)


def _print_lesions(console: PlainConsole, store: "Store") -> None:
    import numpy as np

    polyps = [record for record in store.records if record.lesion_fraction > 0]
    if without := len(store.records) - len(polyps):
        console.print(f"frames without a polyp: {without} of {len(store.records)}")
    if not polyps:
        return
    quartiles = np.quantile([record.lesion_fraction for record in polyps], (0.25, 0.5, 0.75))
    small, large = (choose(polyps, key=lambda record: record.lesion_fraction) for choose in (min, max))
    console.print(
        f"lesion area: quartiles {', '.join(f'{area:.1%}' for area in quartiles)} of the image; "
        f"smallest {small.lesion_fraction:.2%} ({small.id}), largest {large.lesion_fraction:.1%} ({large.id})",
        soft_wrap=True,
    )


def _print_duplicates(console: PlainConsole, store: "Store") -> None:
    groups: dict[int, list[str]] = {}
    for record in store.records:
        groups.setdefault(record.group, []).append(record.id)
    alike = [ids for ids in groups.values() if len(ids) > 1]
    text = f"{sum(map(len, alike))} images in {len(alike)} group{'s' * (len(alike) > 1)}"
    why = "near-duplicates; one patient, procedure or video"
    console.print(f"kept together: {text if alike else 'none'} ({why})", soft_wrap=True)


def _print_partition(console: PlainConsole, store: "Store", config: Config) -> None:
    import numpy as np

    from fedpolyp.data.partition.assign import partition_images, partition_notes

    partition = partition_images(store.records, config, store)
    for sentence in partition_notes(store.records, config, partition):
        console.print(sentence, soft_wrap=True)
    areas = np.array([record.lesion_fraction for record in store.records])
    heldout = areas[store.positions(partition.heldout)]
    title = (
        f"partitioned by {config.hospitals.scheme}; {len(heldout)} held out, of mean lesion area {heldout.mean():.1%}"
    )
    table = plain_table(title, "hospital", "training", "validation", "test", "mean lesion area")
    for name, images in partition.hospitals.items():
        sets = images.train, images.val, images.test
        mean = areas[store.positions([id for ids in sets for id in ids])].mean()
        table.add_row(name, *(str(len(ids)) for ids in sets), f"{mean:.1%}")
    console.print(table)
