"""Sets, changes and removes a device's key. A key is saved in its file before the device gets it."""

from __future__ import annotations

import contextlib
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
    """`key_id` identifies the key without revealing it."""

    unique_id: str
    lock: Lock
    key_id: str
    key_file: Path | None


def provision(device: Device, ring: KeyRing, lock: Lock) -> Provisioned:
    """Locks a device that has no key, with a new key, or with the one in the file that `ring` names.

    The key crosses the line readable. If there is one already, the device may have had it: KilotuneError `lock_lost`.
    An `insecure` device gets a new key, or the one in the named file.
    """
    path = ring.path(device.unique_id)
    if device.lock is not Lock.none:
        raise KilotuneError(
            "already_locked", "the device already has a key", "use --change to replace it or --remove to remove it"
        )
    if not device.insecure:
        ring.require_unlocked(device.unique_id)
    if path.exists() and ring.file is None:
        _retire(device, ring, keys.read(path))
        path.unlink()
    made = not path.exists()
    key = Key.new() if made else keys.read(path)
    if made:
        keys.write(path, key)
    _set(device, lock, key, path if made else None)
    return Provisioned(device.unique_id.hex(), lock, key.id(device.unique_id).hex(), path)


def change(device: Device, ring: KeyRing, lock: Lock) -> Provisioned:
    """Replaces the present key, which must be known, with a new one; or only changes what the lock covers."""
    old = _present(device, ring)
    path, coming = ring.path(device.unique_id), ring.next_path(device.unique_id)
    keys.write(path, old)  # an interrupted change may have left it in the other file
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
    """Removes the file `made` if the device refuses the key; without an answer, the device may have accepted it.

    Anyone can forge a refusal, so that the only copy of a key is deleted: the device must first prove which key it has.
    """
    try:
        device.set_key(lock, key)
    except RefusedError:
        with contextlib.suppress(KilotuneError):
            if made is not None and key is not None and not device.has_key(key):
                made.unlink(missing_ok=True)
        raise


def _retire(device: Device, ring: KeyRing, key: Key) -> None:
    """Keeps a replaced key, so that adapters tagged with it can still be verified."""
    keys.write(ring.retired_path(device.unique_id, key), key)
