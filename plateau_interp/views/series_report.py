"""The report of a series: how collapse, repetition and loss went through pretraining, and what was written.

The page is one file that needs no network; each figure is also a PNG beside it. `plateau series` writes it. The layout
is ``series.html.jinja``, with ``report.css`` and ``series.css``.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from plateau_interp.checks import listed, shown
from plateau_interp.files import check_folder, digest, readable
from plateau_interp.folders import REPORT, check_place
from plateau_interp.series.folder import SeriesFolder
from plateau_interp.series.same_series import trained_under_alone
from plateau_interp.views.page import ASSETS, check_report_folder, report_document, write_report_page
from plateau_interp.views.report_curves import Drawing
from plateau_interp.views.saving import page_picture
from plateau_interp.views.series_attention import attention_section
from plateau_interp.views.series_figures import MEASURES, drawn_rows, series_figure
from plateau_interp.views.whose import check_same_owners

__all__ = ["NO_MEASURES", "duplicates_told", "failures_told", "write_series_report"]

N_PROMPTS, N_STEPS = 4, 24
"""What is shown of the answers: so many prompts, at so many checkpoints at most."""


def write_series_report(series: "SeriesFolder | Sequence[SeriesFolder]", out: str | Path | None = None) -> Path:
    """Write the report of a series, or of several together (sizes, seeds, with and without an intervention).

    Args:
        series: one with at least one measured checkpoint, or several.
        out: the folder to write to; by default ``report/`` in the series' own folder. Needed for several.

    Returns:
        Path of ``index.html``. Beside it lies a PNG of each figure.

    Raises:
        ValueError: if a series has no measured checkpoint yet, there is none, one is given twice, or ``out`` is missing
            for several; for a folder as from `plateau_interp.views.report.write_report`.

    Example:
        >>> write_series_report(SeriesFolder("series/14m"))  # doctest: +SKIP
        PosixPath('series/14m/report/index.html')
    """
    folders = [series] if isinstance(series, SeriesFolder) else list(series)
    for each in folders:
        if not isinstance(each, SeriesFolder):
            raise ValueError(f"a report is of a series: SeriesFolder(path); got {shown(each)}")
    if not folders:
        raise ValueError("there is no series to report")
    paths = [folder.path.resolve() for folder in folders]
    if twice := sorted({str(path) for path in paths if paths.count(path) > 1}):
        raise ValueError(f"given twice: {listed(twice)}")
    if out is None and len(folders) > 1:
        raise ValueError("a report of several series needs a folder of its own: give out=...")
    tables = _by_name(folders)
    for folder, table in zip(folders, tables.values(), strict=True):
        if not len(drawn_rows(table, "cosine")):
            raise ValueError(f"{folder.path} has no checkpoint that is data yet: there is nothing to report")
    place = folders[0].path / REPORT if out is None else Path(out)
    check_folder(place)
    check_place(place, "report", of=paths)
    check_same_owners(place, [_settings_digest(folder) for folder in folders], written="a report of other series")
    page, pictures = _composed(folders, tables)
    check_report_folder(place, pictures)
    return write_report_page(place, page, pictures)


def duplicates_told(table: pd.DataFrame) -> list[str]:
    """Which checkpoints have the very same weights, a sentence a group.

    Example:
        >>> rows = {"step": [0, 1, 2], "duplicate": [True, True, False], "weights": ["a", "a", "b"]}
        >>> duplicates_told(pd.DataFrame(rows))
        ['Steps 0 and 1 have the very same weights: whose they are nobody can tell, so neither is drawn.']
    """
    told = []
    for _weights, group in table[table["duplicate"]].groupby("weights", sort=False):
        *steps, last = [f"{step:,}" for step in group["step"]]
        drawn = "neither is" if len(steps) == 1 else "none of them is"
        told.append(
            f"Steps {', '.join(steps)} and {last} have the very same weights: whose they are nobody can tell, so "
            f"{drawn} drawn."
        )
    return told


def failures_told(table: pd.DataFrame) -> list[str]:
    """Which checkpoints were not to be had, and why, a sentence each.

    Example:
        >>> failures_told(pd.DataFrame({"step": [0, 1000], "error": ["", "a/model: the hub cannot be reached"]}))
        ['Step 1,000 was not to be had: a/model: the hub cannot be reached']
    """
    failed = table[table["error"] != ""]
    return [
        f"Step {step:,} was not to be had: {error}" for step, error in zip(failed["step"], failed["error"], strict=True)
    ]


def _by_name(folders: Sequence[SeriesFolder]) -> dict[str, pd.DataFrame]:
    """The tables by the model's name, or where that is not enough, by the folder's."""
    names = [str(folder.settings["source"]) for folder in folders]
    if len(set(names)) < len(names):
        names = [readable(folder.path.name) for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder.path) for folder in folders]
    return {name: folder.metrics() for name, folder in zip(names, folders, strict=True)}


def _composed(folders: Sequence[SeriesFolder], tables: dict[str, pd.DataFrame]) -> tuple[str, dict[str, bytes]]:
    """The page, and the PNGs by name."""
    import jinja2

    drawings = list(_drawings(tables, folders))
    attention, remarks = attention_section(dict(zip(tables, folders, strict=True)))
    drawn = {drawing.name: page_picture(drawing.draw, drawing.name) for drawing in drawings}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    body = environment.get_template("series.html.jinja").render(
        names=list(tables),
        headline=_headline(tables),
        lede=_lede(dict(zip(tables, folders, strict=True))),
        facts=_facts(_only(tables)) if len(tables) == 1 else _facts_of_several(tables),
        warnings=list(_warnings(tables, dict(zip(tables, folders, strict=True)))),
        figures=drawings,
        curve=lambda name: drawn[name][0],
        answers=list(_answers(folders[0], _only(tables))) if len(tables) == 1 else [],
        attention=attention,
        remarks=remarks,
        tables=[(name, *_numbers(table)) for name, table in tables.items()],
        settings=[
            (name, json.dumps({**folder.settings, "prompts": f"{len(folder.prompts)} texts"}, indent=2))
            for name, folder in zip(tables, folders, strict=True)
        ],
    )
    styles = ["report.css", "series.css"]
    owners = [_settings_digest(folder) for folder in folders]
    page = report_document(body, title=", ".join(tables), owners=owners, styles=styles, viewed=bool(attention))
    return page, {name: png for name, (_svg, png) in drawn.items()}


def _settings_digest(folder: SeriesFolder) -> str:
    """Of what a series was begun with, however many of its checkpoints are measured by now."""
    return digest(json.dumps({**folder.settings, "format": None}, sort_keys=True).encode())


CAPTIONS = {
    "cosine": "Mean cosine between the states that predicted the new tokens of a prompt, all pairs. Near 1 the states "
    "have collapsed.",
    "repetition": "How often a new token equals the one before it.",
    "held_out_loss": "Loss on a text that is read, not written: on all of it, or on 32 even pieces of a long one.",
    "cosine_across_prompts": "Mean cosine between the states of different prompts at the same new token: near 1 the "
    "model says the same whatever it is asked.",
    "distinct_tokens": "Share of the new tokens that were not there before.",
    "entropy": "Entropy of the tokens within a continuation.",
    "teacher_forced_cosine": "Mean cosine between the states of a text that is read, not of one that is written.",
}
NO_MEASURES = {"step", "revision", "weights", "seconds", "duplicate", "error"}
"""Columns of a series' table that are no measures."""


def _drawings(tables: dict[str, pd.DataFrame], folders: Sequence[SeriesFolder]) -> Iterator[Drawing]:
    """A figure a measure; of a single series cosine and repetition share one, as in the paper."""
    others = {str(column) for table in tables.values() for column in table} - NO_MEASURES - set(MEASURES)
    own = {str(name) for folder in folders for name in folder.settings.get("measures", ())}
    by = {True: "a function of your own", False: "an intervention"}
    captions = CAPTIONS | {name: f"{name}, measured by {by[name in own]}." for name in sorted(others)}
    panels: dict[str, tuple[str, ...]] = {name: (name,) for name in captions}
    if len(tables) == 1 and len(drawn_rows(_only(tables), "repetition")):
        panels |= {"cosine": ("cosine", "repetition")}
        captions["cosine"] += f" Dashed: {captions['repetition'][0].lower()}{captions['repetition'][1:]}"
        del panels["repetition"]
    for name, together in panels.items():
        if any(len(drawn_rows(table, name)) for table in tables.values()):
            series = tables if len(tables) > 1 else _only(tables)
            yield Drawing(re.sub(r"\W", "-", name), partial(series_figure, series, together), captions[name])


def _only(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    (table,) = tables.values()
    return table


def _headline(tables: dict[str, pd.DataFrame]) -> str:
    if len(tables) > 1:
        peaks = [_peak(table) for table in tables.values()]
        low, high = min(peak["cosine"] for peak in peaks), max(peak["cosine"] for peak in peaks)
        return f"{len(tables)} series: the cosine peaks between {low:.2f} and {high:.2f}."
    table = _only(tables)
    peak, last = _peak(table), _row(drawn_rows(table, "cosine"), -1)
    if peak["step"] == last["step"]:
        return f"The cosine is highest at the last step, {peak['step']:,}: {peak['cosine']:.2f}."
    return (
        f"Hidden states are most alike at step {peak['step']:,}, with a cosine of {peak['cosine']:.2f}; at step "
        f"{last['step']:,} it is {last['cosine']:.2f}."
    )


def _peak(table: pd.DataFrame) -> dict[str, Any]:
    rows = drawn_rows(table, "cosine")
    return _row(rows, int(rows["cosine"].argmax()))


def _row(rows: pd.DataFrame, index: int) -> dict[str, Any]:
    return {str(name): value for name, value in rows.iloc[index].to_dict().items()}


def _lede(folders: Mapping[str, SeriesFolder]) -> str:
    """What was measured, and in what the series differ beside their models."""
    texts = {folder.prompts.digest: folder.prompts for folder in folders.values()}
    counts = sorted({int(folder.settings["n_new"]) for folder in folders.values()})
    if len(texts) == 1:
        (prompts,) = texts.values()
        said = f"{f'{len(prompts)} prompts' if len(prompts) > 1 else 'one prompt'} ({prompts.origin})"
    else:
        said = "the prompts of its series, which differ,"
    tokens = f"{counts[0]} greedy tokens" if len(counts) == 1 else f"greedy tokens ({_of_each(folders, 'n_new')})"
    written = f"Each checkpoint goes on from {said} with {tokens}"
    return f"{written}; compared are the states that predicted them, after the final norm.{_edits(folders)}"


def _of_each(folders: Mapping[str, SeriesFolder], setting: str) -> str:
    each = {name: folder.settings.get(setting) for name, folder in folders.items()}
    return ", ".join(f"{name}: {value}" for name, value in each.items() if value is not None)


def _edits(folders: Mapping[str, SeriesFolder]) -> str:
    """A sentence for each series that was measured under interventions, or without those of the run's training."""
    told = ""
    for name, folder in folders.items():
        which = "" if len(folders) == 1 else f", in {name}"
        if acting := [_intervention(each, folders) for each in folder.settings["interventions"]]:
            told += f" Under {listed(acting)}{which}."
        if left_out := trained_under_alone(folder.settings):
            told += f" Trained under {listed(left_out)} and measured without{which}."
    return told


def _intervention(given: Mapping[str, Any], folders: Mapping[str, SeriesFolder]) -> str:
    """Its name, and in what it differs from those of the same name in the other series."""
    alike = [each for folder in folders.values() for each in folder.settings["interventions"]]
    others = [each for each in alike if each["name"] == given["name"]]
    own = [f"{key}={value}" for key, value in given.items() if any(each.get(key) != value for each in others)]
    return f"{given['name']} ({', '.join(own)})" if own else str(given["name"])


def _facts(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    peak, last = _peak(table), _row(drawn_rows(table, "cosine"), -1)
    counts = {"share their weights": table["duplicate"].sum(), "not to be had": (table["error"] != "").sum()}
    left_out = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return [
        ("Peak of the cosine", f"{peak['cosine']:.3f}", f"at step {peak['step']:,}"),
        ("Repetition there", f"{peak['repetition']:.3f}", "share of equal neighbours"),
        ("Cosine at the end", f"{last['cosine']:.3f}", f"at step {last['step']:,}"),
        ("Checkpoints", str(len(table)), left_out or "all of them drawn"),
    ]


def _facts_of_several(tables: dict[str, pd.DataFrame]) -> list[tuple[str, str, str]]:
    facts = []
    for name, table in tables.items():
        peak, last = _peak(table), _row(drawn_rows(table, "cosine"), -1)
        facts.append(
            (name, f"{peak['cosine']:.3f}", f"peak, at step {peak['step']:,}; {last['cosine']:.3f} at the end")
        )
    return facts


def _warnings(tables: dict[str, pd.DataFrame], folders: Mapping[str, SeriesFolder]) -> Iterator[str]:
    if len({folder.settings.get("held_out_sha256") for folder in folders.values()} - {None}) > 1:
        yield f"The texts that are read differ, and with them what a loss is of: {_of_each(folders, 'held_out')}."
    if len({folder.settings.get("dtype") for folder in folders.values()}) > 1:
        yield f"The series were not measured in one precision: {_of_each(folders, 'dtype')}."
    for name, table in tables.items():
        of = f"{name}: " if len(tables) > 1 else ""
        yield from (of + told for told in (*duplicates_told(table), *failures_told(table)))


@dataclass(frozen=True)
class _Answered:
    """A prompt, and what followed it at each checkpoint; each token with the class of its look."""

    text: str
    rows: list[tuple[str, list[tuple[str, str]]]]


def _answers(folder: SeriesFolder, table: pd.DataFrame) -> Iterator[_Answered]:
    """The first prompts at the checkpoints that are data, evenly chosen where there are many."""
    steps = list(drawn_rows(table, "cosine")["step"])
    if len(steps) > N_STEPS:
        steps = [steps[round(index * (len(steps) - 1) / (N_STEPS - 1))] for index in range(N_STEPS)]
    answers = folder.answers().set_index(["step", "prompt"])[["tokens", "pieces"]]
    for number in range(min(N_PROMPTS, len(folder.prompts))):
        rows = []
        for step in steps:
            tokens, pieces = answers.loc[(step, number)]
            rows.append((f"{step:,}", _marked_tokens([int(token) for token in tokens], list(pieces))))
        yield _Answered(folder.prompts[number], rows)


def _marked_tokens(tokens: list[int], pieces: list[str]) -> list[tuple[str, str]]:
    """Marked by what tokens are, not by how they look: bytes that are no character by themselves all look the same."""
    marked = []
    for index, (token, piece) in enumerate(zip(tokens, pieces, strict=True)):
        again, seen = index > 0 and token == tokens[index - 1], token in tokens[:index]
        marked.append((_visible(piece), "again" if again else "seen" if seen else ""))
    return marked


def _visible(piece: str) -> str:
    """A piece in which nothing is invisible but blanks beside letters."""
    if not piece.strip(" "):
        return "␣" * len(piece) or "∅"
    marks = {"\n": "↵", "\t": "⇥"}
    escaped = {letter: letter.encode("unicode_escape").decode() for letter in piece if not letter.isprintable()}
    return "".join({**escaped, **marks}.get(letter, letter) for letter in piece)


def _numbers(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The whole table, those rows included that are not drawn: with the reason."""
    columns = [str(name) for name in table.columns if name not in NO_MEASURES]
    head = ["step", "revision", *(name.replace("_", " ") for name in columns), "weights", "seconds"]
    rows = []
    for row in table.to_dict(orient="records"):
        numbers = ["-" if row[name] != row[name] else f"{row[name]:z.4f}" for name in columns]
        weights = "not to be had" if row["error"] else f"{row['weights'][:8]}{', shared' if row['duplicate'] else ''}"
        rows.append([f"{row['step']:,}", str(row["revision"]), *numbers, weights, f"{row['seconds']:.1f}"])
    return head, rows
