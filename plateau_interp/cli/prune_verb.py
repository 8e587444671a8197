"""``plateau prune``: run folders made smaller, without a step that could not be gone on from or forked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from plateau_interp.cli.console import print_json, print_text
from plateau_interp.cli.parsing import Json, UsageError

__all__ = ["PruneVerb"]


@dataclass(frozen=True)
class PruneVerb:
    """Make run folders smaller: the optimiser's state stays at the first checkpoint, the last and some between.

    A run goes on, and is forked, to the same bits as before; a fork makes some steps again first, never more than the
    recipe's `state_every` asks for (100 by default). Weights and metrics stay. New runs are as small from the start. A
    folder that is damaged, or in which somebody is writing, is left as it is.

    For example:
      plateau prune runs/mws --dry-run
      plateau prune runs/*
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]", help="Folders of runs.")]
    dry_run: Annotated[bool, arg(help="Tell what would be freed, and write nothing.")] = False
    json: Json = False

    def run(self) -> None:
        """Print a line a run; those that are refused do not keep the others from being pruned."""
        from plateau_interp.runs.errors import RunError
        from plateau_interp.runs.pruning import prune_run

        if not self.runs:
            raise UsageError("which run? plateau prune RUN [RUN ...]")
        pruned, refused = [], []
        for path in self.runs:
            try:
                pruned.append(prune_run(path, rehearsing=self.dry_run))
            except (RunError, OSError) as error:
                if len(self.runs) == 1:
                    raise
                refused.append(str(error))
            else:
                if not self.json:
                    print_text(pruned[-1].line())
        if self.json:
            print_json([one.to_dict() for one in pruned])
        if refused:
            raise UsageError(f"{len(refused)} of {len(self.runs)} runs were left as they are: {'; '.join(refused)}")
