"""Names of the package in running text become links into the reference, in pages and in docstrings alike."""

import re
from functools import cache
from typing import Any

import griffe
import public_names

FENCE = re.compile(r"(^ *(`{3,}|~{3,}).*?^ *\2`*~* *$)", flags=re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<![`\[\\])`([A-Za-z_][\w.]*)`(?![`\]])")


@cache
def targets() -> dict[str, str]:
    """Short and whole names, each with the whole name of what it stands for.

    A short name is a link if the root or one of the packages that gather names has it, or if it is a class's and no
    other's: `run` or `recipe` in a sentence are words.
    """
    whole = {name: name for name in (*public_names.defined(), *(module.name for module in public_names.shown()))}
    classes: dict[str, set[str]] = {}
    for name in public_names.defined():
        if (last := name.rpartition(".")[2])[0].isupper() and not last.isupper():
            classes.setdefault(last, set()).add(name)
    short = {name: next(iter(meant)) for name, meant in classes.items() if len(meant) == 1}
    for package in ("views", "tasks", "hooks", ""):  # a name of the root means the root's
        module = public_names.modules()[f"{public_names.NAME}.{package}".rstrip(".")]
        for name in module.public:
            whole[f"{module.name}.{name}"] = short[name] = public_names.origin(module, name)
    return short | whole


def linked(markdown: str) -> str:
    """Markdown with its inline code linked, where that is the name of something public."""

    def link(match: re.Match[str]) -> str:
        target = targets().get(match[1])
        return f"[`{match[1]}`][{target}]" if target else match[0]

    def outside(text: str) -> str:
        return "\n".join(line if line.startswith("#") else CODE.sub(link, line) for line in text.split("\n"))

    parts = FENCE.split(markdown)
    # Each fence comes as itself and its marker; what stands between fences is text.
    return "".join(outside(part) if n % 3 == 0 else part for n, part in enumerate(parts) if n % 3 != 2)


class Linking(griffe.Extension):
    """Does so in docstrings, but in their examples."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is None:
            return
        text = obj.docstring.value.replace("``", "`")
        text = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.MULTILINE)  # the word that griffe knows
        text = re.sub(r"::$", ":", text, flags=re.MULTILINE)  # before indented code, which Markdown sees without it
        lines, is_example = [], False
        for line in text.split("\n"):
            is_example = line.strip() == "Examples:" or (is_example and (not line or line.startswith(" ")))
            is_code = is_example or line.startswith("    ") or line.lstrip().startswith("|")
            lines.append(line if is_code and not line.lstrip().startswith("|") else self._line(line, obj.path))
        obj.docstring.value = "\n".join(lines)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """The root's own docstring, which comes together with its stub later."""
        self.on_object(obj=pkg)

    def _line(self, line: str, own: str) -> str:
        def link(match: re.Match[str]) -> str:
            target = targets().get(match[1])
            return f"[`{match[1]}`][{target}]" if target and target != own else match[0]

        return CODE.sub(link, line)
