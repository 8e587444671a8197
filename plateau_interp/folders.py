"""Whose a folder is, told by the files in it, so that nothing is written into what somebody else made.

A run, a series, a sweep, a `Capture` and circuits each have a folder, and of what is within it each says itself what
goes where: a run has its report and its circuits, and its recipe may name a `Capture` there; a sweep has its runs, with
their forks beside them. Whatever else is to be written there is refused by `check_place`. What no folder of ours holds
is not looked at: whether other files may lie there, the writers ask themselves.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

__all__ = [
    "CHECKPOINTS",
    "CIRCUITS",
    "OF_A_RUN",
    "REPORT",
    "Written",
    "check_place",
    "lies_in_ours",
    "named_run",
    "staying",
]

Written = Literal["run", "series", "sweep", "capture", "circuits", "report"]
"""What is written to a folder; all but the last have one of their own, by which they are known again."""

CHECKPOINTS = "checkpoints"
CIRCUITS = "circuits"
REPORT = "report"
OF_A_RUN = (
    *(".lock", "recipe.json", "environment.json", "metrics.jsonl", "metrics.parquet", "seconds.jsonl"),
    *(CHECKPOINTS, CIRCUITS, REPORT, "tensorboard", "wandb"),
)
"""What a run, and those who log or report it, have in its folder."""

HOLDERS: dict[Written, str] = {
    "run": "a run",
    "series": "a series",
    "sweep": "a sweep",
    "capture": "a Capture",
    "circuits": "circuits",
    "report": "a report",
}
MARKS: dict[Written, tuple[str, str]] = {
    "series": ("series.json", "prompts_sha256"),
    "sweep": ("sweep.json", "runs"),
    "circuits": ("circuits.json", "recipe_sha256"),
}
"""File and field: what somebody wrote by hand and called so, such as a plan for `plateau sweep`, has other fields."""
ORIGIN = re.compile("origin-[0-9a-f]{32}")
FORK_ENDING = re.compile(r"(-from-\d+)+$")


def check_place(out: Path, written: Written, *, of: Sequence[Path] = ()) -> None:
    """Refuse a folder that lies in one of ours which has no such place; a link where a report's folder would be, too.

    Args:
        out: where something is to be written; it need not be there.
        written: what that is.
        of: of a report and of circuits, the folders that they tell of.

    Raises:
        ValueError: naming both folders.

    Example:
        >>> check_place(Path("runs/mws"), "run")
    """
    if written == "report":
        _check_no_link(out)
    place = out.resolve()
    for home in (place, *place.parents):
        if (kind := _kind(home)) is None:
            continue
        if home == place and kind != written:
            raise ValueError(f"{out} is the folder of {HOLDERS[kind]}, no place for {HOLDERS[written]}; take another")
        if home != place and not _has_place(home, kind, place, written, of):
            raise ValueError(
                f"{out} lies in {home}, the folder of {HOLDERS[kind]}, which has no place for {HOLDERS[written]} "
                "there; take another folder"
            )
        return  # what is farther out has placed this one itself


def lies_in_ours(out: Path) -> bool:
    """Whether a folder lies in one of ours: as the report's folder of a run does, or what is within that.

    Example:
        >>> lies_in_ours(Path("nowhere"))
        False
    """
    return any(_kind(home) is not None for home in out.resolve().parents)


def named_run(source: str) -> tuple[Path, int | None]:
    """The folder and the step that ``"RUN"`` or ``"RUN@STEP"`` names; None for no step. They need not be there.

    A folder that is called so, such as ``runs/x@5``, is meant by its name.

    Raises:
        ValueError: if it could be either.

    Example:
        >>> named_run("runs/mws@100")
        (PosixPath('runs/mws'), 100)
    """
    name, _, step = source.rpartition("@")
    if not (name and step.isdecimal()):
        return Path(source), None
    if not Path(source).is_dir():
        return Path(name), int(step)
    if (Path(name) / CHECKPOINTS / step).is_dir():
        raise ValueError(f"{source} is both a folder and step {step} of {name}: rename one of the folders")
    return Path(source), None


def staying(file: Path) -> Callable[[], bool]:
    """What tells, whenever it is called, whether a file that is there now still is, and is no other.

    Args:
        file: held open meanwhile, as a lock is: else another may come to have its number.

    Example:
        >>> is_there = staying(Path())
        >>> is_there()
        True
    """
    held = os.stat(file)

    def is_there() -> bool:
        try:
            return os.path.samestat(held, os.stat(file))
        except OSError:
            return False

    return is_there


def _check_no_link(out: Path) -> None:
    """Refuse a folder of ours that is a link: somebody made it, and what is behind it is theirs."""
    path = out.absolute()
    for inside, home in zip((path, *path.parents), path.parents, strict=False):
        if inside.name == REPORT and inside.is_symlink() and _kind(home) is not None:
            raise ValueError(
                f"{inside} is a link to {os.readlink(inside)}, which no report made: remove the link, or take "
                "another folder"
            )


def _kind(folder: Path) -> Written | None:
    """Whose a folder is; None for what is none of ours."""
    if (folder / "recipe.json").is_file() and (folder / CHECKPOINTS).is_dir():
        return "run"
    for kind, (name, field) in MARKS.items():
        if isinstance(_object(folder / name).get(field), dict | str):
            return kind
    return "capture" if any(ORIGIN.fullmatch(file.name) for file in folder.glob("origin-*")) else None


def _has_place(home: Path, kind: Written, place: Path, written: Written, of: Sequence[Path]) -> bool:
    inside = place.relative_to(home)
    if written == "report":
        is_its_own = any(each.resolve().is_relative_to(home) for each in of)
        return kind in ("run", "series", "sweep") and inside.parts[0] == REPORT and is_its_own
    if written == "circuits":
        return kind == "run" and inside == Path(CIRCUITS) and home in [each.resolve() for each in of]
    if written == "capture":
        file = home / {"run": "recipe.json", "sweep": "sweep.json"}.get(kind, "")
        return inside.parts[0] not in OF_A_RUN and place in _named_places(_object(file))
    return kind == "sweep" and FORK_ENDING.sub("", inside.as_posix()) in _object(home / "sweep.json")["runs"]


def _object(file: Path) -> dict[str, Any]:
    """The fields of a JSON object; none where there is no such file."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _named_places(told: Any) -> Iterator[Path]:
    """The folders that recipes, or a sweep's changes to them, name as the ``out`` of something."""
    if isinstance(told, dict):
        for field, value in told.items():
            if isinstance(value, str) and field.rpartition(".")[2] == "out":
                yield Path(value).resolve()
            yield from _named_places(value)
    elif isinstance(told, list):
        for each in told:
            yield from _named_places(each)
