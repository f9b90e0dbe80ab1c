// The head of the calibration block, byte by byte.
#include "runtime/learn/adapter_view.h"

namespace kilotune {

CalibrationHead AdapterView::head() const {
  const uint8_t* p = base_;
  CalibrationHead h;
  h.calibrated = p[0];
  h.candidate = p[1];
  h.scorer = p[2];
  h.held = p[3];
  h.learned = load_u16(p + 4);
  h.threshold = load_i16(p + 6);
  h.learned_seen = load_u32(p + 8);
  h.held_seen = load_u32(p + 12);
  h.residual_level = load_i16(p + 16);
  h.nearest_level = load_i16(p + 18);
  h.learn_slots = load_u16(p + 20);
  h.early = p[22];
  h.origin = p[23];
  h.origin_limit = load_i16(p + 24);
  h.early_limit = load_i16(p + 26);
  h.early_margin = load_i16(p + 28);
  h.early_permille = load_u16(p + 30);
  return h;
}

void AdapterView::set_head(const CalibrationHead& h) {
  uint8_t* p = base_;
  p[0] = h.calibrated;
  p[1] = h.candidate;
  p[2] = h.scorer;
  p[3] = h.held;
  store_u16(p + 4, h.learned);
  store_u16(p + 6, static_cast<uint16_t>(h.threshold));
  store_u32(p + 8, h.learned_seen);
  store_u32(p + 12, h.held_seen);
  store_u16(p + 16, static_cast<uint16_t>(h.residual_level));
  store_u16(p + 18, static_cast<uint16_t>(h.nearest_level));
  store_u16(p + 20, h.learn_slots);
  p[22] = h.early;
  p[23] = h.origin;
  store_u16(p + 24, static_cast<uint16_t>(h.origin_limit));
  store_u16(p + 26, static_cast<uint16_t>(h.early_limit));
  store_u16(p + 28, static_cast<uint16_t>(h.early_margin));
  store_u16(p + 30, h.early_permille);
}

}  // namespace kilotune
