// Erases and programs the internal flash of an STM32F4; runs from RAM, as the bank cannot be read
// meanwhile.
//
// Registers and geometry: ST RM0090, RM0390, chapter "Embedded flash memory interface". Sectors 0
// to 3 have 16 KB, sector 4 has 64 KB, the others 128 KB. Checkpoints take sectors 4 to 6: three
// slots need three sectors, and those of 16 KB are too small for the adapters of the shipped
// models. A 64 KB sector takes up to 1.1 s to erase, one of 128 KB 1 to 2 s, but each holds several
// checkpoints. The key has sectors 2 and 3, the program has sector 7. The model has the sectors
// behind it; where there are none, what the vectors leave of sectors 0 and 1: these are not erased
// from here.
#include "flash.h"

#include "board_layout.h"
#include "boards/board.h"
#include "boards/common/cortex_m/port.h"

namespace kilotune::board {
namespace {

constexpr uintptr_t kControllerBase = 0x40023C00;
constexpr uintptr_t kAccess = kControllerBase + 0x00;
constexpr uintptr_t kKey = kControllerBase + 0x04;
constexpr uintptr_t kState = kControllerBase + 0x0C;
constexpr uintptr_t kControl = kControllerBase + 0x10;
constexpr uint32_t kWaitStates = 5;
constexpr uint32_t kPrefetch = 1u << 8, kCodeCache = 1u << 9, kDataCache = 1u << 10;
constexpr uint32_t kResetCodeCache = 1u << 11, kResetDataCache = 1u << 12;
constexpr uint32_t kKey1 = 0x45670123, kKey2 = 0xCDEF89AB;
constexpr uint32_t kErrors = 0xF2, kBusy = 1u << 16;
constexpr uint32_t kProgram = 1u << 0, kSectorErase = 1u << 1, kStart = 1u << 16, kLock = 1u << 31;
constexpr uint32_t kBy32Bits = 2u << 8;
constexpr uint32_t kSectorShift = 3;
// Twice 2 s at 168 MHz, with 4 instructions or more per turn.
constexpr uint32_t kBusyTurns = 168000000;

constexpr uint32_t kSmall = 16384, kMiddle = 65536, kLarge = 131072;  // sectors 0, 4, 5
static_assert(kSectorCount == 3 && kSectorSizes[0] == kMiddle && kSectorSizes[1] == kLarge &&
                  kSectorSizes[2] == kLarge && kCheckpointOffset == kMiddle,
              "sectors 4 to 6");
static_assert(kKeySectorBytes == kSmall && kKeyOffset == 2 * kSmall, "sectors 2 and 3");
static_assert(kModelSectorBytes == kLarge ? kModelOffset % kLarge == 0 && kModelOffset > 3 * kLarge
                                          : kModelOffset + kModelBytes == kKeyOffset,
              "sectors 8 and up, or between vectors and key");
static_assert(kWordBytes == 4, "32 bits at a time");

// Errors of the operation that has ended; kBusy if it did not end.
KILOTUNE_RAM_CODE uint32_t wait_for_controller() {
  uint32_t state = reg(kState);
  for (uint32_t turns = kBusyTurns; turns > 0 && (state & kBusy) != 0; --turns) state = reg(kState);
  return state & (kErrors | kBusy);
}

KILOTUNE_RAM_CODE void unlock() {
  reg(kState) = kErrors;  // write 1 to clear
  if ((reg(kControl) & kLock) == 0) return;
  reg(kKey) = kKey1;
  reg(kKey) = kKey2;
}

KILOTUNE_RAM_CODE uint32_t erase_sector(uint32_t sector) {
  unlock();
  const uint32_t control = kSectorErase | kBy32Bits | (sector << kSectorShift);
  reg(kControl) = control;
  reg(kControl) = control | kStart;
  asm volatile("dsb" ::: "memory");
  const uint32_t errors = wait_for_controller();
  reg(kControl) = kLock;
  // What the caches hold of the sector is stale.
  reg(kAccess) &= ~(kCodeCache | kDataCache);
  reg(kAccess) |= kResetCodeCache | kResetDataCache;
  reg(kAccess) &= ~(kResetCodeCache | kResetDataCache);
  reg(kAccess) |= kCodeCache | kDataCache;
  return errors;
}

KILOTUNE_RAM_CODE uint32_t program_words(uintptr_t address, const uint8_t* data, uint32_t n) {
  unlock();
  reg(kControl) = kProgram | kBy32Bits;
  uint32_t errors = 0;
  for (uint32_t i = 0; i < n && errors == 0; i += 4) {
    reg(address + i) = word_at(data + i);
    asm volatile("dsb" ::: "memory");
    errors = wait_for_controller();
  }
  reg(kControl) = kLock;
  return errors;
}

// The sector at `offset` of the flash.
uint32_t sector_at(uint32_t offset) {
  if (offset < kMiddle) return offset / kSmall;
  return offset < kLarge ? 4 : offset / kLarge + 4;
}

// `region` is where it starts.
Status erase(void* region, uint32_t off) {
  feed_watchdog();  // many sectors in a row may take longer than it waits
  const uint32_t offset =
      static_cast<uint32_t>(reinterpret_cast<uintptr_t>(region) - kFlashBase) + off;
  const uint32_t sector = sector_at(offset);
  if (sector < 2) return Status::flash_failed;  // without the vectors the board never starts again
  return erase_sector(sector) == 0 ? Status::ok : Status::flash_failed;
}

// A record's payload comes in one piece; while it is programmed nothing else runs but interrupts.
Status program(void* region, uint32_t off, const uint8_t* data, uint32_t n) {
  feed_watchdog();
  const uintptr_t address = reinterpret_cast<uintptr_t>(region) + off;
  return program_words(address, data, n) == 0 ? Status::ok : Status::flash_failed;
}

}  // namespace

void prepare_flash() {
  reg(kAccess) = kWaitStates | kPrefetch | kCodeCache | kDataCache;
  static_cast<void>(wait_until([] { return (reg(kAccess) & 0xF) == kWaitStates; }, 1000));
}

const Flash* checkpoint_flash() {
  return &MappedRegion<kCheckpointOffset, kSectorBytes, kSectorCount, erase, program,
                       kSectorSizes>::kFlash;
}

const Flash* model_flash() {
  return &MappedRegion<kModelOffset, kModelSectorBytes, kModelSectorCount, erase, program>::kFlash;
}

const Flash* key_flash() {
  return &MappedRegion<kKeyOffset, kKeySectorBytes, kKeySectorCount, erase, program>::kFlash;
}

}  // namespace kilotune::board
