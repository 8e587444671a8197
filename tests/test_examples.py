import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = {
    "compose_hooks.py": [],
    "patch_mid_training.py": ["6"],
    "fork_a_run.py": ["5"],
    "your_own_hook.py": ["4"],
    "your_own_loop.py": ["20"],
    "your_own_masked_task.py": ["3"],
    "your_own_task.py": ["3"],
}


@pytest.mark.usefixtures("_registry", "undrawn")
@pytest.mark.parametrize("name", SCRIPTS)
def test_it_runs_and_ends_with_what_it_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, and without figures in reports: most of the time would go into importing torch and drawing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [name, *SCRIPTS[name]])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    made = {
        "compose_hooks.py": "MaskAttention",
        "patch_mid_training.py": ".png",
        "your_own_hook.py": "3 loss 2.6",
        "your_own_loop.py": ".html",
    }
    assert made.get(name, "index.html") in last
    if ": runs/" in last:
        assert (tmp_path / last.split(": ")[-1]).stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("tour.py", ["tour/curves.png", "tour/attention.html"]),
        ("attention_views.py", [f"attention_views/{name}" for name in ("collapse.pdf", "view.html", "pair.html")]),
        ("matrix_completion.py", ["matrix_completion/curves.png", "matrix_completion/answers.html"]),
    ],
)
def test_a_notebook_is_a_script_too(name: str, made: list[str], tmp_path: Path) -> None:
    without = f"import runpy, sys; sys.modules['IPython'] = None; runpy.run_path({str(EXAMPLES / name)!r})"
    command = [sys.executable, "-W", "error", "-W", "ignore:HookedTransformer:DeprecationWarning", "-c", without]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for file in made:
        assert (tmp_path / "runs" / file).stat().st_size > 1000
        assert file in done.stdout or file.endswith("pdf")


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < {
        "your_own_masked_task.py": 60,
        "your_own_task.py": 60,
    }.get(name, 80)
