"""How runs look in charts: colours, symbols, dashes."""

from __future__ import annotations

LIGHT = ("#0068a8", "#c24700", "#00785a", "#a8387f", "#7d6200", "#5b50c4", "#2e7d9a", "#59636e")
DARK = ("#5cb8f0", "#ff9857", "#3fcfa0", "#f08ac6", "#e3c34a", "#a9a1ff", "#7fd3ea", "#b0bac4")
"""The hues of Okabe and Ito, "Color Universal Design" (2008), which colour-blind readers can tell apart, darkened or
lightened until each has a contrast of at least 3 : 1 with the page (WCAG 2.2, 1.4.11); a test computes it."""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "triangle-down", "star", "pentagon", "cross", "hexagon")
MARKERS = ("o", "s", "D", "^", "X", "v", "*", "p", "P", "h")
"""The same symbols by their names in Plotly and in matplotlib. Ten of them against eight colours: forty runs differ."""

GLYPHS = ("●", "■", "◆", "▲", "✖", "▼", "★", "⬟", "✚", "⬢")
DASHES = {"solid": "-", "dash": "--", "dot": ":"}


def colour(run: int, theme: tuple[str, ...] = LIGHT) -> str:
    """Of the run with that number."""
    return theme[run % len(theme)]


def symbol(run: int, names: tuple[str, ...] = SYMBOLS) -> str:
    """Of the run with that number."""
    return names[run % len(names)]
