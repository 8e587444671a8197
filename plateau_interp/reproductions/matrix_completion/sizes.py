"""Other widths and depths, around the small model: figures 13 and 14."""

import math

from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.claims import Claim, Ordered, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.matrix_completion.components import BELOW_PLATEAU, EACH_OF_THREE
from plateau_interp.reproductions.matrix_completion.drop import SMALL
from plateau_interp.reproductions.quantities import final
from plateau_interp.reproductions.settings import Setting
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import MatrixCompletion

__all__ = ["DEPTHS", "WIDTHS"]

SIZE_PANELS = ("loss", "loss_missing", "loss_observed", "mask_value", "attention_on_row", "attention_on_column")
MISSING_AT_END = final("loss_missing", digits=4)


def of_width(d_model: int) -> Setting:
    """The small setting at another width; its weights are as much larger at the start as it is narrower."""
    small = MatrixCompletion.defaults
    init_std = small.init_std * math.sqrt(small.d_model / d_model)
    model = ModelOptions(d_model=d_model, init_std=init_std)
    recipe = Recipe(MatrixCompletion(), model=model, checkpoint_every=500)
    return Setting(f"width-{d_model}", recipe, about=f"width {d_model}", whole=True)


def of_depth(n_layers: int) -> Setting:
    """The small setting with another number of layers."""
    recipe = Recipe(MatrixCompletion(), model=ModelOptions(n_layers=n_layers), checkpoint_every=500)
    return Setting(f"layers-{n_layers}", recipe, about="1 layer" if n_layers == 1 else f"{n_layers} layers", whole=True)


NARROWEST, NARROW, WIDE = (of_width(d_model) for d_model in (16, 32, 96))
WIDTHS = Experiment(
    name="fig13",
    title="Narrower and wider models",
    figures="figure 13, on 4x4 matrices of rank 1",
    settings=(SMALL, NARROWEST, NARROW, WIDE),
    key=(MISSING_AT_END, NARROWEST),
    panels=SIZE_PANELS,
    table=(BELOW_PLATEAU, MISSING_AT_END),
    claims=(
        Claim(
            "The narrowest does not drop",
            "figure 13, told by its caption: width 64, a twelfth of the paper's, is too small",
            Within(BELOW_PLATEAU, NARROWEST.name, low=5000, most_seeds=True),
            "not within its 5,000 steps: a quarter of the width of ours; fixed before its runs",
        ),
        Claim(
            "The wider a model, the less is left at the end",
            "figure 13, told by its caption and by third parties",
            Ordered(MISSING_AT_END, (WIDE.name, SMALL.name, NARROW.name)),
            EACH_OF_THREE,
        ),
        only_reported(
            "When each drops", BELOW_PLATEAU, *[setting.name for setting in (NARROWEST, NARROW, SMALL, WIDE)]
        ),
        only_reported("What is left in the narrowest", MISSING_AT_END, NARROWEST.name),
    ),
    notes=(
        "The paper's widths are 64 to 1024, around its 768; these are 16, 32 and 96 around our 64, with four heads "
        "each and MLPs of four times the width. The deviation of the first weights is 0.12 at width 64 and goes with "
        "one over the root of the width, so that attention differs as much at the start; the paper's is 0.02 at every "
        "width, as far as is known."
    ),
)

SHALLOW, DEEP = (of_depth(n_layers) for n_layers in (1, 4))
DEPTHS = Experiment(
    name="fig14",
    title="Shallower and deeper models",
    figures="figure 14, on 4x4 matrices of rank 1",
    settings=(SMALL, SHALLOW, DEEP),
    key=(BELOW_PLATEAU, DEEP),
    panels=SIZE_PANELS,
    table=(BELOW_PLATEAU, MISSING_AT_END),
    claims=(
        Claim(
            "With twice the layers it drops earlier",
            "figure 14, told by its caption: 6 layers before 4",
            Ordered(BELOW_PLATEAU, (DEEP.name, SMALL.name)),
            EACH_OF_THREE,
        ),
        Claim(
            "And a little less is left at the end",
            "figure 14, told by its caption",
            Ordered(MISSING_AT_END, (DEEP.name, SMALL.name)),
            EACH_OF_THREE,
        ),
        only_reported("When one layer drops", BELOW_PLATEAU, SHALLOW.name),
        only_reported("What is left with one layer", MISSING_AT_END, SHALLOW.name),
    ),
    notes=(
        "The paper has 4, 6, 8 and 12 layers, of which the last three are about alike; ours has 2, and 1 and 4 beside "
        "it. What fewer than 4 do is not known of the paper's model."
    ),
)
