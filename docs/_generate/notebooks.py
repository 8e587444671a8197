"""The notebooks of examples/ as pages: executed, with what they print and show.

An executed notebook is kept under build/ by a digest of its text and of the package's, so that building again is quick
and nothing old is shown.
"""

import base64
import hashlib
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

PROJECT = Path(__file__).parent.parent.parent
NOTEBOOKS = ("tour", "compose_hooks", "attention_views", "language_model", "matrix_completion")
KEPT = PROJECT / "build" / "notebooks"
STYLE = re.compile(r"<style scoped>.*?</style>", flags=re.DOTALL)


@dataclass
class Page:
    """Markdown, pictures by file name, and HTML by the placeholder in whose place it belongs."""

    markdown: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)
    embedded: dict[str, str] = field(default_factory=dict)


def pages() -> dict[str, Page]:
    """A page for each notebook."""
    with ThreadPoolExecutor(2) as pool:
        return {name: page(name, done) for name, done in zip(NOTEBOOKS, pool.map(executed, NOTEBOOKS), strict=True)}


def executed(name: str) -> nbformat.NotebookNode:
    """The notebook with its outputs, executed now unless neither it nor the package has changed."""
    source = PROJECT / "examples" / f"{name}.py"
    kept = KEPT / f"{name}-{digest(source)}.ipynb"
    if kept.exists():
        return nbformat.read(kept, as_version=4)
    notebook = jupytext.read(source)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources)
        client.execute(env={**os.environ, "OMP_NUM_THREADS": "1"})
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise ValueError(f"{source} says something on stderr: {output.text}")
    KEPT.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, kept)
    return notebook


def digest(source: Path) -> str:
    """Of all that an output depends on, the versions of other packages included."""
    content = hashlib.sha256(source.read_bytes())
    folders = ("plateau_interp", "hooks", "tasks")
    for file in sorted(file for folder in folders for file in (PROJECT / folder).rglob("*") if file.is_file()):
        if file.suffix in (".py", ".js", ".css", ".jinja"):
            content.update(file.read_bytes())
    content.update((PROJECT / "constraints.txt").read_bytes())
    return content.hexdigest()[:16]


def page(name: str, notebook: nbformat.NotebookNode) -> Page:
    """Cells and outputs in order."""
    made, parts = Page(), []
    for n, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        code = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%")).strip()
        parts.append(f"```python\n{code}\n```")
        parts += [_output(made, name, f"{n}-{m}", output) for m, output in enumerate(merged(cell.outputs))]
    source = f"This page is the notebook `examples/{name}.py`, as it came out when this site was built."
    title, _, rest = "\n\n".join(parts).partition("\n")
    made.markdown = f"{title}\n\n*{source}*\n{rest}\n"
    return made


def merged(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """With what was printed in pieces in one piece."""
    whole: list[nbformat.NotebookNode] = []
    for output in outputs:
        if whole and output.output_type == whole[-1].output_type == "stream":
            whole[-1] = nbformat.NotebookNode({**whole[-1], "text": whole[-1].text + output.text})
        else:
            whole.append(output)
    return whole


def _output(made: Page, name: str, place: str, output: nbformat.NotebookNode) -> str:
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```"
    data = output.data
    if "image/png" in data:
        picture = f"{name}-{place}.png"
        made.pictures[picture] = base64.b64decode(data["image/png"])
        return f"![]({picture})"
    if "text/html" in data:
        placeholder = f"{{{{ {name}-{place} }}}}"
        made.embedded[placeholder] = f'<div class="output">{STYLE.sub("", data["text/html"])}</div>'
        return placeholder
    return f"```text\n{data['text/plain'].rstrip()}\n```"
