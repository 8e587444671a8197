"""``plateau series``: a model's checkpoints measured one after the other, with progress, a table and a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from plateau_interp.cli.console import complain, counting, print_json, print_table, print_text, table_rows
from plateau_interp.cli.parsing import Device, Interventions, Json, UsageError

if TYPE_CHECKING:
    from plateau_interp.series.folder import SeriesFolder

__all__ = ["SeriesVerb", "refuse_series", "series_among", "write_series_reports"]

READ_TOO = (
    "A text to read, for its loss and its cosine: 32 pieces of 128 tokens, evenly spaced, or all of a shorter one."
)


@dataclass(frozen=True)
class SeriesVerb:
    """Measure checkpoint after checkpoint of a language model: collapse, repetition, loss; and write a report.

    Each checkpoint is fetched, loaded, measured, written down, and deleted again if this call downloaded it. The same
    command goes on where it was stopped, and measures nothing twice. If a checkpoint was not to be had (missing, gated,
    damaged) the others are measured and reported, and the exit status is 2; the same command tries it again.

    For example:
      plateau series EleutherAI/pythia-14m --revisions paper --out series/14m
      plateau series EleutherAI/pythia-14m --prompts allenai/ai2_arc:ARC-Easy:test --first 100 --out series/arc
      plateau series runs/text --held-out unseen.txt --out series/text
      plateau series checkpoints/ --revisions log:16 --hook ablate-heads:heads=[0] --out series/ablated
    """

    source: Annotated[
        Positional[str],
        arg(metavar="SOURCE", help="A model on the hub, a run on text, or a folder of folders such as step512."),
    ]
    out: Annotated[Path, arg(metavar="DIR", help="The folder of the series.")]
    revisions: Annotated[
        tuple[str, ...],
        arg(metavar="WHICH [...]", help="all, paper, log:16 (evenly on a log axis), a pattern, or names and steps."),
    ] = ("all",)
    prompts: Annotated[
        str, arg(help="general (100 questions in the package), a file, or owner/name:configuration:split on the hub.")
    ] = "general"
    first: Annotated[int | None, arg(help="Take so many prompts from the beginning; by default all.")] = None
    n_new: Annotated[int, arg(help="Tokens to go on with.")] = 8
    held_out: Annotated[Path | None, arg(metavar="FILE", help=READ_TOO)] = None
    interventions: Interventions = None
    dtype: Annotated[str, arg(help="Of the weights: float32, bfloat16, ...")] = "float32"
    device: Device = "cpu"
    keep: Annotated[bool, arg(help="Keep what is downloaded.")] = False
    json: Json = False

    def run(self) -> None:
        """Measure what is left, then tell what came out."""
        from plateau_interp.cli.words import read_plugin
        from plateau_interp.models.fitting import check_device
        from plateau_interp.series.folder import SeriesError, SeriesFolder
        from plateau_interp.series.prompts import read_prompts
        from plateau_interp.series.series import CheckpointSeries

        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"{self.out} is a file; a folder is needed")
        check_device(self.device)
        prompts = read_prompts(self.prompts, first=self.first)
        series = CheckpointSeries(self.source, _chosen(self.revisions))
        records = series.measure(
            prompts,
            out=self.out,
            n_new=self.n_new,
            interventions=[read_plugin("hooks", text) for text in self.interventions or ()],
            held_out=self.held_out,
            dtype=self.dtype,
            device=self.device,
            keep=self.keep,
        )
        steps = {revision.step for revision in series.revisions}
        there = SeriesFolder(self.out).records() if series_among([self.out]) else []
        done = {record.step for record in there if not record.error} & steps
        with counting(series.name, total=len(steps), done=len(done)) as show:
            for record in records:
                cosine = record.measures.get("cosine")
                told = "not to be had" if cosine is None else f"cosine {cosine:.3f}"
                show(f"step {record.step:,}  {told}")
        folder = SeriesFolder(self.out)
        self._tell(folder)
        table = folder.metrics()
        if failed := int((table["step"].isin(steps) & (table["error"] != "")).sum()):
            raise SeriesError(f"{failed} of {len(steps)} checkpoints not to be had; the same command tries again")

    def _tell(self, folder: "SeriesFolder") -> None:
        from plateau_interp.views.series_figures import drawn_rows
        from plateau_interp.views.series_report import duplicates_told, failures_told, write_series_report

        table = folder.metrics()
        for line in (*duplicates_told(table), *failures_told(table)):
            complain(line)
        page = write_series_report(folder) if len(drawn_rows(table, "cosine")) else None
        if self.json:
            rows = table_rows(table)
            print_json({"series": str(folder.path), "checkpoints": rows, "report": None if page is None else str(page)})
            return
        shown = ("cosine", "repetition", "distinct_tokens", "held_out_loss")
        columns = [name for name in shown if name in table]
        told = [
            (
                f"{row['step']:,}",
                *("-" if row[name] != row[name] else f"{row[name]:z.4f}" for name in columns),
                "not to be had" if row["error"] else "shares its weights" if row["duplicate"] else "",
            )
            for row in table.to_dict(orient="records")
        ]
        print_table(["step", *(name.replace("_", " ") for name in columns), ""], told)
        if page is not None:
            print_text(f"Report: {page}")


def series_among(paths: Sequence[Path]) -> list[Path]:
    """Those folders that hold a series."""
    return [path for path in paths if (path / "series.json").is_file()]


def refuse_series(paths: Sequence[Path]) -> None:
    """Tell whoever compares series as if they were runs what does so.

    Raises:
        UsageError: if there is a series among the folders.
    """
    if series := series_among(paths):
        raise UsageError(
            f"{series[0]} is a series: plateau report SERIES [SERIES ...] --out DIR sets them side by side"
        )


def write_series_reports(paths: Sequence[Path], out: Path | None) -> list[Path]:
    """The report of each series, or in ``out`` one of all together.

    Raises:
        UsageError: if one of the folders is no series.
    """
    from plateau_interp.series.folder import SeriesFolder
    from plateau_interp.views.series_report import write_series_report

    series = series_among(paths)
    if others := [path for path in paths if path not in series]:
        raise UsageError(f"{series[0]} is a series, {others[0]} is none: a report is of runs or of series")
    folders = [SeriesFolder(path) for path in series]
    return [write_series_report(each) for each in folders] if out is None else [write_series_report(folders, out)]


def _chosen(words: Sequence[str]) -> str | list[str | int]:
    """One word as it is; several as names and steps."""
    if len(words) == 1 and not words[0].isdecimal():
        return words[0]
    return [int(word) if word.isdecimal() else word for word in words]
