// The model partition: which image the device runs, and how another one takes its place.
//
// It holds either a plain image at its start (written by `kilotune flash`), or records of a
// RecordStore with images as payloads. An image at the start is valid whatever records there are:
// it was written later, as the first replacement makes it a record and clears its first word.
//
// tests/power checks for every possible power cut: a start finds the image that ran before or the
// one that was replacing it, and the same one at every later start. The running image is executed
// in place, so nothing of it is erased before the next start.
//
// A store is needed for seconds per year, so it is on the stack of each call. Not for interrupts.
#ifndef KILOTUNE_RUNTIME_STORAGE_MODEL_STORE_H_
#define KILOTUNE_RUNTIME_STORAGE_MODEL_STORE_H_

#include <cstdint>

#include "kernel/bytes.h"
#include "runtime/storage/record_store.h"

namespace kilotune {

class ModelStore {
 public:
  constexpr explicit ModelStore(const Flash* flash) : flash_(flash) {}

  // The valid image; the whole partition if there is none. Call it at the start of the device, and
  // after `commit` and `rollback`, when the image found before no longer runs.
  [[nodiscard]] Bytes find();

  // The largest image that can replace another; 0: the partition has no room for two.
  [[nodiscard]] uint32_t capacity() const { return RecordStore::capacity(*flash_); }

  // Announces an image: its own hash, its length, and its CRC-32 as a whole. A transfer of the same
  // image continues, see `staged`. no_room: it, or the one that it replaces, is larger than
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

  // The image that was valid before. no_former: there is none. A transfer in progress ends.
  [[nodiscard]] Status former(Bytes& out);
  // Makes that one valid again; there is no return to the present one.
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
