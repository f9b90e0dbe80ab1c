// The Python module kilotune._native: the firmware's own code, for the twin and for tests.
#include "native.h"

NB_MODULE(_native, m) {
  kilotune::native::bind_kernel(m);
  kilotune::native::bind_runtime(m);
}
