"""The command `plateau`: reads a verb, runs it, and tells a mistake in one line.

In Python use `plateau_interp.runs.run.Run`, which does the work.
"""

import os
import shlex
import sys
from collections.abc import Sequence

from plateau_interp.cli.console import complain, print_text, telling_notes, telling_warnings
from plateau_interp.cli.parsing import headline
from plateau_interp.cli.verbs import VERBS, read_verb

__all__ = ["main"]

MISTAKE, INTERRUPTED = 2, 130

EXAMPLES = """For example:
  plateau train moving-window-sum --seed 0 --out runs/mws
  plateau fork runs/mws --at 50 --hook fix-attention --out runs/fixed
  plateau compare runs/mws runs/fixed
  plateau report runs/mws
  plateau circuit runs/mws
  plateau check runs/mws runs/fixed
  plateau prune runs/mws --dry-run
  plateau series EleutherAI/pythia-14m --revisions paper --out series/14m
  plateau sweep windows.yaml --out sweeps/windows
  plateau reproduce loss-plateau fig2 fig5 --seeds 3
  plateau list tasks

`plateau VERB --help` says more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 2 for a user's mistake, 130 after Ctrl-C.

    Args:
        argv: the words after ``plateau``, by default those of this process.

    A mistake is told in one line on stderr, and so is a warning of the package's own. Of a mistake, ``python -X dev -m
    plateau_interp.cli.main`` shows where it was found instead.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] in (["-h"], ["--help"]):
            print_text(_help())
        else:
            with telling_warnings(), telling_notes():
                read_verb(words).run()
        sys.stdout.flush()  # here, where a reader that has gone is understood
    except KeyboardInterrupt as interrupt:
        again = f"; go on with: plateau {shlex.join(words)}" if interrupt.args else ""
        complain(f"stopped {interrupt}".rstrip() + again)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`plateau list tasks | head -1`): say nothing, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        if sys.flags.dev_mode or (isinstance(error, RuntimeError) and "memory" not in str(error)):
            raise
        complain(" ".join(_reason(error).split()))
        return MISTAKE
    return 0


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        name = str(error.filename)
        # Longer than any name can be: that is what is wrong with it.
        return f"{name if len(name) <= 500 else f'{name[:200]}...{name[-50:]}'}: {error.strerror}"
    if isinstance(error, (MemoryError, RuntimeError)):
        return f"not enough memory for these sizes: {str(error).partition('. ')[0] or 'no more could be had'}"
    return str(error)


def _help() -> str:
    verbs = "\n".join(f"  {name:<9} {headline(kind)}" for name, kind in VERBS.items())
    return (
        f"usage: plateau VERB [options]\n\nWatch, and change, how Transformers learn.\n\nverbs:\n{verbs}\n\n{EXAMPLES}"
    )


if __name__ == "__main__":
    sys.exit(main())
