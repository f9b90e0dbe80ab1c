// The stages of a window's work, for the program that counts each one's instructions
// (firmware/app/window_costs). Any other build has no trace of them.
#ifndef KILOTUNE_RUNTIME_SIGNAL_STAGES_H_
#define KILOTUNE_RUNTIME_SIGNAL_STAGES_H_

#include <cstdint>

namespace kilotune {

enum class Stage : uint8_t {
  none,           // outside of the engine
  intake,         // frames into the window
  gate,           // signs of a broken sensor
  mean_and_hann,  // of all axes, as the next ones
  fft,
  bands,
  log,
  statistics,
  normalise,
  network,
  scorers,
  reservoir,
  rest,  // counters and the result
  count
};

#if KILOTUNE_STAGES
// What follows belongs to `stage`, until the next call.
void enter(Stage stage);
#else
inline void enter(Stage) {}
#endif

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_SIGNAL_STAGES_H_
