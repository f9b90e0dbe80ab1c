// A sensor on SPIM2 of the nRF52840, 1 MHz, at the Arduino header: chip select on P1.12 (D10), to
// the sensor P1.13 (D11), from it P1.14 (D12), clock P1.15 (D13), its INT1 on P0.28 (A2).
//
// Registers: Nordic "nRF52840 Product Specification", chapters SPIM, GPIO. Every transfer uses DMA
// and has two bytes or more; it is stopped if it does not end in bounded time.
#include "boards/board.h"
#include "boards/common/sleep.h"
#include "pins.h"
#include "sensors/spi.h"

namespace kilotune::board {
namespace {

// Of port 1; in the SPIM's choice of pins, bit 5 is the port.
constexpr uint32_t kSelectPin = 12, kOutPin = 13, kInPin = 14, kSpiClockPin = 15, kPort1 = 1u << 5;
constexpr uintptr_t kPort1Set = 0x50000808, kPort1Clear = 0x5000080C;
constexpr uintptr_t port1_config(uint32_t pin) { return 0x50000A00 + 4 * pin; }

constexpr uintptr_t kSpi = 0x40023000;
constexpr uintptr_t kStart = kSpi + 0x010, kStop = kSpi + 0x014;
constexpr uintptr_t kStopped = kSpi + 0x104, kEnded = kSpi + 0x118, kSpiEnable = kSpi + 0x500;
constexpr uintptr_t kPinClock = kSpi + 0x508, kPinOut = kSpi + 0x50C, kPinIn = kSpi + 0x510;
constexpr uintptr_t kFrequency = kSpi + 0x524, kConfig = kSpi + 0x554;
constexpr uintptr_t kReceiveAddress = kSpi + 0x534, kReceiveLength = kSpi + 0x538;
constexpr uintptr_t kTransmitAddress = kSpi + 0x544, kTransmitLength = kSpi + 0x548;
constexpr uint32_t kByDma = 7, k1MHz = 0x10000000, kMode3 = 3u << 1;
constexpr uint32_t kTurns = 20000;  // several times 8 bytes' 64 us at 64 MHz

// DMA reaches RAM only, and these outlive a transfer that was abandoned.
volatile uint8_t sent[kSpiLongest];
volatile uint8_t received[kSpiLongest];

uint32_t address_of(const volatile void* p) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p));
}

void select(void*, bool on) { reg(on ? kPort1Clear : kPort1Set) = 1u << kSelectPin; }

bool exchange(void*, uint8_t* bytes, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) sent[i] = bytes[i];
  reg(kTransmitLength) = n;
  reg(kReceiveLength) = n;
  reg(kStopped) = reg(kEnded) = 0;
  asm volatile("dsb" ::: "memory");
  reg(kStart) = 1;
  if (!wait_until([] { return reg(kEnded) != 0; }, kTurns)) {
    reg(kStop) = 1;
    static_cast<void>(wait_until([] { return reg(kStopped) != 0; }, kTurns));
    return false;
  }
  for (uint32_t i = 0; i < n; ++i) bytes[i] = received[i];
  return true;
}

constexpr SpiWire kWire = {nullptr, select, exchange};

// The pins rest as the bus does while the SPIM does not drive them.
void start_pins() {
  select(nullptr, false);
  reg(kPort1Set) = 1u << kSpiClockPin;
  reg(port1_config(kSelectPin)) = kOutput;
  reg(port1_config(kOutPin)) = kOutput;
  reg(port1_config(kSpiClockPin)) = kOutputHeard;
  reg(port1_config(kInPin)) = kPulledUp;  // without a sensor, reads are 0xFF
}

void start_bus() {
  reg(kSpiEnable) = 0;
  reg(kPinClock) = kPort1 | kSpiClockPin;
  reg(kPinOut) = kPort1 | kOutPin;
  reg(kPinIn) = kPort1 | kInPin;
  reg(kFrequency) = k1MHz;
  reg(kConfig) = kMode3;
  reg(kTransmitAddress) = address_of(sent);
  reg(kReceiveAddress) = address_of(received);
  reg(kSpiEnable) = kByDma;
}

}  // namespace

const SensorBus* sensor_bus() {
  start_interrupt_pin();
  start_pins();
  start_bus();
  static constexpr SensorBus kBus = spi_bus<kWire>(sleep_ms);
  return &kBus;
}

bool sensor_interrupt() { return interrupt_pin_is_high(); }

}  // namespace kilotune::board
