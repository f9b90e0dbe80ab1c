// Which image is valid, and how the next one becomes valid.
#include "runtime/storage/model_store.h"

#include <cstring>

#include "kernel/model.h"

namespace kilotune {
namespace {

constexpr uint32_t kPieceUnit = 16;  // the largest flash word
constexpr uint32_t kAttempts = 4;    // after the newest record, and in three slots

// Length of the image at the start of the partition, 0: none.
uint32_t plain_image(const Flash& flash) {
  uint8_t h[kImageHashAt];
  flash_read(flash, 0, h, sizeof h);
  const uint32_t size = load_u32(h + kImageBytesAt);
  if (load_u32(h) != kImageMagic || size < kHeaderBytes || size > flash_bytes(flash)) return 0;
  const uint32_t crc = flash_crc(flash, kImageHashAt, size - kImageHashAt);
  return crc == load_u32(h + kImageCrcAt) ? size : 0;
}

// Except for its first flash word, which may be unsure.
bool holds_image(const RecordStore& store, const uint8_t* image, uint32_t bytes) {
  return store.payload() != nullptr && store.current().bytes == bytes &&
         std::memcmp(store.payload() + kImageHashAt, image + kImageHashAt, bytes - kImageHashAt) ==
             0;
}

}  // namespace

Status ModelStore::mount(RecordStore& store) const {
  return store.mount(flash_, nullptr, capacity(), plain_);
}

Bytes ModelStore::find() {
  const Bytes partition = {flash_->base, flash_bytes(*flash_)};
  plain_ = plain_image(*flash_);
  left_ = false;
  drop();
  RecordStore store;
  if (mount(store) != Status::ok) return partition;
  // If the start was about to be cleared, it may read as an image now and not at the next start; by
  // then the same image is a record.
  if (plain_ != 0 && !holds_image(store, flash_->base, plain_)) return partition;
  plain_ = 0;
  return store.payload() == nullptr ? partition : Bytes{store.payload(), store.current().bytes};
}

// Makes records valid. An image at the start becomes a record, so that a rollback can return to it.
Status ModelStore::leave_start(RecordStore& store) {
  if (left_) return Status::ok;
  Status status = Status::ok;
  if (plain_ != 0) {
    if (plain_ > capacity()) return Status::no_room;
    store.forget();
    status = store.adopt(
        0, {flash_->base + kImageHashAt, plain_, flash_crc(*flash_, 0, plain_), 0, 0, true});
  }
  Record record;
  if (status != Status::ok || record_at(*flash_, 0, record)) return status;
  // A worn word may keep some of its bits; it must only not read as before.
  static_cast<void>(flash_program_word(*flash_, 0, 0));
  uint8_t first[4];
  flash_read(*flash_, 0, first, sizeof first);
  left_ = load_u32(first) != kImageMagic;
  return left_ ? Status::ok : Status::flash_failed;
}

Status ModelStore::begin(const uint8_t hash[kRecordHashBytes], uint32_t bytes, uint32_t crc) {
  Record record;
  uint8_t same[kRecordHashBytes];
  if (staging_ != RecordStore::kNowhere && record_at(*flash_, staging_, record)) {
    record_hash(*flash_, record, same);
    if (record.info.bytes == bytes && record.info.crc == crc &&
        std::memcmp(same, hash, sizeof same) == 0)
      return Status::ok;
  }
  drop();
  staged_ = 0;
  if (bytes > capacity()) return Status::no_room;
  RecordStore store;
  Status status = mount(store);
  if (status == Status::ok) status = leave_start(store);
  if (status != Status::ok) return status;
  for (uint32_t i = 0; i < kAttempts; ++i) {
    status = store.begin({hash, bytes, crc, 0, 0, true});
    if (status != Status::flash_failed) break;
  }
  staging_ = store.staging();
  return status;
}

Status ModelStore::append(uint32_t off, const uint8_t* data, uint32_t n) {
  RecordStore store;
  Status status = store.resume(*flash_, staging_, staged_);
  if (status != Status::ok) return status;
  // Nothing is kept between calls, so each ends with a whole word.
  const bool last = store.staged_bytes() == off + n;
  if ((off + n) % kPieceUnit != 0 && !last) return Status::bad_argument;
  status = store.append(off, data, n);
  staged_ = store.staged();
  staging_ = store.staging();
  return status;
}

Status ModelStore::staged_image(Bytes& out) const {
  RecordStore store;
  const Status status = store.resume(*flash_, staging_, staged_);
  if (status != Status::ok) return status;
  if (staged_ != store.staged_bytes()) return Status::truncated;
  Record record;
  uint8_t hash[kRecordHashBytes];
  out = {store.staged_payload(), staged_};
  if (!record_at(*flash_, staging_, record) || !record_intact(*flash_, record))
    return Status::bad_crc;
  record_hash(*flash_, record, hash);
  const bool named =
      out.size >= kHeaderBytes && std::memcmp(out.data + kImageHashAt, hash, sizeof hash) == 0;
  return named ? Status::ok : Status::bad_image;
}

Status ModelStore::commit() {
  RecordStore store;
  Status status = store.resume(*flash_, staging_, staged_);
  if (status == Status::ok) status = store.seal();
  drop();
  return status;
}

Status ModelStore::former(Bytes& out) {
  drop();  // mount resolves what is not sealed
  RecordStore store;
  if (plain_ != 0 && !left_) return Status::no_former;
  const Status status = mount(store);
  if (status != Status::ok) return status;
  out = {store.fallback_payload(), store.fallback().bytes};
  return out.data == nullptr ? Status::no_former : Status::ok;
}

Status ModelStore::rollback() {
  drop();
  RecordStore store;
  Status status = mount(store);
  if (status == Status::ok) status = leave_start(store);
  return status == Status::ok ? store.rollback() : status;
}

}  // namespace kilotune
