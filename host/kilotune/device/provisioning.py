"""Gives a device its key, changes it, takes it away; a key is in its file before the device has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.link import keys
from kilotune.link.auth import Key
from kilotune.link.keys import KeyRing
from kilotune.link.status import RefusedError, local_error
from kilotune.terms import Lock


@dataclass(frozen=True, slots=True)
class Provisioned:
    """`key_id` tells which key it is, not the key."""

    unique_id: str
    lock: Lock
    key_id: str
    key_file: Path | None


def provision(device: Device, ring: KeyRing, lock: Lock) -> Provisioned:
    """Locks a device without a key, with a new one, or with the one in the file that `ring` names."""
    path = ring.path(device.unique_id)
    if device.lock is not Lock.none:
        raise KilotuneError(
            "already_locked", "the device has a key", "--change gives it another, --remove takes it away"
        )
    if path.exists() and ring.file is None:
        raise KilotuneError(
            "key_exists",
            f"there is a key for a device {device.unique_id.hex()} at {path}",
            "another board of the same name, or one that was erased? Name a file with --key-file, or move that one",
        )
    made = not path.exists()
    key = Key.new() if made else keys.read(path)
    if made:
        keys.write(path, key)
    _set(device, lock, key, path if made else None)
    return Provisioned(device.unique_id.hex(), lock, key.id(device.unique_id).hex(), path)


def change(device: Device, ring: KeyRing, lock: Lock) -> Provisioned:
    """A new key in the place of the present one, which must be at hand; or only another lock's reach."""
    old = _present(device, ring)
    path, coming = ring.path(device.unique_id), ring.next_path(device.unique_id)
    keys.write(path, old)  # a change that was cut off may have left it in the other file
    key = Key.new()
    keys.write(coming, key)
    _set(device, lock, key, coming)
    _retire(device, ring, old)
    coming.replace(path)
    return Provisioned(device.unique_id.hex(), lock, key.id(device.unique_id).hex(), path)


def remove(device: Device, ring: KeyRing) -> Provisioned:
    """Unlocks a device for anyone."""
    old = _present(device, ring)
    _set(device, Lock.none, None, None)
    _retire(device, ring, old)
    ring.path(device.unique_id).unlink(missing_ok=True)
    return Provisioned(device.unique_id.hex(), Lock.none, "", None)


def _present(device: Device, ring: KeyRing) -> Key:
    if device.lock is Lock.none:
        raise local_error("no_key")
    return ring.find(device.unique_id, device.key_id)


def _set(device: Device, lock: Lock, key: Key | None, made: Path | None) -> None:
    """What was `made` goes where the device has refused it; where it gave no answer, it may have taken it."""
    try:
        device.set_key(lock, key)
    except RefusedError:
        if made is not None:
            made.unlink(missing_ok=True)
        raise


def _retire(device: Device, ring: KeyRing, key: Key) -> None:
    """Adapters that were pulled under it can still be verified."""
    keys.write(ring.retired_path(device.unique_id, key), key)
