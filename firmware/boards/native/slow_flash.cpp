#include "slow_flash.h"

#include <chrono>
#include <cstring>
#include <thread>

namespace kilotune::board {
namespace {

// Longest times at 2.7 V and more, 32 bits at a time: ST DS8626 (STM32F405/407), table "Flash
// memory programming"; sectors 1 to 3, 4, 5 to 7. Nordic nRF52840 PS and nRF51822 PS, NVMC:
// t_ERASEPAGE, t_WRITE; only the nRF51822 has its interrupts in flash, for lack of RAM. Winbond
// W25Q16JV (beside the RP2040): t_SE, t_PP.
constexpr FlashChip kChips[] = {
    {"stm32f4-16k", 16384, 3, 4, 500'000, 4, 100, true, 0},
    {"stm32f4-64k", 65536, 3, 4, 1'100'000, 4, 100, true, 0},
    {"stm32f4-128k", 131072, 3, 4, 2'000'000, 4, 100, true, 0},
    {"nrf52840", 4096, 32, 4, 85'000, 4, 41, true, 0},
    {"nrf51822", 1024, 48, 4, 22'300, 4, 46, false, 6},
    {"rp2040", 4096, 32, 4, 400'000, 256, 3'000, true, 0},
};

}  // namespace

const FlashChip* find_flash_chip(const char* name) {
  for (const FlashChip& chip : kChips) {
    if (std::strcmp(chip.name, name) == 0) return &chip;
  }
  return nullptr;
}

void SlowFlash::open(const FlashChip& chip, uint8_t* base, Receiver& receiver, void (*feed)()) {
  chip_ = &chip;
  base_ = base;
  receiver_ = &receiver;
  feed_ = feed;
  port_ = {base, chip.sector_bytes, chip.sector_count, chip.word_bytes, this, erase, program};
}

// Short times are saved up: a computer cannot sleep for microseconds.
void SlowFlash::spend(uint64_t us) {
  constexpr uint64_t kShortestUs = 2000;
  owed_us_ += us;
  if (owed_us_ < kShortestUs) return;
  if (!chip_->interrupts_in_ram) receiver_->stall(chip_->queue_bytes);
  std::this_thread::sleep_for(std::chrono::microseconds(owed_us_));
  receiver_->resume();
  owed_us_ = 0;
}

Status SlowFlash::erase(void* context, uint32_t off) {
  auto& self = *static_cast<SlowFlash*>(context);
  self.feed_();
  std::memset(self.base_ + off, 0xFF, self.chip_->sector_bytes);
  self.spend(self.chip_->erase_us);
  return Status::ok;
}

Status SlowFlash::program(void* context, uint32_t off, const uint8_t* data, uint32_t n) {
  auto& self = *static_cast<SlowFlash*>(context);
  const FlashChip& chip = *self.chip_;
  self.feed_();
  for (uint32_t i = 0; i < n; ++i) self.base_[off + i] &= data[i];
  const uint32_t first = off / chip.unit_bytes, last = (off + n - 1) / chip.unit_bytes;
  if (n > 0) self.spend(uint64_t{last - first + 1} * chip.unit_us);
  return Status::ok;
}

}  // namespace kilotune::board
