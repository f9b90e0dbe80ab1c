// Features against a float64 reference, at the edges of the range, and against damaged sections.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <random>
#include <vector>

#include "feature_section.h"
#include "runtime/signal/features.h"

using namespace kilotune;
using kilotune_test::kPi;
using kilotune_test::SectionSpec;

namespace {

using Samples = std::vector<int16_t>;

std::vector<int16_t> compute(const SectionSpec& spec, const Samples& ring, uint32_t first = 0) {
  const std::vector<uint32_t> image = kilotune_test::build_section(spec);
  FeatureConfig config;
  REQUIRE(features_open(kilotune_test::bytes_of(image), kilotune_test::size_of(image),
                        kilotune_test::kSectionOff, config) == Status::ok);
  // A guard behind the scratch area and the output shows writes beyond them.
  std::vector<int32_t> scratch(feature_scratch_bytes(config) / 4 + 1, 0x5A5A5A5A);
  std::vector<int16_t> out(config.features_total + 1u, 0x5A5A);
  AxisRange ranges[kMaxAxes];
  for (uint32_t axis = 0; axis < config.axes; ++axis)
    ranges[axis] = range_of(ring.data() + axis, config.window, config.axes);
  features_compute(config, ring.data(), first, ranges, scratch.data(), out.data());
  CHECK(scratch.back() == 0x5A5A5A5A);
  CHECK(out.back() == 0x5A5A);
  out.pop_back();
  return out;
}

// Log2 features of one axis by their definition, in double.
std::vector<double> reference(const SectionSpec& spec, const Samples& ring, int axis) {
  const int n = spec.window;
  const double ref = spec.reference_q10 / 1024.0, floor = std::exp2(ref + spec.floor_q10 / 1024.0);
  std::vector<double> x(static_cast<size_t>(n));
  double mean = 0, m2 = 0, m4 = 0, peak = 0;
  for (int i = 0; i < n; ++i) mean += (x[i] = ring[static_cast<size_t>(i * spec.axes + axis)]) / n;
  for (double& v : x) {
    v -= mean;
    m2 += v * v / n;
    m4 += v * v * v * v / n;
    peak = std::fmax(peak, v * v);
  }
  std::vector<double> energy(static_cast<size_t>(spec.points / 2 + 1)), out;
  for (int k = 0; k <= spec.points / 2; ++k) {
    double re = 0, im = 0;
    for (int i = 0; i < n; ++i) {
      const double hann = 0.5 - 0.5 * std::cos(2 * kPi * i / n);
      const double angle = 2 * kPi * ((k * i) % spec.points) / spec.points;
      re += x[i] * hann * std::cos(angle);
      im += x[i] * hann * std::sin(angle);
    }
    energy[static_cast<size_t>(k)] = (re * re + im * im) / n;
  }
  for (const kilotune_test::BandSpec& band : spec.bands) {
    double sum = 0;
    for (int k = band.first; k < band.end; ++k)
      sum += band.weight(k) * energy[static_cast<size_t>(k)];
    out.push_back(std::log2(sum / band.weights() + floor) - ref);
  }
  const double rms = std::log2(m2 + floor) - ref, top = std::log2(peak + floor) - ref;
  const double kurtosis = std::log2(m4 + floor * floor) - 2 * std::log2(m2 + floor);
  const double statistics[4] = {rms, top, top - rms, kurtosis};
  for (int b = 0; b < 4; ++b) {
    if ((spec.statistics >> b) & 1) out.push_back(statistics[b]);
  }
  return out;
}

// Checks all axes; bands more than `range` log2 units below the loudest are left to the range
// tests.
void check_against_reference(const SectionSpec& spec, const Samples& ring, double tolerance,
                             double range) {
  const std::vector<int16_t> got = compute(spec, ring);
  const size_t per_axis = got.size() / spec.axes, bands = spec.bands.size();
  for (int axis = 0; axis < spec.axes; ++axis) {
    const std::vector<double> want = reference(spec, ring, axis);
    const double loudest = *std::max_element(want.begin(), want.begin() + static_cast<long>(bands));
    for (size_t i = 0; i < per_axis; ++i) {
      if (i < bands && want[i] < loudest - range) continue;
      const double value = std::fmin(std::fmax(want[i], -32), 32767 / 1024.0);
      CAPTURE(i);
      CHECK(std::fabs(got[static_cast<size_t>(axis) * per_axis + i] / 1024.0 - value) < tolerance);
    }
  }
}

Samples noise(size_t n, double sigma, uint32_t seed, double offset = 0) {
  std::mt19937 random(seed);
  std::normal_distribution<double> gauss(offset, sigma);
  Samples x(n);
  for (int16_t& v : x)
    v = static_cast<int16_t>(std::fmin(std::fmax(std::round(gauss(random)), -32768), 32767));
  return x;
}

SectionSpec spec_of(uint16_t window, uint16_t points, uint8_t axes = 1) {
  SectionSpec spec;
  spec.window = window;
  spec.hop = window;
  spec.points = points;
  spec.axes = axes;
  spec.statistics = 15;
  spec.bands = kilotune_test::spread_bands(points, points >= 256 ? 32 : 8);
  return spec;
}

}  // namespace

TEST_CASE("features of noise agree with float64 for every size") {
  const uint16_t sizes[][2] = {{16, 64},     {64, 64},     {200, 256},  {333, 512},
                               {1024, 1024}, {2047, 2048}, {2048, 2048}};
  for (const auto& size : sizes) {
    const SectionSpec spec = spec_of(size[0], size[1], 3);
    CAPTURE(size[0]);
    check_against_reference(spec, noise(size[0] * 3u, 6000, size[0]), 0.003, 17);
    check_against_reference(spec, noise(size[0] * 3u, 2, size[0], 30000), 0.003, 17);
  }
}

TEST_CASE("triangular bands agree with float64") {
  for (const uint16_t size : std::initializer_list<uint16_t>{64, 1024, 2048}) {
    SectionSpec spec = spec_of(size, size, 2);
    spec.bands = kilotune_test::triangles(size, size >= 256 ? 32 : 8);
    check_against_reference(spec, noise(size * 2u, 6000, size), 0.003, 17);
    spec.bands = {{0, size / 2 + 1, 16 * size, 65535}};  // the widest triangle there is
    Samples square(size * 2u);
    for (size_t i = 0; i < square.size(); ++i) square[i] = (i / 2) % 2 == 0 ? INT16_MAX : INT16_MIN;
    check_against_reference(spec, square, 0.003, 17);
  }
}

TEST_CASE("a band 70 dB below a loud tone is still measured") {
  SectionSpec spec = spec_of(1024, 1024);
  Samples x = noise(1024, 8, 7);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] =
        static_cast<int16_t>(x[i] + 32000 * std::sin(2 * kPi * 0.1234567 * static_cast<double>(i)));
  }
  check_against_reference(spec, x, 0.004, 23.25);
}

TEST_CASE("full-scale square waves of every period agree with float64") {
  for (const uint16_t size : std::initializer_list<uint16_t>{64, 1024, 2048}) {
    const SectionSpec spec = spec_of(size, size);
    for (size_t period = 1; period <= size; period *= 2) {
      Samples x(size);
      for (size_t i = 0; i < size; ++i) x[i] = (i / period) % 2 == 0 ? INT16_MAX : INT16_MIN;
      if (period == size) x[0] = INT16_MIN;
      check_against_reference(spec, x, 0.003, 20);
    }
  }
}

TEST_CASE("a constant axis gives the floor and no spread") {
  for (const int16_t level : std::initializer_list<int16_t>{INT16_MIN, 0, INT16_MAX}) {
    SectionSpec spec = spec_of(2048, 2048);
    spec.reference_q10 = 2048;
    spec.floor_q10 = -5 * 1024;
    const std::vector<int16_t> got = compute(spec, Samples(2048, level));
    for (size_t i = 0; i < 34; ++i) CHECK(got[i] == -5 * 1024);
    CHECK(got[34] == 0);
    CHECK(got[35] == 0);
  }
}

TEST_CASE("the ring may begin anywhere") {
  const SectionSpec spec = spec_of(256, 256, 2);
  const Samples x = noise(512, 900, 8);
  const std::vector<int16_t> want = compute(spec, x);
  for (const uint32_t first : {1u, 100u, 255u}) {
    Samples turned(x.size());
    for (size_t i = 0; i < x.size(); ++i) turned[(i + 2 * first) % x.size()] = x[i];
    CHECK(compute(spec, turned, first) == want);
  }
}

TEST_CASE("DC and Nyquist bins belong to bands that name them") {
  SectionSpec spec = spec_of(64, 64);
  spec.bands = {{0, 1}, {32, 33}, {0, 33}};
  check_against_reference(spec, noise(64, 5000, 9), 0.003, 20);
}

TEST_CASE("features saturate instead of wrapping") {
  SectionSpec spec = spec_of(64, 64);
  spec.statistics = 0;
  spec.reference_q10 = INT16_MIN;
  spec.floor_q10 = 0;
  for (const int16_t v : compute(spec, noise(64, 9000, 10))) CHECK(v == INT16_MAX);
  spec.reference_q10 = INT16_MAX;
  spec.floor_q10 = INT16_MIN;
  for (const int16_t v : compute(spec, Samples(64, 3))) CHECK(v == INT16_MIN);
}

TEST_CASE("every damaged field of the section is refused") {
  const SectionSpec spec = spec_of(200, 256, 3);
  const std::vector<uint32_t> good = kilotune_test::build_section(spec);
  const auto open = [](const std::vector<uint32_t>& image, uint32_t size) {
    FeatureConfig config;
    return features_open(kilotune_test::bytes_of(image), size, kilotune_test::kSectionOff, config);
  };
  REQUIRE(open(good, kilotune_test::size_of(good)) == Status::ok);
  for (uint32_t size = 0; size < kilotune_test::size_of(good); size += 4)
    CHECK(open(good, size) == Status::bad_image);

  const auto with = [&](uint32_t off, std::initializer_list<uint8_t> bytes) {
    std::vector<uint32_t> image = good;
    auto* p = reinterpret_cast<uint8_t*>(image.data()) + kilotune_test::kSectionOff + off;
    for (const uint8_t b : bytes) *p++ = b;
    return open(image, kilotune_test::size_of(image));
  };
  CHECK(with(0, {15, 0}) == Status::bad_image);        // window too short
  CHECK(with(0, {1, 1}) == Status::bad_image);         // window longer than the FFT
  CHECK(with(2, {0, 0}) == Status::bad_image);         // no hop
  CHECK(with(2, {201, 0}) == Status::bad_image);       // hop longer than the window
  CHECK(with(4, {255, 0}) == Status::bad_image);       // no power of two
  CHECK(with(4, {0, 16}) == Status::bad_image);        // 4096 points
  CHECK(with(6, {0}) == Status::bad_image);            // no axis
  CHECK(with(6, {5}) == Status::bad_image);            // five axes
  CHECK(with(7, {31}) == Status::bad_image);           // unknown statistic
  CHECK(with(7, {7}) == Status::bad_image);            // feature count does not match
  CHECK(with(8, {0, 0, 0, 0}) == Status::bad_image);   // no rate
  CHECK(with(12, {0, 0, 0, 0}) == Status::bad_image);  // no full scale
  CHECK(with(16, {255, 255}) == Status::bad_image);    // too many bands
  CHECK(with(20, {1, 0, 0, 0}) == Status::bad_image);  // unaligned bands
  CHECK(with(20, {252, 255, 255, 255}) == Status::bad_image);
  CHECK(with(24, {252, 255, 255, 255}) == Status::bad_image);  // tables outside
  CHECK(with(32, {9, 0, 9, 0}) == Status::bad_image);          // empty band
  CHECK(with(34, {130, 0}) == Status::bad_image);              // band beyond the Nyquist bin
  CHECK(with(36, {0, 9, 32, 0}) == Status::bad_image);         // triangle beside its bins
  CHECK(with(40, {0, 9}) == Status::bad_image);                // wrong log2(weights)
  CHECK(with(42, {1, 0}) == Status::bad_image);                // reserved
  const uint32_t tables = 32 + 32 * 12;
  CHECK(with(tables + 4 * 20 + 3, {0x7F}) == Status::bad_image);          // a sine that is none
  CHECK(with(tables + 4 * 20 + 3, {0x80}) == Status::bad_image);          // negative
  CHECK(with(tables + 4 * 65 + 4 * 9 + 3, {0x80}) == Status::bad_image);  // a negative window
}
