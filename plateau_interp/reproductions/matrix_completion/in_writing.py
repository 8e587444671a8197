"""Causal models that write the whole matrix after one with gaps: figures 11 and 12."""

from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.claims import Claim, Reported, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.quantities import (
    DROP,
    PEAK_COSINE,
    at,
    final,
    first_at,
    peak,
)
from plateau_interp.reproductions.settings import Setting
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import WrittenCompletion
from plateau_interp.types import AttentionKind

__all__ = ["CAUSAL_MODELS", "WRITTEN"]


def written(attention: AttentionKind) -> Setting:
    """The small setting of a causal model."""
    recipe = Recipe(WrittenCompletion(), model=ModelOptions(attention=attention), checkpoint_every=100)
    return Setting(f"written-{attention}", recipe, about=f"{attention} attention", whole=True)


WRITTEN, LINEAR = written("softmax"), written("linear")
COPIES = first_at("accuracy_observed", 0.95)
AFTER_EXPLORING = "fixed before these runs, after one of a seed that does not count"

CAUSAL_MODELS = Experiment(
    name="fig11",
    title="A causal model drops where it begins to copy what is seen",
    figures="figures 11 and 12, on 4x4 matrices of rank 1",
    settings=(WRITTEN, LINEAR),
    key=(COPIES, WRITTEN),
    panels=(
        "loss",
        "accuracy_observed",
        "accuracy_missing",
        "copies_of_first",
        "attention_progress_0",
        "attention_progress_1",
        "attention_separator",
        "cosine",
    ),
    table=(DROP, COPIES, final("accuracy_missing"), PEAK_COSINE),
    claims=(
        Claim(
            "With its drop it has learnt to write what is seen",
            "figure 11, told by its caption",
            Within(COPIES, WRITTEN.name, high=400, most_seeds=True),
            f"95 % of these entries right within its 400 steps; {AFTER_EXPLORING}",
        ),
        Claim(
            "Missing entries stay behind",
            "figure 11, told by its caption",
            Within(final("accuracy_missing"), WRITTEN.name, high=0.5, most_seeds=True),
            f"half of them right at most, at the end; {AFTER_EXPLORING}",
        ),
        Claim(
            "The first layer then reads the entry that is to be written",
            "figure 12, told by its caption",
            Within(peak("attention_progress_0"), WRITTEN.name, low=0.5, most_seeds=True),
            f"half of its attention, where chance is 0.04; {AFTER_EXPLORING}",
        ),
        Claim(
            "The second does not",
            "figure 12, told by its caption: the second layer is trivial before, nothing is said of it after",
            Within(final("attention_progress_1"), WRITTEN.name, high=0.2, most_seeds=True),
            f"a fifth of its attention at most; {AFTER_EXPLORING}",
        ),
        Claim(
            "On the plateau the answer repeats itself",
            "what arXiv 2506.13688 says of other tasks, expected here",
            Within(peak("copies_of_first", until=COPIES), WRITTEN.name, low=0.5, most_seeds=True),
            f"half of the entries are the first one again; {AFTER_EXPLORING}",
        ),
        Claim(
            "Attention on the separator, on the plateau",
            "figure 12: the second layer's, all of it",
            Reported(at("attention_separator", step=50), (WRITTEN.name, LINEAR.name)),
            "",
            late=True,
        ),
        *(
            only_reported(text, quantity, LINEAR.name)
            for text, quantity in (
                ("With linear attention: when it writes what is seen", COPIES),
                ("With linear attention: missing entries", final("accuracy_missing")),
                ("With linear attention: what the first layer reads", peak("attention_progress_0")),
                ("With linear attention: the same entry again", peak("copies_of_first", until=COPIES)),
            )
        ),
    ),
    notes=(
        "Two layers of width 128 with two heads, 64 matrices a step, Adam 3e-4; the paper's have width 256, 256 "
        "matrices of 7x7 and rank 2 a step, and Adam 1e-4. The loss counts the prompt, too, as there. Of the variant "
        "with linear attention no result is known."
    ),
)
