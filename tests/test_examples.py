import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = {"compose_hooks.py": [], "patch_mid_training.py": ["6"], "fork_a_run.py": ["5"], "your_own_task.py": ["3"]}


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_runs_and_ends_with_what_it_made(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-W", "ignore:HookedTransformer:DeprecationWarning"]
    done = subprocess.run(
        [*command, EXAMPLES / name, *SCRIPTS[name]], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    made = {"compose_hooks.py": "MaskAttention", "patch_mid_training.py": ".png"}
    assert made.get(name, "index.html") in last
    if ": runs/" in last:
        assert (tmp_path / last.split(": ")[-1]).stat().st_size > 1000


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < {"your_own_task.py": 60}.get(name, 80)
