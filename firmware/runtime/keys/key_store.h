// Who may change the device, in flash: its key, and a count that never repeats during the life of
// the flash. A power cut at any moment loses neither.
//
// A sector holds one record (the key, and the count at that time), followed by a log of entries of
// one flash word each. Every entry raises the count by one, so that most writes erase nothing. A
// full log continues in the next sector (docs/SPEC.md, section 5).
#ifndef KILOTUNE_RUNTIME_KEYS_KEY_STORE_H_
#define KILOTUNE_RUNTIME_KEYS_KEY_STORE_H_

#include <cstdint>

#include "kernel/status.h"
#include "runtime/storage/flash.h"
#include "schema/terms.h"

namespace kilotune {

// Not safe in interrupts. Reads flash in place.
class KeyStore {
 public:
  static constexpr uint32_t kKeyBytes = kilotune::kKeyBytes;

  // Finds the newest record; never writes. unavailable: no flash, or fewer than 2 usable sectors.
  Status mount(const Flash* flash);

  [[nodiscard]] Lock lock() const { return lock_; }
  [[nodiscard]] const uint8_t* key() const;  // in flash; null: none
  // Grows with every entry, also across restarts and changes of the key.
  [[nodiscard]] uint32_t count() const { return base_ + next_; }
  // Entries since the last success, 255 at most.
  [[nodiscard]] uint32_t attempts() const { return attempts_; }

  // One entry each; on error the count may have grown nevertheless.
  [[nodiscard]] Status count_attempt();
  [[nodiscard]] Status count_success();

  // Writes a new record; Lock::none forgets the key (and takes none). The old record is erased when
  // the new one is valid. On error the old one stays.
  [[nodiscard]] Status set(Lock lock, const uint8_t* key);

 private:
  struct Record {
    uint32_t sequence, base;
    Lock lock;
    uint8_t attempts;
  };
  [[nodiscard]] const uint8_t* sector(uint32_t index) const;
  [[nodiscard]] uint32_t entry_bytes() const;
  [[nodiscard]] uint32_t capacity() const;
  [[nodiscard]] bool is_free(uint32_t index, uint32_t entry) const;
  [[nodiscard]] bool read_header(uint32_t index, Record& out) const;
  [[nodiscard]] bool counts(uint32_t index) const;
  [[nodiscard]] bool rivals(uint32_t index) const;
  void read_log();
  [[nodiscard]] Status tidy();
  [[nodiscard]] Status append(uint32_t value);
  [[nodiscard]] Status write_record(Lock lock, const uint8_t* key);
  [[nodiscard]] Status write_to(uint32_t index, const uint8_t* header);
  [[nodiscard]] Status erase(uint32_t index);
  [[nodiscard]] Status program(uint32_t index, uint32_t at, const uint8_t* data, uint32_t n);

  const Flash* flash_ = nullptr;
  uint32_t sector_ = 0;    // of the record; any if there is none
  uint32_t sequence_ = 0;  // 0: there is no record
  uint32_t base_ = 0, next_ = 0;
  Lock lock_ = Lock::none;
  uint8_t attempts_ = 0;
  bool tidy_ = false;  // no other sector rivals the record
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_KEYS_KEY_STORE_H_
