# RP2040: Cortex-M0+, 264 KB of RAM, 2 MB of flash beside the chip.
set(BOARD_CPU_FLAGS -mcpu=cortex-m0plus)
kilotune_sensor_source(rpi_pico/sensor.cpp rpi_pico/sensor_spi.cpp)
set(BOARD_SOURCES ${CMAKE_SOURCE_DIR}/firmware/boards/rpi_pico/board.cpp
                  ${CMAKE_SOURCE_DIR}/firmware/boards/rpi_pico/flash.cpp
                  ${BOARD_SENSOR_SOURCE}
                  ${CMAKE_SOURCE_DIR}/firmware/boards/rpi_pico/panel.cpp)
set(BOARD_INCLUDES ${CMAKE_SOURCE_DIR}/firmware/boards/rpi_pico)
set(BOARD_CORTEX_M ON)
set(BOARD_BOOT_SECTION .boot2)

# After `firmware` is built: adds the boot stage with its checksum, and makes a UF2 file.
function(kilotune_finish_board)
  _kilotune_find_zcbor(python unused)  # the build's Python
  set(dir ${CMAKE_SOURCE_DIR}/firmware/boards/rpi_pico)
  add_custom_command(
    OUTPUT ${CMAKE_BINARY_DIR}/boot2_image.cpp
    COMMAND ${CMAKE_C_COMPILER} -c ${dir}/boot2.S -o boot2.o
    COMMAND ${CMAKE_OBJCOPY} -O binary -j .boot2_body boot2.o boot2.bin
    COMMAND ${python} ${dir}/boot2_image.py boot2.bin boot2_image.cpp
    DEPENDS ${dir}/boot2.S ${dir}/boot2_image.py
    WORKING_DIRECTORY ${CMAKE_BINARY_DIR} VERBATIM)
  target_sources(firmware PRIVATE ${CMAKE_BINARY_DIR}/boot2_image.cpp)
  add_custom_command(
    TARGET firmware POST_BUILD
    COMMAND ${CMAKE_COMMAND} -E env PYTHONPATH=${CMAKE_SOURCE_DIR}/host PYTHONDONTWRITEBYTECODE=1
            ${python} -m kilotune.targets.uf2 $<TARGET_FILE:firmware> ${CMAKE_BINARY_DIR}/kilotune.uf2
    VERBATIM)
endfunction()
