// A model of NOR flash for tests: programs only clear bits, erases set them, and the power can go
// in the middle of any word program or sector erase.
//
// What such a cut leaves is any mix of old and new bits; bits that were on their way may be
// marginal: each read of one gives 0 or 1, until the sector is erased or the bit is programmed to
// 0.
#ifndef KILOTUNE_TESTS_POWER_NOR_FLASH_H_
#define KILOTUNE_TESTS_POWER_NOR_FLASH_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#include "runtime/storage/record.h"

namespace kilotune::testing {

struct Geometry {
  uint32_t sector_bytes, sector_count, word_bytes;
  const uint32_t* sizes = nullptr;  // of each sector, where they differ

  [[nodiscard]] uint32_t sector(uint32_t i) const {
    return sizes == nullptr ? sector_bytes : sizes[i];
  }
  [[nodiscard]] uint32_t bytes() const {
    uint32_t total = 0;
    for (uint32_t i = 0; i < sector_count; ++i) total += sector(i);
    return total;
  }
};
template <size_t N>
constexpr Geometry uneven(const uint32_t (&sizes)[N], uint32_t word_bytes) {
  return {0, N, word_bytes, sizes};
}

struct PowerCut {};  // thrown at the cut

// What the operation that was cut leaves behind. `one_bit`: everything but one marginal bit, so
// that half of all reads take it for done. `begun`: nothing but one marginal bit, so that half of
// all reads take it for untouched. `scrambled` is an erase that had begun, as chips do, by
// programming all cells: any bits at all.
enum class Tear { nothing, marginal, mixture, half, scrambled, everything, one_bit, begun };

struct Operation {  // a word program, or the erase of a sector
  bool erases;
  uint32_t off, n;
  const uint8_t* after;  // the bytes that it is to leave
};

class NorFlash {
 public:
  explicit NorFlash(const Geometry& geometry)
      : geometry_(geometry), bytes_(geometry.bytes(), 0xFF), marginal_(bytes_.size(), 0) {}
  NorFlash(const NorFlash&) = delete;

  // The region as the store sees it; valid while this object stays where it is.
  Flash port() {
    const Geometry& g = geometry_;
    return {bytes_.data(), g.sector_bytes, g.sector_count, g.word_bytes, this,
            erase,         program,        g.sizes,        read};
  }

  // Called before each operation; may throw PowerCut.
  std::function<void(const Operation&)> before;

  void cut_at(uint64_t operation, Tear tear_kind, uint32_t seed) {
    seed_reads(seed);
    before = [this, operation, tear_kind](const Operation& o) {
      if (operations != operation) return;
      ++operations;
      tear(o, tear_kind);
      throw PowerCut{};
    };
  }
  void power_on() { before = nullptr; }
  // From now on, programs leave a bit of each word as it is; erases leave one programmed.
  void wear_out(uint32_t sector) { worn_.push_back(sector); }
  void break_erase(uint32_t sector) { broken_.push_back(sector); }
  void seed_reads(uint32_t seed) { random_.seed(seed); }

  // Does a part of the operation.
  void tear(const Operation& o, Tear kind) {
    const bool single = kind == Tear::one_bit || kind == Tear::begun;
    const uint32_t unsure_at = single ? changing_byte(o) : o.n;
    for (uint32_t i = 0; i < o.n; ++i) {
      uint8_t taken = 0, unsure = 0;  // bits that reach their new value; that do not know
      switch (kind) {
        case Tear::nothing:
          break;
        case Tear::everything:
          taken = 0xFF;
          break;
        case Tear::one_bit:
        case Tear::begun: {
          const uint8_t others = kind == Tear::one_bit ? 0xFF : 0;
          const auto bits = static_cast<uint8_t>(bytes_[o.off + i] ^ o.after[i]);
          unsure = i == unsure_at ? static_cast<uint8_t>(bits & -bits) : 0;  // the lowest
          taken = static_cast<uint8_t>(others & ~unsure);
          break;
        }
        case Tear::marginal:
          unsure = 0xFF;
          break;
        case Tear::half:
          taken = i < o.n / 2 ? 0xFF : 0;
          break;
        case Tear::mixture:
        case Tear::scrambled:
          taken = random_byte();
          unsure = static_cast<uint8_t>(random_byte() & random_byte());
          break;
      }
      const uint32_t at = o.off + i;
      const uint8_t old = bytes_[at];
      const uint8_t after = kind == Tear::scrambled && o.erases ? random_byte() : o.after[i];
      const auto changing = static_cast<uint8_t>((old ^ after) | marginal_[at]);
      bytes_[at] = static_cast<uint8_t>((old & ~taken) | (after & taken));
      // A bit that is sure to read as its new value stops being marginal; the others stay or become
      // so.
      const auto settled = static_cast<uint8_t>(taken & ~unsure);
      marginal_[at] = static_cast<uint8_t>((marginal_[at] | unsure) & changing & ~settled);
      if (marginal_[at] != 0) {
        marginal_from_ = std::min(marginal_from_, at);
        marginal_end_ = std::max(marginal_end_, at + 1);
      }
    }
    changed_.emplace_back(o.off, o.n);
  }

  // --- forks: a second region follows a first one, and is put back after each experiment

  // Takes over what has changed in either since the last call.
  void follow(NorFlash& first) {
    for (auto* changed : {&first.changed_, &changed_}) {
      for (const auto& [off, n] : *changed) {
        std::memcpy(bytes_.data() + off, first.bytes_.data() + off, n);
        std::memcpy(marginal_.data() + off, first.marginal_.data() + off, n);
      }
      changed->clear();
    }
    marginal_from_ = first.marginal_from_;
    marginal_end_ = first.marginal_end_;
  }

  // True when every read of these bytes gives the same.
  [[nodiscard]] bool sure(const uint8_t* p, uint32_t n) const {
    const auto off = static_cast<uint32_t>(p - bytes_.data());
    const uint32_t end = std::min(off + n, marginal_end_);
    for (uint32_t i = std::max(off, marginal_from_); i < end; ++i) {
      if (marginal_[i] != 0) return false;
    }
    return true;
  }

  uint64_t operations = 0;                    // word programs and sector erases so far
  uint64_t header_reads = 0, bytes_read = 0;  // calls of `read` for a header; bytes of all calls
  bool misused = false;                       // a call that no chip takes
  std::vector<uint32_t> erases = std::vector<uint32_t>(4096);  // by sector

  std::vector<uint8_t>& bytes() { return bytes_; }
  [[nodiscard]] uint32_t sector_at(uint32_t off) const {
    uint32_t sector = 0;
    for (uint32_t end = geometry_.sector(0); end <= off; end += geometry_.sector(sector)) ++sector;
    return sector;
  }

 private:
  uint8_t random_byte() { return static_cast<uint8_t>(random_() >> 8); }

  // A byte in which the operation changes something, chosen at random; its end where nothing
  // changes.
  uint32_t changing_byte(const Operation& o) {
    std::vector<uint32_t> found;
    for (uint32_t i = 0; i < o.n; ++i) {
      if (bytes_[o.off + i] != o.after[i]) found.push_back(i);
    }
    return found.empty() ? o.n : found[random_() % found.size()];
  }

  static void read(void* context, uint32_t off, uint8_t* out, uint32_t n) {
    auto& self = *static_cast<NorFlash*>(context);
    if (n == kRecordOverhead) ++self.header_reads;
    self.bytes_read += n;
    if (off + n > self.bytes_.size()) self.misused = true;
    if (n == kRecordOverhead) {  // of a size that the compiler knows
      std::memcpy(out, self.bytes_.data() + off, kRecordOverhead);
    } else {
      std::memcpy(out, self.bytes_.data() + off, n);
    }
    const uint32_t end = std::min(off + n, self.marginal_end_);
    for (uint32_t i = std::max(off, self.marginal_from_) - off; off + i < end; ++i) {
      const uint8_t mask = self.marginal_[off + i];
      if (mask != 0) out[i] = static_cast<uint8_t>(out[i] ^ (mask & self.random_byte()));
    }
  }

  static Status erase(void* context, uint32_t off) {
    auto& self = *static_cast<NorFlash*>(context);
    const uint32_t sector = self.sector_at(off);
    const uint32_t n = self.geometry_.sector(sector);
    if (sector != 0 && self.sector_at(off - 1) == sector) self.misused = true;
    ++self.erases[sector];
    std::vector<uint8_t> blank(n, 0xFF);
    for (const uint32_t broken : self.broken_) blank[n / 2] &= sector == broken ? 0xFE : 0xFF;
    self.change({true, off, n, blank.data()});
    return Status::ok;
  }

  static Status program(void* context, uint32_t off, const uint8_t* data, uint32_t n) {
    auto& self = *static_cast<NorFlash*>(context);
    const uint32_t word = self.geometry_.word_bytes;
    if (off % word != 0 || n % word != 0 || off + n > self.bytes_.size()) self.misused = true;
    for (uint32_t at = 0; at < n; at += word) {
      uint8_t cleared[16];
      uint8_t any = 0;
      for (uint32_t i = 0; i < word; ++i) any |= data[at + i];
      for (uint32_t i = 0; i < word; ++i) {
        const uint32_t to = off + at + i;
        // Only zeros may go onto a word that was programmed, or that a cut has left unsure.
        if (any != 0 && (self.bytes_[to] != 0xFF || self.marginal_[to] != 0)) self.misused = true;
        cleared[i] = self.bytes_[to] & data[at + i];
      }
      for (const uint32_t worn : self.worn_) {
        if (self.sector_at(off + at) == worn) cleared[0] |= self.bytes_[off + at] & 1;
      }
      self.change({false, off + at, word, cleared});
    }
    return Status::ok;
  }

  void change(const Operation& o) {
    if (before) before(o);
    ++operations;
    std::memcpy(bytes_.data() + o.off, o.after, o.n);
    // An erase settles all bits, a program those that it clears.
    uint8_t* marginal = marginal_.data() + o.off;
    if (o.erases) std::memset(marginal, 0, o.n);
    for (uint32_t i = 0; i < o.n && !o.erases; ++i) marginal[i] &= o.after[i];
    changed_.emplace_back(o.off, o.n);
  }

  Geometry geometry_;
  std::vector<uint8_t> bytes_, marginal_;
  uint32_t marginal_from_ = 0xFFFFFFFFu, marginal_end_ = 0;  // outside of these, none is
  std::mt19937 random_;
  std::vector<uint32_t> worn_, broken_;
  std::vector<std::pair<uint32_t, uint32_t>> changed_;
};

}  // namespace kilotune::testing

#endif  // KILOTUNE_TESTS_POWER_NOR_FLASH_H_
