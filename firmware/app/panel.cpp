// Blinking and debouncing, by the millisecond clock.
#include "app/panel.h"

#include "app/sensing.h"

namespace kilotune {
namespace {

using board::Light;

constexpr uint32_t kBounceMs = 30;  // a contact that has not changed back for this long has changed

bool is_lit(Light light, uint32_t ms) {
  if (light == Light::learn) return ms / 250 % 2 == 0;
  if (light == Light::detect) return ms % 2000 < 50;
  if (light == Light::settle) return ms % 2000 < 250 && ms % 200 < 50;
  if (light == Light::trouble) return ms % 1000 < 300 && ms % 200 < 100;
  return light == Light::anomaly;
}

}  // namespace

Light Panel::light_of(const Engine& engine) {
  const Phase phase = engine.phase();
  if (phase == Phase::learn || phase == Phase::train) return Light::learn;
  if (phase != Phase::detect) return Light::off;
  if (const Life* life = engine.living(); life != nullptr) {
    if (life->state().alarm != 0) return Light::anomaly;
    return life->watches() ? Light::detect : Light::settle;
  }
  WindowResult newest;
  const uint32_t end = engine.results_end();
  const bool anomaly = end > 0 && engine.result(end - 1, newest) && (newest.flags & kAnomaly) != 0;
  return anomaly ? Light::anomaly : Light::detect;
}

// A device whose sensor has failed judges nothing; one that could not commit still does.
Light Panel::with_trouble(Light light) {
  if (sensing::blind()) return Light::trouble;
  return sensing::unkept() && light != Light::anomaly ? Light::trouble : light;
}

bool Panel::step(const Engine& engine) {
  const uint32_t now = board::millis();
  const Light light = with_trouble(light_of(engine));
  const bool lit = is_lit(light, now);
  if (light != shown_ || lit != lit_) board::show(light, lit);
  shown_ = light;
  lit_ = lit;

  if (board::button() == pressed_) {
    changed_ms_ = now;
    return false;
  }
  if (now - changed_ms_ < kBounceMs) return false;
  pressed_ = !pressed_;
  return pressed_;
}

}  // namespace kilotune
