"""What is in the hidden states: figures 20 and 41."""

from dataclasses import replace

from plateau_interp.reproductions.claims import Claim, Within
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.from_checkpoints import PROBE_COLUMNS
from plateau_interp.reproductions.loss_plateau.baseline import MWS, recipe
from plateau_interp.reproductions.loss_plateau.statements import reported
from plateau_interp.reproductions.quantities import at, difference, final, last_on_plateau, mean_on_plateau, peak
from plateau_interp.reproductions.settings import Setting

__all__ = ["FIG20", "FIG41"]

PROBES = {"fitted on 64 sequences": "probe_test", "fitted on 1024 sequences": "probe_test_1024"}

LOCATIONS = {
    "before attention": "blocks.0.hook_resid_pre",
    "attention output": "blocks.0.hook_attn_out",
    "after attention": "blocks.0.hook_resid_mid",
    "after the MLP": "blocks.0.hook_resid_post",
}
EVERYWHERE = Setting(
    "all-locations",
    recipe(MWS, cosine_at=tuple(LOCATIONS.values())),
    about="baseline",
)
AT = {name: replace(peak(f"cosine@{point}"), name=f"peak cosine {name}") for name, point in LOCATIONS.items()}
AFTER_MINUS_BEFORE = difference(AT["after attention"], AT["before attention"])
FIG41 = Experiment(
    name="fig41",
    title="Collapse appears after the attention layer, not before it",
    figures="figures 41 and 42",
    settings=(EVERYWHERE,),
    key=(AFTER_MINUS_BEFORE, EVERYWHERE),
    panels=("loss", *(f"cosine@{point}" for point in LOCATIONS.values()), "cosine", "norm@blocks.0.hook_resid_mid"),
    claims=(
        Claim(
            "The residual stream before attention does not collapse",
            "figures 41, 42",
            Within(AT["before attention"], EVERYWHERE.name, high=0.5),
            "about half of the collapse at the end of the model; the bound is ours",
        ),
        Claim(
            "Attention's output collapses",
            "figures 41, 42",
            Within(AT["attention output"], EVERYWHERE.name, low=0.8),
            "as at the end of the model, allowing for 0.15; the bound is ours",
        ),
        Claim(
            "After attention the residual stream collapses more than before",
            "figures 41, 42",
            Within(AFTER_MINUS_BEFORE, EVERYWHERE.name, low=0.2),
            "a difference that is seen in a figure; the bound is ours",
        ),
        Claim(
            "After the MLP it is collapsed",
            "figures 41, 42",
            Within(AT["after the MLP"], EVERYWHERE.name, low=0.8),
            "as at the end of the model, allowing for 0.15; the bound is ours",
        ),
        *reported(
            EVERYWHERE,
            {
                f"Length of states {name}, {when}": quantity
                for name, point in LOCATIONS.items()
                for when, quantity in (
                    ("mean over the plateau", mean_on_plateau(f"norm@{point}")),
                    ("10 steps after it is solved", final(f"norm@{point}", rows=1)),
                )
            },
        ),
    ),
)

PROBED = Setting("probe", recipe(MWS, checkpoint_every=20), about="baseline", whole=True, adds=PROBE_COLUMNS)
LAST_PROBE = last_on_plateau("probe_test")
FIG20 = Experiment(
    name="fig20",
    title="What can be read from the attention output",
    figures="figure 20",
    settings=(PROBED,),
    key=(LAST_PROBE, PROBED),
    panels=("loss", "accuracy", "attention_progress", "probe_test", "probe_train", "probe_test_1024"),
    claims=(
        Claim(
            "On the plateau the answers cannot be read from the attention output",
            "figure 20, inferred",
            Within(LAST_PROBE, PROBED.name, high=0.5),
            "the probe names less than half of the tokens; the bound is ours",
        ),
        Claim(
            "Once attention is learned they can",
            "figure 20, inferred",
            Within(final("probe_test", rows=1), PROBED.name, low=0.9),
            "nine of ten tokens; the bound is ours",
        ),
        *reported(
            PROBED,
            {
                f"{name}: {when}": quantity
                for name, column in PROBES.items()
                for when, quantity in (
                    ("at the start", at(column)),
                    ("at step 100", at(column, step=100)),
                    ("at the end", final(column, rows=1)),
                )
            },
        ),
    ),
    notes=(
        "Measured at a checkpoint every 20 steps; the paper probes every 10. Its split fits the probe on the first "
        "1024 tokens of 2048 sequences laid end to end: whole sequences, so nothing leaks, but 3 % of the data where "
        "half was probably meant. Both are shown: fitted on 64 sequences (the paper's split, at every checkpoint) and "
        "on 1024 (every fifth)."
    ),
)
