"""Keyed BLAKE2s between a host and a locked device (SPEC 3.5). A key never appears in text."""

from __future__ import annotations

import hmac
import secrets
import struct
from dataclasses import dataclass, field
from hashlib import blake2s

from kilotune.link.wire import KEY_BYTES, KEY_ID_BYTES, NONCE_BYTES, TAG_BYTES
from kilotune.terms import Lock

__all__ = ["KEY_BYTES", "KEY_ID_BYTES", "NONCE_BYTES", "TAG_BYTES", "Key", "Lock", "SessionKey"]

_SESSION, _REQUEST, _ANSWER, _KEY_ID, _NEW_KEY, _ADAPTER = 2, 3, 4, 5, 6, 7  # what a digest is for


def _digest(size: int, key: bytes, purpose: int, *parts: bytes) -> bytes:
    return blake2s(bytes([purpose]) + b"".join(parts), digest_size=size, key=key).digest()


def _named(unique_id: bytes) -> bytes:
    return bytes([len(unique_id)]) + unique_id


@dataclass(frozen=True, slots=True)
class Key:
    """A device's key."""

    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> Key:
        return cls(secrets.token_bytes(KEY_BYTES))

    def id(self, unique_id: bytes) -> bytes:
        """Identifies the key without revealing anything about it."""
        return _digest(KEY_ID_BYTES, self.secret, _KEY_ID, _named(unique_id))

    def session(self, challenge: bytes, nonce: bytes, unique_id: bytes) -> SessionKey:
        return SessionKey(_digest(KEY_BYTES, self.secret, _SESSION, challenge, nonce, _named(unique_id)))

    def adapter_tag(self, unique_id: bytes, windows: int, steps: int, image_hash: bytes, blob: bytes) -> bytes:
        counts = struct.pack("<II", windows & 0xFFFFFFFF, steps & 0xFFFFFFFF)
        return _digest(TAG_BYTES, self.secret, _ADAPTER, _named(unique_id), counts, image_hash, blob)


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Made from a challenge of the device and a nonce of the host; no counter may repeat with it."""

    _secret: bytes = field(repr=False)

    def request_tag(self, counter: int, frame: bytes) -> bytes:
        return _digest(TAG_BYTES, self._secret, _REQUEST, struct.pack("<I", counter), frame)

    def is_answer(self, counter: int, frame: bytes, tag: bytes) -> bool:
        right = _digest(TAG_BYTES, self._secret, _ANSWER, struct.pack("<I", counter), frame)
        return hmac.compare_digest(right, tag)

    def hide(self, counter: int, key: Key) -> bytes:
        """A new key, encrypted for the message with this counter."""
        cover = _digest(KEY_BYTES, self._secret, _NEW_KEY, struct.pack("<I", counter))
        return bytes(a ^ b for a, b in zip(key.secret, cover, strict=True))
