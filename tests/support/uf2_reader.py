"""UF2 files, read block by block from the format's description only."""

from __future__ import annotations


def read_uf2(data: bytes) -> dict[int, bytes]:
    """Checks every field of every block; gives payloads by address."""
    assert len(data) % 512 == 0
    blocks = len(data) // 512
    payloads = {}
    for i in range(blocks):
        block = data[512 * i : 512 * (i + 1)]
        assert block[0:4] == b"UF2\n"
        assert block[4:8] == bytes.fromhex("57515d9e")
        assert int.from_bytes(block[8:12], "little") == 0x00002000  # a family id is there, no other flag
        address = int.from_bytes(block[12:16], "little")
        assert int.from_bytes(block[16:20], "little") == 256
        assert int.from_bytes(block[20:24], "little") == i
        assert int.from_bytes(block[24:28], "little") == blocks
        assert int.from_bytes(block[28:32], "little") == 0xE48BFF56  # RP2040
        assert block[288:508] == bytes(220)
        assert block[508:512] == bytes.fromhex("306fb10a")
        assert address % 256 == 0
        assert address not in payloads
        payloads[address] = block[32:288]
    assert list(payloads) == sorted(payloads)
    return payloads
