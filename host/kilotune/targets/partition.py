"""What a device runs, read from its model partition: docs/SPEC.md, 4."""

from __future__ import annotations

from kilotune.image.envelope import image_at_start
from kilotune.targets import flash_records


def model_in(partition: bytes, sector_bytes: int) -> bytes | None:
    """The image that a device runs: the one at the start, else that of the newest record; None if there is none."""
    plain = image_at_start(partition)
    if plain is not None:
        return plain
    record = flash_records.newest(partition, sector_bytes)
    return None if record is None else record.payload
