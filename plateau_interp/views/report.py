"""Reports: one page about one or several runs, with what was measured in words, figures and a table.

The page is one file that needs no network; each figure is also a PNG beside it. `plateau report` calls `write_report`.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from plateau_interp.analysis.plateaus import Summary
from plateau_interp.files import write_atomically
from plateau_interp.interventions.plan import brief
from plateau_interp.training.batches import samples_before
from plateau_interp.types import answer_rows, is_finite
from plateau_interp.views.attention import MAX_VALUES, N_EXAMPLES, N_READINGS, attention_view, mean_shares
from plateau_interp.views.collapse import cosine_matrices
from plateau_interp.views.curves import (
    ACCENT,
    COLOURS,
    GRID,
    GROUND,
    INK,
    MUTED,
    OTHER,
    PANELS,
    Curves,
    cosine_figure,
    curves_figure,
    level_lines,
    panel,
    parts,
    pattern_figure,
    position_figure,
    rendered,
)
from plateau_interp.views.page import Page, bundle, document

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from plateau_interp.runs.run import Run

__all__ = ["write_report"]

HERE = Path(__file__).parent
OVERLAID = 6
"""More runs than this are drawn as mean and spread over seeds, not as single curves."""


@dataclass(frozen=True)
class Shown:
    """A figure on the page."""

    name: str
    svg: str
    caption: str


def write_report(runs: "Run | Sequence[Run]", out: str | Path | None = None) -> Path:
    """Write the report of a run, or of several runs together.

    Args:
        runs: one run with at least one measured step, or several; they should be of one task.
        out: the folder to write to; by default ``report/`` in the run's own folder. Needed for several runs.

    Returns:
        Path of ``index.html``. Beside it lies a PNG of each figure.

    Raises:
        ValueError: if a run has no measured step yet, there is no run, or ``out`` is missing for several runs.

    Example:
        >>> from plateau_interp import Run
        >>> write_report(Run("runs/mws"))  # doctest: +SKIP
        PosixPath('runs/mws/report/index.html')
    """
    listed = list(runs) if isinstance(runs, Sequence) else [runs]
    if not listed:
        raise ValueError("there is no run to report")
    if out is None and len(listed) > 1:
        raise ValueError("a report of several runs needs a folder of its own: give out=...")
    for run in listed:
        if run.metrics.empty:
            raise ValueError(f"{run.path} has no measured step yet: there is nothing to report")
    folder = listed[0].path / "report" if out is None else Path(out)
    content, pictures = _compose(listed)
    for name, picture in pictures.items():
        write_atomically(folder / f"{name}.png", picture)
    index = folder / "index.html"
    write_atomically(index, content)
    return index


def _compose(runs: "list[Run]") -> tuple[str, dict[str, bytes]]:
    """The page, and the PNGs by name."""
    import jinja2

    names = _names(runs)
    summaries = [run.summary for run in runs]
    pictures: dict[str, bytes] = {}
    figures = []
    for name, figure, caption in _curve_figures(runs, names, summaries):
        pictures[name] = rendered(figure, "png")
        figures.append(Shown(name, _inline(figure, name), caption))
    maps = _maps(runs, names, summaries, pictures)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    title = f"{_task(runs)}: {', '.join(names)}"
    body = environment.get_template("report.html.jinja").render(
        task=_task(runs),
        names=names,
        headline=_headline(runs, summaries),
        lede=_lede(runs, summaries),
        facts=_facts(runs, summaries),
        figures=figures,
        not_drawn=_not_drawn(runs),
        maps=maps,
        table=_histories(runs) + _table(summaries),
        recipes=[(name, _setting(run), run.recipe.to_json()) for name, run in zip(names, runs, strict=True)],
    )
    style = (HERE / "report.css").read_text(encoding="utf-8")
    viewed = any(section.view for section in maps)
    return document((bundle() if viewed else "") + body, title=title, style=style), pictures


# ---- words ---------------------------------------------------------------------------------------------------------


def _names(runs: "list[Run]") -> list[str]:
    """The ends of the runs' paths, as long as it takes to tell them apart."""
    paths = [run.path.resolve().parts for run in runs]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return [str(run.path) for run in runs]


def _task(runs: "list[Run]") -> str:
    return " and ".join(dict.fromkeys(run.task.name.replace("-", " ") for run in runs))


def _headline(runs: "list[Run]", summaries: list[Summary]) -> str:
    return f"{_finding(runs, summaries)}{_unfinished(runs)}"


def _unfinished(runs: "list[Run]") -> str:
    """Which runs have not made all their steps."""
    left = [index for index, run in enumerate(runs) if _steps_made(run) < run.recipe.steps]
    if not left:
        return ""
    if len(runs) == 1:
        return f" Unfinished: stopped at step {_steps_made(runs[0])} of {runs[0].recipe.steps}."
    names = _names(runs)
    told = [f"{names[at]} stopped at step {_steps_made(runs[at])} of {runs[at].recipe.steps}" for at in left]
    return f" Unfinished: {', '.join(told)}." if len(told) <= 2 else f" {len(told)} of them are unfinished."


def _steps_made(run: "Run") -> int:
    """How far it is known that the run came: its last measured row may be older or younger than its last checkpoint."""
    return max([int(run.metrics["step"].iloc[-1]) + 1, *run.checkpoints])


def _finding(runs: "list[Run]", summaries: list[Summary]) -> str:
    dropped = [summary.drop_step for summary in summaries if summary.drop_step is not None]
    if len(summaries) > 1:
        if not dropped:
            return f"None of the {len(summaries)} runs dropped."
        everyone = "Both" if len(summaries) == 2 else f"All {len(summaries)}"
        who = everyone if len(dropped) == len(summaries) else f"{len(dropped)} of {len(summaries)}"
        when = (
            f"at step {dropped[0]}"
            if min(dropped) == max(dropped)
            else f"between steps {min(dropped)} and {max(dropped)}"
        )
        return f"{who} runs dropped, {when}."
    summary = summaries[0]
    if summary.drop_step is None:
        n_steps = _steps_made(runs[0])
        return f"No drop in {n_steps} step{'s' if n_steps > 1 else ''}: the loss is {summary.final_loss:.2f} nats."
    if summary.level is None:
        return f"The loss fell without a plateau: half of its fall was done by step {summary.drop_step}."
    return (
        f"The loss sat at {summary.level:.2f} nats for {summary.length} steps, then dropped at step "
        f"{summary.drop_step} and ended at {summary.final_loss:.2f}."
    )


def _lede(runs: "list[Run]", summaries: list[Summary]) -> str:
    if len(summaries) > 1:
        levels = _range([summary.level for summary in summaries], "{:.4f}")
        seen = "There was no plateau." if levels == "none" else f"The loss on the plateau was {levels} nats."
        told = _closed_form(summaries[0]) if _agree(summary.level_expected for summary in summaries) else ""
        return f"{seen} {told}".strip()
    summary, run = summaries[0], runs[0]
    n_answers = run.task.answer.stop - run.task.answer.start
    sentences = [_origin(run), _closed_form(summary)]
    if summary.drop_step is not None and summary.level is not None and "accuracy_0" in run.metrics:
        n_right = len(summary.partial_solution)
        sentences.append(f"On the plateau {n_right} of {n_answers} answers {'was' if n_right == 1 else 'were'} right.")
    if summary.peak_cosine is not None:
        sentences.append(f"The hidden states of different answers came as close as cosine {summary.peak_cosine:.2f}.")
    if summary.attention_progress_start is not None and summary.attention_progress_end is not None:
        start, end = summary.attention_progress_start, summary.attention_progress_end
        applied = ", the interventions included" if run.recipe.interventions else ""
        sentences.append(f"The share of attention on the target positions went from {start:.2f} to {end:.2f}{applied}.")
    sentences.append(_grokking(summary))
    return " ".join(sentence for sentence in sentences if sentence)


def _origin(run: "Run") -> str:
    """That a run is a fork, and what acts in it."""
    fork, acting = run.recipe.fork_of, ", ".join(map(brief, run.recipe.interventions))
    if fork is None:
        return f"What acts in it: {acting}." if acting else ""
    return f"A fork that left its parent at step {fork.step}; what acts in it: {acting or 'nothing'}."


def _histories(runs: "list[Run]") -> list[tuple[str, list[str]]]:
    """Rows of the table on how each run came about."""
    recipes = [run.recipe for run in runs]
    rows = [("Steps", [f"{_steps_made(run)} of {run.recipe.steps}" for run in runs])]
    if any(recipe.fork_of for recipe in recipes):
        steps = [f"{recipe.fork_of.step}" if recipe.fork_of else "no fork" for recipe in recipes]
        rows.append(("Forked at step", steps))
    if any(recipe.interventions for recipe in recipes):
        acting = [", ".join(map(brief, recipe.interventions)) or "none" for recipe in recipes]
        rows.append(("Interventions", acting))
    return rows


def _grokking(summary: Summary) -> str:
    """When training and validation set were right, if there is a validation set."""
    if summary.final_validation_accuracy is None or summary.train_95_step is None:
        return ""
    told = f"95 % of the training set were right from step {summary.train_95_step}"
    if summary.grokking_delay is None:
        end = f"{told}; the validation set got no further than {summary.final_validation_accuracy:.0%} in the end."
    else:
        later = f"{summary.grokking_delay} steps later"
        end = f"{told}, of the validation set from step {summary.validation_95_step}: {later}."
    delays = [
        f"{group} {'never' if delay is None else f'{delay} steps'}" for group, delay in summary.delays_apart.items()
    ]
    return f"{end} Delays of each by itself: {', '.join(delays)}." if delays else end


def _closed_form(summary: Summary) -> str:
    if summary.level_expected is None:
        return "No closed form of the plateau is known for this task."
    return f"The closed form of the plateau is {summary.level_expected:.4f} nats."


def _facts(runs: "list[Run]", summaries: list[Summary]) -> list[tuple[str, str, str]]:
    """Label, number and remark of the large numbers at the top."""
    first = summaries[0]
    drops = [summary.drop_step for summary in summaries]
    samples = [
        None if drop is None else samples_before(run.task, step=drop, batch_size=run.recipe.batch_size)
        for drop, run in zip(drops, runs, strict=True)
    ]
    one = len(summaries) == 1
    expected, floors = [s.level_expected for s in summaries], [s.floor for s in summaries]
    return [
        ("Plateau", _range([s.level for s in summaries], "{:.3f}"), _known("closed form", expected)),
        (
            "On the plateau",
            _range([s.length for s in summaries], "{:.0f}", " steps" if one else ""),
            f"step {first.start} to {first.end}" if one and first.length else "steps from arriving to leaving",
        ),
        (
            "Drop",
            _range(drops, "{:.0f}", before="step " if one else ""),
            f"after {samples[0]:,} sequences"
            if one and samples[0] is not None
            else f"{'' if one else 'step at '}half of the way to the floor",
        ),
        ("Final loss", _range([s.final_loss for s in summaries], "{:.3f}"), _known("floor", floors)),
    ]


def _range(values: Sequence[float | None], form: str, after: str = "", before: str = "") -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    texts = list(dict.fromkeys((form.format(min(known)), form.format(max(known)))))
    return f"{before}{' to '.join(texts)}{after}"


def _known(name: str, values: Sequence[float | None]) -> str:
    """A closed form, if it is that of all runs."""
    if not _agree(values):
        return f"{name}s differ"
    return f"{name} unknown" if values[0] is None else f"{name} {values[0]:.4f}"


def _agree(values: Iterable[object]) -> bool:
    return len(set(values)) == 1


def _table(summaries: list[Summary]) -> list[tuple[str, list[str]]]:
    columns = [dict(summary.rows()) for summary in summaries]
    labels = dict.fromkeys(label for column in columns for label in column)
    return [(label, [column.get(label, "not measured") for column in columns]) for label in labels]


def _setting(run: "Run") -> str:
    recipe = run.recipe
    optimizer = type(recipe.optimizer).__name__
    rate = getattr(recipe.optimizer, "learning_rate", None)
    layers = f"{recipe.model.n_layers} layer{'s' if recipe.model.n_layers != 1 else ''}"
    heads = f"{recipe.model.n_heads} head{'s' if recipe.model.n_heads != 1 else ''}"
    sequences = f"{recipe.batch_size} new sequences a step"
    if is_finite(run.task):
        n_train = len(run.task.train_set)
        whole = f"all {n_train} sequences of the training set a step"
        sequences = f"{recipe.batch_size} sequences a step" if recipe.batch_size < n_train else whole
    return (
        f"{str(recipe.model.attention).capitalize()} attention, {layers}, {heads}, width {recipe.model.d_model}; "
        f"{optimizer}{'' if rate is None else f' at learning rate {rate:g}'}, "
        f"{sequences}, {recipe.steps} steps, seed {recipe.seed}."
    )


# ---- figures -------------------------------------------------------------------------------------------------------


def _curve_figures(runs: "list[Run]", names: list[str], summaries: list[Summary]) -> "list[tuple[str, Figure, str]]":
    """Name, figure and caption of each panel that was measured."""
    curves = _curves(runs, names)
    drops = [summary.drop_step for summary in summaries]
    measured = _measured(runs)
    validated = {column for run in runs for column in _measured([run]) if column.startswith("validation_")}
    levels = runs[0].task.levels if _agree(run.task.levels for run in runs) else None
    one = summaries[0] if len(summaries) == 1 else None
    averaged = len(runs) > OVERLAID and len(curves) < len(runs)
    how = " Line: mean over seeds; band: one standard deviation." if averaged else ""
    captions = {
        "loss": _caption_loss(one, fresh="validation_loss" not in validated, known=bool(level_lines(levels)))
        + ("" if one else _marked(drops)),
        "accuracy": _caption_accuracy(one),
        "attention_progress": "Share of the attention of the answer rows that lies on the positions which the solution "
        + ("reads. Half of its rise is done before the drop." if _rises_first(runs, summaries) else "reads.")
        + (" As in training: interventions included." if any(run.recipe.interventions for run in runs) else ""),
        "cosine": "Mean cosine between the final hidden states of different answers. Near 1 the model says the same "
        "at each position: its representations have collapsed.",
        "repetition": "Share of neighbouring answers that are equal, in greedy decoding.",
        "entropy": "Entropy of the tokens within an answer, in greedy decoding.",
        "copies_of_first": "Share of the tokens of a greedy answer that equal its first.",
        "attention_progress_without_separator": "Attention progress of the attention that is not on the separator.",
        "attention_separator": "Share of the attention of the answer rows that lies on the separator.",
    }
    captions |= {column: f"The column {column} of the metrics." for column in _others(measured, captions)}
    alone = isinstance(curves, pd.DataFrame) or len(curves) == 1
    shown = [
        (
            _file_name(column),
            curves_figure(curves, [column], levels=levels, drops=drops),
            caption + _also(column, measured, validated, alone=alone, several=one is None) + how,
        )
        for column, caption in captions.items()
        if column in measured
    ]
    return shown + _position_figures(runs, names, summaries)


def _position_figures(runs: "list[Run]", names: list[str], summaries: list[Summary]) -> "list[tuple[str, Figure, str]]":
    """A map of the answer positions for each setting: runs that differ in more than their seed have no mean."""
    groups = _settings(runs, names)
    shown = []
    for number, (name, members) in enumerate(groups.items(), start=1):
        group = [runs[index] for index in members]
        if "accuracy_0" not in _measured(group):
            continue
        drops = [summaries[index].drop_step for index in members]
        of = f" Of {name}." if len(groups) > 1 else ""
        many = f" Mean of {len(group)} runs." if len(group) > 1 else ""
        caption = f"Each row is an answer position; a strong colour means right.{_marked(drops)}{of}{many}"
        figure = position_figure([run.metrics for run in group], drops=drops)
        shown.append((f"positions-{number}" if len(groups) > 1 else "positions", figure, caption))
    return shown


def _measured(runs: "list[Run]") -> list[str]:
    """Columns in which each run has a number."""
    everywhere = [set(_measured_by(run)) for run in runs]
    return [column for column in _measured_by(runs[0]) if all(column in measured for measured in everywhere)]


def _measured_by(run: "Run") -> list[str]:
    return list(map(str, run.metrics.select_dtypes("number").dropna(axis="columns", how="all").columns))


def _not_drawn(runs: "list[Run]") -> list[str]:
    """Titles of the panels that are left out, as not every run measured what they show."""
    somewhere = list(dict.fromkeys(column for run in runs for column in _measured_by(run)))
    everywhere = _measured(runs)
    panels = [column for column in somewhere if column in PANELS or column in _others(somewhere, PANELS)]
    return sorted({panel(column).title for column in panels if column not in everywhere})


def _others(measured: list[str], known: Iterable[str]) -> list[str]:
    """Columns that the suite does not know and that are drawn in no other column's panel."""
    elsewhere = {"step", "samples", *known}
    for column in measured:
        elsewhere |= {f"validation_{column}", f"{column}_truth", *parts(measured, column).values()}
    return [name for name in measured if name not in elsewhere and not re.fullmatch(r"accuracy_\d+", name)]


def _marked(drops: Sequence[int | None]) -> str:
    """What the vertical lines are, if there are any."""
    n_lines = len({drop for drop in drops if drop is not None})
    return ("", " Vertical line: the drop.", " Vertical lines: the drops.")[min(n_lines, 2)]


def _also(column: str, measured: list[str], validated: set[str], *, alone: bool, several: bool) -> str:
    """What the other lines of a panel are; a validation set need not be in each run."""
    held_out = f"validation_{column}"
    where = "" if held_out in measured else ", of the runs that have one"
    lines = (
        (f"{column}_truth" in measured, f" Dotted: of the true answers{', mean of the runs' if several else ''}."),
        (held_out in validated, f" Dashed: on the validation set{where}."),
        (alone and bool(parts(measured, column)), " Thin lines: its parts."),
    )
    return "".join(text for there, text in lines if there)


def _file_name(column: str) -> str:
    return re.sub(r"[^\w-]+", "-", column)


def _curves(runs: "list[Run]", names: list[str]) -> Curves:
    if len(runs) == 1:
        return runs[0].metrics
    if len(runs) <= OVERLAID:
        return {name: run.metrics for name, run in zip(names, runs, strict=True)}
    return {name: [runs[index].metrics for index in members] for name, members in _settings(runs, names).items()}


def _settings(runs: "list[Run]", names: list[str]) -> dict[str, list[int]]:
    """Runs that differ in nothing but their seed, by their indices."""
    groups: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        groups.setdefault(dataclasses.replace(run.recipe, seed=0).to_json(), []).append(index)
    return {names[members[0]] + (" and others" if len(members) > 1 else ""): members for members in groups.values()}


def _caption_loss(summary: Summary | None, *, fresh: bool, known: bool) -> str:
    what = f"Training loss{' of fresh batches' if fresh else ''}{'; dotted: the closed-form levels' if known else ''}."
    if summary is None or summary.level is None:
        return what
    distance = (
        ""
        if summary.level_expected is None
        else f", {abs(summary.level - summary.level_expected):.3f} from its closed form"
    )
    where = f"The plateau's level is {summary.level:.3f} nats{distance}."
    return f"{what} {where}"


def _caption_accuracy(summary: Summary | None) -> str:
    text = "Share of answer tokens that are right when the model writes the whole answer by itself."
    if summary is None or summary.steps_to.get(95) is None:
        return text
    return f"{text} 95 % from step {summary.steps_to[95]}."


def _rises_first(runs: "list[Run]", summaries: list[Summary]) -> bool:
    """Whether in each run attention progress has done half of its way before the drop."""
    for run, summary in zip(runs, summaries, strict=True):
        if summary.drop_step is None or "attention_progress" not in run.metrics:
            return False
        progress = run.metrics.set_index("step")["attention_progress"].dropna()
        before = progress[progress.index <= summary.drop_step]
        if before.empty or progress.iloc[-1] <= progress.iloc[0]:
            return False
        if before.iloc[-1] < (progress.iloc[0] + progress.iloc[-1]) / 2:
            return False
    return True


def _inline(figure: "Figure", name: str) -> str:
    """A figure as SVG for the page: it takes the page's colours and type, so it fits a light and a dark ground."""
    text = rendered(figure, "svg", background="none").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )
    for start in ('id="', "url(#", 'href="#'):
        text = text.replace(start, f"{start}{name}-")
    series = [(colour, f"series-{index}") for index, colour in enumerate(COLOURS[2:], start=3)]
    first = ((GROUND, "ground"), (INK, "ink"), (MUTED, "muted"), (GRID, "line"), (ACCENT, "accent"), (OTHER, "other"))
    for colour, name in (*first, *series):
        text = text.replace(colour, f"var(--{name})")
    return re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", text)


# ---- maps ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    """Still maps with a caption, and views where there are any."""

    title: str
    name: str
    stills: list[str]
    caption: str
    view: str = ""


def _maps(runs: "list[Run]", names: list[str], summaries: list[Summary], pictures: dict[str, bytes]) -> list[Section]:
    """For each layer: still maps of the first run before, at and after the drop, and the view through training."""
    shown = [(run, name, summary) for run, name, summary in zip(runs, names, summaries, strict=True) if run.checkpoints]
    if not shown:
        return []
    run, first, summary = shown[0]
    of = f" of {first}" if len(runs) > 1 else ""
    moments = _moments(run, summary)
    n_layers = run.recipe.model.n_layers or 1
    alone = " Shown are the weights by themselves: the run's interventions are not applied."
    alone = alone if run.recipe.interventions else ""
    sections = []
    for layer in range(n_layers):
        maps, targets = mean_shares(run, moments, layer=layer)
        view, told = _view([each[:2] for each in shown], list(moments), layer)
        name = f"attention-{layer}"
        sections.append(
            Section(
                title=f"Attention{f', layer {layer}' if n_layers > 1 else ''}{of}",
                name=name,
                stills=_drawn(name, _stills(maps, targets, moments, answer_rows(run.task)), pictures),
                caption=" ".join([_caption_stills(maps, targets, moments) + alone, *told]),
                view=view,
            )
        )
    if answer_rows(run.task).stop - answer_rows(run.task).start > 1:
        steps = list(moments)
        matrices = cosine_matrices(run, steps)
        stills = [cosine_figure(matrices, steps)]
        stills += [cosine_figure(one[None], [step]) for one, step in zip(matrices, steps, strict=True)]
        sections.append(
            Section(
                title=f"Collapse{of}",
                name="collapse",
                stills=_drawn("collapse", stills, pictures),
                caption=f"Cosine between the final hidden states of each two answers, mean of {N_EXAMPLES} sequences."
                + alone,
            )
        )
    return sections


def _drawn(name: str, figures: "list[Figure]", pictures: dict[str, bytes]) -> list[str]:
    """The single maps for the page; the figure of all of them, which comes first, becomes the PNG."""
    pictures[name] = rendered(figures[0], "png")
    return [_inline(figure, f"{name}-{index}") for index, figure in enumerate(figures[1:])]


def _moments(run: "Run", summary: Summary) -> dict[int, str]:
    """Checkpoints before, at and after the drop; first, middle and last where there is no drop."""
    steps = run.checkpoints
    last = steps[-1]
    if summary.drop_step is None or summary.drop_step > last:
        return {step: f"step {step}" for step in sorted({steps[0], steps[len(steps) // 2], last})}
    wanted = [(last, "after the drop"), (summary.drop_step, "at the drop")]
    if summary.start is None or summary.end is None:
        wanted.insert(1, (steps[0], "before the drop"))
    else:
        wanted.insert(1, ((summary.start + summary.end) // 2, "on the plateau"))
    nearest = {min(steps, key=lambda other: abs(other - step)): f"{where}" for step, where in wanted}
    return {step: f"step {step}, {nearest[step]}" for step in sorted(nearest)}


def _view(shown: "list[tuple[Run, str]]", wanted: list[int], layer: int) -> tuple[str, list[str]]:
    """The views of the first two runs as HTML, and what to say of them; of the first run some steps are wanted."""
    deep = [each for each in shown if (each[0].recipe.model.n_layers or 1) > layer]
    views, told, names = [], [], []
    for run, name in deep[:2]:
        shares, _targets = mean_shares(run, run.checkpoints[-1:], layer=layer)
        steps = _affordable(run.checkpoints, wanted, room=MAX_VALUES // (N_READINGS * shares.size))
        missing = [str(step) for step in wanted if step not in steps] if run is shown[0][0] else []
        if not steps:
            told.append(_too_large(shares, layer, f" of {name}" if len(shown) > 1 else ""))
            continue
        if missing:
            told.append(f"The view has no room for step{'s' * (len(missing) > 1)} {' and '.join(missing)}.")
        views.append(attention_view(run, layer=layer, steps=steps))
        names.append(name)
    if names and len(shown) > len(names):
        told.append(f"Below: {' and '.join(names)}, of {len(shown)} runs with checkpoints.")
    return Page(views).fragment(f"attention-{layer}") if views else "", told


def _affordable(checkpoints: list[int], wanted: list[int], *, room: int) -> list[int]:
    """At most ``room`` checkpoints: of those wanted the last, the first and those between; then some evenly spaced."""
    there = [step for step in wanted if step in checkpoints]
    kept = [*there[-1:], *there[:-1]][:room]
    n_spaced = min(room - len(kept), len(checkpoints))
    return sorted({*kept, *(checkpoints[round(at)] for at in np.linspace(0, len(checkpoints) - 1, n_spaced))})


def _too_large(shares: Float[np.ndarray, "step head query key"], layer: int, of: str) -> str:
    """Why there is no view, and how to get one."""
    n_values = N_READINGS * shares[0].size
    small_heads = n_values // shares.shape[1] <= MAX_VALUES
    how = "heads=[0]) shows one head" if small_heads else "heads=[0], tokens=...) shows one head on a shorter input"
    return (
        f"There is no view{of}: a step has {n_values:,} values, a page has room for {MAX_VALUES:,}. "
        f"attention_view(run, layer={layer}, {how}."
    )


def _stills(
    shares: Float[np.ndarray, "step head query key"],
    outlined: Bool[np.ndarray, "query key"] | None,
    moments: dict[int, str],
    rows: slice,
) -> "list[Figure]":
    """One figure of all moments, then one of each; the answer rows alone, as a first query can read nothing else."""
    maps = shares.mean(axis=1)[:, rows]
    targets = None if outlined is None else outlined[rows]
    titles, label = list(moments.values()), "share of attention"
    most = float(maps.max()) or 1.0
    groups = [(maps, titles), *((each[None], [title]) for each, title in zip(maps, titles, strict=True))]
    return [
        pattern_figure(some, some_titles, targets=targets, label=label, limit=most, first_query=rows.start)
        for some, some_titles in groups
    ]


def _caption_stills(
    shares: Float[np.ndarray, "step head query key"],
    targets: Bool[np.ndarray, "query key"] | None,
    moments: dict[int, str],
) -> str:
    """What is seen: how much of the attention lies on the outlined cells at each moment."""
    n_heads = shares.shape[1]
    heads = "" if n_heads == 1 else f" Mean of {n_heads} heads."
    basis = f"Share of each answer row's attention, mean of {N_EXAMPLES} sequences.{heads}"
    if targets is None:
        return basis
    rows = targets.any(axis=1)
    on_targets = (shares.mean(axis=1) * targets)[:, rows].sum(axis=(1, 2)) / rows.sum()
    path = ", ".join(f"{share:.2f} at step {step}" for share, step in zip(on_targets, moments, strict=True))
    return f"{basis} Outlined: what the solution reads; it gets a share of {path}."
