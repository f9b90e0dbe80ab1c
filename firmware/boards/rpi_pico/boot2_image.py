"""Pads the second boot stage to 252 bytes and adds the CRC-32 that the RP2040's ROM checks (MSB first,
polynomial 0x04C11DB7, start 0xFFFFFFFF).   python boot2_image.py boot2.bin boot2_image.cpp"""

import sys
from pathlib import Path

BYTES = 252


def crc32_msb_first(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = ((crc << 1) ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def main(source: str, target: str) -> None:
    code = Path(source).read_bytes()
    if len(code) > BYTES:
        raise SystemExit(f"the second boot stage has {len(code)} bytes, {BYTES} are possible")
    image = code.ljust(BYTES, b"\0")
    image += crc32_msb_first(image).to_bytes(4, "little")
    values = ", ".join(str(b) for b in image)
    declaration = '[[gnu::section(".boot2"), gnu::used]] extern const unsigned char boot2_image[]'
    Path(target).write_text(f"{declaration} = {{{values}}};\n", encoding="ascii")


if __name__ == "__main__":
    main(*sys.argv[1:])
