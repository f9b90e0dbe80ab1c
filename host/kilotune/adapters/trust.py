"""Whether an adapter comes from its device unchanged, shown by the tag that it was pulled with."""

from __future__ import annotations

import hmac
from enum import Enum
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.link.keys import KeyRing

if TYPE_CHECKING:
    from kilotune.adapters.config import AdapterConfig


class Trust(Enum):
    """What is known about an adapter's origin; its checksum is right in any case."""

    verified = "made by its device, and unchanged since"
    unknown_key = "not verified: the key of its device is not on this computer"
    no_tag = "not verified: it was pulled from a device without a key"


def trust(config: AdapterConfig, blob: bytes, keys: KeyRing) -> Trust:
    """Checks the tag; raises KilotuneError `bad_tag` if the key is known and did not make the tag."""
    if not config.tag:
        return Trust.no_tag
    try:
        unique_id = bytes.fromhex(config.device.rpartition(":")[2])
        tag, key_id = bytes.fromhex(config.tag), bytes.fromhex(config.key_id)
    except ValueError:
        raise _bad_tag() from None
    key = next((k for k in keys.known(unique_id) if k.id(unique_id) == key_id), None)
    if key is None:
        return Trust.unknown_key
    image_hash = bytes.fromhex(config.image_hash)
    right = key.adapter_tag(unique_id, config.windows_seen, config.steps, image_hash, blob)
    if not hmac.compare_digest(right, tag):
        raise _bad_tag()
    return Trust.verified


def require(found: Trust) -> None:
    """Raises KilotuneError `not_verified` unless the tag was checked and is right."""
    if found is not Trust.verified:
        raise KilotuneError(
            "not_verified",
            f"the adapter is {found.value}",
            "pull it from a provisioned device, on a computer that has its key, or omit --require-tag",
        )


def _bad_tag() -> KilotuneError:
    return KilotuneError(
        "bad_tag",
        "the adapter's tag is wrong: the adapter was changed, or it comes from another device",
        "pull it from the device again",
    )
