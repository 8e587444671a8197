"""Revisions: which training step a published checkpoint's name stands for, and which of them are chosen.

Names are irregular (``step512``, ``checkpoint-150``, ``stage1-step600-tokens3B``), so they are read from a listing of
what is there; no name is ever made by a formula.
"""

import fnmatch
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from plateau_interp.checks import listed, nearest, shown

__all__ = ["PAPER_STEPS", "Revision", "chosen_revisions", "parsed_revisions"]

STEP_IN_NAME = re.compile(r"(?:^|[-_/])(?:step|checkpoint|ckpt|global_step)[-_]?(\d+)(?=$|[-_/])", re.IGNORECASE)
STAGE = re.compile(r"(?:^|[-_/])stage[-_]?(\d+)(?=$|[-_/])", re.IGNORECASE)
TOKENS = re.compile(r"tokens[-_]?(\d+)B(?=$|[-_/])", re.IGNORECASE)

PAPER_STEPS = {
    "eleutherai/pythia-": (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 4000, 8000, 10_000),
    "allenai/olmo-2-1124-7b": (150, 600),
}
"""The steps of the paper's figures 8 and 23 to 25, by how a model's name begins."""


@dataclass(frozen=True, order=True)
class Revision:
    """A published checkpoint.

    Attributes:
        step: updates of pretraining.
        name: branch or tag, as it is listed.
        tokens: billions of tokens seen, where the name says so.
        commit: that the name stands for, as the hub lists it; empty where that is not known.
    """

    step: int
    name: str
    tokens: int | None = None
    commit: str = field(default="", compare=False, repr=False)


def parsed_revisions(names: Iterable[str]) -> list[Revision]:
    """The checkpoints among some names, by step; other branches, and stages after the first, are left out.

    A later stage trains on from the first with steps that begin anew. Of several names of one step the shortest is
    taken. Names may come with what they stand for, as a mapping to commits.

    Example:
        >>> names = ["main", "step0", "stage1-step150-tokens1B", "stage2-ingredient1-step9-tokens5B", "checkpoint-20"]
        >>> [(revision.step, revision.tokens) for revision in parsed_revisions(names)]
        [(0, None), (20, None), (150, 1)]
    """
    commits: Mapping[str, str] = names if isinstance(names, Mapping) else {}
    by_step: dict[int, Revision] = {}
    for name in sorted(names, key=lambda name: (len(name), name)):
        step, stage, tokens = STEP_IN_NAME.search(name), STAGE.search(name), TOKENS.search(name)
        if step is None or (stage is not None and int(stage[1]) > 1):
            continue
        found = Revision(int(step[1]), name, int(tokens[1]) if tokens else None, commits.get(name, ""))
        by_step.setdefault(found.step, found)
    return sorted(by_step.values())


def chosen_revisions(source: str, there: Sequence[Revision], choice: "str | Iterable[str | int]") -> list[Revision]:
    """Those checkpoints that are asked for, by step.

    Args:
        source: the model's name.
        there: all that are listed.
        choice: ``"all"``; ``"paper"``, the steps that the paper measured of this model; ``"log:16"``, about so many,
            evenly in the logarithm of the step, the first and the last among them; a pattern of names such as
            ``"step1*"``; or steps and names.

    Raises:
        ValueError: for a step or name that is not listed, with the nearest; if nothing is chosen.

    Example:
        >>> there = parsed_revisions(f"step{step}" for step in (0, 1, 2, 4, 8, 16))
        >>> [revision.step for revision in chosen_revisions("a/model", there, [0, "step8"])]
        [0, 8]
        >>> [revision.step for revision in chosen_revisions("a/model", there, "log:3")]
        [0, 4, 16]
    """
    if not there:
        raise ValueError(f"{source} has no revision whose name holds a step, such as step512 or checkpoint-150")
    if isinstance(choice, str):
        found = _by_word(source, there, choice)
    else:
        found = [_one(source, there, each) for each in choice]
    if not found:
        raise ValueError(f"no revision of {source} is chosen by {shown(choice)}")
    return sorted(set(found))


def _by_word(source: str, there: Sequence[Revision], choice: str) -> list[Revision]:
    if choice == "all":
        return list(there)
    if choice == "paper":
        for start, steps in PAPER_STEPS.items():
            if source.lower().startswith(start):
                return [_one(source, there, step) for step in steps]
        raise ValueError(f"the paper measured {' and '.join(f'{start}*' for start in PAPER_STEPS)}, not {source}")
    if re.fullmatch(r"log:\d+", choice):
        return _evenly(there, int(choice.removeprefix("log:")))
    if set("*?[") & set(choice):
        found = [revision for revision in there if fnmatch.fnmatchcase(revision.name, choice)]
        if not found:
            names = [revision.name for revision in there]
            raise ValueError(f"no revision of {source} is like {choice!r}; {nearest(choice, names)}")
        return found
    return [_one(source, there, choice)]


def _one(source: str, there: Sequence[Revision], asked: "str | int") -> Revision:
    for revision in there:
        if asked in (revision.name, revision.step):
            return revision
    if isinstance(asked, int):
        near = sorted(there, key=lambda revision: abs(revision.step - asked))[:3]
        steps = listed([str(revision.step) for revision in sorted(near)])
        raise ValueError(f"{source} has no step {asked}; the nearest are {steps}")
    raise ValueError(f"{source} has no revision {asked!r}; {nearest(asked, [each.name for each in there])}")


def _evenly(there: Sequence[Revision], number: int) -> list[Revision]:
    """About so many, evenly in ln(1 + step)."""
    if number < 2:
        raise ValueError(f"log:{number} leaves out the first or the last; the least is log:2")
    low, high = (math.log1p(each.step) for each in (there[0], there[-1]))
    wanted = [low + (high - low) * index / (number - 1) for index in range(number)]
    return [min(there, key=lambda each: (abs(math.log1p(each.step) - at), each)) for at in wanted]
