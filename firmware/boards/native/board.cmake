# A process of the build machine.
set(BOARD_SOURCES
    ${CMAKE_SOURCE_DIR}/firmware/boards/native/board.cpp
    ${CMAKE_SOURCE_DIR}/firmware/boards/native/line.cpp
    ${CMAKE_SOURCE_DIR}/firmware/boards/native/options.cpp
    ${CMAKE_SOURCE_DIR}/firmware/boards/native/receiver.cpp
    ${CMAKE_SOURCE_DIR}/firmware/boards/native/slow_flash.cpp
    ${CMAKE_SOURCE_DIR}/firmware/boards/native/sensor_mount.cpp
    ${CMAKE_SOURCE_DIR}/firmware/boards/native/sensors/sensor_model.cpp
    ${CMAKE_SOURCE_DIR}/firmware/boards/native/sensors/lis2dw12_model.cpp
    ${CMAKE_SOURCE_DIR}/firmware/boards/native/sensors/adxl345_model.cpp
    ${CMAKE_SOURCE_DIR}/firmware/boards/native/sensors/lsm6dso_model.cpp)
set(BOARD_LIBRARIES pthread)
set(BOARD_INCLUDES ${CMAKE_SOURCE_DIR}/firmware/boards/native)
set(BOARD_PROGRAM kilotune-native)
