// One block at a time, with the mixing function in a loop: a few more cycles, and half the code.
#include "runtime/keys/blake2s.h"

#include <cstring>

#include "kernel/bytes.h"

namespace kilotune {
namespace {

constexpr uint32_t kIv[8] = {0x6A09E667u, 0xBB67AE85u, 0x3C6EF372u, 0xA54FF53Au,
                             0x510E527Fu, 0x9B05688Cu, 0x1F83D9ABu, 0x5BE0CD19u};
constexpr uint32_t kRounds = 10;

// Which message words each round takes, two per byte: the first in the upper half.
constexpr uint8_t kSigma[kRounds][8] = {{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF},
                                        {0xEA, 0x48, 0x9F, 0xD6, 0x1C, 0x02, 0xB7, 0x53},
                                        {0xB8, 0xC0, 0x52, 0xFD, 0xAE, 0x36, 0x71, 0x94},
                                        {0x79, 0x31, 0xDC, 0xBE, 0x26, 0x5A, 0x40, 0xF8},
                                        {0x90, 0x57, 0x24, 0xAF, 0xE1, 0xBC, 0x68, 0x3D},
                                        {0x2C, 0x6A, 0x0B, 0x83, 0x4D, 0x75, 0xFE, 0x19},
                                        {0xC5, 0x1F, 0xED, 0x4A, 0x07, 0x63, 0x92, 0x8B},
                                        {0xDB, 0x7E, 0xC1, 0x39, 0x50, 0xF4, 0x86, 0x2A},
                                        {0x6F, 0xE9, 0xB3, 0x08, 0xC2, 0xD7, 0x14, 0xA5},
                                        {0xA2, 0x84, 0x76, 0x15, 0xFB, 0x9E, 0x3C, 0xD0}};

uint32_t rotate_right(uint32_t x, uint32_t n) { return x >> n | x << (32 - n); }

// RFC 7693's G; called 80 times per block, so it stays a function.
void mix(uint32_t* v, uint32_t i, uint32_t x, uint32_t y) {
  const uint32_t diagonal = i >> 2;  // 0: columns, 1: diagonals
  uint32_t& a = v[i & 3];
  uint32_t& b = v[4 + ((i + diagonal) & 3)];
  uint32_t& c = v[8 + ((i + 2 * diagonal) & 3)];
  uint32_t& d = v[12 + ((i + 3 * diagonal) & 3)];
  a += b + x;
  d = rotate_right(d ^ a, 16);
  c += d;
  b = rotate_right(b ^ c, 12);
  a += b + y;
  d = rotate_right(d ^ a, 8);
  c += d;
  b = rotate_right(b ^ c, 7);
}

}  // namespace

Blake2s::Blake2s(uint32_t digest_bytes, const uint8_t* key, uint32_t key_bytes)
    : digest_bytes_(digest_bytes) {
  std::memcpy(h_, kIv, sizeof h_);
  h_[0] ^= 0x01010000u ^ key_bytes << 8 ^ digest_bytes;
  if (key_bytes == 0) return;
  std::memset(block_, 0, sizeof block_);
  std::memcpy(block_, key, key_bytes);
  fill_ = kBlockBytes;
}

Blake2s::~Blake2s() {
  wipe(h_, sizeof h_);
  wipe(block_, sizeof block_);
}

void Blake2s::compress(bool last) {
  taken_ += fill_;
  uint32_t v[16], m[16];
  for (uint32_t i = 0; i < 16; ++i) m[i] = load_u32(block_ + 4 * i);
  std::memcpy(v, h_, sizeof h_);
  std::memcpy(v + 8, kIv, sizeof kIv);
  v[12] ^= taken_;
  if (last) v[14] = ~v[14];
  for (const auto& round : kSigma) {
    for (uint32_t i = 0; i < 8; ++i) mix(v, i, m[round[i] >> 4], m[round[i] & 15]);
  }
  for (uint32_t i = 0; i < 8; ++i) h_[i] ^= v[i] ^ v[i + 8];
  wipe(m, sizeof m);  // may be the key
  fill_ = 0;
}

void Blake2s::add(const void* data, uint32_t n) {
  const auto* p = static_cast<const uint8_t*>(data);
  for (const uint8_t* end = p + n; p != end; ++p) {
    // A full block waits for the next byte, as the last block is compressed differently.
    if (fill_ == kBlockBytes) compress(false);
    block_[fill_++] = *p;
  }
}

void Blake2s::add_u32(uint32_t value) { add(&value, sizeof value); }

void Blake2s::finish(uint8_t* digest) {
  const uint32_t used = fill_;
  std::memset(block_ + used, 0, kBlockBytes - used);
  compress(true);
  std::memcpy(digest, h_, digest_bytes_);
}

bool same_bytes(const uint8_t* a, const uint8_t* b, uint32_t n) {
  volatile uint8_t difference = 0;
  for (uint32_t i = 0; i < n; ++i) difference = static_cast<uint8_t>(difference | (a[i] ^ b[i]));
  return difference == 0;
}

void wipe(void* memory, uint32_t n) {
  auto* p = static_cast<volatile uint8_t*>(memory);
  for (uint32_t i = 0; i < n; ++i) p[i] = 0;
}

}  // namespace kilotune
