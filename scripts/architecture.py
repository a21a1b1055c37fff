"""Draws docs/architecture.svg from the code: the packages, and which imports which.

An arrow that follows from other arrows is left out. Run it after a change of packages; a test says when.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
PACKAGES = ("fedpolyp", "clients", "server")

# Each package imports from those further down; what goes up all the same is dashed in the picture.
LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("what people call", ("cli", "view")),
    ("where hospitals are", ("server", "simulation", "clients", "sites")),
    ("after the rounds", ("report", "inference")),
    ("what is compared", ("experiment",)),
    ("the rounds", ("rounds",)),
    ("one hospital", ("hospital", "privacy")),
    ("what travels", ("exchange",)),
    ("what a run leaves", ("runs",)),
    ("what is learned, and how", ("algorithms", "aggregation")),
    ("what all build on", ("model", "config", "data")),
)

_BOX, _GAP, _ROW, _LEFT, _WIDTH = (150, 44), 30, 92, 170, 940
_SAID = {
    "cli": "the commands",
    "view": "the local page",
    "simulation": "Flower's engine, Ray",
    "server": "Flower's ServerApp",
    "clients": "Flower's ClientApp",
    "sites": "real hospitals",
    "report": "page, figures, tables",
    "inference": "predict, export",
    "experiment": "arms, statistics",
    "rounds": "loop, checks, observers",
    "hospital": "trains and scores",
    "privacy": "noise, ledger, attacks",
    "exchange": "requests, replies, arrays",
    "algorithms": "one file a paper",
    "aggregation": "mean, median, sum",
    "model": "U-Net, encoders, losses",
    "data": "stores, partitions",
    "config": "every setting",
    "runs": "run folders",
}


def imports(root: Path = ROOT) -> dict[tuple[str, str], list[str]]:
    """(importing package, imported package) and the files that do it; what only a type checker reads does not count."""
    found: dict[tuple[str, str], list[str]] = {}
    for top in PACKAGES:
        for file in sorted((root / top).rglob("*.py")):
            own = _package(root, ".".join(file.relative_to(root).with_suffix("").parts))
            for module in _imported(ast.parse(file.read_text(encoding="utf-8"))):
                other = _package(root, module)
                if own and other and own != other:
                    files = found.setdefault((own, other), [])
                    name = str(file.relative_to(root))
                    files += [name] * (name not in files)
    return found


def _package(root: Path, module: str) -> str | None:
    """The box of a module; None for modules directly in fedpolyp/, which have no box."""
    top, *rest = module.split(".")
    if top not in PACKAGES:
        return None
    if top != "fedpolyp":
        return top
    return rest[0] if rest and (root / top / rest[0]).is_dir() else None


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        yield from _imported(node)


def upward(edges: dict[tuple[str, str], list[str]]) -> dict[tuple[str, str], list[str]]:
    """The imports that go to a higher layer."""
    rank = {name: row for row, (_, names) in enumerate(LAYERS) for name in names}
    return {edge: files for edge, files in edges.items() if rank[edge[1]] < rank[edge[0]]}


def needed(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """`edges` of an acyclic graph, without those that follow from a longer path."""

    def reaches(start: str, goal: str, without: tuple[str, str]) -> bool:
        return any(
            edge != without and edge[0] == start and (edge[1] == goal or reaches(edge[1], goal, without))
            for edge in edges
        )

    return {edge for edge in edges if not reaches(*edge, edge)}


def draw(edges: dict[tuple[str, str], list[str]]) -> str:
    """The picture as SVG."""
    place: dict[str, tuple[float, float]] = {}
    for row, (_, names) in enumerate(LAYERS):
        width = len(names) * _BOX[0] + (len(names) - 1) * _GAP
        left = _LEFT + (_WIDTH - _LEFT - width) / 2
        for column, name in enumerate(names):
            place[name] = left + column * (_BOX[0] + _GAP), 24 + row * _ROW
    rank = {name: row for row, (_, names) in enumerate(LAYERS) for name in names}
    up = upward(edges)
    level = {edge for edge in edges if rank[edge[0]] == rank[edge[1]]}
    down = needed({edge for edge in edges if edge not in up and edge not in level})
    height = 24 + len(LAYERS) * _ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif" '
        'font-size="14" role="img" aria-label="The packages of fedpolyp, and which imports which">',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0 10 5 0 10z" fill="#5a6169"/></marker></defs>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for row, (said, _) in enumerate(LAYERS):
        parts.append(f'<text x="14" y="{24 + row * _ROW + 27}" fill="#5a6169" font-size="13">{escape(said)}</text>')
    parts += [_arrow(place[a], place[b], dashed=False) for a, b in sorted(down)]
    parts += [_arrow(place[a], place[b], dashed=True) for a, b in sorted(up)]
    parts += [_arrow(place[a], place[b], dashed=False) for a, b in sorted(level)]
    for name, (x, y) in place.items():
        middle = x + _BOX[0] / 2
        parts += [
            f'<rect x="{x:g}" y="{y:g}" width="{_BOX[0]}" height="{_BOX[1]}" rx="6" fill="#f6f7f8" stroke="#0072b2"/>',
            f'<text x="{middle:g}" y="{y + 19:g}" text-anchor="middle" font-weight="600" fill="#1c1e21">{name}</text>',
            f'<text x="{middle:g}" y="{y + 35:g}" text-anchor="middle" font-size="11" fill="#5a6169">'
            f"{escape(_SAID[name])}</text>",
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _arrow(start: tuple[float, float], end: tuple[float, float], dashed: bool) -> str:
    wide, high = _BOX
    (x, y), (to_x, to_y) = start, end
    if y == to_y and abs(to_x - x) > wide + _GAP:  # over the boxes between
        side = 20 if to_x > x else -20
        begin, goal = x + wide / 2 + side, to_x + wide / 2 - side
        line = f"M{begin:g} {y:g}Q{(begin + goal) / 2:g} {y - 44:g} {goal:g} {y:g}"
    elif y == to_y:
        right = to_x > x
        line = f"M{x + (wide if right else 0):g} {y + high / 2:g}L{to_x + (0 if right else wide):g} {y + high / 2:g}"
    else:
        below = to_y > y
        side = 14 if to_x > x else -14 if to_x < x else 0  # arrows of one box leave from different points
        begin, goal = x + wide / 2 + side, to_x + wide / 2 - side
        line = f"M{begin:g} {y + (high if below else 0):g}L{goal:g} {to_y + (0 if below else high):g}"
    dash = ' stroke-dasharray="3 4" opacity=".6"' if dashed else ""
    return f'<path d="{line}" fill="none" stroke="#5a6169"{dash} marker-end="url(#tip)"/>'


if __name__ == "__main__":
    PICTURE.write_text(draw(imports()), encoding="utf-8")
