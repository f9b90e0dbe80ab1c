// The serial receive ring: order, overflow and wrap-around of its counters.
#include <doctest/doctest.h>

#include "boards/common/receive_ring.h"

namespace kilotune::board {
namespace {

TEST_CASE("bytes leave the ring in order, all of its size can be used, the rest is counted") {
  ReceiveRing<8> ring;
  uint8_t out[16];
  CHECK(ring.empty());
  CHECK(ring.take(out, 16) == 0);
  for (uint8_t i = 0; i < 11; ++i) ring.put(i);
  CHECK(ring.dropped() == 3);
  REQUIRE(ring.take(out, 5) == 5);
  for (uint8_t i = 0; i < 5; ++i) CHECK(out[i] == i);
  ring.put(50);
  REQUIRE(ring.take(out, 16) == 4);
  CHECK(out[2] == 7);
  CHECK(out[3] == 50);
  CHECK(ring.empty());
}

TEST_CASE("the ring is due where a frame has ended or it is half full, until it is read") {
  ReceiveRing<8> ring;
  uint8_t out[8];
  ring.put(5);
  CHECK_FALSE(ring.due());
  ring.put(0);
  CHECK(ring.due());
  ring.put(6);
  CHECK(ring.due());
  REQUIRE(ring.take(out, 8) == 3);
  CHECK_FALSE(ring.due());
  for (uint8_t i = 1; i <= 4; ++i) ring.put(i);
  CHECK_FALSE(ring.due());
  ring.put(5);
  CHECK(ring.due());
}

TEST_CASE("many rounds through the ring lose nothing") {
  ReceiveRing<4> ring;
  uint8_t expected = 0;
  for (uint32_t i = 0; i < 100000; ++i) {
    ring.put(static_cast<uint8_t>(2 * i));
    ring.put(static_cast<uint8_t>(2 * i + 1));
    uint8_t out[3];
    const uint32_t n = ring.take(out, 3);
    for (uint32_t k = 0; k < n; ++k) REQUIRE(out[k] == expected++);
  }
  CHECK(ring.dropped() == 0);
}

}  // namespace
}  // namespace kilotune::board
