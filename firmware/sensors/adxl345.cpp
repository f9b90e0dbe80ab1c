// Analog Devices ADXL345: +-2 to 16 g, up to 3200 Hz, FIFO of 32 frames.
//
// Registers: Analog Devices data sheet "ADXL345", Rev. G. Full resolution: 1/256 g per digit in
// every range. On I2C at 400 kHz the chip supports at most 800 Hz; more needs SPI. The data sheet
// requires 5 us between two frames, which either bus takes anyway (sensors/spi.h).
#include "sensors/drivers.h"

namespace kilotune {
namespace {

constexpr uint8_t kDeviceId = 0x00, kRate = 0x2C, kPower = 0x2D, kInterruptEnable = 0x2E;
constexpr uint8_t kInterruptMap = 0x2F, kInterruptSource = 0x30, kDataFormat = 0x31, kDataX = 0x32;
constexpr uint8_t kFifoControl = 0x38, kFifoStatus = 0x39;

constexpr uint8_t kMeasure = 1 << 3;                           // POWER_CTL
constexpr uint8_t kWatermarkInterrupt = 1 << 1, kOverrun = 1;  // of INT_ENABLE, INT_SOURCE
constexpr uint8_t kFullResolution = 1 << 3, kPushed = 1 << 7;  // DATA_FORMAT
constexpr uint8_t kStream = 2 << 6;                            // FIFO: the newest frames
constexpr uint8_t kEntries = 0x3F;                             // FIFO_STATUS
constexpr uint32_t kFastestOnI2cMhz = 800000;

constexpr SensorRate kRates[] = {{12500, 7},   {25000, 8},    {50000, 9},
                                 {100000, 10}, {200000, 11},  {400000, 12},
                                 {800000, 13}, {1600000, 14}, {3200000, 15}};

Status configure(SensorPort& port, uint32_t rate_mhz, uint32_t full_scale_ug) {
  const SensorRate* rate = find_rate(kRates, rate_mhz);
  if (rate == nullptr || (!port.bus->spi && rate->mhz > kFastestOnI2cMhz))
    return Status::wrong_rate;
  const uint32_t range = find_range(full_scale_ug);
  if (range == kNoRange) return Status::wrong_range;
  port.mode = static_cast<uint8_t>(kFullResolution | range);
  port.rate = rate->code;
  port.gain = static_cast<uint8_t>(64u >> range);
  const RegisterValue list[] = {{kPower, 0},
                                {kRate, rate->code},
                                {kDataFormat, port.mode},
                                {kInterruptMap, 0},  // all on INT1
                                {kInterruptEnable, kWatermarkInterrupt},
                                {kFifoControl, 0}};
  return write_all(port, list) ? Status::ok : Status::sensor_failed;
}

// Bypass mode empties the FIFO; reading the data registers clears what is left of an overrun.
bool start(const SensorPort& port) {
  const RegisterValue stop[] = {{kPower, 0}, {kFifoControl, 0}};
  const RegisterValue go[] = {{kFifoControl, kStream | kWatermark}, {kPower, kMeasure}};
  uint8_t old[6];
  return write_all(port, stop) && port.read(kDataX, old, sizeof old) && write_all(port, go);
}

bool intact(const SensorPort& port) {
  uint8_t found[kDataFormat - kRate + 1];
  return port.read(kRate, found, sizeof found) && found[0] == port.rate &&
         (found[kPower - kRate] & kMeasure) != 0 && found[kDataFormat - kRate] == port.mode;
}

bool fill(const SensorPort& port, FifoFill& out) {
  uint8_t source = 0, status = 0;
  if (!port.read(kInterruptSource, &source, 1) || !port.read(kFifoStatus, &status, 1)) return false;
  out = {static_cast<uint32_t>(status & kEntries), (source & kOverrun) != 0};
  return true;
}

bool frame(const SensorPort& port, int16_t out[kSensorAxes], bool& taken) {
  uint8_t bytes[6];
  taken = port.read(kDataX, bytes, sizeof bytes);
  for (uint32_t a = 0; taken && a < kSensorAxes; ++a) {
    // |digit| <= 4096 / (16 / range in g): times the gain exactly 16 bits. A digit beyond that is
    // clipped.
    const int32_t counts = axis_of(bytes, a) * port.gain;
    out[a] = static_cast<int16_t>(counts > INT16_MAX ? INT16_MAX
                                                     : (counts < INT16_MIN ? INT16_MIN : counts));
  }
  return taken;
}

bool push(const SensorPort& port, bool on) {
  return port.write(kDataFormat, static_cast<uint8_t>(port.mode | (on ? kPushed : 0)));
}

}  // namespace

// The limits of table 1 are for a supply of 2.5 V; at 3.3 V the answer is up to 1.77 (x, y)
// and 1.47 (z) times as large.
const SensorDriver kAdxl345 = {
    SensorChip::adxl345,
    {0x53, 0x1D},  // pin ALT ADDRESS low, high
    kDeviceId,
    0xE5,
    0x40,
    {100000, 16000000, 50, {200000, -3717000, 300000}, {3717000, -200000, 4998000}},
    configure,
    start,
    intact,
    fill,
    frame,
    push};

}  // namespace kilotune
