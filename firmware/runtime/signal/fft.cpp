// A complex FFT of half the length over pairs of samples, then split into the spectrum of the real
// signal.
//
// Range: samples below 2^29 make pairs of modulus below 2^29.5. A butterfly halves its sum, so
// no modulus grows: every part stays below 2^29.5 plus a few units of rounding, and every sum of
// two below 2^31.
#include "runtime/signal/fft.h"

namespace kilotune {
namespace {

// (a * b + c * d) / 2^32: half the sum of two products by Q31 factors; below 2^61 inside, rounded
// down.
inline int32_t half_dot(int32_t a, int32_t b, int32_t c, int32_t d) {
  return static_cast<int32_t>((static_cast<int64_t>(a) * b + static_cast<int64_t>(c) * d) >> 32);
}

void bit_reverse(int32_t* data, uint32_t pairs) {
  uint32_t mirrored = 0;
  for (uint32_t i = 1; i < pairs; ++i) {
    uint32_t bit = pairs >> 1;
    for (; (mirrored & bit) != 0; bit >>= 1) mirrored ^= bit;
    mirrored |= bit;
    if (i >= mirrored) continue;
    for (uint32_t part = 0; part < 2; ++part) {
      const int32_t held = data[2 * i + part];
      data[2 * i + part] = data[2 * mirrored + part];
      data[2 * mirrored + part] = held;
    }
  }
}

// Stages one and two at once: their twiddles are 1 and -i.
void first_two_stages(int32_t* data, uint32_t pairs) {
  for (int32_t* z = data; z != data + 2 * pairs; z += 8) {
    for (uint32_t part = 0; part < 2; ++part) {
      const int32_t a = z[part] >> 1, b = z[2 + part] >> 1;
      z[part] = a + b;
      z[2 + part] = a - b;
    }
    const int32_t c_re = z[4] >> 1, c_im = z[5] >> 1, d_re = z[6] >> 1, d_im = z[7] >> 1;
    const int32_t sum_re = (c_re + d_re) >> 1, sum_im = (c_im + d_im) >> 1;
    const int32_t turned_re = (c_im - d_im) >> 1, turned_im = (d_re - c_re) >> 1;  // (c - d) * -i
    const int32_t a_re = z[0] >> 1, a_im = z[1] >> 1, b_re = z[2] >> 1, b_im = z[3] >> 1;
    z[0] = a_re + sum_re;
    z[1] = a_im + sum_im;
    z[2] = b_re + turned_re;
    z[3] = b_im + turned_im;
    z[4] = a_re - sum_re;
    z[5] = a_im - sum_im;
    z[6] = b_re - turned_re;
    z[7] = b_im - turned_im;
  }
}

void stage(int32_t* data, uint32_t points, uint32_t half, const int32_t* sine_q31) {
  const uint32_t stride = points / (2 * half);
  const int32_t* const end = data + points;
  for (uint32_t j = 0; j < half; ++j) {
    const Turn w = turn(sine_q31, points / 4, j * stride);
    for (int32_t* a = data + 2 * j; a < end; a += 4 * half) {
      int32_t* const b = a + 2 * half;
      const int32_t re = half_dot(b[0], w.cosine, b[1], w.sine);
      const int32_t im = half_dot(b[1], w.cosine, b[0], -w.sine);
      const int32_t a_re = a[0] >> 1, a_im = a[1] >> 1;
      a[0] = a_re + re;
      a[1] = a_im + im;
      b[0] = a_re - re;
      b[1] = a_im - im;
    }
  }
}

// X(k) / points = (E + W^k O) / 2 with E, O the spectra of even and odd samples: E = (Z(k) +
// Z*(-k)) / 2, O = -i (Z(k) - Z*(-k)) / 2. Here e and o are twice E and O, below 2^30.5: halved
// before they meet.
void split(int32_t* data, uint32_t points, const int32_t* sine_q31) {
  const int32_t re0 = data[0] >> 1, im0 = data[1] >> 1;
  data[0] = re0 + im0;
  data[1] = re0 - im0;
  for (uint32_t k = 1; k <= points / 4; ++k) {
    int32_t* const a = data + 2 * k;
    int32_t* const b = data + (points - 2 * k);
    const Turn w = turn(sine_q31, points / 4, k);
    const int32_t e_re = (a[0] + b[0]) >> 2, e_im = (a[1] - b[1]) >> 2;
    const int32_t o_re = (a[1] + b[1]) >> 1, o_im = (b[0] - a[0]) >> 1;
    const int32_t t_re = half_dot(o_re, w.cosine, o_im, w.sine);
    const int32_t t_im = half_dot(o_im, w.cosine, o_re, -w.sine);
    a[0] = e_re + t_re;
    a[1] = e_im + t_im;
    b[0] = e_re - t_re;
    b[1] = t_im - e_im;
  }
}

}  // namespace

void fft_real(int32_t* data, uint32_t points, const int32_t* sine_q31) {
  const uint32_t pairs = points / 2;
  bit_reverse(data, pairs);
  first_two_stages(data, pairs);
  for (uint32_t half = 4; half < pairs; half *= 2) stage(data, points, half, sine_q31);
  split(data, points, sine_q31);
}

}  // namespace kilotune
