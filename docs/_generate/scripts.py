"""The scripts of examples/ as pages: what each says of itself, and its whole text to copy."""

import ast
from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent
SCRIPTS = (
    "patch_mid_training",
    "fork_a_run",
    "your_own_task",
    "your_own_masked_task",
    "your_own_hook",
    "your_own_loop",
)


def pages() -> dict[str, str]:
    """Markdown by the name of the script."""
    return {name: page(name) for name in SCRIPTS}


def page(name: str) -> str:
    """The first paragraph of the docstring, then the file."""
    source = (PROJECT / "examples" / f"{name}.py").read_text()
    about = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0]
    return f"# {name}.py\n\n{about.replace('``', '`')}\n\n```python\n{source}```\n"
