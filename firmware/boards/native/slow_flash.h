// Checkpoints that take the time of a chip: its sectors, and the longest erase and program times
// that its data sheet gives, during which the main loop stands still.
#ifndef KILOTUNE_BOARDS_NATIVE_SLOW_FLASH_H_
#define KILOTUNE_BOARDS_NATIVE_SLOW_FLASH_H_

#include <cstdint>

#include "receiver.h"
#include "runtime/storage/flash.h"

namespace kilotune::board {

struct FlashChip {
  const char* name;
  uint32_t sector_bytes, sector_count, word_bytes;
  uint32_t erase_us;             // of a sector, at most
  uint32_t unit_bytes, unit_us;  // programmed at once, in at most this time
  // Interrupts and what they need are in RAM: bytes keep arriving while flash cannot be read. If
  // not, this many wait in the serial port's own queue.
  bool interrupts_in_ram;
  uint32_t queue_bytes;
};

// Null if there is no chip of this name.
const FlashChip* find_flash_chip(const char* name);

class SlowFlash {
 public:
  // `base` is plain memory for the chip's region, `feed` feeds the watchdog, as boards do before
  // each erase and program.
  void open(const FlashChip& chip, uint8_t* base, Receiver& receiver, void (*feed)());
  [[nodiscard]] const Flash* port() const { return &port_; }

 private:
  static Status erase(void* context, uint32_t off);
  static Status program(void* context, uint32_t off, const uint8_t* data, uint32_t n);
  void spend(uint64_t us);

  const FlashChip* chip_ = nullptr;
  uint8_t* base_ = nullptr;
  Receiver* receiver_ = nullptr;
  void (*feed_)() = nullptr;
  uint64_t owed_us_ = 0;
  Flash port_{};
};

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NATIVE_SLOW_FLASH_H_
