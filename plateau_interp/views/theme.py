"""The look of every picture and page: colours, type and line widths, for a light and for a dark ground.

Colours are named here and nowhere else: figures are drawn with a `Theme`, pages carry both themes as variables of
their style sheet (`page_variables`, `view_variables`). A page shows a figure on either ground by holding it twice,
drawn with each theme: `plateau_interp.views.saving.themed_svg`. What a column of the metrics is called is in
`plateau_interp.views.panels`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plateau_interp.checks import shown

__all__ = [
    "DARK",
    "DIFFERENCE_MAP",
    "LIGHT",
    "MASKED",
    "Theme",
    "figure_style",
    "ordered_colours",
    "page_variables",
    "view_variables",
]

FONTS = 'system-ui, -apple-system, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif'
MASKED = "#eef0f4"
"""Cells of an attention map that a causal model cannot see; like the map's own ground, the same on any page."""

DIFFERENCE_MAP = "RdBu_r"
"""matplotlib's colours of a map of differences: blue below 0, red above."""
ORDERED_MAP = "viridis"


@dataclass(frozen=True)
class Theme:
    """Colours for one ground, as hexadecimal numbers.

    Attributes:
        name: short, for file and class names.
        ground: behind everything.
        ink: text and outlines.
        muted: axes and remarks.
        grid: thin lines behind the curves.
        series: of curves, in order; the first is the accent and the colour of positive values, the second that of
            negative ones.
    """

    name: str
    ground: str
    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]

    @property
    def accent(self) -> str:
        """The first curve's colour, and that of positive values."""
        return self.series[0]

    @property
    def other(self) -> str:
        """The second curve's colour, and that of negative values."""
        return self.series[1]

    def nth(self, index: int) -> str:
        """The colour of a curve; after the last they begin again.

        Example:
            >>> LIGHT.nth(len(LIGHT.series)) == LIGHT.accent
            True
        """
        return self.series[index % len(self.series)]

    def legible_on(self, colour: Any) -> str:
        """The ground's colour or the ink, whichever stands out more against a colour.

        Args:
            colour: as matplotlib takes it; where it is transparent the ground is seen.

        Source: contrast as in WCAG 2.2, of relative luminances.

        Example:
            >>> LIGHT.legible_on("white") == LIGHT.ink, LIGHT.legible_on((0.0, 0.0, 0.5)) == LIGHT.ground
            (True, True)
        """
        import matplotlib

        *over, share = matplotlib.colors.to_rgba(colour)
        under = matplotlib.colors.to_rgb(self.ground)
        seen = [share * above + (1 - share) * below for above, below in zip(over, under, strict=True)]

        def contrast(text: str) -> float:
            low, high = sorted(map(_luminance, (seen, matplotlib.colors.to_rgb(text))))
            return (high + 0.05) / (low + 0.05)

        return max((self.ink, self.ground), key=contrast)


def _luminance(colour: Sequence[float]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


LIGHT = Theme(
    name="light",
    ground="#ffffff",
    ink="#16181d",
    muted="#5f6673",
    grid="#dfe2e8",
    series=("#0a5c9e", "#c2410c", "#7a6a00", "#7d3c98", "#0f766e", "#9d174d"),
)
DARK = Theme(
    name="dark",
    ground="#10131a",
    ink="#e8eaf0",
    muted="#9aa3b2",
    grid="#2a303c",
    series=("#7cc0f5", "#ff9466", "#dcc94f", "#d0a2ea", "#5fd0c3", "#f58ab5"),
)


def ordered_colours(n: int) -> list[str]:
    """Colours for curves that have an order: neighbours are alike, and none is too light for a white ground.

    Example:
        >>> len(ordered_colours(3))
        3
    """
    import matplotlib

    ramp = matplotlib.colormaps[ORDERED_MAP]
    return [matplotlib.colors.to_hex(ramp(0.05 + 0.85 * index / max(n - 1, 1))) for index in range(n)]


def figure_style(theme: Theme = LIGHT, *, is_map: bool = False) -> Any:
    """Settings of matplotlib for a figure, a dict to be used as ``with matplotlib.rc_context(figure_style(theme))``.

    Args:
        theme: the colours.
        is_map: of a heat map: framed on all sides, without a grid.

    Raises:
        ValueError: for what is no theme.

    Example:
        >>> figure_style(DARK)["text.color"] == DARK.ink
        True
    """
    if not isinstance(theme, Theme):
        raise ValueError(f"theme must be LIGHT, DARK or a Theme of yours; got {shown(theme)}")
    return {
        "font.size": 10,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.spines.top": is_map,
        "axes.spines.right": is_map,
        "axes.edgecolor": theme.muted,
        "axes.labelcolor": theme.muted,
        "axes.labelsize": 9.5,
        "axes.grid": not is_map,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.7,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "text.color": theme.ink,
        "text.parse_math": False,  # names are drawn as they are written
        "axes.titlecolor": theme.ink,
        "lines.linewidth": 1.8,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "legend.labelcolor": theme.ink,
        "figure.facecolor": theme.ground,
        "axes.facecolor": "none",
        "image.interpolation": "nearest",
    }


def page_variables() -> str:
    """Style sheet of a page: ``--ground``, ``--ink``, ``--muted``, ``--line``, ``--accent``, ``--sans``, by its ground.

    Example:
        >>> LIGHT.ink in page_variables() and DARK.ink in page_variables()
        True
    """

    def rule(theme: Theme) -> str:
        named = {"ground": theme.ground, "ink": theme.ink, "muted": theme.muted, "line": theme.grid}
        return _declared({**named, "accent": theme.accent})

    return (
        f":root {{ --sans: {FONTS}; {rule(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {rule(DARK)} }} }}\n"
    )


def view_variables() -> str:
    """Style sheet of an attention view, which may stand on a page of ours or in anybody's notebook.

    ``--pv-accent``, ``--pv-other`` and ``--pv-ground`` follow the ground around the view, which Jupyter and VS Code
    tell in ways of their own. The maps are on white everywhere: ``--pv-paper`` and ``--pv-ink`` are the light theme's.
    """

    def rule(theme: Theme) -> str:
        named = {"pv-accent": theme.accent, "pv-on-accent": theme.ground}
        return _declared({**named, "pv-other": theme.other, "pv-ground": theme.ground})

    paper = _declared({"pv-paper": LIGHT.ground, "pv-ink": LIGHT.ink})
    return (
        f".pv {{ --pv-sans: {FONTS}; {paper} {rule(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ .pv {{ {rule(DARK)} }} }}\n"
        f'[data-jp-theme-light="true"] .pv, .vscode-light .pv {{ {rule(LIGHT)} }}\n'
        f'[data-jp-theme-light="false"] .pv, .vscode-dark .pv {{ {rule(DARK)} }}\n'
    )


def _declared(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
