// What a device that goes on learning tells of time, and when it may learn.
#include "runtime/link/codec.h"
#include "runtime/link/session.h"

namespace kilotune {

// Between streams a device that lives on learns, where that is due.
void Session::begin_phase() {
  if (stream_ != 0 || !engine_.phase_is_due()) return;
  ++generation_;
  static_cast<void>(engine_.phase_begin());
}

Status Session::on_life(const None&) {
  const LifeState& s = engine_.life();
  life_answer a{};
  a.lives = s.on;
  a.age = s.age;
  a.next_phase = s.due;
  a.phases = s.phases;
  a.settled = s.settled;
  a.alarm = s.alarm;
  a.causes = s.causes;
  a.alarmed = s.recent;
  a.anchored = s.anchored;
  a.drift_1 = s.drift[0];
  a.drift_2 = s.drift[1];
  a.drift_3 = s.drift[2];
  a.drifts = s.drifts;
  a.allowance = s.allowance;
  return answer(cbor_encode_life_answer, a);
}

}  // namespace kilotune
