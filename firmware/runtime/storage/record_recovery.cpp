// What a start finds in flash, and how it ensures that every later start finds the same.
#include "runtime/storage/record_store.h"

namespace kilotune {
Status RecordStore::mount(const Flash* flash, const uint8_t* hash, uint32_t payload_bytes,
                          uint32_t reserved) {
  *this = RecordStore();
  if (flash == nullptr || !fits(*flash, payload_bytes)) return Status::unavailable;
  flash_ = flash;
  hash_ = hash;
  payload_bytes_ = payload_bytes;
  reserved_ = reserved;
  Newest newest_ours = scan(false);
  if (current_.there() && !record_intact(*flash_, current_)) newest_ours = scan(true);
  const Record found = current_;
  current_ = {};
  set_current(found);
  settle(newest_ours);
  return Status::ok;
}

// Finds the newest committed record (with `verify`, of those with an intact payload), and where the
// log ends.
RecordStore::Newest RecordStore::scan(bool verify) {
  const auto newer = [](uint32_t a, uint32_t b) { return b == 0 || record_newer(a, b); };
  Record record, newest{};
  Newest found;
  current_ = {};
  for (RecordWalk walk(*flash_, hash_); walk.next(record);) {
    const uint32_t sequence = record.info.sequence;
    if (newer(sequence, newest.info.sequence)) newest = record;
    if (record.info.erases > erases_) erases_ = record.info.erases;
    if (!usable(record)) continue;
    if (newer(sequence, found.ours.info.sequence)) found.ours = record;
    if (!record.committed) continue;
    if (record.sealed && newer(sequence, found.sealed)) found.sealed = sequence;
    if (!newer(sequence, current_.info.sequence)) continue;
    if (!verify || record_intact(*flash_, record)) current_ = record;
  }
  find_head(newest);
  return found;
}

// It may or may not have been committed: it is complete, and newer than everything that is sure.
bool RecordStore::in_doubt(const Record& record, uint32_t newest_sealed) const {
  if (!usable(record) || record.sealed) return false;
  if (newest_sealed != 0 && !record_newer(record.info.sequence, newest_sealed)) return false;
  // A damaged payload: the cut was there, and the word that commits it is surely erased.
  return record_intact(*flash_, record);
}

// A commit that was cut in its last two words may read as done at one start and as not done at the
// next. What this start takes as committed is made permanent in place, and everything else in doubt
// is revoked. Neither needs space, as an erase could destroy what the other reading would go back
// to.
void RecordStore::settle(const Newest& newest) {
  if (newest.ours.info.sequence == newest.sealed) return;
  uint32_t sure = newest.sealed;
  if (current_.there() && !current_.sealed) {
    sure = current_.info.sequence;
    if (record_confirm(*flash_, current_) != Status::ok) {
      // Worn: a copy outranks what is in doubt.
      static_cast<void>(write_again(current_, current_.fallback, current_.stable));
      return;
    }
    current_.sealed = true;
    if (newest.ours.info.sequence == sure) return;
  }
  Record record;
  for (RecordWalk walk(*flash_, hash_); walk.next(record);) {
    if (in_doubt(record, sure)) static_cast<void>(record_revoke(*flash_, record));
  }
}

}  // namespace kilotune
