// For boards without a light and a button.
#include "boards/board.h"

namespace kilotune::board {

void show(Light, bool) {}
bool button() { return false; }

}  // namespace kilotune::board
