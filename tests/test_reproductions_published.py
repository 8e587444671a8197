"""The published results: RESULTS.md and what is in results/ are what the stored curves say today."""

from pathlib import Path

import pytest

from plateau_interp.plugins import plugin, plugins
from plateau_interp.reproductions.results import read_results, redrawn

PROJECT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", plugins("experiments"))
def test_pages_and_claims_are_those_that_the_stored_curves_give(name):
    results = read_results(plugin("experiments", name), PROJECT)
    if not results.run_experiments:  # of which nothing was run has no page
        assert not (PROJECT / "results" / name).exists()
        assert f"(#{name})" not in (PROJECT / "RESULTS.md").read_text(encoding="utf-8")
        return
    assert results.there.others == [], "stored curves of other recipes than now"
    for path, text in redrawn(results, PROJECT).items():
        told = f"{path} is not what `plateau reproduce {name} --draw --publish .` writes"
        assert path.read_text(encoding="utf-8") == text, told
    for experiment in results.run_experiments:
        assert (PROJECT / "results" / name / f"{experiment.name}.png").is_file()
