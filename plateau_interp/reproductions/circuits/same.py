"""Whether two settings come to one circuit: a check of claims that compares the last circuits of a seed's two runs."""

from dataclasses import dataclass

from plateau_interp.reproductions.circuits.measured import edge_scores, main_edges
from plateau_interp.reproductions.claims import Finding, Outcomes
from plateau_interp.reproductions.quantities import Quantity, median
from plateau_interp.reproductions.settings import Outcome

__all__ = ["SameCircuit", "shared_edges"]


@dataclass(frozen=True)
class SameCircuit:
    """Of the main edges of one setting, the share that is as high up in another: its median is at least a bound.

    Args:
        setting: whose circuit is held against the other's.
        other: whose main edges are looked for.
        low: the bound.
    """

    setting: str
    other: str
    low: float

    @property
    def expected(self) -> str:
        """The bound."""
        return f"share of the main edges of {self.other} that are as high up in {self.setting} ≥ {self.low:g}"

    def find(self, outcomes: Outcomes) -> Finding:
        """Compare seed by seed."""
        others = {one.seed: one for one in outcomes.get(self.other, ())}
        shares = [shared_edges(others[one.seed], one) for one in outcomes.get(self.setting, ()) if one.seed in others]
        if not shares:
            return Finding("", "not run")
        told = Quantity("", lambda _: None, digits=2).tell_all(shares)
        seeds = "1 seed" if len(shares) == 1 else f"{len(shares)} seeds"
        return Finding(f"{told} ({seeds})", "holds" if median(shares) >= self.low else "does not hold")


def shared_edges(first: Outcome, other: Outcome) -> float:
    """The share of the first's main edges that are among as many largest of the other's, both at last."""
    main = main_edges(first)
    sizes = edge_scores(other).iloc[-1].abs().sort_values(ascending=False, kind="stable")
    return len({*main} & {*sizes.index[: len(main)]}) / len(main)
