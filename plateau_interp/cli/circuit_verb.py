"""``plateau circuit``: which edges of a run's model carry its answer, checkpoint after checkpoint, as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from tyro.conf import Positional, arg

from plateau_interp.cli.console import counting, print_json, print_table, print_text, table_rows
from plateau_interp.cli.parsing import Json, UsageError, check_folder_option, check_once
from plateau_interp.cli.series_verb import series_among

if TYPE_CHECKING:
    from plateau_interp.runs.kept_circuits import KeptCircuits
    from plateau_interp.runs.run import Run
    from plateau_interp.views.circuit_report import Formed

__all__ = ["CircuitVerb"]

MOST_UNASKED = 12
"""So many are measured unless steps are given: the first, the last and some evenly between."""
N_TOLD = 5
"""Edges of the last circuit that are printed."""


@dataclass(frozen=True)
class CircuitVerb:
    """Measure which edges of a run's model carry its answer, checkpoint after checkpoint, and draw the circuit.

    Prompts of the task and the same after the least change that changes the answer are read; an edge's score is what
    the difference of the two answers' logits changes by when that edge alone is cut. The same command goes on where it
    was stopped, and measures nothing twice; with more steps it adds them. The circuits of several runs come
    side by side, each kept in its own RUN/circuits.

    For example:
      plateau circuit runs/mws
      plateau circuit runs/mws --steps 0 100 400
      plateau circuit runs/mws --steps all --scoring exact --by-role --out circuits/exact
      plateau circuit runs/mws runs/fixed --out circuits/compared
      plateau circuit runs/text --prompts pairs.tsv
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]", help="Run folders.")]
    steps: Annotated[
        tuple[str, ...],
        arg(metavar="STEP [...]", help="Checkpoints, or all; by default twelve, the first and the last among them."),
    ] = ()
    out: Annotated[
        Path | None,
        arg(metavar="DIR", help="Of one run, where all is kept; by default RUN/circuits. Of several, the page."),
    ] = None
    scoring: Annotated[str, arg(help="attributed (by gradients), integrated, or exact: each edge cut in turn.")] = (
        "attributed"
    )
    ablation: Annotated[str, arg(help="What a cut edge carries: resample (of the changed prompt), mean, or zero.")] = (
        "resample"
    )
    by_role: Annotated[bool, arg(help="Score edges apart at the prompt, the separator and the answers.")] = False
    freeze_norms: Annotated[bool, arg(help="Norms divide by what they divide by on the clean prompt.")] = False
    n_pairs: Annotated[int, arg(help="Prompts, with as many that are changed.")] = 64
    n_points: Annotated[int, arg(help="Forwards of integrated scores.")] = 16
    seed: Annotated[int, arg(help="Of the prompts.")] = 0
    texts: Annotated[
        Path | None,
        arg(
            name="prompts",
            metavar="FILE",
            help="Of a run on text: a line a pair, clean text, tab, corrupted text; the last token is the answer.",
        ),
    ] = None
    edges: Annotated[int, arg(help="Edges of the still pictures, at most.")] = 40
    device: Annotated[str, arg(help="Where to measure: cpu, cuda, ...")] = "cpu"
    json: Json = False

    def run(self) -> None:
        """Measure what is left, then tell what came out."""
        from plateau_interp.analysis.circuits import Scoring
        from plateau_interp.analysis.edges import EdgeAblation
        from plateau_interp.checks import one_of, whole_number
        from plateau_interp.models.fitting import check_device
        from plateau_interp.runs.run import Run
        from plateau_interp.views.circuit_report import Formed, write_circuit_report
        from plateau_interp.views.report_words import run_names

        if not self.runs:
            raise UsageError("which run? plateau circuit RUN [RUN ...]")
        if series := series_among(self.runs):
            raise UsageError(f"{series[0]} is a series: circuits are measured of runs, such as `plateau train` makes")
        check_folder_option(self.out)
        if len(self.runs) > 1:
            _check_several(self.runs, self.out)
        one_of(Scoring, scoring=self.scoring)
        one_of(EdgeAblation, ablation=self.ablation)
        whole_number("n_points", self.n_points, least=1)
        whole_number("edges", self.edges, least=1)
        check_device(self.device)
        runs = [Run(path) for path in self.runs]
        kept = [self._kept(run) for run in runs]
        steps = [_chosen(self.steps, run) for run in runs]
        for each, wanted in zip(kept, steps, strict=True):
            _measure(each, wanted, self.device)
        names = run_names(runs)
        formed = [Formed(name, each.run, each.forming()) for name, each in zip(names, kept, strict=True)]
        page = write_circuit_report(formed, kept[0].path if self.out is None else self.out, n=self.edges)
        self._tell(formed, page)

    def _kept(self, run: "Run") -> "KeptCircuits":
        """What there is of a run; refused before anything is written, if it cannot be measured."""
        from plateau_interp.analysis.forming import CircuitOptions, counterfactual_pairs
        from plateau_interp.analysis.text_pairs import read_text_pairs
        from plateau_interp.runs.kept_circuits import KeptCircuits

        scoring, ablation = cast(Any, self.scoring), cast(Any, self.ablation)
        how = (self.n_pairs, self.seed, scoring, ablation, self.by_role, self.freeze_norms, self.n_points)
        options = CircuitOptions(*how, texts=() if self.texts is None else read_text_pairs(self.texts))
        counterfactual_pairs(run.task, options)
        return KeptCircuits(run, options, self.out if len(self.runs) == 1 else None)

    def _tell(self, formed: "Sequence[Formed]", page: Path) -> None:
        from plateau_interp.analysis.pruning import agreement
        from plateau_interp.views.circuit_report import compared_edges

        alike = []
        for one in formed[1:]:
            first = formed[0].last
            same = (first.writers, first.readers, first.roles) == (one.last.writers, one.last.readers, one.last.roles)
            n = compared_edges(first)
            alike.append(agreement(first, one.last, n=n)["overlap"] if same else None)
        if self.json:
            told = [_as_data(one, overlap) for one, overlap in zip(formed, [None, *alike], strict=True)]
            print_json({"runs": told, "page": str(page)})
            return
        for one in formed:
            n = compared_edges(one.last)
            metrics = one.forming.metrics(n=n).to_dict(orient="records")
            rows = [
                (f"{row['step']:,}", f"{row['answer_difference']:.3g}", f"{row['circuit_overlap']:.2f}")
                for row in metrics
            ]
            print_table([f"{one.name}: step", "logit difference", f"overlap with the last ({n} edges)"], rows)
            largest = one.forming.edges().head(N_TOLD).to_dict(orient="records")
            edges = [
                (_edge_in_words(edge, one), f"{edge['score']:+.3g}", f"{edge['step']:,}" if edge["score"] else "-")
                for edge in largest
            ]
            print_table(["largest edges", "score", "half of it from step"], edges)
        for one, overlap in zip(formed[1:], alike, strict=True):
            if overlap is not None:
                at = [f"{each.name} at step {each.forming.steps[-1]:,}" for each in (one, formed[0])]
                print_text(f"{at[0]} has {overlap:.0%} of the largest edges of {at[1]}")
        print_text(f"Page: {page}")


def _check_several(runs: Sequence[Path], out: Path | None) -> None:
    """Refuse a run that is given twice, and for their page a folder in which other things would be written over.

    Raises:
        UsageError: saying which run.
        ValueError: saying what is in the folder.
    """
    from plateau_interp.views.circuit_report import check_shared_folder

    if out is None:
        raise UsageError("a page of several runs needs a folder of its own: --out DIR")
    check_once(runs)
    check_shared_folder(out)


def _chosen(words: Sequence[str], run: "Run") -> list[int]:
    """The checkpoints that the words name.

    Raises:
        UsageError: for a word that is no step.
        ValueError: for a step without a checkpoint, and a run that has none.
    """
    from plateau_interp.checks import shown, there_steps
    from plateau_interp.views.readings import affordable

    there = run.checkpoints
    if not there:
        raise UsageError(f"{run.path} has no checkpoint yet")
    if not words:
        return affordable(there, [], room=MOST_UNASKED)
    if tuple(words) == ("all",):
        return there
    if wrong := [word for word in words if not word.isdecimal()]:
        raise UsageError(f"--steps: expected whole numbers, or all; got {shown(wrong[0])}")
    return there_steps(sorted({int(word) for word in words}), there, f"checkpoint in {run.path} of step")


def _measure(kept: "KeptCircuits", steps: Sequence[int], device: str) -> None:
    done = sum(step in kept.steps for step in steps)
    with counting(kept.run.path.name, total=len(steps), done=done) as show:
        for step in kept.measure(steps, device=device):
            show(f"step {step:,}")


def _edge_in_words(edge: Mapping[Any, Any], one: "Formed") -> str:
    role = f" ({edge['role']})" if len(one.last.roles) > 1 else ""
    return f"{edge['writer']} → {edge['reader']}{role}"


def _as_data(one: "Formed", overlap: float | None) -> dict[str, object]:
    from plateau_interp.views.circuit_report import compared_edges

    n = compared_edges(one.last)
    steps = table_rows(one.forming.metrics(n=n))
    edges = table_rows(one.forming.edges())
    told = {"run": str(one.run.path), "compared_edges": n, "steps": steps, "edges": edges}
    return told if overlap is None else {**told, "overlap_with_the_first": overlap}
