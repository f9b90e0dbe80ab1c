# nRF52840: Cortex-M4F, 256 KB of RAM, 1 MB of flash.
set(BOARD_CPU_FLAGS -mcpu=cortex-m4;-mfpu=fpv4-sp-d16;-mfloat-abi=hard)
kilotune_sensor_source(nrf/sensor.cpp nrf52840dk/sensor_spi.cpp)
set(BOARD_SOURCES ${CMAKE_SOURCE_DIR}/firmware/boards/nrf/board.cpp
                  ${CMAKE_SOURCE_DIR}/firmware/boards/nrf52840dk/serial.cpp
                  ${BOARD_SENSOR_SOURCE}
                  ${CMAKE_SOURCE_DIR}/firmware/boards/nrf/panel.cpp)
set(BOARD_INCLUDES ${CMAKE_SOURCE_DIR}/firmware/boards/nrf52840dk ${CMAKE_SOURCE_DIR}/firmware/boards/nrf)
set(BOARD_CORTEX_M ON)
