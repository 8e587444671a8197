"""What happens while the site is built: pages that are made from the code join those that are written."""

import sys
from pathlib import Path
from typing import Any

import command_line
import layers
import notebooks
import public_names
import scripts
from linking import linked
from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).parent.parent.parent
VIEWS: dict[str, str] = {}
"""HTML that is put into finished pages by its placeholder: too large for the Markdown parser and the search index."""


def on_config(config: Any) -> Any:
    """Add the reference's pages to the navigation."""
    section = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    if not any("plateau_interp" in entry for entry in section if isinstance(entry, dict)):
        section.extend(public_names.navigation())
    return config


def on_files(files: Files, config: Any) -> Files:
    """Make the pages that are generated."""
    pages = dict(public_names.pages())
    pages["reference/command-line.md"] = command_line.page()
    pages |= {f"examples/{name}.md": page for name, page in scripts.pages().items()}
    for name, page in notebooks.pages().items():
        pages[f"tutorials/{name}.md"] = page.markdown
        VIEWS.update(page.embedded)
        for picture, content in page.pictures.items():
            files.append(File.generated(config, f"tutorials/{picture}", content=content))
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    for name in ("moving-window-sum.png",):
        files.append(File.generated(config, f"assets/{name}", content=(PROJECT / "examples" / name).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fill the places that the architecture page leaves, and link the names of the package."""
    markdown = markdown.replace("{{ layers }}", layers.table())
    if page.file.src_uri.startswith("reference/plateau_interp"):
        return markdown
    return linked(markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Put the drawing and the views into the finished page."""
    output = output.replace("<p>{{ layers-drawing }}</p>", layers.drawing())
    for placeholder, html in VIEWS.items():
        output = output.replace(f"<p>{placeholder}</p>", html)
    assert "{{ " not in output or "{{ " in page.markdown, f"{page.file.src_uri} has a place that nothing fills"
    return output


def on_shutdown() -> None:
    """Leave no bytecode beside the sources."""
    sys.dont_write_bytecode = True
