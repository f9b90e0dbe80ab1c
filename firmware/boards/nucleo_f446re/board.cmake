# STM32F446: Cortex-M4F, 128 KB of RAM, 512 KB of flash.
set(BOARD_CPU_FLAGS -mcpu=cortex-m4;-mfpu=fpv4-sp-d16;-mfloat-abi=hard)
kilotune_sensor_source(stm32f4/sensor.cpp stm32f4/sensor_spi.cpp)
set(BOARD_SOURCES ${CMAKE_SOURCE_DIR}/firmware/boards/stm32f4/board.cpp
                  ${CMAKE_SOURCE_DIR}/firmware/boards/stm32f4/flash.cpp
                  ${BOARD_SENSOR_SOURCE}
                  ${CMAKE_SOURCE_DIR}/firmware/boards/stm32f4/panel.cpp)
set(BOARD_INCLUDES ${CMAKE_SOURCE_DIR}/firmware/boards/nucleo_f446re ${CMAKE_SOURCE_DIR}/firmware/boards/stm32f4)
set(BOARD_BOOT_SECTION .vectors)  # sector 0; checkpoints lie between it and the program
set(BOARD_CORTEX_M ON)
