// Parses the command line of the native board.
#include "options.h"

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace kilotune::board {
namespace {

constexpr char kUsage[] =
    "usage: kilotune-native --flash FILE (--tcp PORT | --pty) [options]\n"
    "  --flash FILE        model partition and checkpoints; made where it is missing\n"
    "  --tcp PORT          serve the serial line on 127.0.0.1:PORT, 0 = any free port\n"
    "  --pty               serve it on a new pseudo-terminal\n"
    "  --port-file FILE    write the port, or the terminal's name, to FILE once it is open\n"
    "  --exit-with-stdin   end when standard input closes\n"
    "  --uart              receive as a chip does: by interrupt into a ring; what does not fit is "
    "lost\n"
    "  --flash-chip CHIP   checkpoints take the longest times of its data sheet, in its sectors; "
    "implies --uart\n"
    "                      and a watchdog of 8 s: stm32f4-16k, stm32f4-64k, stm32f4-128k, "
    "nrf52840, nrf51822, rp2040\n"
    "  --sensor CHIP=FILE  mount a lis2dw12, adxl345 or lsm6dso that measures FILE at its own "
    "rate:\n"
    "                      .csv with x,y,z in g, else raw int16 x y z, 16 g at 32768\n"
    "  --sensor-spi        on SPI in place of I2C\n"
    "  --virtual-time      the recording takes no more time than the device computes\n"
    "  --sensor-upset MS[:REG=VALUE]\n"
    "                      so long after the start, the sensor resets itself, or one of its "
    "registers changes\n"
    "  --press-at MS       press the button so long after the start\n";

[[noreturn]] void fail(const char* what, const char* argument) {
  std::fprintf(stderr, "kilotune-native: %s: %s\n%s", what, argument, kUsage);
  std::exit(2);
}

int number(const char* text, const char* option, int max) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != 0 || value < 0 || value > max) fail("not a valid number", option);
  return static_cast<int>(value);
}

// MS, or MS:REG=VALUE.
Upset upset(const char* text, const char* option) {
  int ms = 0, reg = -1, value = 0, whole = 0;
  const int read = std::sscanf(text, "%d%n:%i=%i%n", &ms, &whole, &reg, &value, &whole);
  const bool complete = (read == 1 || read == 3) && text[whole] == 0;
  if (!complete || ms < 0 || reg > 127 || (read == 3 && reg < 0) || value < 0 || value > 255)
    fail("not MS or MS:REG=VALUE", option);
  return {ms, reg, static_cast<uint8_t>(value)};
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const char* a = argv[i];
    const auto is = [a](const char* name) { return std::strcmp(a, name) == 0; };
    const auto value = [&]() -> const char* {
      if (i + 1 >= argc) fail("needs a value", a);
      return argv[++i];
    };
    if (is("--flash")) {
      o.flash = value();
    } else if (is("--port-file")) {
      o.port_file = value();
    } else if (is("--tcp")) {
      o.tcp_port = number(value(), a, 65535);
    } else if (is("--pty")) {
      o.pty = true;
    } else if (is("--exit-with-stdin")) {
      o.exit_with_stdin = true;
    } else if (is("--uart")) {
      o.uart = true;
    } else if (is("--flash-chip")) {
      o.flash_chip = value();
      o.uart = true;
    } else if (is("--sensor")) {
      o.sensor = value();
    } else if (is("--sensor-spi")) {
      o.sensor_spi = true;
    } else if (is("--virtual-time")) {
      o.virtual_time = true;
    } else if (is("--sensor-upset")) {
      o.upset = upset(value(), a);
    } else if (is("--press-at")) {
      o.press_at_ms = number(value(), a, INT_MAX);
    } else if (is("--listen-fd")) {
      o.listen_fd = number(value(), a, 1 << 20);
    } else if (is("--client-fd")) {
      o.client_fd = number(value(), a, 1 << 20);
    } else if (is("--help")) {
      std::printf("%s", kUsage);
      std::exit(0);
    } else {
      fail("unknown option", a);
    }
  }
  if (o.flash == nullptr) fail("missing", "--flash");
  if (o.pty == (o.tcp_port >= 0)) fail("give exactly one of", "--tcp, --pty");
  return o;
}

}  // namespace kilotune::board
