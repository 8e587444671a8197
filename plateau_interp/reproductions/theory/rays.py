"""The Villani diagnostic far out: measured along rays through a net's weights, beside the bound that is proved."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from plateau_interp.activations import SmoothActivation
from plateau_interp.analysis.depth_two import depth_two_bounds
from plateau_interp.analysis.observing import Checkpointed
from plateau_interp.analysis.villani import villani_diagnostic
from plateau_interp.checks import shown
from plateau_interp.hooks import FrobeniusPenalty
from plateau_interp.reproductions.claims import Claim, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.quantities import Quantity
from plateau_interp.reproductions.settings import Added, Outcome
from plateau_interp.reproductions.study import Study
from plateau_interp.reproductions.theory.pictures import rays_figure
from plateau_interp.reproductions.theory.starts import STEP_SIZE, nets
from plateau_interp.runs.run import Run
from plateau_interp.tasks import DepthTwoNet
from plateau_interp.tasks.depth_two import Objective
from plateau_interp.training.batches import stream_generator

__all__ = ["PAIRED", "RAYS", "RAY_NORMS", "WEIGHTS", "psi_along_rays"]

RAY_NORMS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
N_RANDOM = 10
WEIGHTS, PAIRED = "the weights", "equal pairs"


def psi_along_rays(
    run: Checkpointed, *, penalty: float, norms: Sequence[float] = RAY_NORMS, n_random: int = N_RANDOM
) -> pd.DataFrame:
    """Psi of a depth-2 net's loss with a penalty, at points of several rays, and the lower bound that is proved there.

    Rays: through the weights of the last checkpoint; through weights whose gates are equal in pairs of opposite sign,
    where the net says 0 everywhere; and through ``n_random`` normal draws.

    Args:
        run: of `plateau_interp.tasks.DepthTwoNet`.
        penalty: lambda.
        norms: ``|W|_F`` of the points.
        n_random: draws.

    Returns:
        A row a ``case``, ray and norm: ``direction``, ``norm``, ``psi``, ``least``, which psi is proved not to be
        below, and ``margin``, their difference.

    Raises:
        ValueError: for a run of another task.
    """
    task = run.task
    if not isinstance(task, DepthTwoNet):
        raise ValueError(f"rays are of depth-2 nets; this run is of {shown(task, most=60)}")
    step = run.checkpoints[-1]
    model = run.model(step)
    anything: Any = model
    inner = anything.double().blocks[0].mlp.W_in
    n_gates = inner.shape[1]
    if n_gates % 2:
        raise ValueError(f"one ray has gates that are equal in pairs; this net has {n_gates}")
    bounds = depth_two_bounds(
        task.activation,
        task.objective,
        outer=task.outer_layer(n_gates),
        points=task.points[: task.n],
        labels=task.train_set.labels[:, 0],
    )
    # Rows that no point reaches are trained, too: each of their entries has the penalty for its second derivative.
    beside = penalty * (len(inner) - task.d) * n_gates
    rows = []
    for name, direction in _directions(inner.detach()[: task.d].clone(), n_random).items():
        with torch.no_grad():
            inner.zero_()
            inner[: task.d] = direction / torch.linalg.vector_norm(direction)
        readings = villani_diagnostic(model, task, task.train_set, step_size=STEP_SIZE, penalty=penalty, radii=norms)
        for norm, reading in zip(norms, readings, strict=True):
            least = bounds.psi_least(norm, step_size=STEP_SIZE, penalty=penalty) - beside
            found = {"step": step, "case": f"{name}, |W| = {norm:g}", "direction": name, "norm": norm}
            rows.append({**found, "psi": reading.psi, "least": least, "margin": reading.psi - least})
    return pd.DataFrame(rows)


def _directions(weights: Float[Tensor, "d gate"], n_random: int) -> dict[str, Float[Tensor, "d gate"]]:
    generator = stream_generator(0, "rays", 0)
    d, n_gates = weights.shape
    halves = torch.randn(d, n_gates // 2, generator=generator, dtype=weights.dtype)
    drawn = {
        f"draw {number}": torch.randn(d, n_gates, generator=generator, dtype=weights.dtype)
        for number in range(1, n_random + 1)
    }
    return {WEIGHTS: weights, PAIRED: repeat(halves, "d half -> d (half two)", two=2), **drawn}


def psi_of_its_loss(run: Run) -> pd.DataFrame:
    """`psi_along_rays` with the penalty that the run was trained with."""
    penalties = [one.coefficient for one in run.recipe.interventions if isinstance(one, FrobeniusPenalty)]
    return psi_along_rays(run, penalty=sum(penalties)).assign(penalty=sum(penalties))


def _of_rows(name: str, read: Any, *, digits: int = 3) -> Quantity:
    """A number of a study's whole table."""

    def of(outcome: Outcome) -> float | None:
        return None if "psi" not in outcome.metrics else float(read(outcome.metrics))

    return Quantity(name, of, digits)


def _grown(rows: pd.DataFrame) -> "pd.Series[float]":
    """Psi over what it grows as, where ``|W|`` is largest."""
    far = rows[rows["norm"] == rows["norm"].max()]
    grown: pd.Series[float] = far["psi"] * STEP_SIZE / (far["penalty"] * far["norm"]) ** 2
    return grown


MARGIN = _of_rows("least of Ψ less its bound", lambda rows: rows["margin"].min())
GROWTH_LOW = _of_rows("least s Ψ/(λ² |W|²) at |W| = 100,000", lambda rows: _grown(rows).min())
GROWTH_HIGH = _of_rows("largest s Ψ/(λ² |W|²) at |W| = 100,000", lambda rows: _grown(rows).max())
FAR_OUT = _of_rows("largest Ψ at |W| = 100,000", lambda rows: rows.loc[rows["norm"] == rows["norm"].max(), "psi"].max())
FIRST_POSITIVE = _of_rows(
    "first of the norms looked at from which Ψ > 0 on all rays",
    lambda rows: next(
        (norm for norm in sorted(rows["norm"].unique()) if (rows.loc[rows["norm"] >= norm, "psi"] > 0).all()), np.inf
    ),
    digits=0,
)
PAIRS_HIGHEST = _of_rows(
    "largest Ψ on the ray of equal pairs", lambda rows: rows.loc[rows["direction"] == PAIRED, "psi"].max()
)

WITH: tuple[tuple[Objective, SmoothActivation], ...] = (
    ("squared", "sigmoid"),
    ("squared", "tanh"),
    ("squared", "softplus"),
    ("logistic", "tanh"),
)
WITHOUT = (WITH[0], WITH[1], WITH[3])


def _study(objective: Objective, activation: SmoothActivation, penalty: float) -> Study:
    setting = nets(objective, activation, penalty)[1]
    about = f"{objective}, {activation}, λ = {penalty:g}"
    return Study(f"rays-{objective}-{activation}-{penalty:g}", setting, Added(psi_of_its_loss), about=about)


PENALISED = tuple(_study(*kind, 0.01) for kind in WITH)
BARE = tuple(_study(*kind, 0.0) for kind in WITHOUT)
RAYS = Experiment(
    name="rays",
    title="The Villani diagnostic along rays, with and without a penalty, beside the bound that is proved",
    figures="no figure: what we prove ourselves, beside measurements",
    settings=(*PENALISED, *BARE),
    key=(GROWTH_LOW, PENALISED[1]),
    n_seeds=1,
    table=(MARGIN, FIRST_POSITIVE, FAR_OUT, PAIRS_HIGHEST),
    draws=rays_figure,
    claims=(
        *(
            Claim(
                f"Ψ is nowhere below the bound: {study.about}",
                "proved, so that this tests proof and code",
                Within(MARGIN, study.name, low=0.0),
                "the bound holds at every weight",
            )
            for study in (*PENALISED, *BARE)
        ),
        *(
            Claim(
                f"Far out Ψ is {what} λ²|W|²/s on every ray: {study.about}",
                "measured on 12 rays; that it grows no less is proved"
                if quantity is GROWTH_LOW
                else "measured on 12 rays",
                Within(quantity, study.name, low=0.99, high=1.01),
                "a hundredth",
            )
            for study in PENALISED
            for what, quantity in (("no less than", GROWTH_LOW), ("no more than", GROWTH_HIGH))
            # Of softplus the output itself grows with |W|, and with it the data's part of the gradient.
            if quantity is GROWTH_LOW or "softplus" not in study.name
        ),
        *(
            Claim(
                f"Without a penalty Ψ does not grow where gates are equal in pairs: {study.about}",
                "proved; the number is measured",
                Within(PAIRS_HIGHEST, study.name, high=10.0),
                "that there is a bound is proved; 10, where λ²|W|²/s with λ = 0.01 would be 2.5 millions, is ours",
            )
            for study in BARE
        ),
        *(
            only_reported(f"Without a penalty, the largest Ψ far out: {study.about}", FAR_OUT, study.name)
            for study in BARE
        ),
        *(
            only_reported(f"Norm from which Ψ is above 0: {study.about}", FIRST_POSITIVE, study.name)
            for study in PENALISED
        ),
    ),
    notes=(
        "F is the loss of the 200 points with λ/2 |W|², s = 0.4, the trace exact. Rays go through the weights at the "
        "end of the run that started at 1, through weights whose gates are equal in pairs, and through ten normal "
        "draws. That of softplus Ψ is more than the penalty's part was seen on an untrained net, before the runs, "
        "so that the claim of no more is not made of it. A measured Ψ says nothing of other rays: what does is the "
        "proof in `plateau_interp.analysis.depth_two`, which is about this net alone. Nothing of it is about "
        "Transformers."
    ),
)
