// Fuzzes recovery: a region with any contents mounts, and takes commits and rollbacks that last, on
// flash that tears, leaves marginal bits and wears out.
#include "../power/nor_flash.h"
#include "device.h"
#include "runtime/storage/record_store.h"

using namespace kilotune;
using namespace kilotune::fuzz;
using kilotune::testing::Geometry;
using kilotune::testing::NorFlash;
using kilotune::testing::PowerCut;
using kilotune::testing::Tear;

namespace {

using Payload = std::vector<uint8_t>;
uint8_t image_hash[32] = {1, 2, 3};

// A record with fuzzed fields, its checksums right unless the input says otherwise.
void put_record(Input& in, uint8_t* p, uint32_t room, uint32_t payload_bytes) {
  const uint8_t flaws = in.u8();
  const uint8_t marks = in.u8();
  std::memset(p, 0, 80);
  store_u32(p, 0x3152544Bu);
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
  store_u32(p + 68, in.u8());
  const Payload payload = in.bytes(std::min(in.u8() * 1u, room - kRecordOverhead));
  std::copy(payload.begin(), payload.end(), p + kRecordOverhead);
  const uint32_t summed = std::min(payload_bytes, room - kRecordOverhead);
  store_u32(p + 52, crc32(p + kRecordOverhead, summed) ^ ((flaws & 8) != 0 ? 1u : 0u));
  if ((flaws & 16) != 0) p[in.u8() % 76] = in.u8();
  store_u32(p + 76, crc32(p, 76) ^ ((flaws & 32) != 0 ? 1u : 0u));
  const uint32_t words[] = {0x54444D43u, 0xFFFFFFFFu, 0, (marks & 3) == 3 ? in.u32() : 0u};
  store_u32(p + 80, words[marks & 3]);
  const uint32_t seals[] = {0x4C414553u, 0xFFFFFFFFu, 0, (marks & 12) == 12 ? in.u32() : 0u};
  store_u32(p + 96, seals[(marks >> 2) & 3]);
}

// Records and raw bytes, sector by sector.
void fill(Input& in, const Geometry& geometry, std::vector<uint8_t>& bytes,
          uint32_t payload_bytes) {
  uint32_t start = 0;
  for (uint32_t i = 0; i < geometry.sector_count; ++i) {
    const uint32_t end = start + geometry.sector(i);
    const uint8_t contents = in.u8();
    uint32_t at = start;
    for (uint8_t records = contents & 3; records > 0 && at + kRecordOverhead <= end; --records) {
      put_record(in, bytes.data() + at, end - at, payload_bytes);
      at += record_bytes(payload_bytes);
    }
    if ((contents & 4) != 0 && at < end) {
      const Payload raw = in.bytes(end - at);
      std::copy(raw.begin(), raw.end(), bytes.begin() + at);
    }
    start = end;
  }
}

// Sequence numbers that no run of the store leaves: half their range or more apart.
bool spread(NorFlash& flash) {
  const Flash port = flash.port();
  Record record;
  for (RecordWalk walk(port, nullptr); walk.next(record);) {
    if (record.info.sequence > 1u << 30) return true;
  }
  return false;
}

class Run {
 public:
  Run(Input& in, const Geometry& geometry, uint32_t payload_bytes)
      : in_(in), flash_(geometry), port_(flash_.port()), bytes_(payload_bytes) {
    fill(in, geometry, flash_.bytes(), payload_bytes);
    ordered_ = !spread(flash_);
  }

  void live() {
    mount();
    expected_ = payload();
    while (!in_.empty()) {
      const uint8_t action = in_.u8();
      if ((action & 0x80) != 0) {
        const auto tear = static_cast<Tear>(in_.u8() % 7);
        flash_.cut_at(flash_.operations + in_.u8() % 128, tear, in_.u8());
      }
      if ((action & 0xC0) == 0x40) flash_.wear_out(in_.u8() % 16);
      after_ = expected_;
      try {
        act(action % 7);
        expected_ = payload();
        if (ordered_) REQUIRE(expected_ == after_);
      } catch (const PowerCut&) {
        flash_.power_on();
        mount();
        const Payload found = payload();
        if (ordered_) REQUIRE(found == expected_ || found == after_);
        expected_ = found;
      }
      flash_.power_on();
      REQUIRE(!flash_.misused);
    }
  }

 private:
  void mount() {
    REQUIRE(store_.mount(&port_, image_hash, bytes_) == Status::ok);
    const Payload found = payload();
    REQUIRE(store_.payload() == nullptr || crc32(found.data(), bytes_) == store_.current().crc);
    // What is found once is found again.
    RecordStore again;
    REQUIRE(again.mount(&port_, image_hash, bytes_) == Status::ok);
    if (ordered_) {
      REQUIRE((again.payload() == nullptr) == (store_.payload() == nullptr));
      REQUIRE(std::equal(found.begin(), found.end(), again.payload()));
    }
    store_ = again;
  }
  [[nodiscard]] Payload payload() const {
    const uint8_t* p = store_.payload();
    return p == nullptr ? Payload() : Payload(p, p + bytes_);
  }
  Payload make_payload() {
    Payload p = in_.bytes(bytes_);
    p.resize(bytes_, 0x5A);
    return p;
  }
  // `after_` is what a cut may leave; back to what was where it did not work.
  void done(Status status, const Payload& before) {
    REQUIRE(status == Status::ok || status == Status::flash_failed);
    if (status != Status::ok) after_ = before;
  }

  void act(uint8_t action) {
    const Payload before = expected_;
    switch (action) {
      case 0: {
        const Payload p = make_payload();
        const uint32_t number = in_.u8();
        after_ = p;
        done(store_.commit(p.data(), {image_hash, bytes_, crc32(p.data(), bytes_), number, number,
                                      in_.u8() % 2 == 0}),
             before);
        break;
      }
      case 1:
        if (store_.fallback().sequence == 0) {
          REQUIRE(store_.rollback() == Status::no_checkpoint);
        } else {
          after_.assign(store_.fallback_payload(), store_.fallback_payload() + bytes_);
          done(store_.rollback(), before);
        }
        break;
      case 2:
        mount();
        break;
      case 3:
        staged_ = make_payload();
        (void)store_.begin({image_hash, bytes_, crc32(staged_.data(), bytes_) ^ (in_.u8() == 1), 0,
                            in_.u8(), true});
        break;
      case 4:
        if (store_.payload() != nullptr) done(store_.mark_stable(), before);
        break;
      case 5: {  // the next pieces of what was announced, then perhaps the end
        if (staged_.size() != bytes_) break;
        const uint32_t off = std::min<uint32_t>(store_.staged(), bytes_);
        (void)store_.append(off, staged_.data() + off, std::min<uint32_t>(in_.u8(), bytes_ - off));
        if (store_.staged() != bytes_) break;
        after_ = staged_;
        if (store_.seal() != Status::ok) after_ = before;
        break;
      }
      default: {  // pieces at any offset
        const Payload piece = in_.bytes(in_.u8());
        (void)store_.append(in_.number(), piece.data(), static_cast<uint32_t>(piece.size()));
        staged_.clear();
      }
    }
  }

  Input& in_;
  NorFlash flash_;
  Flash port_;
  uint32_t bytes_;
  RecordStore store_;
  Payload expected_, after_, staged_;
  bool ordered_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  const uint8_t shape = in.u8();
  const uint32_t payload_bytes = 4 * (in.u8() % 64u) + in.u8() % 4u;
  const uint32_t sector = 128u << (shape & 3u), word = 1u << ((shape >> 2) % 5);
  const uint32_t sectors_a_slot = (record_bytes(payload_bytes) + sector - 1) / sector;
  std::vector<uint32_t> sizes((3 + (shape >> 6)) * sectors_a_slot + (shape >> 5) % 2, sector);
  if ((shape & 32) != 0) sizes.back() *= 4;  // sectors may differ
  const Geometry geometry{sector, static_cast<uint32_t>(sizes.size()), word, sizes.data()};
  Run(in, geometry, payload_bytes).live();
  return 0;
}
