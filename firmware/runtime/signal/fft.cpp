// A complex FFT of half the length over pairs of samples, then split into the spectrum of the real
// signal.
//
// Range: samples below 2^29 make pairs of modulus below 2^29.5. A butterfly halves its sum, so
// no modulus grows: every part stays below 2^29.5 plus a few units of rounding, and every sum of
// two below 2^31.
#include "runtime/signal/fft.h"

#include "runtime/signal/wide.h"

namespace kilotune {
namespace {

struct Complex {
  int32_t re, im;
};

// Half of z turned by -angle.
inline Complex turned(Complex z, Turn w) {
  return {half_dot(z.re, w.cosine, z.im, w.sine), half_dot(z.im, w.cosine, z.re, -w.sine)};
}
inline Complex load(const int32_t* z) { return {z[0], z[1]}; }
inline Complex halved(Complex z) { return {z.re >> 1, z.im >> 1}; }
inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
inline Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
inline void store(int32_t* z, Complex v) {
  z[0] = v.re;
  z[1] = v.im;
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
      const Complex t = turned(load(b), w), z = halved(load(a));
      store(a, z + t);
      store(b, z - t);
    }
  }
}

// The stages of `half` and of twice as much at once, so that four points are loaded and stored once
// and not twice: the same sums and the same roundings.
void two_stages(int32_t* data, uint32_t points, uint32_t half, const int32_t* sine_q31) {
  const uint32_t stride = points / (4 * half);
  const int32_t* const end = data + points;
  for (uint32_t j = 0; j < half; ++j) {
    const Turn v = turn(sine_q31, points / 4, 2 * j * stride);
    const Turn w = turn(sine_q31, points / 4, j * stride);
    const Turn further = {-w.sine, w.cosine};  // by another quarter
    for (int32_t* a = data + 2 * j; a < end; a += 8 * half) {
      int32_t *const b = a + 2 * half, *const c = b + 2 * half, *const d = c + 2 * half;
      const Complex u = turned(load(d), v), z = halved(load(c));
      const Complex even = turned(z + u, w), odd = turned(z - u, further);
      asm volatile("" ::: "memory");  // four values at a time stay in registers
      const Complex t = turned(load(b), v), y = halved(load(a));
      const Complex p = halved(y + t), q = halved(y - t);
      store(a, p + even);
      store(c, p - even);
      store(b, q + odd);
      store(d, q - odd);
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
  first_two_stages(data, pairs);
  uint32_t half = 4;
  for (; half < pairs / 2; half *= 4) two_stages(data, points, half, sine_q31);
  if (half < pairs) stage(data, points, half, sine_q31);
  split(data, points, sine_q31);
}

}  // namespace kilotune
