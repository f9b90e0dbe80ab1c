// Where in flash the next record goes: after the newest one, or in the next slot in turn.
#include "runtime/storage/record_store.h"

namespace kilotune {

// The newest record, of whatever hash: the log continues after it.
void RecordStore::find_head(const Record& newest) {
  newest_ = newest.info.sequence;
  if (!newest.there()) {
    head_ = flash_bytes(*flash_);  // so that the first slot is next
    return;
  }
  head_ = newest.off;
  uint32_t end = 0, sector = 0;
  while (end <= newest.off) end += flash_sector_bytes(*flash_, sector++);
  // A power cut may have left its header unsure if nothing after it proves the opposite, and what
  // follows partly written. Such a slot is skipped.
  if (!newest.committed || newest.end() > end) return;
  tail_ = newest.end();
  tail_doubted_ = true;
  erased_end_ = end;
  next_sector_ = sector;
}

bool RecordStore::is_live(const Slot& slot) const {
  const auto within = [&slot](const Record& record) {
    return record.there() && record.off < slot.end() && slot.off < record.end();
  };
  return slot.off < reserved_ || within(current_) || within(fallback_record());
}

// The next one in turn (that spreads wear) that holds neither the current record nor its fallback.
bool RecordStore::next_slot(Slot& out) const {
  bool found = false;
  for (Slot slot; flash_next_slot(*flash_, record_bytes(payload_bytes_), slot);) {
    if (is_live(slot)) continue;
    if (slot.off <= head_ && found) continue;  // from the start of the region: the first one only
    out = slot;
    found = true;
    if (slot.off > head_) break;
  }
  return found;
}

// The words at the tail may have been partly programmed without a trace. Zeros are safe on them,
// and tell every later start that the log continues after them: a void. Existing voids may be
// unsure too, unless something follows them. In our own logs no record does; if one follows, it may
// be the valid one.
void RecordStore::void_tail() {
  tail_doubted_ = false;
  bool was_void = true;
  while (was_void && erased_end_ - tail_ >= kRecordOverhead) {
    constexpr uint8_t kVoid[4] = {};
    Record other;
    if (record_at(*flash_, tail_, other)) return close_slot();
    was_void = flash_holds(*flash_, tail_, kVoid, sizeof kVoid);
    if (flash_program_word(*flash_, tail_, 0) != Status::ok) return close_slot();
    tail_ += kRecordOverhead;
  }
  if (was_void) close_slot();
}

Status RecordStore::take_space(uint32_t payload_bytes, uint32_t& off) {
  const uint32_t need = record_bytes(payload_bytes);
  if (spans_) close_slot();
  if (tail_doubted_) void_tail();
  if (erased_end_ - tail_ < need || !flash_blank(*flash_, tail_, need)) {
    const Status status = open_slot(need);
    if (status != Status::ok) return status;
  }
  off = tail_;
  head_ = off;
  tail_ += need;
  return Status::ok;
}

Status RecordStore::open_slot(uint32_t need) {
  Slot slot;
  if (!next_slot(slot)) return Status::flash_failed;
  head_ = tail_ = erased_end_ = slot.off;
  next_sector_ = slot.sector;
  // All erases that the record will need are counted before its header is written.
  uint32_t bytes = 0, sectors = 0;
  while (bytes < need) bytes += flash_sector_bytes(*flash_, slot.sector + sectors++);
  erases_ += sectors;
  spans_ = sectors > 1;
  return erase_up_to(slot.off + kRecordOverhead);
}

// The sectors of a record are erased one by one, when its payload reaches them: no step takes long.
Status RecordStore::erase_up_to(uint32_t end) {
  while (erased_end_ < end) {
    // A sector that a power cut left half erased must not show its old records: without the first
    // word, none is found.
    Status status = flash_program_word(*flash_, erased_end_, 0);
    const uint32_t bytes = flash_sector_bytes(*flash_, next_sector_);
    if (status == Status::ok) status = flash_erase(*flash_, erased_end_, bytes);
    if (status != Status::ok) return status;
    erased_end_ += bytes;
    ++next_sector_;
  }
  return Status::ok;
}

}  // namespace kilotune
