// The light that shows what the device does, and the button that makes it learn anew.
#ifndef KILOTUNE_APP_PANEL_H_
#define KILOTUNE_APP_PANEL_H_

#include "boards/board.h"
#include "runtime/engine/engine.h"

namespace kilotune {

// Learning blinks twice per second, detecting flashes every two seconds, an anomaly stays lit. A
// device that goes on learning flashes twice every two seconds until it has settled, and stays lit
// while there is an alarm, whatever single windows are. Two flashes in the first third of each
// second are trouble: the sensor has failed, or flash did not take what was learned.
class Panel {
 public:
  // From the main loop. True once for each press of the button.
  [[nodiscard]] bool step(const Engine& engine);

 private:
  [[nodiscard]] static board::Light light_of(const Engine& engine);
  [[nodiscard]] static board::Light with_trouble(board::Light light);

  board::Light shown_ = board::Light::off;
  bool lit_ = false;
  bool pressed_ = false;     // debounced
  uint32_t changed_ms_ = 0;  // when the button last agreed with pressed_
};

}  // namespace kilotune

#endif  // KILOTUNE_APP_PANEL_H_
