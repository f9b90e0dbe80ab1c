// The model partition: which image the device runs, and how another one takes its place.
//
// It holds one image as it is, from its start (`kilotune flash` writes it so), or records of a
// RecordStore, whose payloads are images. An image at the start counts whatever records there are:
// it was written later, as the first replacement makes it a record and clears its first word.
//
// What tests/power tries at every cut: a start finds the image that ran before or the one that was
// taking its place, and the same one at every later start. What runs is executed where it lies, so
// nothing of it is erased before the next start.
//
// A store is needed for seconds in a year: it lives on the stack of each call. Not for interrupts.
#ifndef KILOTUNE_RUNTIME_STORAGE_MODEL_STORE_H_
#define KILOTUNE_RUNTIME_STORAGE_MODEL_STORE_H_

#include <cstdint>

#include "kernel/bytes.h"
#include "runtime/storage/record_store.h"

namespace kilotune {

class ModelStore {
 public:
  constexpr explicit ModelStore(const Flash* flash) : flash_(flash) {}

  // The image that counts; the whole partition where there is none. At the start of the device, and
  // after `commit` and `rollback`, when the one found before does not run any more.
  [[nodiscard]] Bytes find();

  // The largest image that can take the place of another, 0: the partition has no room for two.
  [[nodiscard]] uint32_t capacity() const { return RecordStore::capacity(*flash_); }

  // Announces an image: its own hash, its length, its CRC-32 as a whole. The one that is arriving
  // already goes on, see `staged`. no_room: it, or the one that it is to replace, is larger than
  // `capacity`.
  [[nodiscard]] Status begin(const uint8_t hash[kRecordHashBytes], uint32_t bytes, uint32_t crc);
  // The piece at `off`, as RecordStore::append; it ends at a multiple of 16, or is the last.
  [[nodiscard]] Status append(uint32_t off, const uint8_t* data, uint32_t n);
  [[nodiscard]] uint32_t staged() const { return staged_; }
  // What is staged, where it is complete and as announced. wrong_state: nothing; truncated,
  // bad_crc.
  [[nodiscard]] Status staged_image(Bytes& out) const;
  // Makes it the one that counts. Judge it before.
  [[nodiscard]] Status commit();
  void drop() { staging_ = RecordStore::kNowhere; }

  // The image that counted before. no_former: there is none. A transfer under way ends.
  [[nodiscard]] Status former(Bytes& out);
  // Makes that one count again; the present one is never returned to.
  [[nodiscard]] Status rollback();

 private:
  [[nodiscard]] Status mount(RecordStore& store) const;
  [[nodiscard]] Status leave_start(RecordStore& store);

  const Flash* flash_;
  uint32_t staging_ = RecordStore::kNowhere;
  uint32_t staged_ = 0;  // bytes
  uint32_t plain_ = 0;   // bytes of the image at the start that runs, 0: a record's does
  bool left_ = false;    // records count, whatever the start of the partition may read as
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_STORAGE_MODEL_STORE_H_
