"""Published language models through their pretraining: figures 8 and 23 to 25, tables 1 and 2.

They need a network, or a hub's cache that somebody filled; `plateau_interp.reproductions.loss_plateau.trained_text` has
what of this was run on a model trained here.
"""

from typing import TYPE_CHECKING

from plateau_interp.analysis.continuations import repetition, state_cosine
from plateau_interp.decoding import Continuation, continued
from plateau_interp.reproductions.claims import Claim, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.loss_plateau.statements import READ_OFF
from plateau_interp.reproductions.pretrained import PublishedModel
from plateau_interp.reproductions.quantities import Quantity, difference
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.series.prompts import GENERAL_QUESTIONS
from plateau_interp.series.revisions import PAPER_STEPS
from plateau_interp.types import HookedModel, Reader
from plateau_interp.views.series_figures import series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "FIG8",
    "FIG23",
    "TABLES",
    "at_checkpoint",
    "peak_early",
    "pretraining_figure",
    "sampled_cosine",
    "sampled_repetition",
    "where_cosine_peaks",
]

PYTHIA_STEPS = PAPER_STEPS["eleutherai/pythia-"]
OLMO_STEPS = PAPER_STEPS["allenai/olmo-2-1124-7b"]
PYTHIA_SIZES = ("14m", "1b", "1.4b", "2.8b")
EARLY = 1000
"""Steps of pretraining, of the 10,000 that the paper plots, in which the peak is looked for."""


def _sampled(model: HookedModel, greedy: Continuation) -> Continuation:
    """The same prompts continued by drawing tokens as they are likely, always the same draws."""
    texts_end = isinstance(model, Reader) and model.tokenizer is not None and model.tokenizer.eos_token_id is not None
    return continued(
        model,
        greedy.prompts,
        greedy.tokens.shape[1],
        mask=greedy.prompt_mask,
        never=["end of text"] if texts_end else (),
        temperature=1.0,
    )


def sampled_cosine(model: HookedModel, greedy: Continuation) -> float:
    """Collapse where tokens are drawn at temperature 1, and not the likeliest taken: a mean over the prompts."""
    return float(state_cosine(_sampled(model, greedy)).mean())


def sampled_repetition(model: HookedModel, greedy: Continuation) -> float:
    """Repetition where tokens are drawn at temperature 1, and not the likeliest taken: a mean over the prompts."""
    return float(repetition(_sampled(model, greedy)).mean())


def peak_early(column: str) -> Quantity:
    """Highest value among the steps from 1 to 1000; None where none of their checkpoints is data."""

    def of(outcome: Outcome) -> float | None:
        values = _early(outcome, column)
        return max(values.values(), default=None)

    return Quantity(f"peak {column}, steps 1 to {EARLY}", of, 3)


def where_cosine_peaks(column: str) -> Quantity:
    """A column's value at the step of `peak_early` of the cosine."""

    def of(outcome: Outcome) -> float | None:
        cosines = _early(outcome, "cosine")
        return _early(outcome, column).get(max(cosines, key=cosines.__getitem__)) if cosines else None

    return Quantity(f"{column} at the peak of the cosine, steps 1 to {EARLY}", of, 3)


def at_checkpoint(column: str, step: int, *, digits: int = 3) -> Quantity:
    """A column's value at a step; None where that checkpoint is no data."""
    return Quantity(f"{column} at step {step:,}", lambda outcome: _data(outcome, column).get(step), digits)


def _early(outcome: Outcome, column: str) -> dict[int, float]:
    return {step: value for step, value in _data(outcome, column).items() if 1 <= step <= EARLY}


def _data(outcome: Outcome, column: str) -> dict[int, float]:
    """By step, what was measured at checkpoints that share their weights with no other."""
    if column not in outcome.metrics:
        return {}
    rows = outcome.metrics[["step", column]].dropna()
    return dict(zip(map(int, rows["step"]), map(float, rows[column]), strict=True))


def pretraining_figure(outcomes: dict[str, list[Outcome]]) -> "Figure":
    """Collapse (solid) and repetition (dashed) against the step, one colour a model."""
    tables = {one.setting.about: one.metrics for ours in outcomes.values() for one in ours}
    return series_figure(tables)


N_CHECKPOINTS = Quantity("checkpoints", lambda outcome: len(outcome.metrics))
N_SHARED = Quantity("that share their weights", lambda outcome: int(outcome.metrics["duplicate"].sum()))
PEAK, REPETITION_THERE = peak_early("cosine"), where_cosine_peaks("repetition")
OF_PRETRAINING = (N_CHECKPOINTS, N_SHARED, PEAK, REPETITION_THERE, at_checkpoint("cosine", PYTHIA_STEPS[-1]))
ARC_QUESTIONS = "the questions of ARC-Easy's test set (allenai/ai2_arc)"

PYTHIA = {
    size: PublishedModel(f"pythia-{size}", f"EleutherAI/pythia-{size}", PYTHIA_STEPS, about=f"Pythia {size}")
    for size in PYTHIA_SIZES
}
PRETRAINING_NOTES = (
    "8 tokens written greedily after each of the first 100 questions of ARC-Easy's test set, never an end of text; the "
    "states after the final norm that predicted them, all pairs. Checkpoints that have the very same weights as "
    "another are not counted: pythia-2.8b serves its final weights under most of its early steps. Step 0 is measured, "
    "and not drawn in the paper. What is fetched is deleted again after it was measured."
)
FIG8 = Experiment(
    name="fig8",
    title="Published language models collapse and repeat themselves early in pretraining, then less",
    figures="figure 8",
    settings=tuple(PYTHIA.values()),
    key=(PEAK, PYTHIA["14m"]),
    n_seeds=1,
    draws=pretraining_figure,
    table=OF_PRETRAINING,
    needs=(
        f"the hub, for {', '.join(one.name for one in PYTHIA.values())} ({len(PYTHIA_STEPS)} checkpoints each) and "
        f"{ARC_QUESTIONS}"
    ),
    claims=tuple(
        claim
        for setting in PYTHIA.values()
        for claim in (
            Claim(
                f"{setting.about}: hidden states collapse early",
                "figure 8, read by others",
                Within(PEAK, setting.name, low=0.9),
                "the number as it was read, no allowance: the statement is an inequality",
            ),
            Claim(
                f"{setting.about}: repetition is high there",
                "figure 8, read by others",
                Within(REPETITION_THERE, setting.name, low=0.5),
                "high: at least half of the neighbours are equal; the bound is ours",
            ),
            Claim(
                f"{setting.about}: then collapse decreases",
                "figure 8, read by others",
                Within(difference(PEAK, at_checkpoint("cosine", PYTHIA_STEPS[-1])), setting.name, low=0.1),
                "a decrease that is seen in a figure; the bound is ours",
            ),
            Claim(
                f"{setting.about}: then repetition decreases",
                "figure 8, read by others",
                Within(
                    difference(peak_early("repetition"), at_checkpoint("repetition", PYTHIA_STEPS[-1])),
                    setting.name,
                    low=0.1,
                ),
                "a decrease that is seen in a figure; the bound is ours",
            ),
        )
    ),
    notes=PRETRAINING_NOTES,
)

TABLES = Experiment(
    name="tables",
    title="Collapse and repetition of four sizes of Pythia, checkpoint by checkpoint",
    figures="tables 1 and 2 (what they hold is unknown; the authors' script prints these numbers)",
    settings=tuple(PYTHIA.values()),
    key=(at_checkpoint("cosine", 512), PYTHIA["14m"]),
    n_seeds=1,
    draws=pretraining_figure,
    table=(N_CHECKPOINTS, N_SHARED),
    needs=FIG8.needs,
    claims=tuple(
        only_reported(
            f"{what} at step {step:,}",
            at_checkpoint(column, step, digits=digits),
            *[setting.name for setting in PYTHIA.values()],
        )
        for what, column, digits in (("Collapse", "cosine", 3), ("Repetition", "repetition", 2))
        for step in PYTHIA_STEPS
    ),
    notes=PRETRAINING_NOTES,
)

OLMO = PublishedModel("olmo-2-7b", "allenai/OLMo-2-1124-7B", OLMO_STEPS, about="OLMo-2 7B")
SAMPLED = PublishedModel(
    "pythia-14m-sampled",
    "EleutherAI/pythia-14m",
    PYTHIA_STEPS,
    about="Pythia 14m, tokens drawn at temperature 1, too",
    measures={"sampled_cosine": sampled_cosine, "sampled_repetition": sampled_repetition},
)
OTHER_PROMPTS = PublishedModel(
    "pythia-14m-general",
    "EleutherAI/pythia-14m",
    PYTHIA_STEPS,
    about="Pythia 14m, the questions of this package",
    prompts=GENERAL_QUESTIONS,
)
FIG23 = Experiment(
    name="fig23",
    title="The same of OLMo-2, of drawn tokens and of other prompts",
    figures="figures 23 to 25 (which shows which is unknown)",
    settings=(OLMO, SAMPLED, OTHER_PROMPTS),
    key=(at_checkpoint("cosine", OLMO_STEPS[0]), OLMO),
    n_seeds=1,
    draws=pretraining_figure,
    table=(N_CHECKPOINTS, N_SHARED, PEAK, REPETITION_THERE, peak_early("sampled_cosine")),
    needs=f"the hub, for OLMo-2-1124-7B (30 GB in memory), pythia-14m and {ARC_QUESTIONS}",
    claims=(
        Claim(
            "OLMo-2 7B is collapsed at step 150",
            "figures 23 to 25, read by others",
            Within(at_checkpoint("cosine", 150), OLMO.name, low=0.83, high=1.0),
            f"0.93; {READ_OFF}",
        ),
        Claim(
            "OLMo-2 7B is collapsed no longer at step 600",
            "figures 23 to 25, read by others",
            Within(at_checkpoint("cosine", 600), OLMO.name, low=0.33, high=0.53),
            f"0.43; {READ_OFF}",
        ),
        Claim(
            "OLMo-2 7B repeats itself less at step 600",
            "figures 23 to 25, told by others",
            Within(difference(at_checkpoint("repetition", 150), at_checkpoint("repetition", 600)), OLMO.name, low=0.1),
            "a decrease that is seen in a figure; the bound is ours",
        ),
        Claim(
            "Other prompts: hidden states collapse early",
            "figures 23 to 25, inferred",
            Within(PEAK, OTHER_PROMPTS.name, low=0.9),
            "as in figure 8",
        ),
        Claim(
            "Other prompts: repetition is high there",
            "figures 23 to 25, inferred",
            Within(REPETITION_THERE, OTHER_PROMPTS.name, low=0.5),
            "as in figure 8",
        ),
        only_reported("Drawn tokens: peak collapse", peak_early("sampled_cosine"), SAMPLED.name),
        only_reported("Drawn tokens: peak repetition", peak_early("sampled_repetition"), SAMPLED.name),
    ),
    notes=(
        "The paper's other data set and how it draws are unknown: ours are the general questions in this package, and "
        f"temperature 1. Drawn tokens are measured beside the greedy ones. {PRETRAINING_NOTES}"
    ),
)
