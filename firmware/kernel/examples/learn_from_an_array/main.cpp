// Prints the loss before and after 200 training steps; the exit code says whether it fell.
#include <cstdio>

#include "learn.h"

int main() {
  const Losses losses = learn();
  std::printf("status %d: loss before %lu, after 200 steps %lu\n", static_cast<int>(losses.status),
              static_cast<unsigned long>(losses.before), static_cast<unsigned long>(losses.after));
  return losses.status == kilotune::Status::ok && losses.after < losses.before ? 0 : 1;
}
