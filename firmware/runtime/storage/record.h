// A record in flash: header, two marks, payload (docs/SPEC.md, section 4); and the walk over them.
#ifndef KILOTUNE_RUNTIME_STORAGE_RECORD_H_
#define KILOTUNE_RUNTIME_STORAGE_RECORD_H_

#include <cstdint>

#include "runtime/storage/flash_map.h"

namespace kilotune {

constexpr uint32_t kRecordHashBytes = 32;
// Before the payload. Offsets are multiples of the largest flash word, 16, so that one layout fits
// all and no word is programmed twice.
constexpr uint32_t kRecordOverhead = 112;
constexpr uint32_t kMaxRecordPayload = 1u << 28;

struct RecordInfo {
  uint32_t sequence;  // 0: none
  uint32_t bytes;     // of the payload
  uint32_t crc;       // CRC-32 of the payload
  uint32_t windows;   // checkpoints: windows learned, in total
  uint32_t steps;     // checkpoints: steps trained, in total
  uint32_t erases;    // sector erases in the region's life when it was written; wear
};

struct Record {
  RecordInfo info;
  uint32_t off;       // in the region
  uint32_t fallback;  // sequence of the record that a rollback returns to, 0: none
  uint32_t note;      // see RecordStore::note
  bool stable;        // else a candidate
  // Marks, as they read now. The first was begun only when header and payload were verified, the
  // second only when the first was, so `sealed` says that `committed` will always read the same.
  bool committed, sealed;
  bool ours;  // has the hash that was asked for
  [[nodiscard]] bool there() const { return info.sequence != 0; }
  [[nodiscard]] uint32_t payload() const { return off + kRecordOverhead; }
  [[nodiscard]] uint32_t end() const;  // 16-aligned
};

// Bytes of flash that a record takes.
[[nodiscard]] uint32_t record_bytes(uint32_t payload_bytes);
// Sequences wrap; correct while live records are less than 2^31 apart.
[[nodiscard]] inline bool record_newer(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a - b) > 0;
}

// The record whose header is at `off`.
[[nodiscard]] bool record_at(const Flash& flash, uint32_t off, Record& out);
void record_hash(const Flash& flash, const Record& record, uint8_t out[kRecordHashBytes]);
[[nodiscard]] bool record_intact(const Flash& flash, const Record& record);
[[nodiscard]] Status record_write_header(const Flash& flash, const Record& record,
                                         const uint8_t* hash);
// The first of the two words makes the record valid, the second makes that permanent.
[[nodiscard]] Status record_commit(const Flash& flash, const Record& record);
// For a record with words that a power cut has left unsure; both program zeros, which any word
// accepts. It becomes permanently valid, as it is valid now; or permanently invalid.
[[nodiscard]] Status record_confirm(const Flash& flash, const Record& record);
[[nodiscard]] Status record_revoke(const Flash& flash, const Record& record);

// Visits every record whose header is valid, sector by sector, in the order of writing in each.
// Each step reads kRecordOverhead bytes for the record that it finds, for each void before it, and
// once for each sector that it comes to the end of.
class RecordWalk {
 public:
  // `hash` decides what is `ours`; null: everything.
  RecordWalk(const Flash& flash, const uint8_t* hash)
      : flash_(flash), hash_(hash), region_bytes_(flash_bytes(flash)) {}
  [[nodiscard]] bool next(Record& out);

 private:
  const Flash& flash_;
  const uint8_t* hash_;
  uint32_t region_bytes_;
  uint32_t sector_ = 0;                    // the one after the present sector
  uint32_t at_ = 0, start_ = 0, end_ = 0;  // place, and bounds of the sector
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_STORAGE_RECORD_H_
