// A model of NOR flash for tests: programs only clear bits, erases set them, and power can be cut
// at any word-program or sector-erase, which then leaves a mix of old and new bits.
#ifndef KILOTUNE_TESTS_POWER_NOR_FLASH_H_
#define KILOTUNE_TESTS_POWER_NOR_FLASH_H_

#include <cstdint>
#include <random>
#include <vector>

#include "runtime/flash.h"

namespace kilotune::testing {

struct Geometry {
  uint32_t sector_bytes, sector_count, word_bytes;
};

struct PowerCut {};  // thrown at the cut

// What the operation that was cut leaves behind.
enum class Tear { nothing, mixture, everything };

class NorFlash {
 public:
  explicit NorFlash(const Geometry& geometry)
      : geometry_(geometry), bytes_(geometry.sector_bytes * geometry.sector_count, 0xFF) {}

  // The region as the store sees it; valid while this object stays where it is.
  Flash port() {
    return {bytes_.data(), geometry_.sector_bytes, geometry_.sector_count, geometry_.word_bytes,
            this,          &NorFlash::erase,       &NorFlash::program};
  }

  void cut_at(uint64_t operation, Tear tear, uint32_t seed) {
    cut_at_ = operation;
    tear_ = tear;
    random_.seed(seed);
  }
  void power_on() { cut_at_ = kNever; }
  void wear_out(uint32_t sector) { worn_ = sector; }

  uint64_t operations = 0;  // word programs and sector erases so far
  bool misused = false;     // an unaligned call, or a program onto a word that was not erased
  std::vector<uint32_t> erases = std::vector<uint32_t>(4096);  // by sector

  std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  static constexpr uint64_t kNever = ~uint64_t{0};

  static Status erase(void* context, uint32_t off) {
    auto& self = *static_cast<NorFlash*>(context);
    const uint32_t n = self.geometry_.sector_bytes;
    if (off % n != 0 || off + n > self.bytes_.size()) self.misused = true;
    ++self.erases[off / n];
    const std::vector<uint8_t> blank(n, 0xFF);
    self.change(off, blank.data(), n);
    return Status::ok;
  }

  static Status program(void* context, uint32_t off, const uint8_t* data, uint32_t n) {
    auto& self = *static_cast<NorFlash*>(context);
    const uint32_t word = self.geometry_.word_bytes;
    if (off % word != 0 || n % word != 0 || off + n > self.bytes_.size()) self.misused = true;
    for (uint32_t at = 0; at < n; at += word) {
      uint8_t cleared[16];
      for (uint32_t i = 0; i < word; ++i) {
        if (self.bytes_[off + at + i] != 0xFF) self.misused = true;
        cleared[i] = self.bytes_[off + at + i] & data[at + i];
      }
      if (off / self.geometry_.sector_bytes == self.worn_) cleared[0] |= 1;  // a bit that sticks
      self.change(off + at, cleared, word);
    }
    return Status::ok;
  }

  // One operation: the bytes at `off` become `after`, or a mixture where power is cut.
  void change(uint32_t off, const uint8_t* after, uint32_t n) {
    const bool cut = operations++ == cut_at_;
    for (uint32_t i = 0; i < n; ++i) {
      uint8_t& byte = bytes_[off + i];
      uint8_t taken = 0xFF;  // bits that reach their new value
      if (cut && tear_ == Tear::nothing) taken = 0;
      if (cut && tear_ == Tear::mixture) taken = static_cast<uint8_t>(random_());
      byte = static_cast<uint8_t>((byte & ~taken) | (after[i] & taken));
    }
    if (cut) throw PowerCut{};
  }

  Geometry geometry_;
  std::vector<uint8_t> bytes_;
  std::mt19937 random_;
  uint64_t cut_at_ = kNever;
  Tear tear_ = Tear::nothing;
  uint32_t worn_ = 0xFFFFFFFFu;
};

}  // namespace kilotune::testing

#endif  // KILOTUNE_TESTS_POWER_NOR_FLASH_H_
