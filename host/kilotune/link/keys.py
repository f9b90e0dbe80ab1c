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
        return [read(path) for path in (*self._present(unique_id), *self._retired(unique_id))]

    def find(self, unique_id: bytes, key_id: bytes) -> Key:
        """The key that the device says it has; raises KilotuneError `locked` or `wrong_key` if it is not here.

        Earlier keys open no session: they were replaced, perhaps because they became known.
        """
        path, present = self.path(unique_id), [read(p) for p in self._present(unique_id)]
        for key in present:
            if key.id(unique_id) == key_id:
                return key
        for earlier in self._retired(unique_id):
            if read(earlier).id(unique_id) == key_id:
                raise KilotuneError(
                    "wrong_key",
                    f"the device {unique_id.hex()} claims to have a key that was replaced or removed",
                    f"if you know that it does, name that key: --key-file {earlier}",
                )
        if present:
            raise KilotuneError(
                "wrong_key",
                f"the device {unique_id.hex()} claims to have another key than the one in {path}",
                "name the right file with --key-file; with --insecure you can read what it tells strangers",
            )
        raise local_error("locked", f"the device {unique_id.hex()} is locked, and there is no key for it at {path}")

    def require_unlocked(self, unique_id: bytes) -> None:
        """Raises KilotuneError `lock_lost` if there is a key for a device that claims to have none."""
        users = KeyRing()
        here = [*self._present(unique_id), *(users._present(unique_id) if self.file is not None else [])]
        if here:
            raise KilotuneError(
                "lock_lost",
                f"the device {unique_id.hex()} claims to have no key, but this computer has one for it: {here[0]}",
                "another device may be impersonating it; if you erased, unlocked or replaced it, use --insecure "
                "(`kilotune provision --insecure` sets a new key), or move the key file away",
            )

    def _present(self, unique_id: bytes) -> list[Path]:
        """Existing files of the device's key, and of one that is being set."""
        return [path for path in (self.path(unique_id), self.next_path(unique_id)) if path.exists()]

    def _retired(self, unique_id: bytes) -> list[Path]:
        path = self.path(unique_id)
        try:
            return sorted(p for p in path.parent.iterdir() if p.name.startswith(f"{path.name}.old-"))
        except OSError:
            return []
