// Writes the messages of the protocol as a host would, right or wrong.
#ifndef KILOTUNE_TESTS_FUZZ_MESSAGE_H_
#define KILOTUNE_TESTS_FUZZ_MESSAGE_H_

#include <cstdint>
#include <vector>

namespace kilotune::fuzz {

// One CBOR array of the fields given; of indefinite length, as the host's may be.
class Message {
 public:
  Message& number(uint32_t v) { return head(0x00, v); }
  Message& integer(int32_t v) {
    return v >= 0 ? head(0x00, static_cast<uint32_t>(v))
                  : head(0x20, static_cast<uint32_t>(-1 - v));
  }
  Message& bytes(const uint8_t* data, size_t n) {
    head(0x40, static_cast<uint32_t>(n));
    out_.insert(out_.end(), data, data + n);
    return *this;
  }
  Message& bytes(const std::vector<uint8_t>& v) { return bytes(v.data(), v.size()); }
  [[nodiscard]] std::vector<uint8_t> finish() {
    out_.push_back(0xFF);
    return out_;
  }

 private:
  Message& head(uint8_t type, uint32_t v) {
    if (v < 24) {
      out_.push_back(static_cast<uint8_t>(type | v));
    } else {
      const int n = v < 0x100 ? 1 : (v < 0x10000 ? 2 : 4);
      out_.push_back(static_cast<uint8_t>(type | (n == 1 ? 24 : (n == 2 ? 25 : 26))));
      for (int i = n; i-- > 0;) out_.push_back(static_cast<uint8_t>(v >> (8 * i)));
    }
    return *this;
  }
  std::vector<uint8_t> out_{0x9F};
};

}  // namespace kilotune::fuzz

#endif  // KILOTUNE_TESTS_FUZZ_MESSAGE_H_
