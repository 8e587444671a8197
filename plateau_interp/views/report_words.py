"""The words and numbers of a report: headline, lede, facts, the table, and what each run was.

Pure functions from runs and their summaries to text. The captions of figures stand with the figures, in
`plateau_interp.views.report_curves` and `plateau_interp.views.report_maps`.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from plateau_interp.analysis.criteria import delay_told
from plateau_interp.analysis.plateaus import Summary
from plateau_interp.files import readable
from plateau_interp.interventions.plan import brief
from plateau_interp.models.settings import ModelSettings
from plateau_interp.training.batches import samples_before
from plateau_interp.types import is_finite

if TYPE_CHECKING:
    from plateau_interp.runs.recipe import Recipe
    from plateau_interp.runs.run import Run

__all__ = [
    "agree",
    "beginning",
    "facts",
    "figure",
    "grokking",
    "histories",
    "lede",
    "measured_rows",
    "origin",
    "run_headline",
    "run_names",
    "setting",
    "task_name",
]


@runtime_checkable
class Rated(Protocol):
    """An optimiser that has a learning rate, as most have."""

    learning_rate: float


def run_names(runs: "list[Run]") -> list[str]:
    """The ends of the runs' paths, as long as it takes to tell them apart."""
    paths = [run.path.resolve().parts for run in runs]
    for length in range(1, max(map(len, paths)) + 1):
        names = [readable("/".join(parts[-length:])) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return [readable(run.path) for run in runs]


def task_name(runs: "list[Run]") -> str:
    """The task that the runs learn, in words; several are joined."""
    return " and ".join(dict.fromkeys(run.task.name.replace("-", " ") for run in runs))


def run_headline(runs: "list[Run]", summaries: list[Summary]) -> str:
    """One sentence on what happened, and whether the runs made all their steps."""
    return f"{_finding(runs, summaries)}{_unfinished(runs)}"


def _unfinished(runs: "list[Run]") -> str:
    """Which runs have not made all their steps."""
    left = [index for index, run in enumerate(runs) if _steps_made(run) < run.recipe.steps]
    if not left:
        return ""
    if len(left) > 2:
        return f" {len(left)} of them are unfinished."
    # A folder does not tell a run that was stopped from one that is being trained, so neither does the report.
    made = [f"{_steps_made(runs[at])} of {runs[at].recipe.steps} steps" for at in left]
    if len(runs) == 1:
        return f" Unfinished: {made[0]} are made."
    names = run_names(runs)
    return f" Unfinished: {', '.join(f'{names[at]} made {steps}' for at, steps in zip(left, made, strict=True))}."


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
    summary, n_steps = summaries[0], _steps_made(runs[0])
    when = f", measured at step {summary.last_step}" if summary.last_step + 1 < n_steps else ""
    if summary.drop_step is None:
        ended = f"is {figure(summary.final_loss)} {summary.unit}{when}"
        if not summary.left_initial_level and summary.level is not None:
            ended = f"never left its initial level, {figure(summary.level)} {summary.unit}"
        return f"No drop in {n_steps} step{'s' if n_steps > 1 else ''}: the loss {ended}."
    if summary.level is None:
        return f"The loss fell without a plateau: half of its fall was done by step {summary.drop_step}."
    return (
        f"The loss sat at {figure(summary.level)} {summary.unit} for {_steps_on_it(summary)} steps, then dropped at "
        f"step {summary.drop_step} and ended at {figure(summary.final_loss)}{when}."
    )


def figure(loss: float) -> str:
    """A loss to two places; one of a few hundredths or thousandths, as mean squares may be, to two that count.

    Example:
        >>> figure(2.634), figure(0.0334)
        ('2.63', '0.033')
    """
    return f"{loss:#.2g}" if 0.001 <= loss < 0.1 else f"{loss:.2f}"


def _level(summary: Summary) -> float | None:
    return summary.level if summary.has_plateau else None


def _steps_on_it(summary: Summary) -> int | None:
    """How many steps the plateau has, its first and its last among them."""
    return None if summary.length is None or not summary.has_plateau else summary.length + 1


def lede(runs: "list[Run]", summaries: list[Summary]) -> str:
    """A few sentences more: where the run came from, closed forms, what was right, how alike the states became."""
    if len(summaries) > 1:
        levels = _range([_level(summary) for summary in summaries], "{:.4f}")
        unit = summaries[0].unit
        seen = "There was no plateau." if levels == "none" else f"The loss on the plateau was {levels} {unit}."
        told = _closed_form(summaries[0]) if agree(summary.level_expected for summary in summaries) else ""
        return f"{seen} {told}".strip()
    summary, run = summaries[0], runs[0]
    positions = run.metrics.filter(regex=r"^accuracy_\d+$").dropna(axis="columns", how="all")
    sentences = [origin(run), _closed_form(summary)]
    if summary.drop_step is not None and summary.level is not None and len(positions.columns):
        n_right = len(summary.partial_solution)
        n_answers = len(positions.columns)
        sentences.append(f"On the plateau {n_right} of {n_answers} answers {'was' if n_right == 1 else 'were'} right.")
    if summary.peak_cosine is not None:
        sentences.append(f"The hidden states of different answers came as close as cosine {summary.peak_cosine:.2f}.")
    if summary.attention_progress_start is not None and summary.attention_progress_end is not None:
        start, end = summary.attention_progress_start, summary.attention_progress_end
        applied = ", the interventions included" if run.recipe.interventions else ""
        sentences.append(f"The share of attention on the target positions went from {start:.2f} to {end:.2f}{applied}.")
    sentences += [grokking(summary), *_remarks(run, summary)]
    return " ".join(sentence for sentence in sentences if sentence)


def _remarks(run: "Run", summary: Summary) -> list[str]:
    """What the task says of two measured rows: the last one on the plateau (without one, the first), and the last."""
    table = run.metrics
    on_it = table[table["step"] <= summary.end].tail(1) if summary.has_plateau else table.head(1)
    told = {}
    for row in (on_it, table.tail(1)):
        numbers = {str(name): float(value) for name, value in row.iloc[0].items()}
        told[int(numbers["step"])] = run.task.remark(numbers)
    return [f"Step {step}: {remark}." for step, remark in told.items() if remark]


def origin(run: "Run") -> str:
    """What a run began with, if not the draw of its task's paper; that it is a fork; what acts in it."""
    fork, acting = run.recipe.fork_of, ", ".join(map(brief, run.recipe.interventions))
    weights = beginning(run.recipe)
    begun = f"It began with {weights}. " if weights else ""
    if fork is not None:
        return f"{begun}A fork that left its parent at step {fork.step}; what acts in it: {acting or 'nothing'}."
    return f"{begun}{f'What acts in it: {acting}.' if acting else ''}".rstrip()


def beginning(recipe: "Recipe") -> str:
    """What the weights of step 0 are, if not the draw of the task's paper; nothing if they are."""
    parts = [f"weights drawn by {', '.join(map(repr, recipe.model.init))}"] if recipe.model.init else []
    if (init := recipe.init_from) is not None:
        taken = "all weights" if init.where == "*" else f"the weights of {', '.join(init.groups)}"
        state = ", and its optimiser's state" if init.optimizer == "taken" else ""
        parts.append(f"{taken} of {readable(init.path.name)} at step {init.step}{state}")
    return "; then ".join(parts)


def histories(runs: "list[Run]") -> list[tuple[str, list[str]]]:
    """Rows of the table on how each run came about."""
    recipes = [run.recipe for run in runs]
    rows = [("Steps", [f"{_steps_made(run)} of {run.recipe.steps}" for run in runs])]
    if any(begun := [beginning(recipe) for recipe in recipes]):
        rows.append(("Began with", [weights or "the paper's draw" for weights in begun]))
    if any(recipe.fork_of for recipe in recipes):
        steps = [f"{recipe.fork_of.step}" if recipe.fork_of else "no fork" for recipe in recipes]
        rows.append(("Forked at step", steps))
    if any(recipe.interventions for recipe in recipes):
        acting = [", ".join(map(brief, recipe.interventions)) or "none" for recipe in recipes]
        rows.append(("Interventions", acting))
    return rows


def grokking(summary: Summary) -> str:
    """When training and validation set were right, if there is a validation set."""
    if summary.final_validation_accuracy is None or summary.train_95_step is None:
        return ""
    told = f"95 % of the training set were right from step {summary.train_95_step}"
    if summary.grokking_delay is None:
        end = f"{told}; the validation set got no further than {summary.final_validation_accuracy:.0%} in the end."
    else:
        delay = summary.grokking_delay
        when = f"{delay} steps later" if delay > 0 else f"{-delay} steps before" if delay else "at the same step"
        end = f"{told}, of the validation set from step {summary.validation_95_step}: {when}."
    delays = [
        f"{group} {'never' if each is None else delay_told(each)}" for group, each in summary.delays_apart.items()
    ]
    return f"{end} Delays of each by itself: {', '.join(delays)}." if delays else end


def _closed_form(summary: Summary) -> str:
    if summary.level_expected is None:
        return "No closed form of the plateau is known for this task."
    return f"The closed form of the plateau is {summary.level_expected:.4f} {summary.unit}."


def facts(runs: "list[Run]", summaries: list[Summary]) -> list[tuple[str, str, str]]:
    """Label, number and remark of the large numbers at the top."""
    first = summaries[0]
    drops = [summary.drop_step for summary in summaries]
    samples = [
        None if drop is None else samples_before(run.task, step=drop, batch_size=run.recipe.batch_size)
        for drop, run in zip(drops, runs, strict=True)
    ]
    one = len(summaries) == 1
    expected, floors = [s.level_expected for s in summaries], [s.floor for s in summaries]
    last = (
        f"; mean of the last rows, to step {first.last_step}"
        if agree(summary.last_step for summary in summaries)
        else ""
    )
    return [
        ("Plateau", _range(list(map(_level, summaries)), "{:.3f}"), _known("closed form", expected)),
        (
            "On the plateau",
            _range(list(map(_steps_on_it, summaries)), "{:.0f}", " steps" if one else ""),
            _whence(first) if one else "steps from arriving to leaving",
        ),
        (
            "Drop",
            _range(drops, "{:.0f}", before="step " if one else ""),
            f"after {samples[0]:,} sequences"
            if one and samples[0] is not None
            else f"{'' if one else 'step at '}half of the way to the floor",
        ),
        ("Final loss", _range([s.final_loss for s in summaries], "{:.3f}"), _known("floor", floors) + last),
    ]


def _whence(summary: Summary) -> str:
    """Where the plateau lies, or why there is none to tell of."""
    if not summary.left_initial_level:
        return "the loss never left its initial level"
    return f"step {summary.start} to {summary.end}" if summary.has_plateau else "no level that it lingered at"


def _range(values: Sequence[float | None], form: str, after: str = "", before: str = "") -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    texts = list(dict.fromkeys((form.format(min(known)), form.format(max(known)))))
    return f"{before}{' to '.join(texts)}{after}"


def _known(name: str, values: Sequence[float | None]) -> str:
    """A closed form, if it is that of all runs."""
    if not agree(values):
        return f"{name}s differ"
    return f"{name} unknown" if values[0] is None else f"{name} {values[0]:.4f}"


def agree(values: Iterable[object]) -> bool:
    """Whether all values are equal."""
    return len(set(values)) == 1


def measured_rows(summaries: list[Summary]) -> list[tuple[str, list[str]]]:
    """Rows of the table on what was measured: a label and a text for each run."""
    columns = [dict(summary.rows()) for summary in summaries]
    labels = dict.fromkeys(label for column in columns for label in column)
    return [(label, [column.get(label, "not measured") for column in columns]) for label in labels]


def setting(run: "Run") -> str:
    """Architecture, optimiser, data and length of a run, in one sentence."""
    recipe = run.recipe
    optimizer = type(recipe.optimizer).__name__
    rate = f" at learning rate {recipe.optimizer.learning_rate:g}" if isinstance(recipe.optimizer, Rated) else ""
    sequences = f"{recipe.batch_size} new sequences a step"
    if is_finite(run.task):
        n_train = len(run.task.train_set)
        whole = f"all {n_train} sequences of the training set a step"
        sequences = f"{recipe.batch_size} sequences a step" if recipe.batch_size < n_train else whole
    return f"{_sizes(recipe.model)}; {optimizer}{rate}, {sequences}, {recipe.steps} steps, seed {recipe.seed}."


def _sizes(model: ModelSettings) -> str:
    """What a model is; nets without attention have a hidden width in the place of heads."""
    if model.architecture == "one-hot":
        return f"An MLP with two hidden layers of {model.mlp_width}"
    if model.architecture == "depth-2":
        return f"A net of depth 2 with {model.mlp_width} gates"
    layers = f"{model.n_layers} layer{'s' if model.n_layers != 1 else ''}"
    heads = f"{model.n_heads} head{'s' if model.n_heads != 1 else ''}"
    return f"{str(model.attention).capitalize()} attention, {layers}, {heads}, width {model.d_model}"
