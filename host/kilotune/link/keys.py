"""Keys in files: one per device, readable by their owner only, found by the device's unique id."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from kilotune.common.files import make_private, replace
from kilotune.errors import KilotuneError
from kilotune.link.auth import KEY_BYTES, Key
from kilotune.link.status import local_error

_MAX_FILE_BYTES = 256


def folder() -> Path:
    """Where keys are kept if no file is named."""
    named = os.environ.get("XDG_CONFIG_HOME")
    return (Path(named) if named else Path.home() / ".config") / "kilotune" / "keys"


def write(path: Path, key: Key) -> None:
    """Writes a key file, all or nothing; it is never readable by others, not even for a moment."""
    try:
        if path.parent == folder():
            make_private(path.parent)  # a folder that the user named is left as it is
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(path, key.secret.hex().encode() + b"\n", 0o600)
    except OSError as error:
        raise KilotuneError(
            "cannot_write", f"cannot write the key file {path}: {error.strerror}", "name another with --key-file"
        ) from error


def read(path: Path) -> Key:
    """Reads a key file; raises KilotuneError `bad_key_file` if it holds no key, or others may read it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise KilotuneError(
            "bad_key_file", f"cannot read the key file {path}: {error.strerror}", "name another with --key-file"
        ) from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise KilotuneError(
            "bad_key_file",
            f"others may read the key file {path}",
            f"chmod 600 {path}; if somebody has read it, change the key",
        )
    try:
        secret = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        raise KilotuneError(
            "bad_key_file",
            f"{path} is not a key file",
            f"a key file holds {2 * KEY_BYTES} hexadecimal digits; `kilotune provision` writes one",
        )
    return Key(secret)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Where to look for the key of a device: one file, or the user's key folder."""

    file: Path | None = None

    def path(self, unique_id: bytes) -> Path:
        return self.file if self.file is not None else folder() / f"{unique_id.hex() or 'device'}.key"

    def next_path(self, unique_id: bytes) -> Path:
        """Path of a key that is being set, until the device has confirmed it."""
        path = self.path(unique_id)
        return path.with_name(path.name + ".new")

    def retired_path(self, unique_id: bytes, key: Key) -> Path:
        path = self.path(unique_id)
        return path.with_name(f"{path.name}.old-{key.id(unique_id).hex()}")

    def known(self, unique_id: bytes) -> list[Key]:
        """All keys on file for a device: the present one, one that is being set, and earlier ones."""
        path = self.path(unique_id)
        named = (path.name, self.next_path(unique_id).name)
        try:
            beside = sorted(path.parent.iterdir())
        except OSError:
            return []
        return [read(p) for p in beside if p.name in named or p.name.startswith(f"{path.name}.old-")]

    def find(self, unique_id: bytes, key_id: bytes) -> Key:
        """The key that the device says it has; raises KilotuneError `locked` or `wrong_key` if it is not here."""
        path, known = self.path(unique_id), self.known(unique_id)
        for key in known:
            if key.id(unique_id) == key_id:
                return key
        if known:
            raise KilotuneError(
                "wrong_key",
                f"the device was given another key than the one in {path}",
                "name the right file with --key-file",
            )
        raise local_error("locked", f"the device {unique_id.hex()} is locked, and there is no key for it at {path}")
