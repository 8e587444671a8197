"""The columns of a forming circuit, from a run's checkpoints, and the quantities that are read off them.

An edge's column, such as ``edge:embed>L0H0.v``, has its score. The main edges are the fewest that carry nine tenths of
the sum of all scores' sizes at the last measured step; an edge is there from the first measured step on that keeps at
least half of its last score.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from plateau_interp.analysis.forming import CircuitOptions, Forming, circuits
from plateau_interp.analysis.pruning import agreement
from plateau_interp.reproductions.from_checkpoints import permutation_strategies
from plateau_interp.reproductions.quantities import NEVER, Quantity
from plateau_interp.reproductions.settings import Added, Outcome
from plateau_interp.runs.run import Run
from plateau_interp.views.panels import SHARE, Panel

__all__ = [
    "ATTRIBUTED_COLUMNS",
    "CIRCUIT_COLUMNS",
    "EDGE",
    "PERMUTATION_COLUMNS",
    "among_largest",
    "attributed_columns",
    "before",
    "edge_scores",
    "forming_columns",
    "half_way",
    "main_edges",
    "n_main_edges",
    "permutation_columns",
    "rise",
    "share_before",
    "share_of_scores",
    "there_from",
]

EDGE = "edge:"
"""Columns of scores begin so."""
SHARE_OF_MAIN = 0.9
PAIRS = CircuitOptions(n_pairs=64)


def forming_columns(run: Run) -> pd.DataFrame:
    """A run's circuit at every checkpoint that has a row in its metrics, on 64 pairs; and how exact the scores are.

    Columns: ``answer_difference``, in logits; ``circuit_overlap``, the share of the main edges that are as high up at
    this step, and ``circuit_rank``, the rank correlation of all scores with the last; ``main_edges_there``, the share
    of the main edges that have half of their last score from here on; the scores of every edge; and at the last
    checkpoint ``exact_overlap`` and ``exact_rank``: how far these scores, by gradients, agree with every edge cut in
    turn, in the main edges and in the order of all.
    """
    forming = _forming(run)
    return _columns(forming).merge(_against_exact(run, forming), on="step", how="left")


def attributed_columns(run: Run) -> pd.DataFrame:
    """`forming_columns` but for the exact scores, which of a model with some hundred edges take too long."""
    return _columns(_forming(run))


def permutation_columns(run: Run) -> pd.DataFrame:
    """`forming_columns`, and how far each layer's attention follows the other published solution."""
    alternative = permutation_strategies(run)[["step", "alternative_0", "alternative_1"]]
    return forming_columns(run).merge(alternative, on="step")


def _forming(run: Run) -> Forming:
    rows = set(run.metrics["step"])
    steps = [step for step in run.checkpoints if step in rows]
    return circuits(run, steps=steps, n_pairs=PAIRS.n_pairs, seed=PAIRS.seed)


def _columns(forming: Forming) -> pd.DataFrame:
    table = forming.table()
    last = table[table["step"] == forming.steps[-1]]
    names = (EDGE + last["writer"] + ">" + last["reader"]).tolist()
    scores = pd.DataFrame(forming.scores, columns=names).assign(step=list(forming.steps))
    alike = forming.metrics(n=_n_main(forming)).drop(columns="answer_difference_ablated")
    return scores.merge(alike, on="step").assign(main_edges_there=_share_there(forming.scores))


def _n_main(forming: Forming) -> int:
    return int(_main(forming.scores[-1]).sum())


FORMED_PANELS = {
    "answer_difference": Panel("Clean against corrupted answer", "difference of logits"),
    "circuit_overlap": Panel("Overlap with the last circuit", "share of the main edges", SHARE),
    "circuit_rank": Panel("Likeness to the last circuit", "rank correlation of scores", (-1.05, 1.05)),
    "main_edges_there": Panel("Main edges with half of their last score", "share of the main edges", SHARE),
    "alternative_#": Panel("Alternative attention, layer {}", "share on its positions", SHARE),
}
CIRCUIT_COLUMNS, ATTRIBUTED_COLUMNS, PERMUTATION_COLUMNS = (
    Added(measure, FORMED_PANELS) for measure in (forming_columns, attributed_columns, permutation_columns)
)


def edge_scores(outcome: Outcome) -> pd.DataFrame:
    """The scores of every edge, a row a measured step, which is the index."""
    edges = [str(name) for name in outcome.metrics if str(name).startswith(EDGE)]
    scores = outcome.metrics.set_index("step")[edges].dropna()
    return scores.rename(columns=lambda name: name.removeprefix(EDGE))


def main_edges(outcome: Outcome) -> list[str]:
    """The fewest edges that carry nine tenths of the sum of all scores' sizes at last, the largest first."""
    last = edge_scores(outcome).iloc[-1].abs().sort_values(ascending=False, kind="stable")
    return last.index[: int(_main(last.to_numpy()).sum())].tolist()


def _main(last: Float[np.ndarray, " edge"]) -> Bool[np.ndarray, " edge"]:
    """Which edges are the main ones."""
    sizes = np.abs(last)
    order = np.argsort(-sizes, kind="stable")
    before_it = np.cumsum(sizes[order]) - sizes[order]
    chosen = np.zeros(len(sizes), dtype=bool)
    chosen[order[before_it < SHARE_OF_MAIN * sizes.sum()]] = True
    return chosen


def _there(scores: Float[np.ndarray, "step edge"]) -> Bool[np.ndarray, "step edge"]:
    """Whether an edge has half of its last score from here on."""
    with np.errstate(divide="ignore", invalid="ignore"):
        has = scores / scores[-1] >= 0.5
    there: np.ndarray = np.flip(np.logical_and.accumulate(np.flip(has, axis=0), axis=0), axis=0)
    return there


def _share_there(scores: Float[np.ndarray, "step edge"]) -> Float[np.ndarray, " step"]:
    share: np.ndarray = _there(scores[:, _main(scores[-1])]).mean(axis=1)
    return share


def _against_exact(run: Run, forming: Forming) -> pd.DataFrame:
    steps = [forming.steps[-1]]
    exact = circuits(run, steps=steps, n_pairs=PAIRS.n_pairs, seed=PAIRS.seed, scoring="exact")
    alike = agreement(exact.circuits[0], forming.circuits[-1], n=_n_main(forming))
    return pd.DataFrame({"step": steps, **{f"exact_{name}": [value] for name, value in alike.items()}})


def there_from(edge: str) -> Quantity:
    """The first measured step from which on an edge keeps at least half of its last score."""

    def of(outcome: Outcome) -> float | None:
        scores = edge_scores(outcome)
        if edge not in scores:
            return None
        there = _there(scores[[edge]].to_numpy())[:, 0]
        return float(scores.index[int(there.argmax())]) if there.any() else NEVER

    return Quantity(f"step from which {edge} is there", of)


def rise() -> Quantity:
    """The first measured step from which on the answers' difference keeps at least half of its last value."""

    def of(outcome: Outcome) -> float | None:
        if "answer_difference" not in outcome.metrics:
            return None
        seen = outcome.metrics[["step", "answer_difference"]].dropna()
        there = _there(seen[["answer_difference"]].to_numpy())[:, 0]
        return float(seen["step"].iloc[int(there.argmax())]) if there.any() else NEVER

    return Quantity("step from which the answers' difference is half of its last", of)


def half_way(column: str) -> Quantity:
    """The first measured step at which a column is half-way from its first value to its last."""

    def of(outcome: Outcome) -> float | None:
        if column not in outcome.metrics:
            return None
        seen = outcome.metrics[["step", column]].dropna()
        if seen.empty:
            return None
        first, last = seen[column].iloc[0], seen[column].iloc[-1]
        if not last > first:  # half of nothing, or of a fall
            return None
        return float(seen["step"].iloc[int(((seen[column] - first) / (last - first) >= 0.5).argmax())])

    return Quantity(f"step at which {column} is half-way", of)


def before(column: str, moment: Quantity, *, name: str) -> Quantity:
    """A column's last measured value before the step of another quantity; None if there is none."""

    def of(outcome: Outcome) -> float | None:
        step = moment.of(outcome)
        if step is None or step == NEVER or column not in outcome.metrics:
            return None
        values = outcome.metrics.loc[outcome.metrics["step"] < step, column].dropna()
        return None if values.empty else float(values.iloc[-1])

    return Quantity(name, of, 2)


def share_before(edge: str, edges: tuple[str, ...], moment: Quantity, *, name: str) -> Quantity:
    """The size of an edge's score as a share of those of several, at the last measured step before a moment."""

    def of(outcome: Outcome) -> float | None:
        step, scores = moment.of(outcome), edge_scores(outcome)
        if step is None or step == NEVER or not {*edges} <= {*scores}:
            return None
        earlier = scores[scores.index < step][[*edges]].abs()
        return None if earlier.empty else float(earlier[edge].iloc[-1] / earlier.iloc[-1].sum())

    return Quantity(name, of, 2)


def n_main_edges() -> Quantity:
    """How many main edges there are."""

    def of(outcome: Outcome) -> float | None:
        return None if edge_scores(outcome).empty else float(len(main_edges(outcome)))

    return Quantity("main edges", of)


def among_largest(edges: tuple[str, ...]) -> Quantity:
    """How many of some edges are among as many largest at last."""

    def of(outcome: Outcome) -> float | None:
        scores = edge_scores(outcome)
        if scores.empty:
            return None
        largest = scores.iloc[-1].abs().sort_values(ascending=False, kind="stable").index[: len(edges)]
        return float(len(set(edges) & set(largest)))

    return Quantity(f"of {', '.join(edges)}: so many are among the {len(edges)} largest", of)


def share_of_scores(part: tuple[str, ...], whole: tuple[str, ...], *, name: str) -> Quantity:
    """The sizes of some edges' last scores, as a share of those of these and others."""

    def of(outcome: Outcome) -> float | None:
        scores = edge_scores(outcome)
        if scores.empty or not {*part, *whole} <= {*scores}:
            return None
        last = scores.iloc[-1].abs()
        total = float(last[[*whole]].sum())
        return float(last[[*part]].sum()) / total if total else None

    return Quantity(name, of, 2)
