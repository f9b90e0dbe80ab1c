"""What `make` installs is named in host/locks, to the byte, and is what pyproject.toml asks for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "host" / "locks"
EXTRAS = {"demo": ("firmware",), "check": ("dev", "firmware", "oracle")}
EXTRAS["test"] = (*EXTRAS["check"], "tensorflow")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def pins(name: str) -> list[tuple[Requirement, int]]:
    """Every entry of a lock file, with how many hashes it has."""
    entries = (LOCKS / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [(Requirement(e.split("--hash")[0].strip()), e.count("--hash=sha256:")) for e in entries]


def table(section: str) -> str:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.split(r"^\[", text.split(f"\n[{section}]\n")[1], maxsplit=1, flags=re.M)[0]


def listed(text: str, name: str) -> list[Requirement]:
    found = re.search(rf"^{name} = \[(.*?)\]\s*(#.*)?$", text, re.M | re.S)
    assert found, f"pyproject.toml has no {name}"
    return [Requirement(r) for r in re.findall(r'"([^"]+)"', re.sub(r"#.*", "", found[1]))]


def wanted(name: str) -> list[Requirement]:
    extras = table("project.optional-dependencies")
    return listed(table("project"), "dependencies") + [r for e in EXTRAS[name] for r in listed(extras, e)]


@pytest.mark.parametrize("name", ["build", *EXTRAS])
def test_every_entry_is_one_version_with_its_hashes(name: str) -> None:
    for pin, hashes in pins(name):
        assert re.fullmatch(r"==[^,*]+", str(pin.specifier)), f"{pin} may be several versions"
        assert hashes, f"{pin} has no hash"


@pytest.mark.parametrize("name", EXTRAS)
@pytest.mark.parametrize("python", PYTHONS)
def test_what_the_package_asks_for_is_locked_in_its_range(name: str, python: str) -> None:
    here = {"python_version": python, "python_full_version": f"{python}.1"}
    locked = {p.name: str(p.specifier)[2:] for p, _ in pins(name) if not p.marker or p.marker.evaluate(here)}
    for want in wanted(name):
        if not want.marker or want.marker.evaluate(here):
            pinned = locked.get(canonicalize_name(want.name))
            assert pinned, f"{want} is not in {name}.txt: run `make locks`"
            assert want.specifier.contains(pinned), f"{want}, but {pinned} is locked: run `make locks`"


def test_smaller_locks_are_parts_of_the_largest() -> None:
    whole = {f"{p.name}{p.specifier}" for p, _ in pins("test")}
    for name in ("build", "demo", "check"):
        assert {f"{p.name}{p.specifier}" for p, _ in pins(name)} <= whole


def test_set_up_installs_nothing_without_a_hash() -> None:
    """Each pip call of setup.sh checks hashes, or installs this package alone."""
    script = (ROOT / "host" / "setup.sh").read_text(encoding="utf-8")
    calls = re.findall(r"\bpip (--[^;&]*)", script)
    assert len(calls) == 3
    for call in calls:
        assert "--require-hashes" in call or "--no-deps --editable ." in call
    assert 'pip install --quiet --disable-pip-version-check --no-build-isolation "$@"' in script


def test_it_obeys_who_forbids_installing(tmp_path: Path) -> None:
    """With KILOTUNE_NO_INSTALL=1 a missing Debian package is named, and apt-get is not called, even for root."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for tool, says in {"dpkg-query": "exit 1", "apt-get": f"touch {tmp_path}/called", "id": "echo 0"}.items():
        (bin_ / tool).write_text(f"#!/bin/sh\n{says}\n", encoding="utf-8")
        (bin_ / tool).chmod(0o755)
    (tmp_path / "host").mkdir()
    script = tmp_path / "host" / "setup.sh"
    script.write_bytes((ROOT / "host" / "setup.sh").read_bytes())
    environment = {"PATH": f"{bin_}:/usr/bin:/bin", "PYTHON": "no-such-python"}

    def run(**more: str) -> str:
        done = subprocess.run(
            ["/bin/sh", script, "demo"], env={**environment, **more}, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 1  # there is no such Python
        return done.stderr

    said = run(KILOTUNE_NO_INSTALL="1")
    assert "To install: sudo apt-get install g++" in said
    assert not (tmp_path / "called").exists()
    assert "Installing Debian packages (KILOTUNE_NO_INSTALL=1 forbids it): g++" in run()
    assert (tmp_path / "called").exists()
