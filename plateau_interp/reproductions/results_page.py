"""RESULTS.md: a page that a person reads. One section a paper, each about a hundred lines; all else is linked.

A section says what was run, what holds, what does not and what was seen instead, one line an experiment, one picture,
and how to make it again.
"""

from collections.abc import Sequence
from pathlib import Path

from plateau_interp.reproductions.claims import Statement
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.markdown import anchor, anchored, headed, table
from plateau_interp.reproductions.paper_results import PaperResults
from plateau_interp.reproductions.quantities import Quantity
from plateau_interp.reproductions.settings import Compared

__all__ = ["check_is_ours", "results_page", "results_section"]

WRITTEN_BY = "Written by `plateau reproduce"
"""In every page of ours, by which it is known."""
HEAD = f"""# Results

What came out when experiments of papers were run again with this suite: what holds, what does not, and what was seen
instead. {WRITTEN_BY}` from the measured curves in [results](results), which are stored with it."""


def check_is_ours(page: Path) -> None:
    """Refuse to write over a page that somebody else wrote.

    Raises:
        ValueError: naming the page.
    """
    if page.is_file() and WRITTEN_BY not in page.read_text(encoding="utf-8"):
        raise ValueError(f"{page} was not written by `plateau reproduce`: move it, or use another folder")


def results_page(before: str, name: str, section: str) -> str:
    """The page with one paper's section put in, in place of the one it had; the others stay.

    Args:
        before: the page as it is; empty if there is none.
        name: of the paper.
        section: its `results_section`.
    """
    sections = {**anchored(before), name: section}
    # With one paper a list of papers would only stand in the way.
    links = [f"* [{title}](#{paper})" for paper, text in sections.items() for title in headed(text, level=2)]
    parts = [HEAD, *(["\n".join(links)] if len(links) > 1 else [])]
    parts += [f"{anchor(paper)}\n\n{text}" for paper, text in sections.items()]
    return "\n\n".join(parts) + "\n"


def results_section(results: PaperResults) -> str:
    """What a person wants to know of a paper, with links to all the rest."""
    remarks = results.remarks
    parts = [
        f"## {results.paper.title}",
        f"{results.paper.source}. {results.paper.about}".rstrip(),
        _in_numbers(results),
        *(["### What holds", remarks.of("holds")] if remarks.of("holds") else []),
        *_not_held(results),
        "### Experiment by experiment",
        table(
            ["experiment", "reproduces", "seeds", "holds", "does not", "reported", "the number that matters"],
            [_experiment_row(experiment, results) for experiment in results.paper.experiments],
        ),
        *_cover(results),
        "### How to make it again",
        _how_to_make(results),
    ]
    return "\n\n".join(parts)


def _folder(results: PaperResults) -> str:
    return f"results/{results.paper.name}"


def _link_to(experiment: str, text: str, results: PaperResults) -> str:
    return f"[{text}]({_folder(results)}/statements.md#{experiment})"


def _in_numbers(results: PaperResults) -> str:
    """What was run and how it came out, in numbers."""
    n_run, n_all = len(results.run_experiments), len(results.paper.experiments)
    seeds = [len(outcomes) for outcomes in results.outcomes.values() if outcomes]
    if not seeds:
        return "Nothing was run yet."
    cost = results.cost()
    which = f"All {n_all}" if n_run == n_all else f"{n_run} of {n_all}"
    sentences = [
        f"{which} experiments were run, in {len(seeds)} settings with {_least_to_most(seeds)} seeds each: "
        f"{cost.n_runs} runs, {cost.n_steps:,} training steps, {cost.hours:.1f} hours.",
        f"Of {len(results.judged())} statements **{results.count('holds')} hold and {results.count('does not hold')} "
        f"do not**; {results.count('unknown')} are reported without a verdict: no value is published, or it could not "
        "be measured.",
        "Numbers are medians over seeds with [lowest, highest].",
        f"[All statements]({_folder(results)}/statements.md) stand on a page of their own, with their sources, bounds "
        "and pictures.",
    ]
    if n_others := len(results.there.others):
        sentences.append(f"Stored curves of {n_others} settings do not count: they are of other recipes than now.")
    if n_early := len(results.there.early):
        sentences.append(f"Of {n_early} settings stored runs do not count: they ended before they may now.")
    return " ".join(sentences)


def _not_held(results: PaperResults) -> list[str]:
    statements = [one for one in results.judged() if one.finding.verdict == "does not hold"]
    lines = [_line_not_held(statement, results) for statement in statements]
    return ["### What does not hold, and what was seen instead", "\n".join(lines)] if lines else []


def _line_not_held(statement: Statement, results: PaperResults) -> str:
    link, text = _link_to(statement.experiment, statement.experiment, results), statement.claim.text
    why = results.remarks.why(statement).replace("\n", " ")
    return (
        f"* **{text[:1].upper()}{text[1:]}** ({link}). Expected: {statement.claim.check.expected}; measured: "
        f"{statement.finding.measured}. {why}".rstrip()
    )


def _experiment_row(experiment: Experiment, results: PaperResults) -> list[str]:
    name = f"`{experiment.name}`: {experiment.title}"
    if not experiment.was_run(results.outcomes):
        return [name, experiment.figures, results.paper.not_run(experiment), "", "", "", ""]
    counts = [str(results.count(verdict, of=experiment.name)) for verdict in ("holds", "does not hold", "unknown")]
    link = f"{_link_to(experiment.name, experiment.name, results)}: {experiment.title}"
    return [
        link,
        experiment.figures,
        _how_many_seeds(experiment, results),
        *counts,
        _number_that_matters(experiment, results),
    ]


def _how_many_seeds(experiment: Experiment, results: PaperResults) -> str:
    """How many seeds its settings have; what they are compared with may have more, and counts only if it is alone."""
    settings = experiment.settings[1:] or experiment.settings
    return _least_to_most(
        [len(results.outcomes[setting.name]) for setting in settings if results.outcomes[setting.name]]
    )


def _least_to_most(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _number_that_matters(experiment: Experiment, results: PaperResults) -> str:
    """The number that matters, beside that of the setting that others are compared with."""
    quantity, setting = experiment.key
    first = experiment.settings[0]
    told = f"{quantity.name}: {_of_all(quantity, setting, results)}"
    if setting is first:
        return told
    beside = _of_all(quantity, first, results)
    compared = "" if beside == "-" else f" ({first.about or first.name}: {beside})"
    return f"{told} with {setting.about or setting.name}{compared}"


def _of_all(quantity: Quantity, setting: Compared, results: PaperResults) -> str:
    values = [value for one in results.outcomes[setting.name] if (value := quantity.of(one)) is not None]
    return quantity.tell_all(values) if values else "-"


def _cover(results: PaperResults) -> list[str]:
    shown = [one for one in results.run_experiments if one.name == results.paper.cover]
    return [part for experiment in shown for part in _picture(experiment, results) if part]


def _picture(experiment: Experiment, results: PaperResults) -> list[str]:
    first_paragraph = results.remarks.of(experiment.name).split("\n\n")[0]
    picture = f"![{experiment.title}]({_folder(results)}/{experiment.name}.png)"
    told = "" if experiment.tells is None else experiment.tells(results.outcomes)
    return [f"### {experiment.title}", first_paragraph, picture, told, experiment.notes]


def _how_to_make(results: PaperResults) -> str:
    name, cost = results.paper.name, results.cost()
    return f"""```console
plateau reproduce {name} --list              # the experiments, and what each would cost on your machine
plateau reproduce {name} --publish .         # train what is missing in runs/{name}, then write this page
plateau reproduce {name} --draw --publish .  # train nothing: draw this page again from {_folder(results)}
```

All of it took {cost.hours:.1f} hours here. Names of experiments after `{name}` make those alone, `--seeds 1` one
seed of each; a killed run goes on where it was. [On what it was made]({_folder(results)}/statements.md#machine)."""
