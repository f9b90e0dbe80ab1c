"""Bills of materials in CycloneDX's JSON: python host/sbom.py -o build/sbom [--board ID ...]; `make sbom`.

One for the wheel (what it depends on, and what is compiled into its module), one for the firmware of each board: what
the linker took, by its map. The same sources and tools give the same bytes: no time, no random number is in them.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from kilotune.targets.boards import boards
from kilotune.targets.build import build
from kilotune.version import __version__
from packageurl import PackageURL
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
_EPOCH = datetime(1980, 1, 1, tzinfo=timezone.utc)  # the earliest that a wheel's own files may have
_NAMESPACE = uuid.UUID("6f8d1e62-2d0d-4c4f-9b1c-8f6f2a2f5d11")
_GCC = "arm-none-eabi-gcc"


@dataclass(frozen=True)
class Linked:
    """A library of the toolchain, as its archive is called."""

    archives: tuple[str, ...]
    name: str
    licence: str  # SPDX, or the name of one without an id
    text: str  # where it can be read


TOOLCHAIN = (
    Linked(("libc.a", "libc_nano.a", "libm.a"), "newlib", "newlib", "https://sourceware.org/newlib/COPYING.NEWLIB"),
    Linked(("libgcc.a",), "libgcc", "GPL-3.0-or-later WITH GCC-exception-3.1", ""),
    Linked(("libstdc++.a", "libstdc++_nano.a", "libsupc++.a", "libsupc++_nano.a"), "libstdc++",
           "GPL-3.0-or-later WITH GCC-exception-3.1", ""),
)  # fmt: skip


def archives_in(link_map: str) -> set[str]:
    """The archives that a linker took something of, without those of the build itself."""
    included = link_map.split("Archive member included")[1].split("\n\n")[1]
    found = re.findall(r"^(\S+\.a)\(", included, re.MULTILINE)
    return {Path(path).name for path in found if Path(path).is_absolute()}


def newlib_version() -> str:
    told = _run([_GCC, "-E", "-dM", "-x", "c", "-include", "_newlib_version.h", "/dev/null"])
    found = re.search(r'#define _NEWLIB_VERSION "([^"]+)"', told)
    if found is None:
        raise SystemExit("the compiler does not say which newlib it has")
    return found[1]


def of_firmware(board_id: str) -> Bom:
    """What is in a board's firmware, with its own hash."""
    elf = Path(build(board_id).firmware)
    archives = archives_in((elf.parent / "kilotune.map").read_text(encoding="utf-8", errors="replace"))
    gcc = _run([_GCC, "-dumpfullversion"]).strip()
    parts = [_zcbor()]
    for known in TOOLCHAIN:
        if archives & set(known.archives):
            version = newlib_version() if known.name == "newlib" else gcc
            purl = PackageURL("generic", None, known.name, version)
            parts.append(_component(known.name, version, purl, known.licence, text=known.text))
    unknown = archives - {a for known in TOOLCHAIN for a in known.archives}
    if unknown:
        raise SystemExit(f"{board_id} links {', '.join(sorted(unknown))}: add it to host/sbom.py and to NOTICE")
    root = _component(f"kilotune-firmware-{board_id}", __version__, None, "Apache-2.0", kind=ComponentType.FIRMWARE)
    root.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(elf.read_bytes()).hexdigest()))
    return _bom(root, parts)


def of_wheel() -> Bom:
    """What the package needs to run, all of it, and what is compiled into its module."""
    parts = [_of_package(name) for name in sorted(_needed("kilotune"))]
    parts += [_zcbor(), *_nanobind()]
    purl = PackageURL("pypi", None, "kilotune", __version__)
    return _bom(_component("kilotune", __version__, purl, "Apache-2.0", kind=ComponentType.APPLICATION), parts)


def _needed(name: str) -> set[str]:
    """The packages that it requires, and theirs; extras are not asked for."""
    found: set[str] = set()
    left = [name]
    while left:
        for text in metadata.requires(left.pop()) or []:
            wanted = Requirement(text)
            key = wanted.name.lower().replace("_", "-")
            if key not in found and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                found.add(key)
                left.append(key)
    return found


def _of_package(name: str) -> Component:
    told = metadata.metadata(name)
    version = metadata.version(name)
    classified = [c.rpartition(" :: ")[2] for c in told.get_all("Classifier", []) if c.startswith("License ::")]
    said = [told[field] for field in ("License-Expression", "License") if field in told]
    licence = said[0] if "License-Expression" in told else " and ".join(classified) or "".join(said) or "unknown"
    return _component(name, version, PackageURL("pypi", None, name, version), licence.splitlines()[0])


def _zcbor() -> Component:
    version = metadata.version("zcbor")
    return _component("zcbor", version, PackageURL("pypi", None, "zcbor", version), "Apache-2.0")


def _nanobind() -> list[Component]:
    """Of the build requirements: it need not be installed where this runs."""
    pinned = re.search(r'"nanobind==([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if pinned is None:
        raise SystemExit("pyproject.toml names no version of nanobind")
    purl = PackageURL("pypi", None, "nanobind", pinned[1])
    robin = PackageURL("generic", None, "robin-map", None)
    return [
        _component("nanobind", pinned[1], purl, "BSD-3-Clause"),
        _component("robin-map", f"within nanobind {pinned[1]}", robin, "MIT"),
    ]


def _component(
    name: str,
    version: str,
    purl: PackageURL | None,
    licence: str,
    *,
    kind: ComponentType = ComponentType.LIBRARY,
    text: str = "",
) -> Component:
    found = LicenseFactory().make_from_string(licence)
    if text:
        found = DisjunctiveLicense(name=licence, url=XsUri(text))
    reference = purl.to_string() if purl is not None else f"{name}@{version}"
    return Component(name=name, version=version, purl=purl, type=kind, licenses=[found], bom_ref=reference)


def _bom(root: Component, parts: Sequence[Component]) -> Bom:
    bom = Bom(components=parts)
    bom.metadata.component = root
    bom.metadata.timestamp = _EPOCH
    bom.register_dependency(root, parts)
    listed = "\n".join(sorted(f"{part.name} {part.version}" for part in (root, *parts)))
    hashes = "".join(h.content for h in root.hashes)
    bom.serial_number = uuid.uuid5(_NAMESPACE, listed + hashes)
    return bom


def _run(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def write(bom: Bom, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "build" / "sbom", help="folder for the files")
    parser.add_argument("--board", action="append", help="a board; all where none is named")
    options = parser.parse_args(arguments)
    chosen = options.board or [b.id for b in boards() if b.core != "host"]
    write(of_wheel(), options.out / "kilotune.cdx.json")
    if shutil.which(_GCC) is None:
        print(f"{_GCC} is not installed: the wheel's alone was written", file=sys.stderr)
        return 1
    for board_id in chosen:
        write(of_firmware(board_id), options.out / f"kilotune-firmware-{board_id}.cdx.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
