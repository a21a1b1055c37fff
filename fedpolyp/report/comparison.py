"""report.html: a comparison on one page that needs no other file; its figures as PNG and tables as CSV beside it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpolyp import __version__
from fedpolyp.config import Config, to_toml
from fedpolyp.data.partition.finding import find as find_scheme
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.experiment import conclusions
from fedpolyp.experiment.analysis import analyse
from fedpolyp.experiment.findings import LOCAL, SIZE_BOUNDS, SIZES, Analysis, SiteRow, spread, worst
from fedpolyp.experiment.scores import HELD_OUT
from fedpolyp.experiment.statistics import DRAWS, SEEDS_NEEDED
from fedpolyp.files import replacing, write_text
from fedpolyp.inference.corruption import KINDS
from fedpolyp.privacy.words import paragraph, scores
from fedpolyp.report.calibration import Calibration, calibration
from fedpolyp.report.charts import HOSPITALS_DRAWN, Chart, draw_charts
from fedpolyp.report.flow import flow
from fedpolyp.report.gallery import make_gallery, thumbnails
from fedpolyp.report.missed import missed
from fedpolyp.report.robustness import Robustness, robustness
from fedpolyp.report.style import looks
from fedpolyp.report.tables import tables
from fedpolyp.report.templates import template
from fedpolyp.runs import RunFolder
from fedpolyp.text import printable

PAGE = "report.html"
_HOSPITALS_LISTED = 20
_ENVIRONMENT = ("started", "commit", "processor", "cores", "platform", "python")
_LONGEST = 10_000  # characters that somebody else may have written


def write_report(folder: Path, runs: Sequence[RunFolder], command: str | None = None) -> Path:
    """Analyse `runs` and write the report into `folder`; returns the page's path. `command` made the runs.

    Raises:
        UsageError: the runs do not belong together, or `folder` cannot be written.
        FedpolypError: no run is finished, or a file is damaged.
    """
    return write_page(folder, analyse(runs), command)


def write_page(folder: Path, analysis: Analysis, command: str | None = None) -> Path:
    """Write figures/*.png, tables/*.csv and, last, report.html; returns the page's path.

    Raises:
        UsageError: `folder` cannot be written, or leads elsewhere.
    """
    for part in (folder / "figures", folder / "tables"):
        if part.is_symlink():
            raise UsageError(f"{part} is a link: a report is written into its own folder only; remove it")
    trust = calibration(analysis), robustness(analysis)
    charts = draw_charts(analysis, trust[0])
    try:
        for file, chart in charts.items():
            with replacing(folder / "figures" / f"{file}.png") as stream:
                stream.write(chart.png)
        for file, text in tables(analysis, *trust).items():
            write_text(folder / "tables" / f"{file}.csv", text)
        write_text(folder / PAGE, _page(analysis, charts, command, *trust))
    except OSError as error:
        raise UsageError(f"cannot write the report into {folder}: {error.strerror or error}") from None
    return folder / PAGE


def _page(
    analysis: Analysis,
    charts: Mapping[str, Chart],
    command: str | None,
    calibrations: Sequence[Calibration],
    robust: Sequence[Robustness],
) -> str:
    look = looks(arm.label for arm in analysis.arms)
    page = template(
        "page.html",
        name=conclusions.name,
        colour=lambda label: look[label].colour,
        worst=worst,
        spread=spread,
        signed=conclusions.signed,
        p_value=conclusions.p_value,
        megabytes=lambda count: f"{count / 1e6:,.1f} MB" if count else "0",
    )
    made = [_environment(run) for arm in analysis.arms for run in arm.runs]
    return page.render(
        analysis=analysis,
        answer=conclusions.answer(analysis),
        remarks=[*analysis.missing, *conclusions.remarks(analysis)],
        sentences=list(conclusions.findings(analysis)),
        flow=flow(analysis.partition, analysis.store),
        missed=missed(analysis),
        calibrations=calibrations,
        robust=robust,
        clean={arm.label: arm.last["dice"].value for arm in analysis.arms},
        kinds=KINDS,
        digest=analysis.arms[0].runs[0].digest(),
        best_round=conclusions.best_round,
        tested=conclusions.tested,
        charts=charts,
        panels=[chart for file, chart in charts.items() if file.startswith("validation-")],
        unseen_panels=[chart for file, chart in charts.items() if file.startswith("unseen-")],
        hospitals_drawn=HOSPITALS_DRAWN,
        gallery=make_gallery(analysis),
        shown=next((place for place, arm in enumerate(analysis.arms) if arm.federated), 0),  # in the gallery, at first
        own_models=" and ".join(conclusions.name(arm.label) for arm in analysis.arms if arm.own_models),
        sites=_Sites.of(analysis),
        hospitals=_hospitals(analysis),
        assigned=_assigned(analysis.config),
        mixed=any(mix[0] for mix in analysis.test_mix.values()),
        size_bounds=SIZE_BOUNDS,
        sizes=SIZES,
        draws=DRAWS,
        seeds_needed=SEEDS_NEEDED,
        source=analysis.config.data.called,
        promises=list(_promises(analysis)),
        command=command or next((one["command"] for one in made if "command" in one), None),
        started=min((one["started"] for one in made if "started" in one), default=None),
        machine=made[0],
        configs=[(arm.label, arm.seeds, to_toml(arm.runs[0].config())) for arm in analysis.arms],
        version=__version__,
    )


def _promises(analysis: Analysis) -> Iterator[tuple[str, str]]:
    """The privacy guarantee of each arm that has one, and its hospitals' noisy scores, by its label."""
    for arm in analysis.arms:
        # Of real sites' images only the sites know.
        simulated = any(own.train for own in arm.runs[0].partition().hospitals.values())
        if words := paragraph(arm.runs[0].config(), [one for run in arm.runs for one in run.rounds()], simulated):
            yield arm.label, words
        last = {f"seed {seed}": run.rounds()[-1] for seed, run in zip(arm.seeds, arm.runs, strict=True)}
        if words := scores(last, simulated):
            yield arm.label, words


def _environment(run: RunFolder) -> dict[str, Any]:
    """environment.json, as far as it is as a run writes it."""
    try:
        said = run.environment()
    except FedpolypError:
        return {}
    told: dict[str, Any] = {
        name: printable(said[name], _LONGEST) for name in _ENVIRONMENT if isinstance(said.get(name), str | int)
    }
    if isinstance(command := said.get("command"), list):
        told["command"] = shlex.join(str(word) for word in command)[:_LONGEST]
    if isinstance(packages := said.get("packages"), dict):
        told["packages"] = {printable(name, 80): printable(number, 80) for name, number in packages.items()}
    return told


@dataclass(frozen=True)
class _Sites:
    """The table of models by test sets, with a colour for each cell."""

    rows: Sequence[SiteRow]
    sets: Sequence[str]
    left_out: int  # hospitals
    low: float
    high: float

    @classmethod
    def of(cls, analysis: Analysis) -> "_Sites":
        hospitals = sorted(analysis.partition.hospitals)
        listed = set(hospitals[:_HOSPITALS_LISTED])
        rows = [row for row in analysis.sites if not row.hospital or row.hospital in listed]
        named = {of for row in rows for of in row.dice}
        tests = [f"test:{name}" for name in hospitals if name in listed and f"test:{name}" in named]
        unseen = [f"unseen:{source}" for source in analysis.partition.unseen]
        values = [row.dice[of] for row in rows for of in (*tests, *unseen, HELD_OUT) if of in row.dice]
        return cls(rows, [*tests, *unseen, HELD_OUT], len(hospitals) - len(listed), min(values), max(values))

    def heading(self, of: str) -> str:
        """A column's heading."""
        if of.startswith("unseen:"):
            return f"{of.removeprefix('unseen:')} (unseen)"
        return "held-out" if of == HELD_OUT else of.removeprefix("test:")

    def label(self, row: SiteRow) -> str:
        """A row's heading."""
        if row.hospital:
            return f"{row.hospital} alone" if row.arm == LOCAL else f"{row.hospital}, {conclusions.name(row.arm)}"
        return conclusions.name(row.arm)

    def style(self, dice: float) -> str:
        """Background from white (the table's lowest) to blue (its highest), and a readable text colour."""
        share = (dice - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        colour = ",".join(str(round(255 + share * (deep - 255))) for deep in (0, 84, 147))
        return f"background:rgb({colour});color:{'#fff' if share > 0.75 else '#111'}"


def _hospitals(analysis: Analysis) -> list[dict[str, Any]]:
    """A row for each of the first hospitals: its images, their properties, a few of them."""
    listed = []
    for name, own in sorted(analysis.partition.hospitals.items())[:_HOSPITALS_LISTED]:
        row: dict[str, Any] = {"name": name, "train": len(own.train), "val": len(own.val), "test": len(own.test)}
        row |= {"holding": None}
        if analysis.composition is not None and analysis.store is not None:
            row |= {"holding": analysis.composition.of(name), "thumbnails": thumbnails(analysis.store, own)}
        listed.append(row)
    return listed


def _assigned(config: Config) -> str:
    """How the images were assigned, as the end of 'The others are assigned to … hospitals'."""
    wanted = config.hospitals
    if wanted.partition is not None:
        return f"as {Path(wanted.partition).name} says, a partition that was made before"
    # Whether somebody's own scheme uses the skew is not known here; one that was given was to be used.
    skewed = find_scheme(wanted.scheme).uses_skew if wanted.built_in else wanted.skew != Config().hospitals.skew
    own = {"skew": wanted.skew} if skewed else {}
    own |= {name: value for name, value in wanted.own.items() if value is not None}
    said = ", ".join(f"{name} {value}" for name, value in own.items())
    return f"by the scheme {wanted.scheme}" + (f" with {said}" if said else "")
