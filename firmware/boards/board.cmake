# Turns a board's folder into firmware: memory map from board.json, sources from its board.cmake.

set(KILOTUNE_BOARDS_DIR ${CMAKE_CURRENT_LIST_DIR})

# A number in board.json, decimal or "0x..." text; sets BOARD_<name>.
macro(_kilotune_board_number name)
  string(JSON BOARD_${name} GET "${board_json}" ${ARGN})
  math(EXPR BOARD_${name} "${BOARD_${name}}")
endmacro()

# As above, with a value for a board.json without it.
macro(_kilotune_board_option name default)
  string(JSON BOARD_${name} ERROR_VARIABLE absent GET "${board_json}" ${ARGN})
  if(absent)
    set(BOARD_${name} ${default})
  endif()
  math(EXPR BOARD_${name} "${BOARD_${name}}")
endmacro()

macro(kilotune_read_board id)
  set(board_dir ${KILOTUNE_BOARDS_DIR}/${id})
  if(NOT EXISTS ${board_dir}/board.json)
    file(GLOB known RELATIVE ${KILOTUNE_BOARDS_DIR} ${KILOTUNE_BOARDS_DIR}/*/board.json)
    list(TRANSFORM known REPLACE "/board.json" "")
    message(FATAL_ERROR "There is no board '${id}'. Boards: ${known}")
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${board_dir}/board.json)
  file(READ ${board_dir}/board.json board_json)
  string(JSON BOARD_ID GET "${board_json}" id)
  _kilotune_board_number(RAM_BASE ram base)
  _kilotune_board_number(RAM_BYTES ram bytes)
  _kilotune_board_number(STACK_BYTES stack_bytes)
  _kilotune_board_number(PROGRAM_BASE program base)
  _kilotune_board_number(PROGRAM_BYTES program bytes)
  _kilotune_board_option(BOOT_BASE ${BOARD_PROGRAM_BASE} boot base)
  _kilotune_board_option(BOOT_BYTES 0 boot bytes)
  _kilotune_board_option(MAX_FRAME 0 max_frame)
  _kilotune_board_option(RECEIVE_RING 1024 receive_ring)
  _kilotune_board_number(FLASH_BASE flash base)
  _kilotune_board_number(FLASH_BYTES flash bytes)
  _kilotune_board_number(MODEL_OFFSET flash model_offset)
  _kilotune_board_number(MODEL_BYTES flash model_bytes)
  _kilotune_board_number(CHECKPOINT_OFFSET flash checkpoint_offset)
  _kilotune_board_number(SECTOR_BYTES flash sector_bytes)
  _kilotune_board_number(SECTOR_COUNT flash sector_count)
  _kilotune_board_number(WORD_BYTES flash word_bytes)
  _kilotune_board_number(KEY_OFFSET flash key_offset)
  _kilotune_board_number(KEY_SECTOR_BYTES flash key_sector_bytes)
  _kilotune_board_number(KEY_SECTOR_COUNT flash key_sector_count)
  _kilotune_board_number(FIXED_BUDGET budget ram_bytes)
  _kilotune_board_number(PROGRAM_BUDGET budget program_bytes)
  if(NOT KILOTUNE_RECEIVE_RING)
    set(KILOTUNE_RECEIVE_RING ${BOARD_RECEIVE_RING})
  endif()
  if(NOT KILOTUNE_MAX_FRAME AND BOARD_MAX_FRAME)
    set(KILOTUNE_MAX_FRAME ${BOARD_MAX_FRAME})
  endif()
  set(BOARD_PROGRAM kilotune)
  include(${board_dir}/board.cmake)
endmacro()

# Bytes of RAM that the engine needs for KILOTUNE_MODEL, told by the runtime itself: compiled for
# the build machine, in a build of its own.
function(_kilotune_engine_bytes out)
  set(dir ${CMAKE_BINARY_DIR}/ram_bytes)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${KILOTUNE_MODEL})
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env --unset=CC --unset=CXX  # CMake has set them to the cross compiler
            ${CMAKE_COMMAND} -S ${CMAKE_SOURCE_DIR}/firmware/app/ram_bytes -B ${dir} -G ${CMAKE_GENERATOR}
            -DCMAKE_MAKE_PROGRAM=${CMAKE_MAKE_PROGRAM} -DCMAKE_BUILD_TYPE=Release
    RESULT_VARIABLE failed OUTPUT_VARIABLE log ERROR_VARIABLE log)
  if(NOT failed)
    execute_process(COMMAND ${CMAKE_COMMAND} --build ${dir}
                    RESULT_VARIABLE failed OUTPUT_VARIABLE log ERROR_VARIABLE log)
  endif()
  if(failed)
    message(FATAL_ERROR "KILOTUNE_MODEL needs a compiler for this computer (Debian: g++):\n${log}")
  endif()
  execute_process(COMMAND ${dir}/ram_bytes ${KILOTUNE_MODEL}
                  RESULT_VARIABLE failed OUTPUT_VARIABLE bytes ERROR_VARIABLE log
                  OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(failed)
    message(FATAL_ERROR "${log}")
  endif()
  set(${out} ${bytes} PARENT_SCOPE)
endfunction()

# A bit for each opcode that KILOTUNE_MODEL uses (docs/SPEC.md, 1.1 and 1.3).
function(_kilotune_opcodes out)
  file(READ ${KILOTUNE_MODEL} header OFFSET 80 LIMIT 16 HEX)
  foreach(i RANGE 0 15)
    math(EXPR at "2 * ${i}")
    string(SUBSTRING ${header} ${at} 2 byte${i})
  endforeach()
  math(EXPR count "0x${byte3}${byte2}")
  math(EXPR table "0x${byte15}${byte14}${byte13}${byte12}")
  set(mask 0)
  math(EXPR last "${count} - 1")
  foreach(i RANGE ${last})
    math(EXPR at "${table} + 64 * ${i}")
    file(READ ${KILOTUNE_MODEL} opcode OFFSET ${at} LIMIT 1 HEX)
    math(EXPR mask "${mask} | (1 << 0x${opcode})")
  endforeach()
  set(${out} ${mask} PARENT_SCOPE)
endfunction()

function(kilotune_add_firmware)
  set(BOARD_ENGINE_BYTES 0)
  if(KILOTUNE_RAM_BYTES)
    set(BOARD_ENGINE_BYTES ${KILOTUNE_RAM_BYTES})
  elseif(KILOTUNE_MODEL)
    _kilotune_engine_bytes(BOARD_ENGINE_BYTES)
    message(STATUS "Engine RAM for ${KILOTUNE_MODEL}: ${BOARD_ENGINE_BYTES} bytes")
  endif()
  set(generated ${CMAKE_BINARY_DIR}/generated)
  configure_file(${KILOTUNE_BOARDS_DIR}/common/board_layout.h.in ${generated}/board_layout.h @ONLY)

  add_executable(firmware ${CMAKE_SOURCE_DIR}/firmware/app/main.cpp ${BOARD_SOURCES})
  set_target_properties(firmware PROPERTIES OUTPUT_NAME ${BOARD_PROGRAM})
  target_include_directories(firmware PRIVATE ${generated} ${BOARD_INCLUDES})
  target_compile_definitions(firmware PRIVATE KILOTUNE_RAM_BYTES=${BOARD_ENGINE_BYTES}
                                              KILOTUNE_RECEIVE_RING=${KILOTUNE_RECEIVE_RING})
  target_compile_options(firmware PRIVATE ${KILOTUNE_WARNINGS})
  target_link_libraries(firmware PRIVATE kilotune_runtime ${BOARD_LIBRARIES})
  if(NOT BOARD_CORTEX_M)
    return()
  endif()
  if(BOARD_BOOT_BYTES GREATER 0)
    set(BOARD_BOOT_HEADER "boot PT_LOAD FLAGS(5);")
    set(BOARD_BOOT_OUTPUT ".boot : { KEEP(*(${BOARD_BOOT_SECTION})) } > BOOT :boot")
  endif()
  if(KILOTUNE_MODEL)
    _kilotune_opcodes(opcodes)
    target_compile_definitions(kilotune_runtime PRIVATE KILOTUNE_OPCODES=${opcodes})
  endif()
  set(script ${generated}/sections.ld)
  configure_file(${KILOTUNE_BOARDS_DIR}/common/cortex_m/sections.ld.in ${script} @ONLY)
  target_sources(firmware PRIVATE ${KILOTUNE_BOARDS_DIR}/common/cortex_m/startup.cpp
                                  ${KILOTUNE_BOARDS_DIR}/common/cortex_m/port.cpp)
  target_compile_options(firmware PRIVATE ${KILOTUNE_FREESTANDING})
  target_link_options(firmware PRIVATE -nostartfiles -T${script} -Wl,--gc-sections
                                       -Wl,-Map=${CMAKE_BINARY_DIR}/kilotune.map -Wl,--fatal-warnings)
  set_target_properties(firmware PROPERTIES SUFFIX .elf LINK_DEPENDS ${script})
  add_custom_command(
    TARGET firmware POST_BUILD
    COMMAND ${CMAKE_COMMAND} -DELF=$<TARGET_FILE:firmware> -DSIZE=${CMAKE_SIZE} -DBOARD=${BOARD_ID}
            -DRAM=${BOARD_RAM_BYTES} -DPROGRAM=${BOARD_PROGRAM_BYTES} -DENGINE=${BOARD_ENGINE_BYTES}
            -DFIXED_BUDGET=${BOARD_FIXED_BUDGET} -DPROGRAM_BUDGET=${BOARD_PROGRAM_BUDGET}
            "-DRAM_BUDGET=${KILOTUNE_RAM_BUDGET}"
            -P ${KILOTUNE_BOARDS_DIR}/report_size.cmake
    VERBATIM)
  if(COMMAND kilotune_finish_board)  # of the board's own board.cmake
    kilotune_finish_board()
  endif()
endfunction()
