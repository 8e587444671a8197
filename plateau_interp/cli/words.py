"""Plug-ins as single words, ``NAME:FIELD=VALUE,...``, as they stand on a command line.

A value is JSON, or plain text where it is not; a list of plain texts needs no quotes within its brackets. For plug-ins
in recipe files use `plateau_interp.runs.recipe`.
"""

import json
import re
from typing import Any, get_type_hints

from plateau_interp.codec import RecipeError, decode, encode
from plateau_interp.plugins import PluginKind, plugin, plugin_kind

__all__ = ["read_plugin", "write_plugin"]

NEXT_FIELD = re.compile(r",(?=[\w-]+=)")
BARE_LIST = re.compile(r'\[([^\[\]{}"]*)\](?=$|,[\w-]+=)')


def read_plugin(kind: PluginKind, text: str) -> Any:
    """The plug-in that a word names.

    Text that has ``,FIELD=`` in it has to be JSON, in quotes, such as the word within
    ``during:intervention="bias-attention:factor=3",start=5``.

    Raises:
        ValueError: for an unknown plug-in or field, a value of the wrong type, or a word of another form.

    Example:
        >>> read_plugin("optimizers", "sgd:learning_rate=0.5,momentum=0.9")
        SGD(learning_rate=0.5, momentum=0.9)
        >>> read_plugin("hooks", "capture:names=[blocks.0.hook_resid_post],out=here").names
        ('blocks.0.hook_resid_post',)
    """
    data = _plain_data(kind, text)
    return decode(kind, data, path=data["name"])


def write_plugin(kind: PluginKind, value: Any) -> str:
    """The word that `read_plugin` reads as this value.

    Example:
        >>> from plateau_interp.training.optimizers import SGD
        >>> write_plugin("optimizers", SGD(momentum=0.9))
        'sgd:learning_rate=0.1,momentum=0.9'
    """
    fields = encode(kind, value)
    name = fields.pop("name")
    values = ",".join(f"{field}={json.dumps(content)}" for field, content in fields.items())
    return f"{name}:{values}" if values else name


def _plain_data(kind: PluginKind, text: str) -> dict[str, Any]:
    """What a recipe says in the place of a word; where a field is a plug-in, its value may be a word, too."""
    name, _, rest = text.partition(":")
    hints = get_type_hints(plugin(kind, name))
    data: dict[str, Any] = {"name": name}
    while rest:
        field, equals, rest = rest.partition("=")
        if not equals:
            raise RecipeError(f"{text!r}: expected NAME or NAME:FIELD=VALUE,FIELD=VALUE,...")
        field = field.replace("-", "_")
        if field in data:
            raise RecipeError(f"{text!r}: {field} is given twice")
        value, rest = _first_value(rest)
        inner = plugin_kind(hints.get(field))
        data[field] = _plain_data(inner, value) if inner and isinstance(value, str) else value
    return data


def _first_value(text: str) -> tuple[Any, str]:
    """The value at the beginning of ``VALUE,FIELD=VALUE,...``, and what follows its comma."""
    text = text.lstrip()
    try:
        value, end = json.JSONDecoder().raw_decode(text)
        if text[end:] == "" or NEXT_FIELD.match(text, end):
            return value, text[end + 1 :]
    except (ValueError, RecursionError):
        pass
    if bare := BARE_LIST.match(text):
        items = [item.strip() for item in bare[1].split(",")]
        return [_plain_value(item) for item in items], text[bare.end() + 1 :]
    plain, *others = NEXT_FIELD.split(text, maxsplit=1)
    return plain, "".join(others)


def _plain_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
