"""The layers of the package as a picture and a table, from the list that the tests enforce."""

import ast
from html import escape

import public_names

SOURCE = public_names.PROJECT / "tests" / "test_imports.py"
WIDTH, ROW, GAP, BOX, LEFT = 760, 28, 14, 112, 44


def layers() -> list[tuple[str, ...]]:
    """From the ground up."""
    for node in ast.parse(SOURCE.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS":
            return list(ast.literal_eval(node.value))
    raise ValueError(f"{SOURCE} has no LAYERS any more")


def summary(part: str) -> str:
    """What a module or folder is for, from its docstring."""
    return public_names.modules()[f"{public_names.NAME}.{part}"].summary


def drawing() -> str:
    """An SVG in the colours of the page around it, the ground at the bottom."""
    rows = layers()[::-1]
    height = len(rows) * (ROW + GAP) + GAP
    parts = [
        f'<svg class="layers" viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg">',
        "<title>The layers of the package: each imports only what lies below it</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="4" refY="7" markerWidth="7" markerHeight="7">'
        '<path d="M0 0L4 8L8 0z"/></marker></defs>',
        f'<path class="arrow" d="M16 {GAP}V{height - GAP - 6}" marker-end="url(#head)"/>',
        f'<text class="side" transform="translate(32 {height / 2}) rotate(-90)">imports</text>',
    ]
    for n, row in enumerate(rows):
        y, free = GAP + n * (ROW + GAP), WIDTH - LEFT - GAP
        parts.append(f'<rect class="layer" x="{LEFT}" y="{y - 5}" width="{free}" height="{ROW + 10}" rx="7"/>')
        start = LEFT + (free - len(row) * (BOX + GAP) + GAP) / 2
        for m, name in enumerate(row):
            x = start + m * (BOX + GAP)
            width, x = (BOX + 30, x - 15) if len(row) == 1 else (BOX, x)
            parts.append(
                f"<g><title>{escape(summary(name))}</title>"
                f'<rect class="part" x="{x}" y="{y}" width="{width}" height="{ROW}" rx="5"/>'
                f'<text x="{x + width / 2}" y="{y + ROW / 2 + 5}">{escape(name)}</text></g>'
            )
    return "".join((*parts, "</svg>"))


def table() -> str:
    """The same with what each part is for, from the ground up."""
    rows = [f"| `{name}` | {summary(name)} |" for row in layers() for name in row]
    return "\n".join(["| part, from the ground up | what it is for |", "|---|---|", *rows])
