// Builds the feature section of a model image in memory, as SPEC 1.6 says, for the tests.
#ifndef KILOTUNE_TESTS_KERNEL_FEATURE_SECTION_H_
#define KILOTUNE_TESTS_KERNEL_FEATURE_SECTION_H_

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace kilotune_test {

struct BandSpec {
  int first, end;                  // bins
  int centre = 0, half_width = 0;  // in 1/32 bin; half width 0: flat

  double weight(int bin) const {
    return half_width == 0 ? 1 : half_width - std::abs(32 * bin - centre);
  }
  double weights() const {
    double sum = 0;
    for (int k = first; k < end; ++k) sum += weight(k);
    return sum;
  }
};

struct SectionSpec {
  uint16_t window = 1024, hop = 512, points = 1024;
  uint8_t axes = 1, statistics = 0;
  std::vector<BandSpec> bands;
  int16_t reference_q10 = 0, floor_q10 = -20 * 1024;
};

constexpr uint32_t kSectionOff = 4;
constexpr double kPi = 3.14159265358979323846;

inline int32_t to_q31(double x) {
  return static_cast<int32_t>(std::fmin(std::nearbyint(x * 2147483648.0), 2147483647.0));
}

// uint32 storage keeps the image 4-aligned; the section begins at kSectionOff.
inline std::vector<uint32_t> build_section(const SectionSpec& s) {
  std::vector<uint8_t> out(kSectionOff, 0);
  const auto put = [&out](uint64_t v, int n) {
    for (int i = 0; i < n; ++i) out.push_back(static_cast<uint8_t>(v >> (8 * i)));
  };
  const auto bands = static_cast<uint32_t>(s.bands.size());
  uint32_t statistics = 0;
  for (int b = 0; b < 8; ++b) statistics += (s.statistics >> b) & 1;
  put(s.window, 2), put(s.hop, 2), put(s.points, 2), put(s.axes, 1), put(s.statistics, 1);
  put(20000000, 4), put(16000000, 4), put(bands, 2), put(bands + statistics, 2);
  put(kSectionOff + 32, 4), put(kSectionOff + 32 + 12 * bands, 4);
  put(static_cast<uint16_t>(s.reference_q10), 2), put(static_cast<uint16_t>(s.floor_q10), 2);
  for (const BandSpec& band : s.bands) {
    for (const int v : {band.first, band.end, band.centre, band.half_width}) {
      put(static_cast<uint32_t>(v), 2);
    }
    put(static_cast<uint64_t>(std::nearbyint(1024 * std::log2(band.weights()))), 2), put(0, 2);
  }
  for (int k = 0; k <= s.points / 4; ++k) {
    put(static_cast<uint32_t>(to_q31(std::sin(2 * kPi * k / s.points))), 4);
  }
  for (int i = 0; s.window != s.points && i <= s.window / 2; ++i) {
    put(static_cast<uint32_t>(to_q31(0.5 - 0.5 * std::cos(2 * kPi * i / s.window))), 4);
  }
  std::vector<uint32_t> words(out.size() / 4);
  for (size_t i = 0; i < out.size(); ++i)
    words[i / 4] |= static_cast<uint32_t>(out[i]) << (8 * (i % 4));
  return words;
}

inline const uint8_t* bytes_of(const std::vector<uint32_t>& words) {
  return reinterpret_cast<const uint8_t*>(words.data());
}
inline uint32_t size_of(const std::vector<uint32_t>& words) {
  return static_cast<uint32_t>(words.size() * 4);
}

// `n` flat bands that together cover bins 1 to points / 2, each at least one bin wide.
inline std::vector<BandSpec> spread_bands(int points, int n) {
  std::vector<BandSpec> bands;
  int first = 1;
  for (int i = 1; i <= n; ++i) {
    const int aim = static_cast<int>(std::pow(points / 2.0, static_cast<double>(i) / n)) + 1;
    const int end = aim > first ? aim : first + 1;
    bands.push_back({first, end});
    first = end;
  }
  return bands;
}

// Triangles around the same bands, reaching as far again on either side.
inline std::vector<BandSpec> triangles(int points, int n) {
  std::vector<BandSpec> bands = spread_bands(points, n);
  for (BandSpec& band : bands) {
    band.centre = 16 * (band.first + band.end - 1);
    band.half_width = 32 * (band.end - band.first) + 16;
    const auto inside = [&](int k) { return k >= 0 && k <= points / 2 && band.weight(k) > 0; };
    while (inside(band.first - 1)) --band.first;
    while (inside(band.end)) ++band.end;
  }
  return bands;
}

}  // namespace kilotune_test

#endif  // KILOTUNE_TESTS_KERNEL_FEATURE_SECTION_H_
