// Erases and programs the flash beside an RP2040 with the routines in its ROM.
//
// Flash cannot be read meanwhile, not even for code: everything between leave_xip and enter_xip
// runs from RAM or ROM, and so do the interrupts, which stay on. Raspberry Pi "RP2040 Datasheet",
// chapters "Bootrom contents" and "SSI"; Winbond W25Q16JV.
#include "flash.h"

#include "board_layout.h"
#include "boards/board.h"
#include "boards/common/cortex_m/port.h"

namespace kilotune::board {
namespace {

constexpr uint32_t kPageBytes = 256;

struct Rom {
  void (*connect)();
  void (*exit_xip)();
  void (*erase)(uint32_t off, uint32_t n, uint32_t block_bytes, uint8_t block_command);
  void (*program)(uint32_t off, const uint8_t* data, uint32_t n);
  void (*flush_cache)();
  void (*enter_xip)();
} rom;

uint8_t page[kPageBytes];  // 0xFF where nothing changes: NOR flash keeps those bytes
uint8_t chip_id[kFlashIdBytes];

template <typename Function>
void find(Function& out, char a, char b) {
  using Lookup = Function (*)(const uint16_t* table, uint32_t code);
  const auto half = [](uintptr_t at) {
    asm("" : "+r"(at));  // or the compiler takes a low address for a null pointer
    return uintptr_t{*reinterpret_cast<volatile uint16_t*>(at)};
  };
  const auto lookup = reinterpret_cast<Lookup>(half(0x18));
  out = lookup(reinterpret_cast<const uint16_t*>(half(0x14)),
               static_cast<uint32_t>(a) | static_cast<uint32_t>(b) << 8);
}

KILOTUNE_RAM_CODE void leave_xip() {
  asm volatile("dsb" ::: "memory");
  rom.connect();
  rom.exit_xip();
}

// The ROM's return to XIP reads slowly: sets the clock divider of the second boot stage again.
KILOTUNE_RAM_CODE void return_to_xip() {
  constexpr uintptr_t kEnable = 0x18000008, kDivider = 0x18000014;
  rom.flush_cache();
  rom.enter_xip();
  reg(kEnable) = 0;
  reg(kDivider) = 4;
  reg(kEnable) = 1;
}

KILOTUNE_RAM_CODE void erase_sector(uint32_t off) {
  leave_xip();
  rom.erase(off, kSectorBytes, kSectorBytes, 0x20);  // 20h: erase 4 KB
  return_to_xip();
}

KILOTUNE_RAM_CODE void program_page(uint32_t off) {
  leave_xip();
  rom.program(off, page, kPageBytes);
  return_to_xip();
}

// Command 4Bh: 4 dummy bytes, then 64 bits. The chip select is held low by its pad's override.
KILOTUNE_RAM_CODE void read_id() {
  constexpr uintptr_t kSelect = 0x4001800C;  // IO_QSPI: SS, CTRL
  constexpr uint32_t kOverrideMask = 3u << 8, kLow = 2u << 8, kHigh = 3u << 8;
  constexpr uintptr_t kState = 0x18000028, kData = 0x18000060;
  constexpr uint32_t kTransmitNotFull = 1u << 1, kReceiveNotEmpty = 1u << 3;
  constexpr uint32_t kSkipped = 5, kTotal = kSkipped + kFlashIdBytes;
  leave_xip();
  reg(kSelect) = (reg(kSelect) & ~kOverrideMask) | kLow;
  uint32_t sent = 0, got = 0;
  for (uint32_t turns = 100000; turns > 0 && got < kTotal; --turns) {
    const uint32_t state = reg(kState);
    if (sent < kTotal && sent < got + 8 && (state & kTransmitNotFull) != 0) {
      reg(kData) = sent == 0 ? 0x4B : 0;
      ++sent;
    }
    if ((state & kReceiveNotEmpty) != 0) {
      const auto byte = static_cast<uint8_t>(reg(kData));
      if (got >= kSkipped) chip_id[got - kSkipped] = byte;
      ++got;
    }
  }
  reg(kSelect) = (reg(kSelect) & ~kOverrideMask) | kHigh;
  return_to_xip();
  reg(kSelect) &= ~kOverrideMask;
}

// Where a region starts, from the start of flash, as the ROM counts.
uint32_t start_of(void* region) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(region) - kFlashBase);
}

Status erase(void* region, uint32_t off) {
  feed_watchdog();  // many sectors in a row may take longer than it waits
  erase_sector(start_of(region) + off);
  return Status::ok;  // the store checks that it is blank
}

Status program(void* region, uint32_t off, const uint8_t* data, uint32_t n) {
  uint32_t at = start_of(region) + off;
  while (n > 0) {
    feed_watchdog();
    const uint32_t start = at % kPageBytes;
    const uint32_t piece = n < kPageBytes - start ? n : kPageBytes - start;
    for (uint8_t& byte : page) byte = 0xFF;
    for (uint32_t i = 0; i < piece; ++i) page[start + i] = data[i];
    program_page(at - start);
    at += piece;
    data += piece;
    n -= piece;
  }
  return Status::ok;
}

}  // namespace

void prepare_flash() {
  find(rom.connect, 'I', 'F');
  find(rom.exit_xip, 'E', 'X');
  find(rom.erase, 'R', 'E');
  find(rom.program, 'R', 'P');
  find(rom.flush_cache, 'F', 'C');
  find(rom.enter_xip, 'C', 'X');
  read_id();
}

const Flash* checkpoint_flash() {
  return &MappedRegion<kCheckpointOffset, kSectorBytes, kSectorCount, erase, program>::kFlash;
}

const Flash* model_flash() {
  return &MappedRegion<kModelOffset, kModelSectorBytes, kModelSectorCount, erase, program>::kFlash;
}

const Flash* key_flash() {
  static_assert(kKeySectorBytes == kSectorBytes, "all sectors are alike");
  return &MappedRegion<kKeyOffset, kKeySectorBytes, kKeySectorCount, erase, program>::kFlash;
}

const uint8_t* flash_id() { return chip_id; }

}  // namespace kilotune::board
