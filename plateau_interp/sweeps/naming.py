"""Names of folders from what is changed: readable, safe on any file system, the same whatever else is in a sweep."""

import json
import re
from collections.abc import Mapping
from typing import Any

from plateau_interp.checks import shown
from plateau_interp.files import digest
from plateau_interp.sweeps.changes import Combination

__all__ = ["check_name", "name_of"]

NOTHING_CHANGED = "base"
UNNAMED = ("task.", "model.", "training.", "measuring.")
"""Not in names, as they are of the options of `plateau train`."""
SAFE = re.compile(r"[a-z0-9_][a-z0-9._+-]*")
"""Without capitals, which some file systems do not tell from small letters."""
CALLED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=,-]*")
LONGEST_VALUE, LONGEST = 60, 150
"""File systems take 255 bytes of a name."""


def name_of(combination: Combination) -> str:
    """The folder of a combination's runs.

    Values that are no single word end with some digits of a digest, so that different ones have different names.

    Example:
        >>> name_of(Combination({"task.k": 3, "training.optimizer.learning_rate": 1e-4}))
        'k=3,optimizer.learning_rate=0.0001'
        >>> name_of(Combination({"interventions": [{"name": "fix-attention"}]}))
        'interventions=fix-attention'
        >>> name_of(Combination({"task.k": 3}, {"interventions": []}, called="plain"))
        'k=3,plain'
    """
    changes = combination.table if combination.called is not None else combination.values
    names = {path: _label(path, changes) for path in changes}
    parts = [f"{names[path]}={_text(value)}" for path, value in changes.items()]
    whole = ",".join(parts if combination.called is None else [*parts, combination.called]) or NOTHING_CHANGED
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}-{_mark(whole)}"


def check_name(name: Any) -> None:
    """Refuse a name that somebody gave, if no folder should have it.

    Raises:
        ValueError: saying which letters it may have.
    """
    if not (isinstance(name, str) and CALLED.fullmatch(name) and len(name) <= LONGEST and not name.endswith(".")):
        raise ValueError(f"list: a name is a folder's: letters, digits and . _ + = , - alone; got {shown(name)}")


def _label(path: str, values: Mapping[str, Any]) -> str:
    short = _ungrouped(path)
    return path if [_ungrouped(other) for other in values].count(short) > 1 else short


def _ungrouped(path: str) -> str:
    return next((path.removeprefix(group) for group in UNNAMED if path.startswith(group)), path)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool | int | float):
        return repr(value).lower()
    words = _words(value)
    safe = re.sub(r"[^a-z0-9._+-]+", "-", words.lower()).strip("+-.")[:LONGEST_VALUE] or "empty"
    return safe if safe == words else f"{safe}-{_mark(json.dumps(value, sort_keys=True, default=str))}"


def _words(value: Any) -> str:
    """A value in words; of what is more than words also signs that are not safe, so that it is marked."""
    if isinstance(value, str):
        return value if SAFE.fullmatch(value) else f"{value} "
    if isinstance(value, list):
        return "+".join(map(_words, value))
    if isinstance(value, Mapping):
        others = "".join(f" {name} {_words(inner)}" for name, inner in value.items() if name != "name")
        return f"{value.get('name', '')}{others}"
    return f"{value} "


def _mark(text: str) -> str:
    return digest(text.encode())[:6]
