"""The reference: a page for each module, of the names in its ``__all__``, read from the source without importing it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent
NAME = "plateau_interp"
ROOT = PROJECT / NAME


@dataclass(frozen=True)
class Module:
    """A module's name, what its docstring says first, its public names and where they were defined."""

    name: str
    tree: ast.Module
    is_package: bool

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return first_line(self.tree)

    @property
    def public(self) -> list[str]:
        """The names in ``__all__``; those of the root stand in its stub."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return list(ast.literal_eval(node.value))
        return []

    @property
    def imports(self) -> dict[str, str]:
        """Where each imported name comes from."""
        found = {}
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom):
                source = node.module or ""
                if node.level:  # in the stub of the root
                    source = ".".join(part for part in (NAME, source) if part)
                found |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
        return found


def first_line(node: ast.AST) -> str:
    """The first sentence of a docstring, as Markdown."""
    paragraph = (ast.get_docstring(node) or "").partition("\n\n")[0]  # type: ignore[arg-type]
    return " ".join(paragraph.split()).replace("``", "`").replace("|", "\\|")


@cache
def modules() -> dict[str, Module]:
    """All modules that are not private, by name, from the root down."""
    found = {}
    files = [file for file in sorted(ROOT.rglob("*.py")) if file.is_file()]
    for top in ("hooks", "tasks"):  # links, which rglob does not follow
        files += [ROOT / top / file.relative_to(PROJECT / top) for file in sorted((PROJECT / top).rglob("*.py"))]
    for file in dict.fromkeys(files):
        parts = [part for part in file.relative_to(PROJECT).with_suffix("").parts if part != "__init__"]
        if any(part.startswith("_") for part in parts):
            continue
        source = file.with_suffix(".pyi") if file.with_suffix(".pyi").exists() else file
        tree = ast.parse(source.read_text())
        if source != file:  # the stub has the names, the module the docstring
            tree.body.insert(0, ast.parse(file.read_text()).body[0])
        found[".".join(parts)] = Module(".".join(parts), tree, file.stem == "__init__")
    return dict(sorted(found.items()))


@cache
def defined() -> dict[str, str]:
    """Every public name, whole, with the first sentence of its docstring."""
    found = {}
    for module in modules().values():
        local = {getattr(node, "name", ""): node for node in module.tree.body}
        for name in module.public:
            if name not in module.imports:
                node = local.get(name)
                found[f"{module.name}.{name}"] = first_line(node) if node is not None else ""
    return found


def origin(module: Module, name: str) -> str:
    """The whole name of what a module calls by a name, followed to where it is defined."""
    whole = module.imports.get(name, f"{module.name}.{name}")
    source, _, last = whole.rpartition(".")
    if whole in modules() or whole in defined() or source not in modules():
        return whole
    return origin(modules()[source], last)


def table(module: Module) -> str:
    """The public names of a package that gathers them from its modules."""
    rows = []
    for name in sorted(module.public, key=str.lower):
        whole = origin(module, name)
        if whole in modules():
            rows.append(f"| [`{name}`]({whole}.md) | {modules()[whole].summary} |")
        else:
            rows.append(f"| [`{name}`][{whole}] | {defined()[whole]} |")
    return "\n".join(["| name | what it is |", "|---|---|", *rows])


def page(module: Module) -> str:
    """One module's page."""
    own = [name for name in module.public if name not in module.imports]
    gathered = [name for name in module.public if name in module.imports]
    lines = [f"::: {module.name}", "    options:", f"      members: {own}", ""]
    if gathered:
        lines += [table(module), ""]
    return "\n".join(lines)


def shown() -> list[Module]:
    """The modules that have something to show."""
    return [module for module in modules().values() if module.public]


def pages() -> Iterator[tuple[str, str]]:
    """Path and Markdown of each page of the reference, the entry page first."""
    rows = [f"| [`{module.name}`]({module.name}.md) | {module.summary} |" for module in shown()]
    root = modules()[NAME]
    yield (
        "reference/index.md",
        "\n".join(
            [
                "# Reference",
                "",
                "Every public name, from the sources. What most people need is at the root, `plateau_interp`:",
                "",
                table(root),
                "",
                "## All modules",
                "",
                "| module | what it is for |",
                "|---|---|",
                *rows,
                "",
            ]
        ),
    )
    for module in shown():
        yield f"reference/{module.name}.md", page(module)


def navigation() -> list[dict[str, object]]:
    """Entries of the navigation: modules of a folder under the folder."""
    entries: list[dict[str, object]] = []
    folders: dict[str, list[dict[str, object]]] = {}
    for module in shown():
        parts = module.name.split(".")
        path = f"reference/{module.name}.md"
        if module.name == NAME or (len(parts) == 2 and not module.is_package):
            entries.append({parts[-1]: path})
            continue
        if parts[1] not in folders:
            folders[parts[1]] = []
            entries.append({parts[1]: folders[parts[1]]})
        label = ".".join(parts[2:]) or "all of it"
        folders[parts[1]].append({label: path})
    return entries
