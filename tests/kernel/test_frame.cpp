// Frames: what goes in comes out, damage is counted and never delivered, and the next frame is
// found.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "kernel/bytes.h"
#include "runtime/link/frame.h"

namespace {

using kilotune::FrameDecoder;
using kilotune::kFrameCrcBytes;
using Buffer = std::vector<uint8_t>;

Buffer encode(Buffer body) {
  Buffer line;
  const uint32_t n = static_cast<uint32_t>(body.size());
  body.resize(n + kFrameCrcBytes);
  const kilotune::Link link{&line, [](void* context, const uint8_t* data, uint32_t count) {
                              auto* out = static_cast<Buffer*>(context);
                              out->insert(out->end(), data, data + count);
                            }};
  kilotune::frame_write(body.data(), n, link);
  return line;
}

std::vector<Buffer> decode(FrameDecoder& decoder, const Buffer& line) {
  std::vector<Buffer> bodies;
  for (const uint8_t byte : line) {
    if (decoder.push(byte)) {
      bodies.emplace_back(decoder.body(), decoder.body() + decoder.body_bytes());
    }
  }
  return bodies;
}

Buffer operator+(Buffer a, const Buffer& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Of lengths around the block length, rich in zeros, rich in runs without any.
Buffer random_body(std::mt19937& rng, uint32_t longest) {
  Buffer body(1 + rng() % longest);
  const auto zero_in = 1 + rng() % 400;
  for (uint8_t& b : body) b = rng() % zero_in == 0 ? 0 : static_cast<uint8_t>(1 + rng() % 255);
  return body;
}

}  // namespace

TEST_CASE("bytes in pieces give what single bytes give, damaged or not") {
  std::mt19937 rng(5);
  Buffer room(300), same_room(300);
  FrameDecoder single(room.data(), 300), pieces(same_room.data(), 300);
  for (int i = 0; i < 300; ++i) {
    Buffer line = encode(random_body(rng, 400));  // some are too long
    if (i % 3 == 0) line[rng() % line.size()] = static_cast<uint8_t>(rng() % 3);
    const std::vector<Buffer> expected = decode(single, line);
    std::vector<Buffer> got;
    for (uint32_t at = 0; at < line.size();) {
      const auto left = static_cast<uint32_t>(line.size()) - at;
      const uint32_t n = std::min<uint32_t>(left, 1 + rng() % 70);
      bool complete = false;
      const uint32_t taken = pieces.take(line.data() + at, n, complete);
      REQUIRE((taken == n || complete));
      at += taken;
      if (complete) got.emplace_back(pieces.body(), pieces.body() + pieces.body_bytes());
    }
    REQUIRE(got == expected);
  }
  const auto counts = [](const kilotune::FrameCounters& c) {
    return std::vector<uint32_t>{c.frames, c.bad_crc, c.bad_cobs, c.too_long};
  };
  CHECK(counts(single.counters()) == counts(pieces.counters()));
  CHECK(single.counters().too_long > 0);
  CHECK(single.counters().bad_cobs + single.counters().bad_crc > 0);
}

TEST_CASE("a frame comes out as it went in, at every length and with zeros anywhere") {
  std::mt19937 rng(1);
  Buffer room(2048);
  FrameDecoder decoder(room.data(), static_cast<uint32_t>(room.size()));
  uint32_t frames = 0;
  const auto holds = [&](const Buffer& body) {
    const Buffer line = encode(body);
    CHECK(line.size() <=
          kilotune::frame_worst_case_bytes(static_cast<uint32_t>(body.size()) + kFrameCrcBytes));
    for (size_t i = 0; i + 1 < line.size(); ++i) REQUIRE(line[i] != 0);
    const auto bodies = decode(decoder, line);
    REQUIRE(bodies.size() == 1);
    REQUIRE(bodies[0] == body);
    ++frames;
  };
  for (uint32_t n = 1; n <= 1100; ++n) {
    holds(Buffer(n, 0));
    holds(Buffer(n, 7));
  }
  for (int i = 0; i < 3000; ++i) holds(random_body(rng, 1500));
  CHECK(decoder.counters().frames == frames);
  CHECK(decoder.counters().bad_crc + decoder.counters().bad_cobs + decoder.counters().too_long ==
        0);
}

TEST_CASE("known frames have the bytes of the specification") {
  // CRC-32 of "123456789" is CBF43926.
  const Buffer digits = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
  const Buffer crc = {0x26, 0x39, 0xF4, 0xCB};
  CHECK(encode(digits) == Buffer{14} + digits + crc + Buffer{0});
  // CRC-32 of four zero bytes is 2144DF1C.
  CHECK(encode({0, 0, 0, 0}) == Buffer{1, 1, 1, 1, 5, 0x1C, 0xDF, 0x44, 0x21, 0});
}

TEST_CASE("a longest block that ends the frame is followed by nothing") {
  std::mt19937 rng(2);
  for (int i = 0; i < 200; ++i) {
    Buffer body(250);
    for (uint8_t& b : body) b = static_cast<uint8_t>(1 + rng() % 255);
    const uint32_t crc = kilotune::crc32(body.data(), 250);
    const bool has_zero =
        (crc & 0xFF) == 0 || (crc >> 8 & 0xFF) == 0 || (crc >> 16 & 0xFF) == 0 || crc >> 24 == 0;
    if (has_zero) continue;
    const Buffer line = encode(body);
    CHECK(line.size() == 256);
    CHECK(line[0] == 0xFF);
    Buffer room(300);
    FrameDecoder decoder(room.data(), 300);
    CHECK(decode(decoder, line) == std::vector<Buffer>{body});
  }
}

TEST_CASE("every single damaged byte is caught, and the frame behind it arrives") {
  std::mt19937 rng(3);
  const Buffer body = random_body(rng, 60), next = {1, 2, 3};
  const Buffer line = encode(body);
  for (size_t at = 0; at < line.size(); ++at) {
    for (int flip = 1; flip < 256; ++flip) {
      Buffer damaged = line;
      damaged[at] = static_cast<uint8_t>(damaged[at] ^ flip);
      Buffer room(128);
      FrameDecoder decoder(room.data(), 128);
      // A damaged delimiter joins the two; the third comes through in any case.
      const auto bodies = decode(decoder, damaged + encode(next) + encode(next));
      REQUIRE(bodies.size() >= 1);
      REQUIRE(bodies.size() <= 2);
      for (const Buffer& b : bodies) REQUIRE(b == next);
      const auto& c = decoder.counters();
      REQUIRE(c.bad_crc + c.bad_cobs + c.too_long >= 1);
    }
  }
}

TEST_CASE("a frame that was cut off is dropped and the next one arrives") {
  std::mt19937 rng(4);
  const Buffer body = random_body(rng, 600), next = {9};
  const Buffer line = encode(body);
  for (size_t keep = 0; keep + 1 < line.size(); ++keep) {
    Buffer room(1024);
    FrameDecoder decoder(room.data(), 1024);
    const Buffer cut(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(keep));
    const auto bodies = decode(decoder, cut + Buffer{0} + encode(next));
    REQUIRE(bodies == std::vector<Buffer>{next});
    const auto& c = decoder.counters();
    REQUIRE(c.bad_crc + c.bad_cobs == (keep == 0 ? 0u : 1u));
  }
}

TEST_CASE("a frame longer than the buffer is dropped without a byte written behind it") {
  constexpr uint32_t kRoom = 64;
  Buffer room(kRoom + 16, 0xA5);
  FrameDecoder decoder(room.data(), kRoom);
  CHECK(decode(decoder, encode(Buffer(kRoom - kFrameCrcBytes, 3))).size() == 1);
  CHECK(decode(decoder, encode(Buffer(kRoom - kFrameCrcBytes + 1, 3))).empty());
  CHECK(decode(decoder, encode(Buffer(5000, 0))).empty());
  CHECK(decoder.counters().too_long == 2);
  CHECK(decode(decoder, encode({1})).size() == 1);
  for (uint32_t i = kRoom; i < room.size(); ++i) CHECK(room[i] == 0xA5);
}

TEST_CASE("noise delivers nothing, and costs no more than the frame that it runs into") {
  std::mt19937 rng(5);
  Buffer room(512);
  FrameDecoder decoder(room.data(), 512);
  const Buffer body = {1, 2, 3, 4};
  uint32_t delivered = 0;
  for (int round = 0; round < 200; ++round) {
    Buffer noise(rng() % 3000);
    for (uint8_t& b : noise) b = static_cast<uint8_t>(rng());
    for (const Buffer& b : decode(decoder, noise + Buffer{0} + encode(body))) {
      REQUIRE(b == body);
      ++delivered;
    }
  }
  CHECK(delivered == 200);
  CHECK(decoder.counters().frames == 200);
}

TEST_CASE("runs of zeros, and frames of nothing but a checksum, are no frames") {
  Buffer room(64);
  FrameDecoder decoder(room.data(), 64);
  CHECK(decode(decoder, Buffer(100, 0)).empty());
  CHECK(decoder.counters().bad_cobs + decoder.counters().bad_crc == 0);
  CHECK(decode(decoder, {1, 1, 1, 1, 0}).empty());  // 3 bytes
  CHECK(decode(decoder, encode({})).empty());       // the checksum of an empty body is right
  CHECK(decoder.counters().bad_crc == 2);
}
