# Library `name` with the drivers of `chips` (files beside this one) and the list of them.
set(KILOTUNE_SENSORS_DIR ${CMAKE_CURRENT_LIST_DIR})

function(kilotune_add_sensors name chips)
  set(entries "")
  set(sources ${KILOTUNE_SENSORS_DIR}/sensor.cpp ${KILOTUNE_SENSORS_DIR}/spi.cpp)
  foreach(chip IN LISTS chips)
    if(NOT EXISTS ${KILOTUNE_SENSORS_DIR}/${chip}.cpp)
      message(FATAL_ERROR "There is no driver for the sensor '${chip}' in firmware/sensors")
    endif()
    list(APPEND sources ${KILOTUNE_SENSORS_DIR}/${chip}.cpp)
    string(SUBSTRING ${chip} 0 1 first)
    string(TOUPPER ${first} first)
    string(SUBSTRING ${chip} 1 -1 rest)
    string(APPEND entries "&k${first}${rest}, ")
  endforeach()
  set(list ${CMAKE_CURRENT_BINARY_DIR}/${name}_list.cpp)
  file(CONFIGURE OUTPUT ${list} CONTENT [[
// The drivers of this firmware; made by the build.
#include "sensors/drivers.h"

namespace kilotune {

const SensorDriver* const* sensor_drivers() {
  static const SensorDriver* const table[] = {@entries@nullptr};
  return table;
}

}  // namespace kilotune
]] @ONLY)
  add_library(${name} STATIC ${sources} ${list})
  target_link_libraries(${name} PUBLIC kilotune_kernel kilotune_terms)
  target_compile_options(${name} PRIVATE ${KILOTUNE_WARNINGS} ${KILOTUNE_FREESTANDING})
  if(CMAKE_CROSSCOMPILING)
    target_compile_options(${name} PRIVATE -Os)  # a bus is slower than any of this
  endif()
endfunction()
