# nRF51822: Cortex-M0, 16 KB of RAM, 256 KB of flash.
set(BOARD_CPU_FLAGS -mcpu=cortex-m0)
kilotune_sensor_source(nrf/sensor.cpp)
set(BOARD_SOURCES ${CMAKE_SOURCE_DIR}/firmware/boards/nrf/board.cpp
                  ${CMAKE_SOURCE_DIR}/firmware/boards/microbit/serial.cpp
                  ${BOARD_SENSOR_SOURCE}
                  ${CMAKE_SOURCE_DIR}/firmware/boards/nrf/panel.cpp)
set(BOARD_INCLUDES ${CMAKE_SOURCE_DIR}/firmware/boards/microbit ${CMAKE_SOURCE_DIR}/firmware/boards/nrf)
set(BOARD_CORTEX_M ON)
