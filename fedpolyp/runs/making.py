"""Makes the folder of a run, and finds those that are there."""

import tempfile
from datetime import datetime
from pathlib import Path

from fedpolyp import files
from fedpolyp.config import Config, to_toml
from fedpolyp.data.digest import Digest
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store
from fedpolyp.errors import UsageError
from fedpolyp.runs.folder import RunFolder
from fedpolyp.runs.provenance import environment

DEFAULT_ROOT = Path("runs")


def refuse_taken(path: Path) -> None:
    """Raise a UsageError if `path` exists and is not an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if not path.is_dir():
            raise UsageError(f"{path} is a file; --out must be a folder to make, or an empty one")
        if not RunFolder(path).config_file.exists():
            raise UsageError(f"{path} already exists and holds something other than a run; choose another --out")
        raise UsageError(f"{path} already exists; choose another --out, or resume that run: --resume {path}")


def refuse_in_run(path: Path) -> None:
    """Raise a UsageError if `path` is the folder of a run, or is inside one."""
    for folder in (path, *path.absolute().parents):
        if RunFolder(folder).config_file.exists() and RunFolder(folder).partition_file.exists():
            raise UsageError(
                f"{folder} is the folder of a single run, where nothing else is written; choose another --out"
            )


def refuse_as_output(path: Path) -> None:
    """Raise a UsageError if a command cannot write its files into `path`: it is in a run, or holds something."""
    refuse_in_run(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"--out must be a new or an empty folder; {path} is not empty")


def create(
    path: Path, config: Config, partition: Partition, store: Path | None = None, digest: Digest | None = None
) -> RunFolder:
    """Make a run's folder with its config, partition, environment and digest; `store` is where the images are.

    `digest` is theirs, if it is known already.

    Raises:
        UsageError: `path` exists and is not an empty folder.
    """
    refuse_taken(path)
    try:
        # Made under another name, unless the folder exists: a kill now must not leave something that looks like a run.
        path.parent.mkdir(parents=True, exist_ok=True)
        made = RunFolder(path if path.exists() else Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.")))
        made.checkpoints.mkdir()
    except OSError as error:
        raise UsageError(f"cannot make the run folder {path}: {error.strerror}") from None
    partition.save(made.partition_file)
    digest = digest or Digest.of(partition, None if store is None else Store.open(store))
    files.write_text(made.digest_file, files.to_json(digest.to_plain(), indent=1) + "\n")
    files.write_text(made.environment_file, files.to_json(environment(store), indent=1) + "\n")
    files.write_text(made.config_file, to_toml(config, explain=True))
    if made.path != path:
        made.path.chmod(0o755)
        made.path.rename(path)
    return RunFolder(path)


def find(run: str, root: Path = DEFAULT_ROOT) -> RunFolder:
    """The run that `run` names: the path of a folder, or a name under `root`.

    Raises:
        UsageError: neither is a run folder.
        OlderRun: it is one of version 0.1.
    """
    for path in (Path(run), root / run):
        if (path / "config.toml").is_file():
            found = RunFolder(path)
            found.refuse_older()
            return found
    raise UsageError(f"there is no run '{run}': neither {Path(run)} nor {root / run} holds a config.toml")


def new_name(config: Config, now: datetime | None = None) -> str:
    """A name that sorts by time and describes the run: '20260131-235959-kvasir-5-hospitals'."""
    source = config.data.called
    return f"{now or datetime.now():%Y%m%d-%H%M%S}-{source}-{config.hospitals.count}-hospitals"
