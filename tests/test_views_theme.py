"""plateau_interp.views.theme: what is written on a colour can be read."""

import matplotlib
import pytest

from plateau_interp.views.theme import DARK, LIGHT


def luminance(colour):
    """Of WCAG 2.2, by hand."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
@pytest.mark.parametrize("full", ["accent", "other"])
def test_a_number_stands_out_at_every_strength_of_a_colour(theme, full):
    ground, strongest = (matplotlib.colors.to_rgb(colour) for colour in (theme.ground, getattr(theme, full)))
    chosen = []
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        colour = [(1 - share) * one + share * other for one, other in zip(ground, strongest, strict=True)]
        text = theme.legible_on(colour)
        dark, light = sorted((luminance(matplotlib.colors.to_rgb(text)), luminance(colour)))
        assert (light + 0.05) / (dark + 0.05) > 4
        chosen.append(text)
    assert chosen == sorted(chosen, key=[theme.ink, theme.ground].index)
    assert set(chosen) == {theme.ink, theme.ground}


def test_where_a_colour_is_transparent_the_ground_is_seen():
    assert LIGHT.legible_on((0.0, 0.0, 0.5, 0.1)) == LIGHT.ink
    assert DARK.legible_on((1.0, 1.0, 1.0, 0.1)) == DARK.ink
