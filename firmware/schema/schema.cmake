# What the build makes of messages.cddl and requests.def. Works for the host and for cross builds alike.
#
# kilotune_terms()           kilotune_terms: an interface library with schema/terms.h, the numbers with names
# kilotune_schema(<target>)  a static library with the C codec of messages.cddl, made by zcbor; brings kilotune_terms
# kilotune_python_wire(<file>)  the messages as a Python module
# kilotune_schema_shapes(<target>)  gives a target schema/shapes.h: what requests are made of
#
# The zcbor Python package reads the schema and brings the C sources that its code stands on; neither is
# part of this tree. Python is Python_EXECUTABLE where a build has set it, else KILOTUNE_PYTHON, else the
# first found with zcbor.

set(KILOTUNE_SCHEMA_DIR ${CMAKE_CURRENT_LIST_DIR})

# Sets <out_python> and <out_dir>: an interpreter that can import zcbor, and the package's folder.
function(_kilotune_find_zcbor out_python out_dir)
  get_property(found GLOBAL PROPERTY KILOTUNE_ZCBOR)  # asked once in a run of CMake
  if(found)
    list(GET found 0 python)
    list(GET found 1 dir)
    set(${out_python} "${python}" PARENT_SCOPE)
    set(${out_dir} "${dir}" PARENT_SCOPE)
    return()
  endif()
  find_program(KILOTUNE_SYSTEM_PYTHON NAMES python3 python NO_CMAKE_FIND_ROOT_PATH)
  mark_as_advanced(KILOTUNE_SYSTEM_PYTHON)
  foreach(python IN ITEMS "${KILOTUNE_PYTHON}" "${Python_EXECUTABLE}" "${Python3_EXECUTABLE}"
                          "$ENV{VIRTUAL_ENV}/bin/python" "${KILOTUNE_SCHEMA_DIR}/../../.venv/bin/python"
                          "${KILOTUNE_SYSTEM_PYTHON}")
    if(NOT python OR NOT EXISTS "${python}")
      continue()
    endif()
    execute_process(
      COMMAND "${python}" -c "import os, zcbor; print(os.path.dirname(zcbor.__file__), end='')"
      OUTPUT_VARIABLE dir RESULT_VARIABLE failed ERROR_QUIET)
    if(NOT failed)
      set(${out_python} "${python}" PARENT_SCOPE)
      set(${out_dir} "${dir}" PARENT_SCOPE)
      set_property(GLOBAL PROPERTY KILOTUNE_ZCBOR "${python}" "${dir}")
      return()
    endif()
  endforeach()
  message(FATAL_ERROR "No Python with the package zcbor was found, which generates the wire codec. "
                      "Run `pip install zcbor==0.9.1`, or give its interpreter: -DKILOTUNE_PYTHON=...")
endfunction()

# Adds the command that makes <file> by generate.py with <option>.
function(_kilotune_generate option file)
  _kilotune_find_zcbor(python zcbor)
  file(GLOB generator CONFIGURE_DEPENDS ${KILOTUNE_SCHEMA_DIR}/generator/*.py)
  get_filename_component(name ${file} NAME)
  add_custom_command(
    OUTPUT ${file}
    COMMAND ${CMAKE_COMMAND} -E env PYTHONDONTWRITEBYTECODE=1 "${python}" ${KILOTUNE_SCHEMA_DIR}/generate.py
            ${option} ${file}
    DEPENDS ${KILOTUNE_SCHEMA_DIR}/messages.cddl ${KILOTUNE_SCHEMA_DIR}/requests.def
            ${KILOTUNE_SCHEMA_DIR}/generate.py ${generator}
    COMMENT "Generating ${name}"
    VERBATIM)
endfunction()

function(kilotune_terms)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/kilotune_terms)
  _kilotune_generate(--cpp ${out}/schema/terms.h)
  add_custom_target(kilotune_terms_header DEPENDS ${out}/schema/terms.h)
  add_library(kilotune_terms INTERFACE)
  add_dependencies(kilotune_terms kilotune_terms_header)
  target_include_directories(kilotune_terms INTERFACE ${out})
endfunction()

# For the target, which fuzzes: schema/shapes.h.
function(kilotune_schema_shapes target)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/kilotune_shapes)
  _kilotune_generate(--shapes ${out}/schema/shapes.h)
  target_sources(${target} PRIVATE ${out}/schema/shapes.h)
  target_include_directories(${target} PRIVATE ${out})
endfunction()

# The Python modules that are made of the schema, below the package's <folder>.
function(kilotune_python_wire folder)
  _kilotune_generate(--python ${folder}/link/wire.py)
  _kilotune_generate(--python-terms ${folder}/wire_terms.py)
  add_custom_target(kilotune_python_wire ALL DEPENDS ${folder}/link/wire.py ${folder}/wire_terms.py)
endfunction()

function(kilotune_schema target)
  if(NOT TARGET kilotune_terms)
    kilotune_terms()
  endif()
  _kilotune_find_zcbor(python zcbor)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${target})
  set(cddl ${out}/messages.cddl)
  _kilotune_generate(--zcbor ${cddl})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${KILOTUNE_SCHEMA_DIR}/messages.cddl)
  file(READ ${KILOTUNE_SCHEMA_DIR}/messages.cddl text)
  string(REGEX MATCHALL "\n[a-z-]+-(request|answer) =" names "${text}")
  list(TRANSFORM names REPLACE "\n(.*) =" "\\1")
  set(requests ${names})
  list(FILTER requests INCLUDE REGEX "-request$")
  set(answers ${names})
  list(FILTER answers INCLUDE REGEX "-answer$")

  # One run each way: the device decodes requests and encodes answers, and carries nothing else.
  foreach(way IN ITEMS decode encode)
    set(types ${requests})
    if(way STREQUAL "encode")
      set(types ${answers})
    endif()
    add_custom_command(
      OUTPUT ${out}/messages_${way}.c ${out}/messages_${way}.h ${out}/messages_${way}_types.h
      COMMAND ${CMAKE_COMMAND} -E env PYTHONDONTWRITEBYTECODE=1 "${python}" ${zcbor}/zcbor/zcbor.py code
              --cddl ${cddl} --${way} --entry-types ${types} --default-bit-size 32 --short-names
              --output-c ${out}/messages_${way}.c --output-h ${out}/messages_${way}.h
              --output-h-types ${out}/messages_${way}_types.h > ${out}/${way}.log
      DEPENDS ${cddl} ${zcbor}/zcbor/zcbor.py
      COMMENT "Generating the ${way}r of messages.cddl"
      VERBATIM)
  endforeach()

  add_library(${target} STATIC
    ${out}/messages_decode.c ${out}/messages_encode.c
    ${zcbor}/src/zcbor_common.c ${zcbor}/src/zcbor_decode.c ${zcbor}/src/zcbor_encode.c)
  # Users may include the generated headers before the library itself is built.
  add_custom_target(${target}_headers DEPENDS
    ${out}/messages_decode.h ${out}/messages_decode_types.h
    ${out}/messages_encode.h ${out}/messages_encode_types.h)
  add_dependencies(${target}_headers kilotune_terms_header)
  add_dependencies(${target} ${target}_headers)
  target_include_directories(${target} SYSTEM PUBLIC ${zcbor}/include ${out})
  target_link_libraries(${target} PUBLIC kilotune_terms)
  # zcbor reads its untyped state through differently typed pointers.
  target_compile_options(${target} PRIVATE -w -fno-strict-aliasing -ffunction-sections
    $<$<BOOL:${CMAKE_CROSSCOMPILING}>:-Os>)  # 4 KB less than -O2, and nothing here is hot
  set_target_properties(${target} PROPERTIES C_STANDARD 99)
  if(NOT CMAKE_CROSSCOMPILING)  # the Python module takes it in
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  endif()
endfunction()
