// Staging, committing and rolling back. Finding records: record_recovery.cpp; space:
// record_space.cpp.
#include "runtime/storage/record_store.h"

#include <cstring>

#include "kernel/bytes.h"

namespace kilotune {
namespace {

uint32_t next_sequence(uint32_t s) { return s == 0xFFFFFFFFu ? 1 : s + 1; }  // 0 means none

}  // namespace

bool RecordStore::fits(const Flash& flash, uint32_t payload_bytes) {
  if (!flash_usable(flash) || payload_bytes > kMaxRecordPayload) return false;
  Slot slot;
  for (int i = 0; i < 3; ++i) {
    if (!flash_next_slot(flash, record_bytes(payload_bytes), slot)) return false;
  }
  return true;
}

uint32_t RecordStore::capacity(const Flash& flash) {
  // What fits is a sum of sectors, a multiple of 16, minus a header of as many: so is the answer.
  uint32_t low = 0, high = kMaxRecordPayload / 16;  // fits, in units of 16; does not
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    (fits(flash, middle * 16) ? low : high) = middle;
  }
  return low * 16;
}

bool RecordStore::usable(const Record& record) const {
  return record.ours && (hash_ == nullptr ? record.info.bytes <= payload_bytes_
                                          : record.info.bytes == payload_bytes_);
}

void RecordStore::set_current(const Record& record) {
  if (record.fallback == 0) {
    fallback_ = kNowhere;
  } else if (record.fallback == current_.info.sequence) {
    fallback_ = current_.off;
  } else if (record.fallback != current_.fallback) {  // else it is unchanged
    fallback_ = kNowhere;
    Record other;
    for (RecordWalk walk(*flash_, hash_); walk.next(other);) {
      if (other.info.sequence != record.fallback || !usable(other) || !other.committed) continue;
      if (record_intact(*flash_, other)) fallback_ = other.off;
    }
  }
  current_ = record;
}

Record RecordStore::fallback_record() const {
  Record record{};
  if (fallback_ == kNowhere || !record_at(*flash_, fallback_, record)) return Record{};
  return record;
}

const uint8_t* RecordStore::payload_at(uint32_t record) const {
  return record == kNowhere ? nullptr : flash_->base + record + kRecordOverhead;
}
const uint8_t* RecordStore::payload() const {
  return payload_at(current_.there() ? current_.off : kNowhere);
}
const uint8_t* RecordStore::fallback_payload() const { return payload_at(fallback_); }
const uint8_t* RecordStore::staged_payload() const { return payload_at(staging_); }

// The record that a rollback from the next one returns to: the last stable one, or the current one
// if there is none.
uint32_t RecordStore::link() const {
  if (!current_.stable && fallback_record().stable) return current_.fallback;
  return current_.info.sequence;
}

Status RecordStore::begin(const RecordSpec& spec) { return begin_linked(spec, link()); }

Status RecordStore::begin_linked(const RecordSpec& spec, uint32_t fallback) {
  if (flash_ == nullptr) return Status::unavailable;
  staging_ = kNowhere;
  staged_ = 0;
  if (hash_ == nullptr ? spec.bytes > payload_bytes_ : spec.bytes != payload_bytes_)
    return Status::bad_argument;
  Record record{};
  Status status = take_space(spec.bytes, record.off);
  if (status != Status::ok) return status;
  newest_ = next_sequence(newest_);
  record.info = {newest_, spec.bytes, spec.crc, spec.windows, spec.steps, erases_};
  record.fallback = fallback;
  record.note = current_.note;
  record.stable = spec.stable;
  status = record_write_header(*flash_, record, spec.hash);
  if (status != Status::ok) {
    close_slot();
    return status;
  }
  staging_ = record.off;
  staging_bytes_ = spec.bytes;
  return Status::ok;
}

Status RecordStore::resume(const Flash& flash, uint32_t staging, uint32_t staged) {
  *this = RecordStore();
  Record record;
  if (staging == kNowhere || !record_at(flash, staging, record)) return Status::wrong_state;
  flash_ = &flash;
  staging_ = staging;
  staging_bytes_ = record.info.bytes;
  staged_ = staged;
  // Sectors were erased as far as the payload has got.
  while (erased_end_ < record.payload() + staged) {
    erased_end_ += flash_sector_bytes(flash, next_sector_++);
  }
  return Status::ok;
}

// Whether [off, off + n), all of it accepted before, held these bytes.
bool RecordStore::repeats(uint32_t off, const uint8_t* data, uint32_t n) const {
  const uint32_t in_word = staged_ == staging_bytes_ ? 0 : staged_ % flash_->word_bytes;
  const uint32_t in_flash = staged_ - in_word;
  const uint32_t split = off + n <= in_flash ? n : (off < in_flash ? in_flash - off : 0);
  if (!flash_holds(*flash_, staging_ + kRecordOverhead + off, data, split)) return false;
  return split == n || std::memcmp(word_ + (off + split - in_flash), data + split, n - split) == 0;
}

Status RecordStore::append(uint32_t off, const uint8_t* data, uint32_t n) {
  if (staging_ == kNowhere) return Status::wrong_state;
  const uint32_t total = staging_bytes_, word = flash_->word_bytes;
  if (off > total || n > total - off) return Status::bad_argument;
  if (off > staged_) return Status::out_of_order;
  const uint32_t taken = staged_ - off < n ? staged_ - off : n;
  if (!repeats(off, data, taken)) return Status::bad_argument;
  for (uint32_t i = taken; i < n;) {
    const uint32_t filled = staged_ % word, left = n - i;
    uint32_t take = left - left % word;  // whole words go as they are
    if (filled != 0 || take == 0) {
      take = left < word - filled ? left : word - filled;
      std::memcpy(word_ + filled, data + i, take);
    }
    const uint32_t at = staged_ - filled;
    staged_ += take;
    Status status = Status::ok;
    if (filled + take >= word && filled == 0) {
      status = program_payload(at, data + i, take);
    } else if (filled + take == word || staged_ == total) {
      // The last word may not be full; it is written too, so that everything can be read back.
      std::memset(word_ + filled + take, 0xFF, word - filled - take);
      status = program_payload(at, word_, word);
    }
    if (status != Status::ok) return status;
    i += take;
  }
  return Status::ok;
}

Status RecordStore::program_payload(uint32_t at, const uint8_t* data, uint32_t n) {
  const uint32_t off = staging_ + kRecordOverhead + at;
  Status status = erase_up_to(off + n);
  if (status == Status::ok) status = flash_program(*flash_, off, data, n);
  if (status == Status::ok) return status;
  staging_ = kNowhere;
  close_slot();
  return status;
}

Status RecordStore::seal() {
  if (staging_ == kNowhere) return Status::wrong_state;
  if (staged_ != staging_bytes_) return Status::truncated;
  Record record;
  const bool whole = record_at(*flash_, staging_, record) && record_intact(*flash_, record);
  staging_ = kNowhere;
  staged_ = 0;
  if (!whole) return Status::bad_crc;
  const Status status = record_commit(*flash_, record);
  if (status != Status::ok) {
    close_slot();
    return status;
  }
  record.committed = record.sealed = true;
  set_current(record);
  return Status::ok;
}

// The payload from RAM, or (null) from flash at `from`: through RAM, as some chips cannot read
// flash while they program it.
Status RecordStore::write(const uint8_t* payload, uint32_t from, const RecordSpec& spec,
                          uint32_t fallback) {
  uint32_t attempts = 1;  // in the space after the newest record, then once per slot
  Status status = Status::ok;
  for (Slot slot;
       flash_ != nullptr && flash_next_slot(*flash_, record_bytes(payload_bytes_), slot);)
    ++attempts;
  do {
    status = begin_linked(spec, fallback);
    uint8_t piece[64];
    for (uint32_t off = 0; status == Status::ok && off < spec.bytes; off += sizeof piece) {
      const uint32_t left = spec.bytes - off;
      const uint32_t n = left < sizeof piece ? left : static_cast<uint32_t>(sizeof piece);
      if (payload != nullptr) {
        std::memcpy(piece, payload + off, n);
      } else {
        flash_read(*flash_, from + off, piece, n);
      }
      status = append(off, piece, n);
    }
    if (status == Status::ok) status = seal();
  } while (status == Status::flash_failed && --attempts > 0);
  return status;
}

Status RecordStore::write_again(const Record& record, uint32_t fallback, bool stable) {
  uint8_t hash[kRecordHashBytes];
  record_hash(*flash_, record, hash);
  const RecordInfo& info = record.info;
  return write(nullptr, record.payload(),
               {hash, info.bytes, info.crc, info.windows, info.steps, stable}, fallback);
}

Status RecordStore::commit(const uint8_t* payload, const RecordSpec& spec) {
  return write(payload, 0, spec, link());
}

Status RecordStore::adopt(uint32_t off, const RecordSpec& spec) {
  return write(nullptr, off, spec, link());
}

Status RecordStore::rollback() {
  const Record record = fallback_record();
  if (!record.there()) return Status::no_checkpoint;
  return write_again(record, record.fallback, record.stable);
}

Status RecordStore::mark_stable() {
  if (!current_.there()) return Status::no_checkpoint;
  if (current_.stable) return Status::ok;
  return write_again(current_, current_.fallback, true);
}

Status RecordStore::set_note(uint32_t note) {
  current_.note = note;
  if (!current_.there()) return Status::ok;
  return write_again(current_, current_.fallback, current_.stable);
}

}  // namespace kilotune
