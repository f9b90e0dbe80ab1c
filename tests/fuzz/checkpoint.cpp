// Fuzzes recovery: a region with any contents mounts, and takes commits and rollbacks that last.
#include "runtime/checkpoint.h"

#include "device.h"

using namespace kilotune;
using namespace kilotune::fuzz;

namespace {

uint8_t image_hash[32] = {1, 2, 3};

// A record with fuzzed fields, its checksums right unless the input says otherwise.
void put_record(Input& in, uint8_t* slot, uint32_t slot_bytes, uint32_t payload_bytes) {
  const uint8_t flaws = in.u8();
  uint8_t* p = slot;
  std::memset(p, 0, 80);
  store_u32(p, 0x3143544Bu);
  store_u16(p + 4, 1);
  store_u16(p + 6, 80);
  store_u32(p + 8, (flaws & 1) != 0 ? in.u32() : in.u8());
  store_u32(p + 12, (flaws & 1) != 0 ? in.u32() : in.u8());
  std::memcpy(p + 16, image_hash, sizeof image_hash);
  if ((flaws & 2) != 0) p[16 + in.u8() % 32] ^= 1;
  store_u32(p + 48, (flaws & 4) != 0 ? in.number() : payload_bytes);
  store_u32(p + 56, in.number());
  store_u32(p + 60, in.number());
  store_u32(p + 64, in.number());
  const std::vector<uint8_t> payload = in.bytes(std::min(in.u8() * 1u, slot_bytes - 96));
  std::copy(payload.begin(), payload.end(), p + 96);
  store_u32(p + 52, crc32(p + 96, payload_bytes) ^ ((flaws & 8) != 0 ? 1u : 0u));
  if ((flaws & 16) != 0) p[in.u8() % 76] = in.u8();
  store_u32(p + 76, crc32(p, 76) ^ ((flaws & 32) != 0 ? 1u : 0u));
  store_u32(p + 80, (flaws & 64) != 0 ? in.u32() : 0x54444D43u);
}

std::vector<uint8_t> payload_of(const CheckpointStore& store, uint32_t n) {
  const uint8_t* p = store.payload();
  return p == nullptr ? std::vector<uint8_t>() : std::vector<uint8_t>(p, p + n);
}

// Sequence numbers that no run of this store leaves: half their range or more apart.
bool spread(const FuzzFlash& flash, uint32_t slot_bytes) {
  for (size_t at = 0; at + slot_bytes <= flash.bytes.size(); at += slot_bytes) {
    const uint32_t sequence = load_u32(flash.bytes.data() + at + 8);
    if (sequence > 1u << 30 && sequence != 0xFFFFFFFFu) return true;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  const uint8_t geometry = in.u8();
  const uint32_t sector = 64u << (geometry & 3u), word = 1u << ((geometry >> 2) % 5);
  const uint32_t payload_bytes = 4 * (in.u8() % 64u);
  const uint32_t slot_bytes = (96 + payload_bytes + sector - 1) / sector * sector;
  const uint32_t slots = 3 + (geometry >> 6);
  FuzzFlash flash(sector, slots * slot_bytes / sector + (geometry >> 5) % 2, word);
  const uint8_t contents = in.u8();
  for (uint32_t slot = 0; slot < slots; ++slot) {
    uint8_t* at = flash.bytes.data() + slot * slot_bytes;
    if (((contents >> slot) & 1u) != 0) {
      put_record(in, at, slot_bytes, payload_bytes);
    } else if ((contents & 64u) != 0) {
      const std::vector<uint8_t> raw = in.bytes(slot_bytes);
      std::copy(raw.begin(), raw.end(), at);
    }
  }
  const bool ordered = !spread(flash, slot_bytes);

  CheckpointStore store;
  REQUIRE(store.mount(&flash.port, image_hash, payload_bytes) == Status::ok);
  std::vector<uint8_t> expected = payload_of(store, payload_bytes);
  if (store.payload() != nullptr)
    REQUIRE(crc32(store.payload(), payload_bytes) == store.current().crc);
  const std::vector<uint8_t> untouched = flash.bytes;
  while (!in.empty()) {
    switch (in.u8() % 5) {
      case 0: {
        std::vector<uint8_t> payload = in.bytes(payload_bytes);
        payload.resize(payload_bytes, 0x5A);
        REQUIRE(store.commit(payload.data(), in.u8(), in.u8()) == Status::ok);
        expected = payload;
        break;
      }
      case 1: {
        const bool possible = store.has_previous();
        const Status status = store.rollback();
        REQUIRE(status == (possible ? Status::ok : Status::no_checkpoint));
        if (possible) expected = payload_of(store, payload_bytes);
        break;
      }
      case 2:
        REQUIRE(store.mount(&flash.port, image_hash, payload_bytes) == Status::ok);
        break;
      case 3:
        REQUIRE(store.begin(in.u8(), in.u8()) == Status::ok);
        break;
      default: {  // pieces at any offset, then perhaps an end
        const std::vector<uint8_t> piece = in.bytes(in.u8());
        (void)store.append(in.number(), piece.data(), static_cast<uint32_t>(piece.size()));
        if (in.u8() % 4 == 0) {
          const uint8_t* staged = store.staged_payload();
          const bool whole = staged != nullptr && store.staged() == payload_bytes;
          const uint32_t crc = whole ? crc32(staged, payload_bytes) : in.u32();
          if (store.seal(crc) == Status::ok) expected = payload_of(store, payload_bytes);
        }
      }
    }
    if (ordered) REQUIRE(payload_of(store, payload_bytes) == expected);
    if (!ordered) expected = payload_of(store, payload_bytes);
    if (expected.empty() && payload_bytes != 0) REQUIRE(store.payload() == nullptr);
  }
  return 0;
}
