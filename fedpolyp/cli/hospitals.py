"""`fedpolyp hospitals`: what each hospital will hold, before anything is trained."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpolyp.cli.console import PlainConsole
from fedpolyp.cli.options import Given, with_settings
from fedpolyp.cli.tables import plain_table
from fedpolyp.data.partition.given import noted_partition
from fedpolyp.errors import UsageError
from fedpolyp.runs import refuse_in_run

if TYPE_CHECKING:
    from fedpolyp.data.partition.composition import Composition

PARTITION, FIGURE, TABLE = "partition.json", "hospitals.png", "hospitals.csv"
_LISTED = 40


@with_settings(("", "data", "hospitals"))
def hospitals(
    given: Given,
    out: Annotated[Path, typer.Option(help=f"folder for {PARTITION}, {FIGURE} and {TABLE}")] = Path("hospitals"),
) -> None:
    """Partition images among hospitals, show what each one holds and how much they differ, and save the partition."""
    config = noted_partition(given.config())
    refuse_in_run(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out must be a folder; {out} is a file")

    from fedpolyp.config.unused import unused_in_partition
    from fedpolyp.data.digest import files_digest
    from fedpolyp.data.partition.assign import partition_images, partition_notes
    from fedpolyp.data.partition.composition import compose
    from fedpolyp.data.source import open_source
    from fedpolyp.files import write_text
    from fedpolyp.report.holdings import COLUMNS, rows
    from fedpolyp.report.hospitals import draw_hospitals
    from fedpolyp.report.tables import csv_text

    store, console = open_source(config.data, config.data_seed), PlainConsole()
    partition = partition_images(store.records, config, store)
    for sentence in (*partition_notes(store.records, config, partition), *unused_in_partition(config, partition)):
        console.print(sentence, soft_wrap=True)
    composition = compose(partition, store)
    _show(console, composition)
    try:
        out.mkdir(parents=True, exist_ok=True)
        replace(partition, files=files_digest(store, partition)).save(out / PARTITION)
        write_text(out / TABLE, csv_text(COLUMNS, rows(composition, partition)))
        draw_hospitals(out / FIGURE, partition, store, composition)
    except OSError as error:
        raise UsageError(f"cannot write into {out}: {error.strerror}") from None
    console.print(f"pictures: {out / FIGURE}; table: {out / TABLE}", soft_wrap=True)
    console.print(f"train on this partition with: --partition {out / PARTITION}", soft_wrap=True)


def _show(console: PlainConsole, composition: "Composition") -> None:
    everybody = (*composition.hospitals, composition.heldout)
    free, noted = any(one.polyp_free for one in everybody), any(one.note for one in everybody)
    headings = ["hospital", "images", "share", "lesions, %", "tone", "alike", *(["no polyp"] * free)]
    table = plain_table(None, *headings, "lesions off", "tone off")
    for one in (*composition.hospitals[:_LISTED], composition.heldout):
        areas = "-" if one.lesions is None else " ".join(f"{100 * area:.1f}" for area in one.lesions)
        table.add_row(
            one.name,
            str(one.images),
            "" if one is composition.heldout else f"{one.share:.1%}",
            areas,
            " ".join(f"{round(255 * channel)}" for channel in one.tone),
            str(one.duplicates),
            *([str(one.polyp_free)] if free else []),
            f"{one.lesion_distance:.3f}",
            f"{one.tone_distance:.3f}",
        )
    table.caption_justify = "left"
    table.caption = (
        "lesions: quartiles of their areas; tone: mean red, green, blue of 255; alike: near-duplicates; "
        "off: Wasserstein distance from all hospitals together"
    )
    console.print(table)
    if (more := len(composition.hospitals) - _LISTED) > 0:
        console.print(f"and {more} more hospitals, all in {TABLE}")
    for one in everybody if noted else ():
        if one.note:
            console.print(f"{one.name}: {one.note}", soft_wrap=True)
    console.print(
        "how far a hospital is from all together, mean over hospitals: lesion areas "
        f"{composition.lesion_distance:.4f} (by chance {composition.lesion_distance_by_chance:.4f}), tones "
        f"{composition.tone_distance:.4f} (by chance {composition.tone_distance_by_chance:.4f})",
        soft_wrap=True,
    )
