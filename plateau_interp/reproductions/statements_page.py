"""The page of all statements of a paper: of each experiment the picture, settings, statements and their bounds."""

from collections.abc import Mapping, Sequence

from plateau_interp.reproductions.claims import Statement
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.markdown import anchor, table
from plateau_interp.reproductions.paper_results import PaperResults
from plateau_interp.reproductions.settings import Outcome

__all__ = ["setting_rows", "statements_page"]


def statements_page(results: PaperResults) -> str:
    """Everything that was found; the short of it is in RESULTS.md, two folders up."""
    paper = results.paper
    parts = [
        f"# All statements: {paper.title}",
        f"Written by `plateau reproduce {paper.name}` from the files in this folder; {paper.source}. The short of it "
        f"is in [RESULTS.md](../../RESULTS.md#{paper.name}).",
        paper.legend,
        results.remarks.of("about"),
        "Measured numbers are medians over seeds with [lowest, highest]; a claim holds if the median is within its "
        "bounds, an order if the medians and four of five seeds show it. Steps are training steps. Headings say what "
        "is to be expected, verdicts what was found.",
        *(part for experiment in results.run_experiments for part in _section(experiment, results)),
        *_not_run(results),
        f"{anchor('machine')}\n\n## Machine and time",
        _machine_and_time(results),
        results.remarks.of("machine"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def setting_rows(experiment: Experiment, outcomes: Mapping[str, Sequence[Outcome]]) -> list[list[str]]:
    """One row a setting that was run: name, seeds, and median and range of the numbers of the experiment's table."""
    rows = []
    for setting in experiment.settings:
        seeds = outcomes.get(setting.name, [])
        if not seeds:
            continue
        numbers = []
        for quantity in experiment.table:
            values = [value for outcome in seeds if (value := quantity.of(outcome)) is not None]
            numbers.append(quantity.tell_all(values) if values else "-")
        rows.append([setting.about or setting.name, str(len(seeds)), *numbers])
    return rows


def _section(experiment: Experiment, results: PaperResults) -> list[str]:
    statements = results.judged(of=experiment.name)
    header = ["setting", "seeds", *(quantity.name for quantity in experiment.table)]
    return [
        f"{anchor(experiment.name)}\n\n## {experiment.name}: {experiment.title}",
        f"Reproduces {experiment.figures}.",
        f"![{experiment.title}]({experiment.name}.png)",
        table(header, setting_rows(experiment, results.outcomes)),
        "" if experiment.tells is None else experiment.tells(results.outcomes),
        experiment.notes,
        results.remarks.of(experiment.name),
        _statement_table(statements),
        *(_reason_not_held(statement, results) for statement in statements if results.remarks.why(statement)),
        *_bounds(statements),
    ]


def _statement_table(statements: Sequence[Statement]) -> str:
    rows = [[*statement.texts().values()][1:] for statement in statements]
    for row in rows:
        row[-1] = f"**{row[-1]}**" if row[-1] == "does not hold" else row[-1]
    return table(["claim", "source", "expected", "measured", "verdict"], rows) if rows else ""


def _reason_not_held(statement: Statement, results: PaperResults) -> str:
    return f"*{statement.claim.text}:* {results.remarks.why(statement)}"


def _bounds(statements: Sequence[Statement]) -> list[str]:
    """Why bounds are what they are: each reason once, with the claims that have it."""
    by_reason: dict[str, list[str]] = {}
    for statement in statements:
        if statement.claim.reason:
            by_reason.setdefault(statement.claim.reason, []).append(statement.claim.text)
    lines = [f"* {'; '.join(texts)}: *{reason}*." for reason, texts in by_reason.items()]
    return ["Why these bounds:", "\n".join(lines)] if lines else []


def _not_run(results: PaperResults) -> list[str]:
    parts = []
    missing = [one for one in results.paper.experiments if one not in results.run_experiments]
    if missing:
        listed = "\n".join(_line_not_run(one, results) for one in missing)
        parts += ["## Not run", "Defined, but without results here:", listed]
    told = {
        "Curves are stored, but of another recipe than the setting has now": results.there.others,
        "Stored runs ended before they may now, by `whole` or `perfect_steps`": results.there.early,
    }
    lines = [f"{what}: {', '.join(f'`{name}`' for name in names)}." for what, names in told.items() if names]
    return [*parts, "## Not counted", *lines] if lines else parts


def _line_not_run(experiment: Experiment, results: PaperResults) -> str:
    line = f"* `{experiment.name}` ({experiment.figures}): {experiment.title}"
    if not experiment.needs:
        return line
    told = results.paper.not_run(experiment)
    return f"{line}. {told[:1].upper()}{told[1:]}"


def _machine_and_time(results: PaperResults) -> str:
    cost = results.cost()
    pace = "" if cost.seconds_a_step is None else f", {cost.seconds_a_step:.2f} s a step in the median"
    machines = "\n".join(f"* {machine}" for machine in cost.machines)
    return (
        f"{cost.n_runs} runs, {cost.n_steps:,} steps; {cost.n_timed} of them were timed: {cost.hours:.1f} hours of "
        f"running, less what kills cut off{pace}. Made with:\n\n{machines}"
    )
