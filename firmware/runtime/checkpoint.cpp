// Records, slots and the order of writes of the checkpoint store. Format: docs/SPEC.md, section 4.
#include "runtime/checkpoint.h"

#include <cstring>

#include "kernel/bytes.h"

namespace kilotune {
namespace {

constexpr uint32_t kMagic = 0x3143544Bu;      // "KTC1"
constexpr uint32_t kCommitted = 0x54444D43u;  // "CMDT"
constexpr uint16_t kVersion = 1;
constexpr uint32_t kHashBytes = 32;

// Offsets in a record; multiples of the largest flash word, so that one layout serves them all.
enum Field : uint32_t {
  kMagicAt = 0,
  kVersionAt = 4,
  kHeaderBytesAt = 6,
  kSequenceAt = 8,
  kPreviousAt = 12,
  kHashAt = 16,
  kPayloadBytesAt = 48,
  kPayloadCrcAt = 52,
  kWindowsAt = 56,
  kStepsAt = 60,
  kErasesAt = 64,
  kFlagsAt = 68,
  kReservedAt = 72,
  kHeaderCrcAt = 76,
  kHeaderBytes = 80,
  kCommitAt = 80,
  kPayloadAt = 96,
};

// Serial-number order: right across the wrap while live records lie less than 2^31 apart.
bool newer(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) > 0; }

uint32_t next_sequence(uint32_t s) { return s == 0xFFFFFFFFu ? 1 : s + 1; }  // 0 means none

bool is_word_size(uint32_t w) { return w == 1 || w == 2 || w == 4 || w == 8 || w == 16; }

uint32_t sectors_a_slot(const Flash& flash, uint32_t payload_bytes) {
  return (kPayloadAt + payload_bytes + flash.sector_bytes - 1) / flash.sector_bytes;
}

}  // namespace

bool CheckpointStore::fits(const Flash& flash, uint32_t payload_bytes) {
  constexpr uint32_t kMaxPayload = 1u << 28;  // keeps every sum below 2^32
  if (flash.base == nullptr || !is_word_size(flash.word_bytes)) return false;
  if (flash.sector_bytes < kMaxWordBytes || flash.sector_bytes > kMaxPayload) return false;
  if (flash.sector_bytes % kMaxWordBytes != 0 || payload_bytes > kMaxPayload) return false;
  return flash.sector_count / sectors_a_slot(flash, payload_bytes) >= 3;
}

Status CheckpointStore::mount(const Flash* flash, const uint8_t* image_hash,
                              uint32_t payload_bytes) {
  *this = CheckpointStore();
  if (flash == nullptr || !fits(*flash, payload_bytes)) return Status::unavailable;
  flash_ = flash;
  image_hash_ = image_hash;
  payload_bytes_ = payload_bytes;
  const uint32_t sectors = sectors_a_slot(*flash, payload_bytes);
  slot_bytes_ = sectors * flash->sector_bytes;
  slot_count_ = flash->sector_count / sectors;
  tried_ = slot_count_ - 1;  // an empty region starts at slot 0
  find_current();
  find_previous();
  return Status::ok;
}

const uint8_t* CheckpointStore::payload() const {
  if (current_.info.sequence == 0) return nullptr;
  return flash_->base + offset(current_.slot) + kPayloadAt;
}

const uint8_t* CheckpointStore::staged_payload() const {
  if (staging_.info.sequence == 0) return nullptr;
  return flash_->base + offset(staging_.slot) + kPayloadAt;
}

uint32_t CheckpointStore::offset(uint32_t slot) const { return slot * slot_bytes_; }

// Header and commit word only; the payload's CRC is checked where it matters.
bool CheckpointStore::read(uint32_t slot, Record& out) const {
  const uint8_t* p = flash_->base + offset(slot);
  if (load_u32(p + kMagicAt) != kMagic || load_u16(p + kVersionAt) != kVersion) return false;
  if (load_u16(p + kHeaderBytesAt) != kHeaderBytes) return false;
  if (load_u32(p + kHeaderCrcAt) != crc32(p, kHeaderCrcAt)) return false;
  if (load_u32(p + kCommitAt) != kCommitted) return false;
  out.slot = slot;
  out.previous = load_u32(p + kPreviousAt);
  out.info = {load_u32(p + kSequenceAt), load_u32(p + kPayloadBytesAt), load_u32(p + kPayloadCrcAt),
              load_u32(p + kWindowsAt),  load_u32(p + kStepsAt),        load_u32(p + kErasesAt)};
  return out.info.sequence != 0;
}

bool CheckpointStore::of_this_image(uint32_t slot) const {
  return std::memcmp(flash_->base + offset(slot) + kHashAt, image_hash_, kHashBytes) == 0;
}

bool CheckpointStore::payload_intact(const Record& record) const {
  if (record.info.bytes != payload_bytes_ || !of_this_image(record.slot)) return false;
  const uint8_t* p = flash_->base + offset(record.slot) + kPayloadAt;
  return crc32(p, payload_bytes_) == record.info.crc;
}

void CheckpointStore::find_current() {
  for (uint32_t slot = 0; slot < slot_count_; ++slot) {
    Record record;
    if (!read(slot, record)) continue;
    if (newest_ == 0 || newer(record.info.sequence, newest_)) {
      newest_ = record.info.sequence;
      tried_ = slot;
    }
    if (record.info.erases > erases_) erases_ = record.info.erases;
    const bool better =
        current_.info.sequence == 0 || newer(record.info.sequence, current_.info.sequence);
    if (better && payload_intact(record)) current_ = record;
  }
}

void CheckpointStore::find_previous() {
  previous_ = Record{};
  if (current_.info.sequence == 0 || current_.previous == 0) return;
  for (uint32_t slot = 0; slot < slot_count_; ++slot) {
    Record record;
    if (!read(slot, record) || record.info.sequence != current_.previous) continue;
    if (payload_intact(record)) previous_ = record;
  }
}

// The next slot in turn (that spreads wear) which holds neither checkpoint. There are at least 3.
uint32_t CheckpointStore::free_slot() const {
  uint32_t slot = tried_;
  for (uint32_t i = 0; i < slot_count_; ++i) {
    slot = slot + 1 == slot_count_ ? 0 : slot + 1;
    const bool holds_current = current_.info.sequence != 0 && slot == current_.slot;
    const bool holds_previous = previous_.info.sequence != 0 && slot == previous_.slot;
    if (!holds_current && !holds_previous) break;
  }
  return slot;
}

Status CheckpointStore::begin(uint32_t windows, uint32_t steps) {
  return begin_linked(windows, steps, current_.info.sequence);
}

Status CheckpointStore::begin_linked(uint32_t windows, uint32_t steps, uint32_t previous) {
  if (flash_ == nullptr) return Status::unavailable;
  staging_ = Record{};
  staged_ = 0;
  const uint32_t slot = free_slot();
  tried_ = slot;
  const Status status = erase_slot(slot);
  if (status != Status::ok) return status;
  staging_ = {slot, previous, {next_sequence(newest_), payload_bytes_, 0, windows, steps, erases_}};
  return Status::ok;
}

Status CheckpointStore::erase_slot(uint32_t slot) {
  for (uint32_t at = offset(slot); at < offset(slot) + slot_bytes_; at += flash_->sector_bytes) {
    ++erases_;
    const Status status = flash_->erase(flash_->context, at);
    if (status != Status::ok) return status;
    for (uint32_t i = 0; i < flash_->sector_bytes; ++i) {
      if (flash_->base[at + i] != 0xFF) return Status::flash_failed;
    }
  }
  return Status::ok;
}

Status CheckpointStore::program(uint32_t off, const uint8_t* data, uint32_t n) {
  const Status status = flash_->program(flash_->context, off, data, n);
  if (status != Status::ok) return status;
  return std::memcmp(flash_->base + off, data, n) == 0 ? Status::ok : Status::flash_failed;
}

// True when [off, off + n), all of it taken before, held these bytes.
bool CheckpointStore::repeats(uint32_t off, const uint8_t* data, uint32_t n) const {
  const uint32_t in_flash = staged_ - staged_ % flash_->word_bytes;
  const uint8_t* payload = flash_->base + offset(staging_.slot) + kPayloadAt;
  for (uint32_t i = 0; i < n; ++i) {
    const uint32_t at = off + i;
    const uint8_t have = at < in_flash ? payload[at] : word_[at - in_flash];
    if (have != data[i]) return false;
  }
  return true;
}

Status CheckpointStore::append(uint32_t off, const uint8_t* data, uint32_t n) {
  if (staging_.info.sequence == 0) return Status::wrong_state;
  if (off > payload_bytes_ || n > payload_bytes_ - off) return Status::bad_argument;
  if (off > staged_) return Status::out_of_order;
  const uint32_t taken = staged_ - off < n ? staged_ - off : n;
  if (!repeats(off, data, taken)) return Status::bad_argument;
  for (uint32_t i = taken; i < n; ++i) {
    word_[staged_ % flash_->word_bytes] = data[i];
    ++staged_;
    // The last word may not be full: it goes to flash too, so that all can be read back before
    // `seal`.
    if (staged_ % flash_->word_bytes != 0 && staged_ != payload_bytes_) continue;
    const Status status = write_word();
    if (status != Status::ok) return status;
  }
  return Status::ok;
}

// Programs the word that the last staged byte is in, padded with 0xFF.
Status CheckpointStore::write_word() {
  const uint32_t word = flash_->word_bytes;
  const uint32_t used = (staged_ - 1) % word + 1;
  std::memset(word_ + used, 0xFF, word - used);
  const Status status = program(offset(staging_.slot) + kPayloadAt + staged_ - used, word_, word);
  if (status != Status::ok) staging_ = Record{};
  return status;
}

Status CheckpointStore::seal(uint32_t crc) {
  if (staging_.info.sequence == 0) return Status::wrong_state;
  if (staged_ != payload_bytes_) return Status::truncated;
  staging_.info.crc = crc;
  const uint8_t* payload = flash_->base + offset(staging_.slot) + kPayloadAt;
  const Status status = crc32(payload, payload_bytes_) == crc ? write_record(crc) : Status::bad_crc;
  if (status == Status::ok) {
    current_ = staging_;
    find_previous();
  }
  staging_ = Record{};
  staged_ = 0;
  return status;
}

Status CheckpointStore::write_record(uint32_t crc) {
  uint8_t header[kHeaderBytes] = {};
  store_u32(header + kMagicAt, kMagic);
  store_u16(header + kVersionAt, kVersion);
  store_u16(header + kHeaderBytesAt, static_cast<uint16_t>(kHeaderBytes));
  store_u32(header + kSequenceAt, staging_.info.sequence);
  store_u32(header + kPreviousAt, staging_.previous);
  std::memcpy(header + kHashAt, image_hash_, kHashBytes);
  store_u32(header + kPayloadBytesAt, payload_bytes_);
  store_u32(header + kPayloadCrcAt, crc);
  store_u32(header + kWindowsAt, staging_.info.windows);
  store_u32(header + kStepsAt, staging_.info.steps);
  store_u32(header + kErasesAt, staging_.info.erases);
  store_u32(header + kHeaderCrcAt, crc32(header, kHeaderCrcAt));
  newest_ = staging_.info.sequence;  // used up, whatever comes of it
  const uint32_t at = offset(staging_.slot);
  const Status status = program(at, header, kHeaderBytes);
  if (status != Status::ok) return status;

  uint8_t commit[kMaxWordBytes];
  std::memset(commit, 0xFF, sizeof commit);
  store_u32(commit, kCommitted);
  return program(at + kCommitAt, commit, flash_->word_bytes < 4 ? 4 : flash_->word_bytes);
}

Status CheckpointStore::commit(const uint8_t* payload, uint32_t windows, uint32_t steps) {
  Status status = begin(windows, steps);
  if (status == Status::ok) status = append(0, payload, payload_bytes_);
  if (status == Status::ok) status = seal(crc32(payload, payload_bytes_));
  return status;
}

Status CheckpointStore::rollback() {
  if (!has_previous()) return Status::no_checkpoint;
  const Record from = previous_;
  Status status = begin_linked(from.info.windows, from.info.steps, from.previous);
  // Through RAM: some chips cannot read flash while they program it.
  uint8_t piece[64];
  for (uint32_t off = 0; status == Status::ok && off < payload_bytes_; off += sizeof piece) {
    const uint32_t left = payload_bytes_ - off;
    const uint32_t n = left < sizeof piece ? left : static_cast<uint32_t>(sizeof piece);
    std::memcpy(piece, flash_->base + offset(from.slot) + kPayloadAt + off, n);
    status = append(off, piece, n);
  }
  if (status == Status::ok) status = seal(from.info.crc);
  return status;
}

}  // namespace kilotune
