# Cortex-M7 with FPU; everything else is shared with the other MPS2 images.
set(BOARD_CPU_FLAGS -mcpu=cortex-m7;-mfpu=fpv5-sp-d16;-mfloat-abi=hard)
set(BOARD_SOURCES ${CMAKE_SOURCE_DIR}/firmware/boards/mps2/board.cpp
                  ${CMAKE_SOURCE_DIR}/firmware/boards/common/no_sensor.cpp
                  ${CMAKE_SOURCE_DIR}/firmware/boards/common/no_panel.cpp)
set(BOARD_INCLUDES ${CMAKE_SOURCE_DIR}/firmware/boards/mps2/an38x)
set(BOARD_CORTEX_M ON)
