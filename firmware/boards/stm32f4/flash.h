// The internal flash of an STM32F4; provides board.h's checkpoint_flash and key_flash.
#ifndef KILOTUNE_BOARDS_STM32F4_FLASH_H_
#define KILOTUNE_BOARDS_STM32F4_FLASH_H_

namespace kilotune::board {

// Sets wait states for 168 MHz at 2.7 V or more, prefetch and caches. Before the core runs fast.
void prepare_flash();

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_STM32F4_FLASH_H_
