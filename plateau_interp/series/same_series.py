"""Whether what is asked of a series is what its folder was begun with: by its settings, and what differs in words."""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plateau_interp.checks import listed

__all__ = [
    "FUNCTIONS",
    "SOURCE_PATH",
    "TRAINED_UNDER",
    "differing_settings",
    "differing_told",
    "functions_unknown",
    "trained_under_alone",
]

FUNCTIONS = "measures_sha256"
"""The setting that tells the user's functions, by name, from others; it holds within one minor version of Python."""
TRAINED_UNDER = "trained_under"
"""The setting that holds the interventions of a run's training, which a series has in the recipe's digest, too."""
SOURCE, SOURCE_PATH, RECIPE, VERSIONS = "source", "source_path", "recipe_sha256", "versions"


def functions_unknown(there: Mapping[str, Any]) -> str:
    """Why the user's functions of now cannot be compared with those of a series; empty if they can.

    Args:
        there: the settings of the series.

    Example:
        >>> functions_unknown({})
        'an earlier version'
    """
    if FUNCTIONS not in there:
        return "an earlier version"
    began = str(dict(there.get(VERSIONS) or {}).get("python", ""))
    return "" if began.split(".")[:2] == [*platform.python_version_tuple()[:2]] else "another Python"


def differing_settings(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Names of the settings that are not the same.

    What else was on the machine may differ: it changes no number that it should not. Which recipe a run has, and which
    functions, earlier versions did not write. A run is where it is, in whatever words it is named.

    Args:
        there: the settings of a series.
        asked: those of now.

    Example:
        >>> differing_settings({"n_new": 8, "dtype": "float32"}, {"n_new": 3, "dtype": "float32"})
        ['n_new']
    """
    asked = json.loads(json.dumps(asked))
    unsaid = {VERSIONS, SOURCE_PATH, TRAINED_UNDER} | ({RECIPE} - there.keys())
    if functions_unknown(there) or asked.get("measures") != there.get("measures"):
        unsaid.add(FUNCTIONS)
    if asked.get(SOURCE_PATH, "") == there.get(SOURCE_PATH):
        unsaid.add(SOURCE)
    return sorted(name for name in {**asked, **there} if name not in unsaid and asked.get(name) != there.get(name))


def trained_under_alone(settings: Mapping[str, Any]) -> list[str]:
    """Names of the interventions that a run was trained under and its series is measured without, each once.

    Args:
        settings: of a series.

    Example:
        >>> trained_under_alone({"interventions": [], "trained_under": [{"name": "ablate-heads", "heads": [0]}]})
        ['ablate-heads']
    """
    given = settings["interventions"]
    return list({str(each["name"]): None for each in settings.get(TRAINED_UNDER, ()) if each not in given})


def differing_told(differing: Sequence[str], there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What `differing_settings` found, in words.

    Example:
        >>> differing_told(["source"], {"source": "runs/a"}, {"source": "runs/b"})
        "other source ('runs/a'; now 'runs/b')"
    """
    told = [f"other {listed(names)}"] if (names := [name for name in differing if name != FUNCTIONS]) else []
    if SOURCE in differing and SOURCE in asked:
        here, now = str(there[SOURCE]), str(asked[SOURCE])
        relative = SOURCE_PATH in asked and SOURCE_PATH not in there and not Path(here).is_absolute()
        place = ", from the folder it was begun in" if relative else ""
        told.append(f"({here!r}{place}; now {now!r})")
    if FUNCTIONS in differing:
        others = [name for name, each in asked[FUNCTIONS].items() if each != there[FUNCTIONS].get(name)]
        told.append(f"{'and ' if told else ''}another function as the measure {listed(others)}")
    return " ".join(told)
