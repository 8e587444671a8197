"""Fork a run: load the state at a step, swap the interventions, save it as the first checkpoint of another run."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from plateau_interp.interventions.attached import Attached, Intervention, attached_state, load_attached_state
from plateau_interp.interventions.attaching import attaching, quietly
from plateau_interp.interventions.clock import advance
from plateau_interp.interventions.origins import check_origins
from plateau_interp.runs.captures import captures_in, check_captures
from plateau_interp.runs.checkpoints import FILES, Checkpoint, copy_weights, place_of, saved_steps, weights_of
from plateau_interp.runs.creating import create, takes
from plateau_interp.runs.environment import write_environment
from plateau_interp.runs.errors import RunError
from plateau_interp.runs.folder import (
    ENVIRONMENT,
    LOCK,
    METRICS,
    RECIPE,
    SECONDS,
    RunFolder,
    not_there,
    only_writer,
    removing_on_failure,
)
from plateau_interp.runs.recipe import Fork, Recipe
from plateau_interp.runs.resuming import state_at
from plateau_interp.runs.seconds import read_seconds, up_to, write_seconds
from plateau_interp.runs.starting import begin_
from plateau_interp.runs.table import Row, text_of

__all__ = ["fork_folder", "forked", "handed_on"]


def forked(
    parent: RunFolder, *, at: int, interventions: Sequence[Intervention] | None = None, steps: int | None = None
) -> Recipe:
    """The recipe of a fork; the arguments are those of `plateau_interp.runs.run.Run.fork`.

    Raises:
        RunError: if the run has not reached the step, or a `Capture` would write other activations over those of the
            parent.
    """
    if not parent.checkpoints:
        raise RunError(f"{parent.path} has not begun: there is nothing to fork")
    first, recipe = min(parent.checkpoints), parent.recipe
    if not first <= at <= parent.step:
        hint = "; for an earlier step fork its parent" if 0 <= at < first else ""
        raise RunError(f"{parent.path} can be forked at steps {first} to {parent.step}; got {at}{hint}")
    fork = dataclasses.replace(
        recipe,
        interventions=recipe.interventions if interventions is None else tuple(interventions),
        training=recipe.training if steps is None else dataclasses.replace(recipe.training, steps=steps),
        fork_of=Fork(recipe, at),
    )
    if fork.steps < at:
        raise RunError(f"a fork at step {at} cannot end at step {fork.steps}")
    check_captures(fork, recipe)
    # As it will be read back: what cannot be read is refused now.
    return Recipe.from_json(fork.to_json())


def fork_folder(parent: RunFolder, recipe: Recipe, out: Path, *, device: str | torch.device) -> RunFolder:
    """Make the folder of a fork, with the parent's rows and the state to go on from; or find that it is there.

    All is worked out before anything is written. If writing fails, what was written is removed, and nothing else.

    Args:
        parent: the run to leave.
        recipe: the fork's, from `forked`.
        out: the fork's folder.
        device: where to train again what has no checkpoint.

    Raises:
        RunError: if the folder holds something else, or rows that would be lost.
        ValueError: for a recipe that cannot be.
    """
    assert recipe.fork_of is not None
    at = recipe.fork_of.step
    takes(out, recipe)
    rows = [row for row in parent.rows() if row["step"] < at]
    if saved_steps(out):
        fork = create(out, recipe)
        _check_parent(fork, rows, parent.path)
        with only_writer(out):
            return fork
    _check_nothing_lost(out / METRICS, text_of(rows))
    recipe.rehearse()
    seconds = up_to(read_seconds(parent.seconds), at)  # a damaged file is refused before a word is said
    state = handed_on(state_at(parent, at, device=device), parent.recipe, recipe, device=device)
    ours = not_there(_written_by_forking(out, at))
    fork = create(out, recipe)
    with only_writer(out):
        fork.check_unlinked()
        if not fork.checkpoints:  # nobody was quicker
            with removing_on_failure(ours):
                fork.table.replace(rows)
                write_environment(fork.environment, device)
                fork.save(state, rows=fork.table.digest(before=at))
                write_seconds(fork.seconds, seconds)  # last: it is the only file that may take the place of another
    return fork


def handed_on(state: Checkpoint, parent: Recipe, fork: Recipe, *, device: str | torch.device) -> Checkpoint:
    """A state of the parent as its fork goes on from it: under other interventions.

    Those that both have remember what they did. What training made of the weights stays; what interventions did to them
    before any training does not, so a fork at step 0 begins with fresh weights, or its donor's.

    Args:
        state: of the parent.
        parent: its recipe.
        fork: the recipe of the fork.
        device: where the model is built.

    Raises:
        RunError: if what an intervention remembers does not fit it any more; as `begin_`.
    """
    model = fork.build_model(device=device)
    if not state.step:
        begin_(fork, model)
    shared = kept = _kept_places(parent, fork)
    if not state.step:  # a Capture goes on in its folder all the same
        kept = {place: theirs for place, theirs in shared.items() if any(captures_in(parent.interventions[theirs]))}
    if state.step:
        copy_weights(model, state.weights)
    advance(model, step=state.step, metrics=state.latest)
    attached: list[Attached] = []
    with quietly(), ExitStack() as stack:
        # Attached before the state is taken, as when training goes on: a transplant acts on entry, and one that the
        # parent had made already does not act again.
        for place, intervention in enumerate(fork.interventions):
            before = weights_of(model)
            attached += stack.enter_context(attaching(model, intervention))
            try:
                if place in kept:
                    copy_weights(model, before)
                    load_attached_state(attached[-1:], _memory_of(kept[place], state.memory))
                elif place in shared:
                    theirs = _memory_of(shared[place], state.memory)
                    check_origins(attached_state(attached[-1:]), theirs, intervention)
            except ValueError as error:
                raise RunError(f"the fork cannot go on at step {state.step}: {error}") from None
        memory = {name: value.clone() for name, value in attached_state(attached).items()}
        return dataclasses.replace(state, weights=weights_of(model), memory=memory)


def _written_by_forking(out: Path, at: int) -> list[Path]:
    """Files first, each folder after what is in it."""
    place = place_of(out, at)
    names = (METRICS, SECONDS, ENVIRONMENT, RECIPE, LOCK)
    return [*(place / name for name in FILES), place, place.parent, *(out / name for name in names), out]


def _memory_of(place: int, memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the intervention at a place remembers, as if it were the only one."""
    parts = {name: name.split(".", 1) for name in memory}
    return {f"0.{rest}": memory[name] for name, (where, rest) in parts.items() if where == str(place)}


def _kept_places(parent: Recipe, fork: Recipe) -> dict[int, int]:
    """By place in the fork, the place in the parent of the interventions that both have, each used once."""
    left = dict(enumerate(parent.to_dict()["interventions"]))
    kept: dict[int, int] = {}
    for place, data in enumerate(fork.to_dict()["interventions"]):
        same = next((theirs for theirs, other in left.items() if other == data), None)
        if same is not None:
            del left[same]
            kept[place] = same
    return kept


def _check_parent(fork: RunFolder, rows: Sequence[Row], parent: Path) -> None:
    """Refuse to go on with a fork of a run that stood in the parent's place, and had the same recipe.

    Such a run has other rows where what its interventions take from had become another, for one.

    Raises:
        RunError: naming the first step.
    """
    theirs = {row["step"]: row for row in rows}
    for row in fork.rows():
        if row["step"] in theirs and text_of([row]) != text_of([theirs[row["step"]]]):
            raise RunError(
                f"{fork.path} is the fork of another run of this recipe: at step {row['step']} {parent} has other "
                "numbers; take another folder"
            )


def _check_nothing_lost(file: Path, rows: str) -> None:
    """Refuse to write a fork's first rows over others; over the same ones, which a killed fork left, is fine.

    Raises:
        RunError: with the remedy.
    """
    if file.exists() and file.read_bytes() not in (b"", rows.encode()):
        raise RunError(
            f"{file} has rows, but there is no checkpoint to go on from: put the checkpoints back, or move that file "
            f"away to make the fork again"
        )
