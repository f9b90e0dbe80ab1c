"""Floors of the package and of the firmware, read from the sources: what imports or includes upwards, or in a circle.

    python tests/support/layers.py [--host DIR] [--firmware DIR]

DIR is a package's folder or a firmware's, of this tree or of another; without either, both of this tree. A room is a
folder of the package, or a module beside the folders; a folder of the firmware or of its runtime, or a file with its
header if runtime has no folders. Type-only imports and those in functions count. Floors are those of pyproject.toml
(import-linter) and of FIRMWARE; without either, rooms are put in an order in which few imports run upwards.
Exit code 1: something runs upwards, sideways on a floor, or in a circle.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
# From the ground; rooms on one floor do not know each other.
FIRMWARE = (
    ("kernel",),
    ("runtime/signal",),
    ("runtime/storage",),
    ("runtime/keys",),
    ("runtime/learn",),
    ("runtime/engine",),
    ("runtime/link", "sensors"),
    ("boards",),
    ("app",),
)
Floors = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Use:
    """One import or include, of one module or file by another."""

    source: str
    target: str
    file: Path
    line: int
    how: str = ""  # ", type-only" and the like

    def __str__(self) -> str:
        here = Path.cwd()
        file = self.file.relative_to(here) if self.file.is_relative_to(here) else self.file
        return f"{file}:{self.line}: {self.source} -> {self.target}{self.how}"


@dataclass
class House:
    """The room of each module, what the modules use, and floors from the ground, empty if not defined."""

    name: str
    rooms: dict[str, str]
    uses: list[Use]
    floors: Floors = ()

    def arrows(self) -> Counter[tuple[str, str]]:
        """(room, room that it uses), and how many uses."""
        pairs = ((self.rooms[u.source], self.rooms[u.target]) for u in self.uses)
        return Counter((a, b) for a, b in pairs if a != b)


# --- the package ---------------------------------------------------------------------------------


def read_package(folder: Path, floors: Floors = ()) -> House:
    """`folder`: of the package itself."""
    package = folder.name
    files = {_module(path, folder): path for path in sorted(folder.rglob("*.py"))}
    uses: list[Use] = []
    for module, path in files.items():
        uses += _imports(module, path, package, files)
    return House(str(folder), {m: m.split(".")[0] for m in files}, uses, floors)


def _module(path: Path, folder: Path) -> str:
    """Dotted name below the package. A folder's `__init__` is the folder, the package's own stays `__init__`."""
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def _imports(module: str, path: Path, package: str, files: Mapping[str, Path]) -> Iterator[Use]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    # Where a relative import begins: the package of the module, which for a folder's `__init__` is the folder.
    home = [package, *module.split(".")[: None if path.name == "__init__.py" and module != "__init__" else -1]]
    for node, how in _walk(tree, ""):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*home[: len(home) + 1 - node.level], *filter(None, [node.module])] if node.level else [node.module]
            names = [".".join([*map(str, base), alias.name]) for alias in node.names]
        else:
            continue
        found = [_found(name, package, files) for name in names]
        for target in dict.fromkeys(t for t in found if t is not None and t != module):
            yield Use(module, target, path, node.lineno, how)


def _walk(node: ast.AST, how: str) -> Iterator[tuple[ast.AST, str]]:
    for child in ast.iter_child_nodes(node):
        inner = how
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            inner = ", in a function"
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            inner = ", type-only"
        yield child, inner
        yield from _walk(child, inner)


def _found(name: str, package: str, files: Mapping[str, Path]) -> str | None:
    """The module that `name`, or the longest part of it that is a module, stands for."""
    parts = name.split(".")
    if parts[0] != package:
        return None
    for n in range(len(parts), 1, -1):
        if ".".join(parts[1:n]) in files:
            return ".".join(parts[1:n])
    if len(parts) == 1:
        return "__init__"
    # What the package names itself; or else a compiled module, which has no source here.
    named = "__init__" in files and re.search(rf"\b{parts[1]}\b", files["__init__"].read_text(encoding="utf-8"))
    return "__init__" if named else None


def declared_floors(project: Path) -> Floors:
    """Floors of the import-linter contract in a pyproject.toml, from the ground; empty if there is none."""
    if not project.is_file():
        return ()
    tools = tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {})
    contracts = tools.get("importlinter", {}).get("contracts", [])
    floors: list[str] = next((c["layers"] for c in contracts if c["type"] == "layers"), [])
    above = [["__init__"], ["__main__"]] if floors else []
    return [*([room.strip() for room in floor.split("|")] for floor in reversed(floors)), *above]


# --- the firmware --------------------------------------------------------------------------------


def read_firmware(folder: Path) -> House:
    """The firmware. Its modules are files: headers may form a circle, a source and its header may not."""
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix in (".h", ".cpp", ".ino"))
    uses: list[Use] = []
    for name in files:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            included = re.match(r'\s*#\s*include\s*["<]([^">]+)', line)
            for target in _included(included[1], name, files) if included else ():
                uses.append(Use(name, target, folder / name, number))
    winged = not any(len(Path(name).parts) == 2 for name in files if name.startswith("runtime/"))
    return House(str(folder), {name: _firmware_room(name) for name in files}, uses, FIRMWARE if winged else ())


def _included(name: str, by: str, files: Sequence[str]) -> list[str]:
    """The included file: next to the file, below the firmware's folder, or in an include folder; none if generated."""
    for at in (str(Path(by).parent / name), name):
        if at in files:
            return [at]
    return [file for file in files if file.endswith(f"/{name}")]


def _firmware_room(name: str) -> str:
    parts = Path(name).with_suffix("").parts
    return "/".join(parts[:2]) if parts[0] == "runtime" else parts[0]


# --- order, upwards, circles -----------------------------------------------------------------------


def circles(arrows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The shortest circle in each group of nodes that all reach each other."""
    after: dict[str, set[str]] = defaultdict(set)
    for a, b in arrows:
        after[a].add(b)
    reach = {node: _reached(node, after) for node in after}
    knots: list[list[str]] = []
    seen: set[str] = set()
    for node in sorted(after):
        if node in reach[node] and node not in seen:
            knot = {other for other in reach[node] if node in reach.get(other, ())}
            seen |= knot
            knots.append(min((_way_round(n, after) for n in sorted(knot)), key=len))
    return knots


def _reached(start: str, after: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = [start]
    while ahead:
        new = after.get(ahead.pop(), set()) - found
        found |= new
        ahead += new
    return found


def _way_round(start: str, after: Mapping[str, set[str]]) -> list[str]:
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for node in sorted(after.get(way[-1], ())):
            if node == start:
                return [*way, start]
            if node not in seen:
                seen.add(node)
                ways.append([*way, node])
    raise ValueError(f"{start} is in no circle")


def settled(rooms: Iterable[str], arrows: Counter[tuple[str, str]]) -> list[list[str]]:
    """Floors of rooms without a defined order (Eades, Lin and Smyth: few uses run upwards)."""
    left, low, high = set(rooms), list[str](), list[str]()
    while left:
        uses, used = Counter[str](), Counter[str]()
        for (a, b), n in arrows.items():
            if {a, b} <= left:
                uses[a] += n
                used[b] += n
        ground = sorted(room for room in left if not uses[room])
        roof = sorted(room for room in left if not used[room])
        if ground:
            low += ground
        elif roof:
            high = roof + high
        else:
            roof = [max(sorted(left), key=lambda room: uses[room] - used[room])]
            high = roof + high
        left -= set(ground or roof)
    order = {room: i for i, room in enumerate(low + high)}
    floor: dict[str, int] = {}
    for room in order:
        floor[room] = max((floor[b] + 1 for a, b in arrows if a == room and order[b] < order[room]), default=0)
    return [sorted(r for r in floor if floor[r] == i) for i in range(max(floor.values(), default=-1) + 1)]


def judge(house: House) -> tuple[Floors, list[str]]:
    """Floors as they are, and what is wrong with them, one line each."""
    arrows = house.arrows()
    present = set(house.rooms.values())
    floors = house.floors or settled(present, arrows)
    level = {room: i for i, floor in enumerate(floors) for room in floor}
    wrong = [f"no floor: {room} is a room that nobody has given one" for room in sorted(present - set(level))]
    for use in house.uses:
        a, b = house.rooms[use.source], house.rooms[use.target]
        if a != b and a in level and b in level and level[a] <= level[b]:
            wrong.append(f"{'sideways' if level[a] == level[b] else 'upwards'}: {use}")
    within = ((u.source, u.target) for u in house.uses)
    wrong += [f"circle: {' -> '.join(way)}" for way in circles(within)]
    wrong += [f"circle of rooms: {' -> '.join(way)}" for way in circles(arrows)]
    return [[room for room in floor if room in present] for floor in floors], wrong


def report(house: House) -> bool:
    """Prints the floors of a house; true if nothing is wrong."""
    floors, wrong = judge(house)
    counts = Counter(house.rooms.values())
    kinds = Counter(line.split(":")[0] for line in wrong)
    print(f"{house.name}: {len(house.rooms)} files in {len(counts)} rooms on {len(floors)} floors, "
          f"{len(house.arrows())} arrows between rooms; {kinds['upwards'] + kinds['sideways']} upwards, circles: "
          f"{kinds['circle']} of files, {kinds['circle of rooms']} of rooms")  # fmt: skip
    for i, floor in reversed(list(enumerate(floors))):
        print(f"  {i:2}  {'  '.join(f'{room} {counts[room]}' for room in floor)}")
    for line in wrong:
        print(line)
    return not wrong


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", type=Path, help="a package's folder, such as host/kilotune")
    parser.add_argument("--firmware", type=Path, help="a folder with kernel and runtime")
    given = parser.parse_args(arguments)
    neither = given.host is None and given.firmware is None
    host = ROOT / "host" / "kilotune" if neither else given.host
    firmware = ROOT / "firmware" if neither else given.firmware
    houses = []
    if host is not None:
        houses.append(read_package(host, declared_floors(host.resolve().parents[1] / "pyproject.toml")))
    if firmware is not None:
        houses.append(read_firmware(firmware))
    sound = [report(house) for house in houses]
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main())
