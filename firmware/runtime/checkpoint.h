// The checkpoint store: adapters in flash such that a power cut at any moment loses none.
//
// Flash is cut into slots of equal size, each a run of sectors that holds one record (docs/SPEC.md,
// section 4). A new record goes to a slot that is neither the current nor the previous one, and
// counts from the moment that its commit word stands, which is written last. Newest sequence wins.
#ifndef KILOTUNE_RUNTIME_CHECKPOINT_H_
#define KILOTUNE_RUNTIME_CHECKPOINT_H_

#include <cstdint>

#include "kernel/status.h"
#include "runtime/flash.h"

namespace kilotune {

struct CheckpointInfo {
  uint32_t sequence;  // 0: none
  uint32_t bytes;     // of the payload
  uint32_t crc;       // CRC-32 of the payload
  uint32_t windows;   // learned, in all
  uint32_t steps;     // trained, in all
  uint32_t erases;    // sector erases in the region's life when it was written; wear
};

// Not safe in interrupts. Reads flash in place; owns one flash word of RAM beside its state.
class CheckpointStore {
 public:
  // True when the region gives three slots (current, previous, staging) for such payloads.
  [[nodiscard]] static bool fits(const Flash& flash, uint32_t payload_bytes);

  // Finds the newest valid record of this image and the one before it; records of other images
  // are left alone until their slots are needed. `flash` and `image_hash` (32 bytes) must stay.
  // Never writes. Status::unavailable: no flash, or the region is too small (see `fits`).
  [[nodiscard]] Status mount(const Flash* flash, const uint8_t* image_hash, uint32_t payload_bytes);

  [[nodiscard]] const CheckpointInfo& current() const { return current_.info; }
  [[nodiscard]] const uint8_t* payload() const;  // in flash, 16-aligned to the region; null: none
  [[nodiscard]] bool has_previous() const { return previous_.info.sequence != 0; }

  // Staging, for a payload that arrives in pieces. `begin` erases a slot and drops what was staged
  // before; the current and the previous checkpoint stay untouched until `seal` succeeds.
  [[nodiscard]] Status begin(uint32_t windows, uint32_t steps);
  // The piece at `off`. What was taken before is skipped when it is the same (else bad_argument);
  // a gap before `off` gives out_of_order, and `staged` tells where to go on.
  [[nodiscard]] Status append(uint32_t off, const uint8_t* data, uint32_t n);
  [[nodiscard]] uint32_t staged() const { return staged_; }
  [[nodiscard]] const uint8_t* staged_payload() const;  // in flash; null: nothing staged
  // Verifies the payload in flash against `crc` and makes it current. On error what was staged is
  // dropped, except for a payload that is not complete yet (truncated).
  [[nodiscard]] Status seal(uint32_t crc);

  // begin, append and seal; `payload` has the mounted number of bytes.
  [[nodiscard]] Status commit(const uint8_t* payload, uint32_t windows, uint32_t steps);

  // Makes the previous checkpoint current again by writing it once more as the newest record, with
  // the link of the original to the one before it. What it replaces is never returned to.
  // no_checkpoint: there is no previous one; nothing changes.
  [[nodiscard]] Status rollback();

 private:
  static constexpr uint32_t kMaxWordBytes = 16;
  struct Record {
    uint32_t slot;
    uint32_t previous;  // sequence of the record before it, 0: none
    CheckpointInfo info;
  };

  [[nodiscard]] uint32_t offset(uint32_t slot) const;
  [[nodiscard]] bool read(uint32_t slot, Record& out) const;
  [[nodiscard]] bool payload_intact(const Record& record) const;
  [[nodiscard]] bool of_this_image(uint32_t slot) const;
  void find_current();
  void find_previous();
  [[nodiscard]] Status begin_linked(uint32_t windows, uint32_t steps, uint32_t previous);
  [[nodiscard]] uint32_t free_slot() const;
  [[nodiscard]] Status erase_slot(uint32_t slot);
  [[nodiscard]] Status program(uint32_t off, const uint8_t* data, uint32_t n);
  [[nodiscard]] Status write_word();
  [[nodiscard]] bool repeats(uint32_t off, const uint8_t* data, uint32_t n) const;
  [[nodiscard]] Status write_record(uint32_t crc);

  const Flash* flash_ = nullptr;
  const uint8_t* image_hash_ = nullptr;
  uint32_t payload_bytes_ = 0;
  uint32_t slot_bytes_ = 0, slot_count_ = 0;
  Record current_{}, previous_{};
  uint32_t newest_ = 0;  // highest sequence seen, of any image
  uint32_t erases_ = 0;
  uint32_t tried_ = 0;   // slot of the newest attempt: the next one goes behind it
  Record staging_{};     // sequence 0: nothing staged
  uint32_t staged_ = 0;  // payload bytes taken
  uint8_t word_[kMaxWordBytes] = {};
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_CHECKPOINT_H_
