"""Twelve looks that tell lines apart: a colour for each theme, and a marker.

The colours were found by a search: the smallest distance between any two, after a simulated lack of red or green cones
too, is as large as it gets with enough contrast to the page and without glaring tones. Markers tell lines apart where
colours do not, as in print. Whether a line is dashed says what it is (a protocol, say), and never whose it is.
"""

from __future__ import annotations

# In the order in which they are given out; LIGHT[k] and DARK[k] are the same look on a light and on a dark page.
LIGHT = (
    *("#0068a8", "#c25100", "#003c00", "#a50f69", "#0096a5", "#5a0069"),
    *("#b4784b", "#2d3cb4", "#a5002d", "#0087ff", "#5a0f2d", "#b45a69"),
)
DARK = (
    *("#5ab6ec", "#f2914a", "#1e965a", "#e178a5", "#0fffd2", "#e13cb4"),
    *("#f0e196", "#0078ff", "#ffd22d", "#3cf0ff", "#f02d4b", "#f0a596"),
)
LOOKS = len(LIGHT)

# The outline of each marker, y down, within a circle of radius 1.25; and its name in matplotlib. None: a circle.
_P, _Q = 0.38, 1.05
MARKERS: tuple[tuple[str, tuple[tuple[float, float], ...] | None], ...] = (
    ("o", None),
    ("s", ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9))),
    ("^", ((0, -1.2), (1.1, 0.8), (-1.1, 0.8))),
    ("D", ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0))),
    ("v", ((0, 1.2), (1.1, -0.8), (-1.1, -0.8))),
    (
        "P",
        (
            *((-_P, -_Q), (_P, -_Q), (_P, -_P), (_Q, -_P), (_Q, _P), (_P, _P)),
            *((_P, _Q), (-_P, _Q), (-_P, _P), (-_Q, _P), (-_Q, -_P), (-_P, -_P)),
        ),
    ),
)


def look(number: int) -> int:
    """Return the number of the look, of those that there are, that the thing of this number has."""
    return number % LOOKS


def marker(number: int) -> tuple[str, tuple[tuple[float, float], ...] | None, bool]:
    """Return the marker of a look: its name in matplotlib, its outline, and whether it is filled.

    No two of the twelve looks share all three.
    """
    shape, outline = MARKERS[look(number) % len(MARKERS)]
    return shape, outline, look(number) < len(MARKERS)


def colour_class(number: int) -> str:
    """Return the CSS class that sets ``--c`` to the colour of a look: ``"c3"``."""
    return f"c{look(number)}"


def palette_css() -> str:
    """Return the style sheet of the colours: ``--s0`` and on in both themes, and the classes that choose one."""
    light, dark = (
        " ".join(f"--s{number}: {colour};" for number, colour in enumerate(colours)) for colours in (LIGHT, DARK)
    )
    classes = "\n".join(f".c{number} {{ --c: var(--s{number}); }}" for number in range(LOOKS))
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{\n  :root {{ {dark} }}\n}}\n{classes}\n"
