"""Softmax attention, and other sizes of model and task: figures 26 to 30."""

from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.claims import Claim, Ordered
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.loss_plateau.baseline import BASELINE, COMMON_PANELS, MWS, recipe
from plateau_interp.reproductions.loss_plateau.statements import EVERY_SEED, OUR_BUDGET, PAPERS_BUDGET, late, persists
from plateau_interp.reproductions.quantities import DROP
from plateau_interp.reproductions.settings import Setting
from plateau_interp.tasks import MovingWindowSum

__all__ = ["FIG26", "FIG30"]

SOFTMAX = Setting("softmax", recipe(MWS, model=ModelOptions(attention="softmax"), steps=2000), about="softmax")
FIG30 = Experiment(
    name="fig30",
    title="Softmax attention shows the same plateau, longer",
    figures="figure 30",
    settings=(BASELINE, SOFTMAX),
    key=(DROP, SOFTMAX),
    panels=COMMON_PANELS,
    claims=(
        *late(*persists(SOFTMAX, "figure 30, inferred", budget=PAPERS_BUDGET)),
        Claim(
            "It drops later than with linear attention",
            "figure 30, inferred from its steps",
            Ordered(DROP, (BASELINE.name, SOFTMAX.name)),
            EVERY_SEED,
        ),
    ),
)

VARIANTS = {
    "two layers": ModelOptions(n_layers=2),
    "four heads": ModelOptions(n_heads=4),
    "width 128": ModelOptions(d_model=128),
    "width 512": ModelOptions(d_model=512),
}
TASK_VARIANTS = {
    "8 inputs": MovingWindowSum(n=8),
    "24 inputs": MovingWindowSum(n=24),
    "modulus 11": MovingWindowSum(p=11),
    "modulus 29": MovingWindowSum(p=29),
    "window of 3": MovingWindowSum(k=3),
}
SIZES = tuple(
    Setting(f"variant-{name.replace(' ', '-')}", varied, about=name)
    for name, varied in (
        *((name, recipe(MWS, model=options, steps=1000, every=5)) for name, options in VARIANTS.items()),
        *((name, recipe(task, steps=1000, every=5)) for name, task in TASK_VARIANTS.items()),
    )
)
FIG26 = Experiment(
    name="fig26",
    title="Other layers, heads, widths, lengths, moduli and windows",
    figures="figures 26 to 29 (which shows which is unknown)",
    settings=(BASELINE, *SIZES),
    key=(DROP, SIZES[0]),
    panels=COMMON_PANELS,
    claims=tuple(
        statement for setting in SIZES for statement in persists(setting, "figures 26 to 29", budget=OUR_BUDGET)
    ),
    notes="The paper's values are unknown; these are ours: one change at a time, at most 1000 steps.",
)
