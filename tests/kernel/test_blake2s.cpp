// BLAKE2s against RFC 7693: the example of appendix B and the self test of appendix E, which runs
// every digest length with and without a key. tests/host/link/test_keys.py holds it to hashlib.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "runtime/keys/blake2s.h"

using kilotune::Blake2s;
using kilotune::same_bytes;

namespace {

std::vector<uint8_t> hash(uint32_t digest_bytes, const std::vector<uint8_t>& key,
                          const std::vector<uint8_t>& data) {
  std::vector<uint8_t> out(digest_bytes);
  Blake2s state(digest_bytes, key.data(), static_cast<uint32_t>(key.size()));
  state.add(data.data(), static_cast<uint32_t>(data.size()));
  state.finish(out.data());
  return out;
}

// Appendix E: a deterministic sequence from a Fibonacci generator.
std::vector<uint8_t> sequence(uint32_t n, uint32_t seed) {
  std::vector<uint8_t> out(n);
  uint32_t a = 0xDEAD4BADu * seed, b = 1;
  for (uint8_t& byte : out) {
    const uint32_t t = a + b;
    a = b;
    b = t;
    byte = static_cast<uint8_t>(t >> 24);
  }
  return out;
}

}  // namespace

TEST_CASE("BLAKE2s gives the digest of RFC 7693 appendix B") {
  const std::vector<uint8_t> expected = {0x50, 0x8C, 0x5E, 0x8C, 0x32, 0x7C, 0x14, 0xE2,
                                         0xE1, 0xA7, 0x2B, 0xA3, 0x4E, 0xEB, 0x45, 0x2F,
                                         0x37, 0x45, 0x8B, 0x20, 0x9E, 0xD6, 0x3A, 0x29,
                                         0x4D, 0x99, 0x9B, 0x4C, 0x86, 0x67, 0x59, 0x82};
  CHECK(hash(32, {}, {'a', 'b', 'c'}) == expected);
}

TEST_CASE("BLAKE2s passes the self test of RFC 7693 appendix E") {
  const std::vector<uint8_t> expected = {0x6A, 0x41, 0x1F, 0x08, 0xCE, 0x25, 0xAD, 0xCD,
                                         0xFB, 0x02, 0xAB, 0xA6, 0x41, 0x45, 0x1C, 0xEC,
                                         0x53, 0xC5, 0x98, 0xB2, 0x4F, 0x4F, 0xC7, 0x87,
                                         0xFB, 0xDC, 0x88, 0x79, 0x7F, 0x4C, 0x1D, 0xFE};
  std::vector<uint8_t> all;
  for (const uint32_t digest_bytes : {16u, 20u, 28u, 32u}) {
    for (const uint32_t n : {0u, 3u, 64u, 65u, 255u, 1024u}) {
      const std::vector<uint8_t> data = sequence(n, n);
      const std::vector<uint8_t> plain = hash(digest_bytes, {}, data);
      const std::vector<uint8_t> keyed =
          hash(digest_bytes, sequence(digest_bytes, digest_bytes), data);
      all.insert(all.end(), plain.begin(), plain.end());
      all.insert(all.end(), keyed.begin(), keyed.end());
    }
  }
  CHECK(hash(32, {}, all) == expected);
}

TEST_CASE("The same bytes are the same, and one bit anywhere is not") {
  const std::vector<uint8_t> a = sequence(16, 3);
  CHECK(same_bytes(a.data(), a.data(), 16));
  for (uint32_t bit = 0; bit < 128; ++bit) {
    std::vector<uint8_t> b = a;
    b[bit / 8] = static_cast<uint8_t>(b[bit / 8] ^ (1u << (bit % 8)));
    CHECK_FALSE(same_bytes(a.data(), b.data(), 16));
  }
  CHECK(same_bytes(a.data(), a.data(), 0));
}
