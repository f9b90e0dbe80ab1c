// What keeps later learning true to the first: limits that the first learn phase sets once and for
// all, slow re-calibration within a budget, and how far parameters have moved.
#ifndef KILOTUNE_RUNTIME_LEARN_GUARD_H_
#define KILOTUNE_RUNTIME_LEARN_GUARD_H_

#include <cstdint>

#include "kernel/model.h"
#include "runtime/learn/adapter_view.h"
#include "runtime/learn/profile.h"
#include "runtime/learn/trend.h"
#include "schema/terms.h"

namespace kilotune {

// The reasons that send the device back to its checkpoint.
constexpr uint8_t kReturning = kEarlyAlarms | kTolerant | kInsensitive | kUnlike | kShifted;

struct Drift {
  uint16_t weights, biases;  // 1/1000, see GuardReport
};

constexpr uint32_t kLeastEarly = 3;  // fewer say nothing about distances
// What a later phase may cost: log2 by which the threshold falls towards the early windows (what is
// more is added), or rises over them (it is lowered to where it was; much more undoes the phase),
// pseudo-faults lost, alarms by one of so many early windows, drift.
constexpr int32_t kMarginLost_q10 = 128, kMarginGrowth_q10 = 512;
constexpr uint32_t kToldLoss_permille = 150;
constexpr uint32_t kAlarmShare = 4;
constexpr Drift kDriftLimit = {2500, 500};
// What a later phase may bring: one refused window in so many, and a shift. One window near a limit
// is chance; a phase of them is another machine.
// A window that is known counts as so many refused ones. Where one in nine is, others of the phase
// have been learned before and were not kept: held back now, they would vouch for themselves.
constexpr uint32_t kRefusedShare = 2;
constexpr uint32_t kKnownWeight = 4;
// Below this newness a window is known: its squared distance from a stored one is less than 1/6 of
// what stored ones keep from each other. A phase of windows that come nearer than 1/2 on average
// shares most of its samples with what was learned.
constexpr int32_t kKnown_q10 = -2647, kLeastNewness_q10 = -1024;
constexpr uint32_t kMostWindows = 65536;  // a longer phase is judged by its first ones
constexpr int32_t kShiftLimit_q10 = 512;
constexpr uint32_t kTrendMemory = 16, kAgeMemory = 64, kAgeLeast = 32;  // windows
// Re-calibration: 1/16 sigma a phase and feature, 1/4 sigma (RMS over features) in all.
constexpr uint32_t kAgeStep = 16, kAgeBudget = 4;

// What the guardrails measured in a learn phase; shares and sigmas in 1/1000, the rest Q10 log2.
struct GuardReport {
  uint8_t reasons;                   // Reason bits of this phase
  uint8_t returned;                  // 1: the device went back to its checkpoint
  uint8_t early;                     // early windows on the device
  uint8_t early_alarms;              // of them above the new threshold
  uint16_t drift_weights;            // RMS change from the base over the base's RMS, largest layer
  uint16_t drift_biases;             // RMS change over the layer's output range, largest layer
  uint16_t aged;                     // RMS sigma that re-calibration has moved the features, in all
  uint16_t unsteady;                 // RMS sigma between the end of a first phase and its mean
  int16_t loss_early_before;         // of the parameters that learning began with
  int16_t loss_early_after;          // of the trained candidate
  int16_t margin_first, margin_now;  // threshold less mean score of the early windows (without
                                     // any: of held-back ones), before it is moved
  uint16_t told_first, told_now;     // of pseudo-faults made of the early windows
  int16_t shift;                     // Q10: the larger of shift_q10 and that of bands
};

// Distance of a model input (features,) from the first calibration's mean: log2 of the mean over
// features of (input - zero point)^2, Q10.
int32_t origin_distance(const Profile& profile, const AdapterView& view, const int8_t* x);
// Distance to the two nearest early windows, slot `skip` left out: log2 of the mean over both and
// over features of (input - entry)^2, Q10. At least one must be left.
int32_t early_distance(const AdapterView& view, const int8_t* x, uint32_t early, uint32_t skip);
// What a phase that resumes was offered, windows of a broken sensor not counted. Known ones count
// as refused only.
struct Offered {
  uint32_t windows, refused;
  int32_t origin, early;  // distances, summed; Q10 log2
  int32_t newness;        // summed; see newness_q10
};
// True where `x` is farther from the first healthy windows than they are from each other; its
// distances are added to `sum`.
bool offer_drifted(const Profile& profile, const AdapterView& view, const int8_t* x, Offered& sum);
// How far the phase's windows lie out on average: the mean over both distances of
// (mean of the phase - mean of the early windows) / (limit - the latter), Q10, each clamped to +-4.
// 0: as the early windows do, 1024: at the limits. Needs kLeastEarly windows and one offered.
int32_t shift_q10(const Profile& profile, const AdapterView& view, const Offered& sum);

// RMS over features of (trend - calibrated mean) / sigma, 1/1000: 0 for a machine that kept still.
uint16_t unsteadiness(const AdapterView& view, const Trend& trend);
// Moves the feature means after the machine by a bounded step. `trend`: of model inputs less the
// zero point, Q6. False, and nothing is moved, where the budget is spent.
bool follow_age(const Profile& profile, const AdapterView& view, const Trend& trend);
// RMS sigma moved so far, 1/1000.
uint16_t aged_permille(const Profile& profile, const AdapterView& view);

// Of the trained parameters in `adapter` from the model's own.
Drift parameter_drift(const Model& model, const uint8_t* adapter);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LEARN_GUARD_H_
