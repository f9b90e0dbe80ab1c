"""A model image as a C++ header, for firmware with the model in its program."""

from __future__ import annotations

from pathlib import Path

from kilotune.common.files import write_atomically
from kilotune.image.image import Image
from kilotune.version import __version__

_PER_LINE = 16


def to_c_array(image: Image) -> str:
    """The header: `kModel` (aligned as the kernel needs it) and the bytes of RAM that it needs."""
    sizes = (
        ("Arena", image.arena_bytes),
        ("Adapter", image.adapter_bytes),
        ("State", image.state_bytes),
        ("Input", image.input_bytes),
        ("Output", image.output_bytes),
    )
    content = image.content
    rows = (content[at : at + _PER_LINE] for at in range(0, len(content), _PER_LINE))
    return "\n".join(
        (
            f"// Model image of {len(content):,} bytes, trains: {image.method}. Made by kilotune {__version__};",
            f"// image hash {image.image_hash.hex()[:16]}, base hash {image.base_hash.hex()[:16]}.",
            "#pragma once",
            "// clang-format off",
            "#include <cstdint>",
            "",
            *(f"constexpr uint32_t kModel{name}Bytes = {value};" for name, value in sizes),
            "",
            f"alignas(8) static const uint8_t kModel[{len(content)}] = {{",
            *("    " + ", ".join(f"0x{byte:02x}" for byte in row) + "," for row in rows),
            "};",
            "",
        )
    )


def save_c_array(image: Image, path: Path) -> None:
    """Writes the header, completely or not at all."""
    write_atomically(path, to_c_array(image).encode())
