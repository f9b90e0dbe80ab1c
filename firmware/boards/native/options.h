// Command line of the native board.
#ifndef KILOTUNE_BOARDS_NATIVE_OPTIONS_H_
#define KILOTUNE_BOARDS_NATIVE_OPTIONS_H_

#include <cstdint>

namespace kilotune::board {

struct Upset {
  int at_ms = -1;  // -1: never
  int reg = -1;    // that changes; -1: the sensor resets itself
  uint8_t value = 0;
};

struct Options {
  const char* flash = nullptr;      // file, created if it is missing
  const char* port_file = nullptr;  // gets the TCP port or the pty's name once it is open
  const char* sensor = nullptr;     // CHIP=FILE
  bool sensor_spi = false;          // on SPI, else on I2C
  bool virtual_time = false;        // of the sensor
  Upset upset;                      // of the sensor
  int press_at_ms = -1;             // the button, for 100 ms; -1: never
  int tcp_port = -1;                // 0: any free one
  bool pty = false;
  bool exit_with_stdin = false;        // ends with the parent, when standard input closes
  bool uart = false;                   // a receive ring as on a chip
  const char* flash_chip = nullptr;    // whose flash times apply
  int listen_fd = -1, client_fd = -1;  // handed over by a reset
};

// Ends the process with a message and exit code 2 when the command line is wrong.
Options parse_options(int argc, char** argv);

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NATIVE_OPTIONS_H_
