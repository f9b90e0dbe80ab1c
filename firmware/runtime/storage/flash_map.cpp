// Sectors, slots, and writes that are read back.
#include "runtime/storage/flash_map.h"

#include <cstring>

#include "kernel/bytes.h"

namespace kilotune {
namespace {
constexpr uint32_t kMaxWordBytes = 16;
constexpr uint32_t kPiece = 32;  // read at a time, on the stack
constexpr uint32_t kMaxRegionBytes = 1u << 30;
}  // namespace

uint32_t flash_sector_bytes(const Flash& flash, uint32_t sector) {
  return flash.sector_sizes == nullptr ? flash.sector_bytes : flash.sector_sizes[sector];
}

uint32_t flash_bytes(const Flash& flash) {
  uint32_t total = 0;
  for (uint32_t i = 0; i < flash.sector_count; ++i) total += flash_sector_bytes(flash, i);
  return total;
}

bool flash_usable(const Flash& flash) {
  const uint32_t w = flash.word_bytes;
  if (flash.base == nullptr || w == 0 || w > kMaxWordBytes || (w & (w - 1)) != 0) return false;
  uint32_t total = 0;
  for (uint32_t i = 0; i < flash.sector_count; ++i) {
    const uint32_t bytes = flash_sector_bytes(flash, i);
    if (bytes == 0 || bytes % kMaxWordBytes != 0 || bytes > kMaxRegionBytes - total) return false;
    total += bytes;
  }
  return true;
}

bool flash_next_slot(const Flash& flash, uint32_t bytes, Slot& slot) {
  slot = {slot.sector + slot.sectors, 0, slot.end(), 0};
  while (slot.bytes < bytes) {
    if (slot.sector + slot.sectors >= flash.sector_count) return false;
    slot.bytes += flash_sector_bytes(flash, slot.sector + slot.sectors);
    ++slot.sectors;
  }
  return true;
}

void flash_read(const Flash& flash, uint32_t off, uint8_t* out, uint32_t n) {
  if (flash.read != nullptr) {
    flash.read(flash.context, off, out, n);
  } else {
    std::memcpy(out, flash.base + off, n);
  }
}

uint32_t flash_crc(const Flash& flash, uint32_t off, uint32_t n) {
  uint8_t piece[kPiece];
  uint32_t crc = 0;
  while (n > 0) {
    const uint32_t now = n < kPiece ? n : kPiece;
    flash_read(flash, off, piece, now);
    crc = crc32(piece, now, crc);
    off += now;
    n -= now;
  }
  return crc;
}

bool flash_holds(const Flash& flash, uint32_t off, const uint8_t* data, uint32_t n) {
  uint8_t piece[kPiece];
  while (n > 0) {
    const uint32_t now = n < kPiece ? n : kPiece;
    flash_read(flash, off, piece, now);
    if (std::memcmp(piece, data, now) != 0) return false;
    off += now;
    data += now;
    n -= now;
  }
  return true;
}

bool flash_blank(const Flash& flash, uint32_t off, uint32_t n) {
  uint8_t blank[kPiece];
  std::memset(blank, 0xFF, sizeof blank);
  while (n > 0) {
    const uint32_t now = n < kPiece ? n : kPiece;
    if (!flash_holds(flash, off, blank, now)) return false;
    off += now;
    n -= now;
  }
  return true;
}

Status flash_program(const Flash& flash, uint32_t off, const uint8_t* data, uint32_t n) {
  const Status status = flash.program(flash.context, off, data, n);
  if (status != Status::ok) return status;
  return flash_holds(flash, off, data, n) ? Status::ok : Status::flash_failed;
}

Status flash_program_word(const Flash& flash, uint32_t off, uint32_t value) {
  uint8_t word[kMaxWordBytes];
  std::memset(word, value == 0 ? 0 : 0xFF, sizeof word);
  store_u32(word, value);
  return flash_program(flash, off, word, flash.word_bytes < 4 ? 4 : flash.word_bytes);
}

Status flash_erase(const Flash& flash, uint32_t off, uint32_t bytes) {
  const Status status = flash.erase(flash.context, off);
  if (status != Status::ok) return status;
  return flash_blank(flash, off, bytes) ? Status::ok : Status::flash_failed;
}

}  // namespace kilotune
