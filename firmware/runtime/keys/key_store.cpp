// Records and entries of the key store, and the order of writes. Format: docs/SPEC.md, section 5.
#include "runtime/keys/key_store.h"

#include <cstring>

#include "kernel/bytes.h"
#include "runtime/keys/blake2s.h"

namespace kilotune {
namespace {

constexpr uint32_t kMagic = 0x314B544Bu;      // "KTK1"
constexpr uint32_t kCommitted = 0x54444D43u;  // "CMDT"
constexpr uint16_t kVersion = 1;
constexpr uint32_t kMaxWordBytes = 16;
constexpr uint32_t kFewestEntries = 16;
constexpr uint32_t kErased = 0xFFFFFFFFu;
constexpr uint32_t kTries = 4;  // words that may be worn out in a row
// They clear different bits, so that a torn attempt cannot read as a success.
constexpr uint32_t kAttempt = 0xFFFF0000u, kSuccess = 0x0000FFFFu;

// Offsets in a sector; multiples of the largest flash word.
enum Field : uint32_t {
  kMagicAt = 0,
  kVersionAt = 4,
  kLockAt = 6,
  kAttemptsAt = 7,
  kSequenceAt = 8,
  kBaseAt = 12,
  kKeyAt = 16,
  kCrcAt = 60,
  kHeaderBytes = 64,
  kCommitAt = 64,
  kEntriesAt = 80,
};

// Serial-number order, correct across the wrap.
bool newer(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) > 0; }

bool usable(const Flash& flash) {
  const uint32_t word = flash.word_bytes;
  const bool word_fits = word == 1 || word == 2 || word == 4 || word == 8 || word == 16;
  return flash.base != nullptr && word_fits && flash.sector_count >= 2 &&
         flash.sector_bytes % kMaxWordBytes == 0 &&
         flash.sector_bytes >= kEntriesAt + kFewestEntries * kMaxWordBytes;
}

}  // namespace

Status KeyStore::mount(const Flash* flash) {
  *this = KeyStore();
  if (flash == nullptr || !usable(*flash)) return Status::unavailable;
  flash_ = flash;
  for (uint32_t i = 0; i < flash->sector_count; ++i) {
    Record record;
    if (!read_header(i, record) || !counts(i)) continue;
    if (sequence_ != 0 && !newer(record.sequence, sequence_)) continue;
    sector_ = i;
    sequence_ = record.sequence;
    base_ = record.base;
    lock_ = record.lock;
    attempts_ = record.attempts;
  }
  if (sequence_ != 0) read_log();
  return Status::ok;
}

const uint8_t* KeyStore::key() const {
  return lock_ == Lock::none ? nullptr : sector(sector_) + kKeyAt;
}

const uint8_t* KeyStore::sector(uint32_t index) const {
  return flash_->base + index * flash_->sector_bytes;
}

uint32_t KeyStore::entry_bytes() const { return flash_->word_bytes < 4 ? 4 : flash_->word_bytes; }

uint32_t KeyStore::capacity() const { return (flash_->sector_bytes - kEntriesAt) / entry_bytes(); }

bool KeyStore::is_free(uint32_t index, uint32_t entry) const {
  return load_u32(sector(index) + kEntriesAt + entry * entry_bytes()) == kErased;
}

// A record with or without its commit word.
bool KeyStore::read_header(uint32_t index, Record& out) const {
  const uint8_t* p = sector(index);
  if (load_u32(p + kMagicAt) != kMagic || load_u16(p + kVersionAt) != kVersion) return false;
  if (load_u32(p + kCrcAt) != crc32(p, kCrcAt) || p[kLockAt] > uint8_t{2}) return false;
  out = {load_u32(p + kSequenceAt), load_u32(p + kBaseAt), static_cast<Lock>(p[kLockAt]),
         p[kAttemptsAt]};
  return out.sequence != 0;
}

// An interrupted commit word may read right today and wrong tomorrow. Entries are only written
// after one that was read right, so from then on they prove it.
bool KeyStore::counts(uint32_t index) const {
  bool counts = load_u32(sector(index) + kCommitAt) == kCommitted;
  for (uint32_t i = 0; i < kTries; ++i) counts = counts || !is_free(index, i);
  return counts;
}

// The next entry goes after the last one that is not free, including torn ones. What a power cut
// left is counted too, so that no count is given twice.
void KeyStore::read_log() {
  const uint32_t n = capacity();
  for (uint32_t i = 0; i < n; ++i) {
    if (is_free(sector_, i)) continue;
    next_ = i + 1;
    const uint32_t value = load_u32(sector(sector_) + kEntriesAt + i * entry_bytes());
    if (value == kSuccess) {
      attempts_ = 0;
    } else if (attempts_ < 255) {
      ++attempts_;
    }
  }
}

Status KeyStore::count_attempt() {
  const Status status = append(kAttempt);
  if (status == Status::ok && attempts_ < 255) ++attempts_;
  return status;
}

Status KeyStore::count_success() {
  const Status status = append(kSuccess);
  if (status == Status::ok) attempts_ = 0;
  return status;
}

Status KeyStore::append(uint32_t value) {
  if (sequence_ == 0) return Status::wrong_state;
  const Status tidied = tidy();
  if (tidied != Status::ok) return tidied;
  uint8_t word[kMaxWordBytes];
  std::memset(word, 0xFF, sizeof word);
  store_u32(word, value);
  for (uint32_t i = 0; i < kTries; ++i) {
    if (next_ >= capacity()) {
      const Status status = write_record(lock_, key());
      if (status != Status::ok) return status;
    }
    const uint32_t at = kEntriesAt + next_++ * entry_bytes();
    if (program(sector_, at, word, entry_bytes()) == Status::ok) return Status::ok;
  }
  return Status::flash_failed;
}

// Before anything builds on the present record: removes what a power cut during `set` has left, be
// it the key to be forgotten or a new record with a commit word that may read right one day.
Status KeyStore::tidy() {
  for (uint32_t i = 0; !tidy_ && i < flash_->sector_count; ++i) {
    if (!rivals(i)) continue;
    static_cast<void>(erase(i));
    if (rivals(i)) return Status::flash_failed;
  }
  tidy_ = true;
  return Status::ok;
}

bool KeyStore::rivals(uint32_t index) const {
  Record record;
  if (index == sector_ || !read_header(index, record)) return false;
  return newer(record.sequence, sequence_) || record.lock != lock_ ||
         std::memcmp(sector(index) + kKeyAt, sector(sector_) + kKeyAt, kKeyBytes) != 0;
}

Status KeyStore::set(Lock lock, const uint8_t* key) {
  if (flash_ == nullptr) return Status::unavailable;
  Status status = tidy();
  if (status == Status::ok) status = write_record(lock, key);
  if (status != Status::ok) return status;
  // The record is valid now; if this fails or is interrupted, `tidy` tries again.
  tidy_ = true;
  for (uint32_t i = 0; i < flash_->sector_count; ++i) {
    if (i != sector_ && erase(i) != Status::ok) tidy_ = false;
  }
  return Status::ok;
}

// Writes to the next sector in turn that accepts it; the present record stays until the new one is
// valid.
Status KeyStore::write_record(Lock lock, const uint8_t* key) {
  uint8_t header[kHeaderBytes] = {};
  const uint32_t sequence = sequence_ == 0xFFFFFFFFu ? 1 : sequence_ + 1;
  store_u32(header + kMagicAt, kMagic);
  store_u16(header + kVersionAt, kVersion);
  header[kLockAt] = static_cast<uint8_t>(lock);
  header[kAttemptsAt] = attempts_;
  store_u32(header + kSequenceAt, sequence);
  store_u32(header + kBaseAt, count());
  if (key != nullptr) std::memcpy(header + kKeyAt, key, kKeyBytes);
  store_u32(header + kCrcAt, crc32(header, kCrcAt));

  Status status = Status::flash_failed;
  const uint32_t n = flash_->sector_count;
  const uint32_t last = sequence_ == 0 ? n : n - 1;  // never over the present record
  for (uint32_t i = 1; i <= last && status != Status::ok; ++i) {
    const uint32_t index = (sector_ + i) % n;
    status = write_to(index, header);
    if (status != Status::ok) continue;
    sector_ = index;
    sequence_ = sequence;
    base_ = count();
    next_ = 0;
    lock_ = lock;
  }
  wipe(header, sizeof header);
  return status;
}

Status KeyStore::write_to(uint32_t index, const uint8_t* header) {
  Status status = erase(index);
  if (status == Status::ok) status = program(index, 0, header, kHeaderBytes);
  if (status != Status::ok) return status;
  uint8_t commit[kMaxWordBytes];
  std::memset(commit, 0xFF, sizeof commit);
  store_u32(commit, kCommitted);
  return program(index, kCommitAt, commit, entry_bytes());
}

Status KeyStore::erase(uint32_t index) {
  const Status status = flash_->erase(flash_->context, index * flash_->sector_bytes);
  if (status != Status::ok) return status;
  for (uint32_t i = 0; i < flash_->sector_bytes; ++i) {
    if (sector(index)[i] != 0xFF) return Status::flash_failed;
  }
  return Status::ok;
}

Status KeyStore::program(uint32_t index, uint32_t at, const uint8_t* data, uint32_t n) {
  const uint32_t off = index * flash_->sector_bytes + at;
  const Status status = flash_->program(flash_->context, off, data, n);
  if (status != Status::ok) return status;
  return std::memcmp(flash_->base + off, data, n) == 0 ? Status::ok : Status::flash_failed;
}

}  // namespace kilotune
