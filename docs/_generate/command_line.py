"""The command line's page, from what each verb answers to ``--help``."""

import os
import re
import subprocess
import sys

TASK = "moving-window-sum"


def told(*words: str) -> str:
    """What `plateau` prints, at a width that a page has room for."""
    environment = {**os.environ, "COLUMNS": "92", "TERM": "dumb", "NO_COLOR": "1"}
    code = "import sys; from plateau_interp.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.rstrip()


def page() -> str:
    """All verbs, in the order in which the command lists them."""
    overview = told("--help")
    listed = re.search(r"^verbs:\n((?:  .+\n)+)", overview, flags=re.MULTILINE)
    if listed is None:
        raise ValueError("plateau --help lists no verbs any more")
    verbs = re.findall(r"^  (\w+) ", listed[1], flags=re.MULTILINE)
    lines = ["# Command line", "", "```text", overview, "```", ""]
    for verb in verbs:
        lines += [f"## plateau {verb}", "", "```text", told(verb, "--help"), "```", ""]
        if verb == "train":
            lines += [f"The options of a task, `{TASK}` for instance:", ""]
            lines += ["```text", told(verb, TASK, "--help"), "```", ""]
    return "\n".join(lines)
