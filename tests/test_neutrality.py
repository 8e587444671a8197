"""The same bits as before the code was moved into its present rooms: rows, weights and captures of 100 small runs."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from neutrality import TASKS, recipes

from plateau_interp.plugins import plugins

PROJECT = Path(__file__).parent.parent
IN_NO_RECIPE = {"add-direction"}
"""It has a tensor, which a recipe cannot hold."""
LATER = {
    *("capacity-regulariser", "clip-rows", "frobenius-penalty", "keep-norm", "orthogonal-gradient"),
    *("cosine-penalty", "output-temperature", "query-key-capacity", "stable-max", "villani-diagnostic"),
}
"""The commit below did not know them."""
BEFORE = "259457e"
"""The last commit before the move. A change that is meant to change bits names a later one here, and says so."""


def git(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", PROJECT, *words], capture_output=True, check=False)


def digests(tree: Path, folder: Path) -> dict[str, dict[str, str]]:
    """What `neutrality.py` writes, run in a folder of its own with the package of a tree."""
    folder.mkdir()
    # Recipes hold paths: seen from where they are made, runs of both trees lie at the same one.
    command = [sys.executable, PROJECT / "tests" / "neutrality.py", "digests.json", "runs"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tree)
    return json.loads((folder / "digests.json").read_text())


def test_every_task_optimizer_and_intervention_is_trained(tmp_path: Path) -> None:
    later = {"text", "matrix-completion", "depth-2-net", "one-hot-arithmetic", "written-completion"}
    assert {*TASKS, *later} == set(plugins("tasks"))  # which did not know these
    trained = [data for _, data in recipes(tmp_path)]
    given = {data["training"]["optimizer"]["name"] for data in trained if "training" in data}
    assert given | {"adam"} == set(plugins("optimizers"))  # Adam is the default
    acting = {one["name"] for data in trained for one in data.get("interventions", ())}
    assert acting | IN_NO_RECIPE | LATER == set(plugins("hooks"))


@pytest.mark.slow
def test_every_task_and_intervention_trains_the_same_bits_as_before(tmp_path: Path) -> None:
    archive = git("archive", BEFORE)
    if archive.returncode:
        pytest.skip(f"commit {BEFORE} is not in the history of this checkout: {archive.stderr.decode().strip()}")
    before = tmp_path / "before"
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(before, filter="data")
    # Plug-ins are found by entry points, which an installed package has beside it, and so has a tree with this folder.
    egg_info = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "egg_info"]
    subprocess.run(egg_info, cwd=before, check=True, capture_output=True)
    old, new = digests(before, tmp_path / "old"), digests(PROJECT, tmp_path / "new")
    assert len(old) >= 100
    assert int(new["captured"]["files"]) > 4
    assert new.keys() == old.keys()
    assert {name for name in old if new[name] != old[name]} == set()
