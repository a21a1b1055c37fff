"""A working folder with a user's own files that bear the names of this project's packages, and of Python's."""

from pathlib import Path

HOSTILE = ("clients", "server", "random", "fedpolyp")
_MARK = "executed"


def hostile_folder(folder: Path, *names: str) -> Path:
    """A new folder with a module of each of `names` that leaves a mark in it, and fails, when it is imported."""
    folder.mkdir()
    for name in names:
        mark = folder / f"{name}.{_MARK}"
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\nraise SystemExit(3)\n")
    return folder


def executed(folder: Path) -> list[str]:
    """The modules of `folder` that were imported."""
    return sorted(path.stem for path in folder.glob(f"*.{_MARK}"))
