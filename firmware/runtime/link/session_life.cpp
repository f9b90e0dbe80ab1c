// What a device that goes on learning tells of time and is told of its alarms, and when it may
// learn.
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
  if (!kHasLife) return Status::no_life;
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
  a.band_1 = s.bands[0];
  a.band_2 = s.bands[1];
  a.band_3 = s.bands[2];
  a.accepting = s.accepting;
  a.normals = s.normals;
  a.faults = s.faults;
  a.told = s.told;
  if (const Life* life = engine_.living(); life != nullptr) {
    a.rule_alarmed = life->alarmed();
    a.rule_of = life->of();
    a.judged = life->has_judged();
    a.score = life->score();
    a.limit = engine_.record_limit();
    a.distance = life->distance();
    a.anchor_limit = life->anchor_limit_q10();
  }
  return answer(cbor_encode_life_answer, a);
}

Status Session::on_acknowledge(const uint32_t& what) {
  if (!kHasLife) return Status::no_life;
  if (what > static_cast<uint32_t>(Acknowledgement::fault)) return Status::bad_argument;
  pushing_ = false;
  ++generation_;
  const Status status = engine_.acknowledge(static_cast<Acknowledgement>(what));
  return status == Status::ok ? answer_checkpoint() : status;
}

Status Session::on_alarm_rule(const alarm_rule_request& m) {
  if (!kHasLife) return Status::no_life;
  pushing_ = false;
  ++generation_;
  const Status status = engine_.set_alarm_rule(m.alarmed, m.of);
  return status == Status::ok ? answer_checkpoint() : status;
}

}  // namespace kilotune
