"""The pencil: marks of one style on paper that is light or dark as the reader's system is.

Every picture is SVG text with a title and a description, and brings its own paper, so that it can
be read on any page. The letters are the papers': theta_0 at initialisation, theta_k at iteration k,
theta_T trained, m the mask.
"""

import html
from collections.abc import Iterable

WIDTH = 720
_STYLE = """
.paper{fill:#fff}.ink{fill:#1b1f24}.soft{fill:#59636e}.line{stroke:#1b1f24;fill:none}
.faint{stroke:#c4cad1;fill:none}.cell{stroke:#8b949e}.gone{fill:#fff;stroke:#c4cad1}
.blue{fill:#0072b2}.red{fill:#c24e00}.green{fill:#00795a}
.sblue{stroke:#0072b2;fill:none}.sred{stroke:#c24e00;fill:none}.sgreen{stroke:#00795a;fill:none}
.band{fill:#0072b2;opacity:.14}
@media (prefers-color-scheme:dark){
.paper{fill:#14181d}.ink{fill:#e8ecf0}.soft{fill:#a9b4bf}.line{stroke:#e8ecf0}
.faint{stroke:#48515b}.cell{stroke:#768390}.gone{fill:#14181d;stroke:#48515b}
.blue{fill:#5bb8ee}.red{fill:#ff9a5c}.green{fill:#3fcf9f}
.sblue{stroke:#5bb8ee}.sred{stroke:#ff9a5c}.sgreen{stroke:#3fcf9f}
.band{fill:#5bb8ee;opacity:.2}}
text{font:15px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}
.big{font-size:18px;font-weight:600}.bold{font-weight:600}.small{font-size:13px}.tiny{font-size:12px}
.maths{font:italic 18px Georgia,"Times New Roman",serif}
.m{text-anchor:middle}.e{text-anchor:end}
"""


def rect(x: float, y: float, width: float, height: float, style: str, more: str = "") -> str:
    size = f'x="{x:g}" y="{y:g}" width="{width}" height="{height}" rx="2"'
    return f'<rect class="{style}" {size} {more}/>'


def text(x: float, y: float, words: str, style: str) -> str:
    plain = {"ink", "soft", "paper", "blue", "red", "green"} & set(style.split())
    colour = "" if plain else " ink"
    return f'<text class="{style}{colour}" x="{x:g}" y="{y:g}">{html.escape(words)}</text>'


def theta(x: float, y: float, below: str, above: str = "", before: str = "") -> str:
    top = f'<tspan dy="-8" font-size="12">{above}</tspan>' if above else ""
    down = 5 + 8 * bool(above)
    return (
        f'<text class="maths m ink" x="{x:g}" y="{y:g}">{before}θ{top}'
        f'<tspan dy="{down}" font-size="13">{below}</tspan></text>'
    )


def arrow(path: str, colour: str) -> str:
    return f'<path class="s{colour}" stroke-width="3" marker-end="url(#{colour})" d="{path}"/>'


def svg(title: str, summary: str, height: int, parts: Iterable[str]) -> str:
    heads = "".join(
        f'<marker id="{colour}" viewBox="0 0 10 10" refX="7" refY="5" markerWidth="5" '
        f'markerHeight="5" orient="auto"><path class="{colour}" d="M0 0L10 5L0 10z"/></marker>'
        for colour in ("red", "green", "blue")
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}"><title>{html.escape(title)}</title>'
        f"<desc>{html.escape(summary)}</desc><style>{_STYLE}</style><defs>{heads}</defs>"
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>{"".join(parts)}</svg>\n'
    )
