// The record store: a log over flash sectors in which a power cut at any moment loses nothing.
//
// Holds the device's checkpoints, and model images. What it guarantees, on flash that tears words
// and leaves bits that do not read the same twice (tests/power tries every cut):
//   - `mount` finds the record committed last, or the one that was being committed when the power
//     failed; having found it once, it finds it at every later start (and writes for that if
//     necessary).
//   - The record before it (the last stable one, if that is older) stays too: `rollback`.
//   - A commit returns after everything was read back. If a sector does not accept it, the next
//     ones are tried; those two records are never erased.
//   - Sectors are used in turn, each filled with records before the next is erased; erases are
//     counted. Time is bounded: see `mount`, and `commit` needs at most one slot's erase (a sector,
//     or what one record takes) for each sector that fails.
// Not safe in interrupts. Format: docs/SPEC.md, section 4.
#ifndef KILOTUNE_RUNTIME_STORAGE_RECORD_STORE_H_
#define KILOTUNE_RUNTIME_STORAGE_RECORD_STORE_H_

#include <cstdint>

#include "runtime/storage/record.h"

namespace kilotune {

// Fields of a new record.
struct RecordSpec {
  const uint8_t* hash;  // 32 bytes: of the model image
  uint32_t bytes;       // of the payload
  uint32_t crc;         // CRC-32 of the payload
  uint32_t windows, steps;
  bool stable;  // rollbacks from later records return to it; else it is a candidate
};

class RecordStore {
 public:
  // Whether the region has three slots (current, fallback, the next one) for such payloads.
  [[nodiscard]] static bool fits(const Flash& flash, uint32_t payload_bytes);
  // The longest payload that fits, 0: none.
  [[nodiscard]] static uint32_t capacity(const Flash& flash);

  // Finds the current record and its fallback. `hash` (32 bytes, must stay) selects records, of
  // exactly `payload_bytes`; null: all, of at most `payload_bytes`. Others are left alone until
  // their sectors are needed. The first `reserved` bytes of the region are never erased.
  // Status::unavailable: no flash, or too small (`fits`).
  // Reads: two passes (three if something is in doubt, one more if the newest payload is damaged)
  // of kRecordOverhead bytes for each record, void and sector, and the payloads of the current
  // record, the fallback and those in doubt (of all, if the newest is damaged). Writes only after a
  // cut in the last two words of a commit: two words (a record, if the sector is worn).
  [[nodiscard]] Status mount(const Flash* flash, const uint8_t* hash, uint32_t payload_bytes,
                             uint32_t reserved = 0);

  // From now on there is no current record: what was found is no longer protected.
  void forget() {
    current_ = {};
    fallback_ = kNowhere;
  }

  [[nodiscard]] const RecordInfo& current() const { return current_.info; }
  [[nodiscard]] bool current_is_stable() const { return current_.stable; }
  [[nodiscard]] const uint8_t* payload() const;  // in flash, 16-aligned to the region; null: none
  // What `rollback` returns to: sequence 0 if there is none.
  [[nodiscard]] RecordInfo fallback() const { return fallback_record().info; }
  [[nodiscard]] const uint8_t* fallback_payload() const;

  // Staging, for a payload that arrives in pieces. `begin` drops what was staged before; the
  // current record and its fallback stay untouched until `seal` succeeds.
  [[nodiscard]] Status begin(const RecordSpec& spec);
  // The piece at `off`. What was accepted before is skipped if it is the same (else bad_argument);
  // a gap before `off` gives out_of_order, and `staged` says where to continue.
  [[nodiscard]] Status append(uint32_t off, const uint8_t* data, uint32_t n);
  [[nodiscard]] uint32_t staged() const { return staged_; }
  [[nodiscard]] uint32_t staged_bytes() const { return staging_bytes_; }  // when it is complete
  [[nodiscard]] const uint8_t* staged_payload() const;  // in flash; null: nothing staged
  // For callers that cannot keep a store in RAM while a payload arrives: where it is staged, and a
  // store that continues there with `append` and `seal` (nothing else) after `staged` bytes, whole
  // flash words. wrong_state: nothing is staged there.
  static constexpr uint32_t kNowhere = 0xFFFFFFFFu;
  [[nodiscard]] uint32_t staging() const { return staging_; }
  [[nodiscard]] Status resume(const Flash& flash, uint32_t staging, uint32_t staged);
  // Verifies the payload in flash against its CRC and makes it current. On error what was staged is
  // dropped, except for a payload that is not complete yet (truncated).
  [[nodiscard]] Status seal();

  // begin, append and seal, again in the next slot if flash fails. `payload` has `spec.bytes`.
  [[nodiscard]] Status commit(const uint8_t* payload, const RecordSpec& spec);
  // The same with a payload that is already in the region, from `off` on, not in a record.
  [[nodiscard]] Status adopt(uint32_t off, const RecordSpec& spec);

  // Makes the fallback current again by writing it once more as the newest record, with the link of
  // the original. There is no return to what it replaces. no_checkpoint: none; nothing changes.
  [[nodiscard]] Status rollback();

  // Makes the current candidate stable, by writing it once more. no_checkpoint: there is none.
  [[nodiscard]] Status mark_stable();

  // A word of the owner that every later record of this image carries, also rolled back ones; 0 at
  // first. To set it, the current record is written once more; if there is none, or flash fails, it
  // is written with the next one.
  [[nodiscard]] uint32_t note() const { return current_.note; }
  [[nodiscard]] Status set_note(uint32_t note);

 private:
  static constexpr uint32_t kMaxWordBytes = 16;
  struct Newest {
    Record ours{};        // whether committed or not
    uint32_t sealed = 0;  // highest sequence of ours that is committed for sure
  };

  // record_store.cpp
  [[nodiscard]] const uint8_t* payload_at(uint32_t record) const;
  [[nodiscard]] Record fallback_record() const;  // sequence 0: none
  [[nodiscard]] bool usable(const Record& record) const;
  [[nodiscard]] uint32_t link() const;
  void set_current(const Record& record);
  [[nodiscard]] Status begin_linked(const RecordSpec& spec, uint32_t fallback);
  [[nodiscard]] Status write(const uint8_t* payload, uint32_t from, const RecordSpec& spec,
                             uint32_t fallback);
  [[nodiscard]] Status write_again(const Record& record, uint32_t fallback, bool stable);
  [[nodiscard]] Status program_payload(uint32_t at, const uint8_t* data, uint32_t n);
  [[nodiscard]] bool repeats(uint32_t off, const uint8_t* data, uint32_t n) const;
  // record_recovery.cpp
  [[nodiscard]] Newest scan(bool verify);
  void settle(const Newest& newest);
  [[nodiscard]] bool in_doubt(const Record& record, uint32_t newest_sealed) const;
  // record_space.cpp
  void find_head(const Record& newest);
  [[nodiscard]] bool is_live(const Slot& slot) const;
  [[nodiscard]] bool next_slot(Slot& out) const;
  void void_tail();
  [[nodiscard]] Status take_space(uint32_t payload_bytes, uint32_t& off);
  [[nodiscard]] Status open_slot(uint32_t need);
  [[nodiscard]] Status erase_up_to(uint32_t end);
  void close_slot() { tail_ = erased_end_; }

  const Flash* flash_ = nullptr;
  const uint8_t* hash_ = nullptr;
  uint32_t payload_bytes_ = 0, reserved_ = 0;
  // Only what must be in RAM; the rest is read from flash.
  Record current_{};
  uint32_t fallback_ = kNowhere;  // its offset
  uint32_t newest_ = 0;           // highest sequence seen, of any hash
  uint32_t erases_ = 0;
  uint32_t head_ = 0;            // where the newest attempt was begun: the next slot is behind
  uint32_t tail_ = 0;            // where the next record may begin
  uint32_t erased_end_ = 0;      // up to where there is erased flash behind it
  uint32_t next_sector_ = 0;     // the one that begins at erased_end_
  bool spans_ = false;           // the newest record takes several sectors: nothing goes behind it
  bool tail_doubted_ = false;    // a header may have been begun there before the power went
  uint32_t staging_ = kNowhere;  // offset of the record that is staged
  uint32_t staging_bytes_ = 0;   // of its payload
  uint32_t staged_ = 0;          // payload bytes taken
  uint8_t word_[kMaxWordBytes] = {};  // the last ones, where they do not fill a flash word
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_STORAGE_RECORD_STORE_H_
