// The record's bytes.
#include "runtime/storage/record.h"

#include <cstring>

#include "kernel/bytes.h"

namespace kilotune {
namespace {

constexpr uint32_t kMagic = 0x3152544Bu;      // "KTR1"
constexpr uint32_t kCommitted = 0x54444D43u;  // "CMDT"
constexpr uint32_t kSealed = 0x4C414553u;     // "SEAL"
constexpr uint32_t kErased = 0xFFFFFFFFu;
constexpr uint16_t kVersion = 1;
constexpr uint32_t kStableFlag = 1;

enum Field : uint32_t {
  kMagicAt = 0,
  kVersionAt = 4,
  kHeaderBytesAt = 6,
  kSequenceAt = 8,
  kFallbackAt = 12,
  kHashAt = 16,
  kPayloadBytesAt = 48,
  kPayloadCrcAt = 52,
  kWindowsAt = 56,
  kStepsAt = 60,
  kErasesAt = 64,
  kFlagsAt = 68,
  kNoteAt = 72,
  kHeaderCrcAt = 76,
  kHeaderBytes = 80,
  kCommitAt = 80,
  kSealAt = 96,
};
static_assert(kSealAt + 16 == kRecordOverhead);

enum class Found : uint8_t { nothing, void_space, record };

// What begins at `off`, at least kRecordOverhead before the end of the region.
Found read_record(const Flash& flash, uint32_t off, const uint8_t* hash, Record& out) {
  uint8_t p[kRecordOverhead];
  flash_read(flash, off, p, sizeof p);
  if (load_u32(p + kMagicAt) == 0) return Found::void_space;
  if (load_u32(p + kMagicAt) != kMagic || load_u16(p + kVersionAt) != kVersion ||
      load_u16(p + kHeaderBytesAt) != kHeaderBytes ||
      load_u32(p + kHeaderCrcAt) != crc32(p, kHeaderCrcAt)) {
    return Found::nothing;
  }
  out.info = {load_u32(p + kSequenceAt), load_u32(p + kPayloadBytesAt), load_u32(p + kPayloadCrcAt),
              load_u32(p + kWindowsAt),  load_u32(p + kStepsAt),        load_u32(p + kErasesAt)};
  out.off = off;
  out.fallback = load_u32(p + kFallbackAt);
  out.note = load_u32(p + kNoteAt);
  out.stable = (load_u32(p + kFlagsAt) & kStableFlag) != 0;
  // The seal word is begun where the commit word is sure, or where a start has taken it for that;
  // and to revoke, once the commit word is surely 0. So once it is done, it outweighs torn commit
  // words. While it is torn itself, a later start may have read it as erased and begun to revoke:
  // the commit word has then lost bits that no torn commit takes away.
  const uint32_t commit = load_u32(p + kCommitAt), seal = load_u32(p + kSealAt);
  const bool whole = (commit & kCommitted) == kCommitted;
  out.committed = commit == kCommitted || (seal == 0 ? commit != 0 : seal != kErased && whole);
  out.sealed = seal == 0 || (out.committed && seal == kSealed);
  out.ours = hash == nullptr || std::memcmp(p + kHashAt, hash, kRecordHashBytes) == 0;
  return out.there() && out.info.bytes <= kMaxRecordPayload ? Found::record : Found::nothing;
}

}  // namespace

uint32_t record_bytes(uint32_t payload_bytes) {
  return kRecordOverhead + ((payload_bytes + 15) & ~15u);
}

uint32_t Record::end() const { return off + record_bytes(info.bytes); }

bool record_at(const Flash& flash, uint32_t off, Record& out) {
  return read_record(flash, off, nullptr, out) == Found::record;
}

void record_hash(const Flash& flash, const Record& record, uint8_t out[kRecordHashBytes]) {
  flash_read(flash, record.off + kHashAt, out, kRecordHashBytes);
}

bool record_intact(const Flash& flash, const Record& record) {
  return flash_crc(flash, record.payload(), record.info.bytes) == record.info.crc;
}

Status record_write_header(const Flash& flash, const Record& record, const uint8_t* hash) {
  uint8_t p[kHeaderBytes] = {};
  store_u32(p + kMagicAt, kMagic);
  store_u16(p + kVersionAt, kVersion);
  store_u16(p + kHeaderBytesAt, static_cast<uint16_t>(kHeaderBytes));
  store_u32(p + kSequenceAt, record.info.sequence);
  store_u32(p + kFallbackAt, record.fallback);
  std::memcpy(p + kHashAt, hash, kRecordHashBytes);
  store_u32(p + kPayloadBytesAt, record.info.bytes);
  store_u32(p + kPayloadCrcAt, record.info.crc);
  store_u32(p + kWindowsAt, record.info.windows);
  store_u32(p + kStepsAt, record.info.steps);
  store_u32(p + kErasesAt, record.info.erases);
  store_u32(p + kFlagsAt, record.stable ? kStableFlag : 0);
  store_u32(p + kNoteAt, record.note);
  store_u32(p + kHeaderCrcAt, crc32(p, kHeaderCrcAt));
  return flash_program(flash, record.off, p, sizeof p);
}

Status record_commit(const Flash& flash, const Record& record) {
  const Status status = flash_program_word(flash, record.off + kCommitAt, kCommitted);
  return status == Status::ok ? flash_program_word(flash, record.off + kSealAt, kSealed) : status;
}

Status record_confirm(const Flash& flash, const Record& record) {
  return flash_program_word(flash, record.off + kSealAt, 0);
}

Status record_revoke(const Flash& flash, const Record& record) {
  const Status status = flash_program_word(flash, record.off + kCommitAt, 0);
  return status == Status::ok ? flash_program_word(flash, record.off + kSealAt, 0) : status;
}

bool RecordWalk::next(Record& out) {
  for (;;) {
    if (at_ + kRecordOverhead > end_) {
      if (sector_ == flash_.sector_count) return false;
      at_ = start_ = end_;
      end_ += flash_sector_bytes(flash_, sector_++);
      continue;
    }
    const Found found = read_record(flash_, at_, hash_, out);
    if (found == Found::void_space) {
      at_ += kRecordOverhead;
      continue;
    }
    // Only a record at the start of a sector may reach beyond the sector's end.
    const uint32_t limit = at_ == start_ ? region_bytes_ : end_;
    const bool whole = found == Found::record && out.end() <= limit;
    at_ = whole && out.end() < end_ ? out.end() : end_;
    if (whole) return true;
  }
}

}  // namespace kilotune
