// ST LIS2DW12: +-2 to 16 g, up to 1600 Hz, FIFO of 32 frames.
//
// Registers: ST datasheet DS11811 "LIS2DW12", application note AN5038. High-performance mode
// throughout: 14 bits, left-justified in 16, so that a digit is already full scale / 32768. The
// bandwidth is half the rate, at 1600 Hz it is 400 Hz.
#include "sensors/drivers.h"

namespace kilotune {
namespace {

constexpr uint8_t kWhoAmI = 0x0F, kControl1 = 0x20, kControl2 = 0x21, kControl3 = 0x22;
constexpr uint8_t kInt1Pad = 0x23, kInt2Pad = 0x24, kControl6 = 0x25, kOutX = 0x28;
constexpr uint8_t kFifoControl = 0x2E, kFifoSamples = 0x2F, kControl7 = 0x3F;

constexpr uint8_t kHighPerformance = 1 << 2;                 // CTRL1
constexpr uint8_t kWholeFrames = 1 << 3, kCountOn = 1 << 2;  // CTRL2: BDU, IF_ADD_INC
constexpr uint8_t kPushPositive = 1 << 6;                    // CTRL3: ST
constexpr uint8_t kFifoThreshold = 1 << 1;                   // INT1 pad
constexpr uint8_t kLowNoise = 1 << 2, kRangeShift = 4;       // CTRL6
constexpr uint8_t kContinuous = 6 << 5;                      // FIFO: the newest frames
constexpr uint8_t kFrames = 0x3F, kOverrun = 1 << 6;         // FIFO_SAMPLES
constexpr uint8_t kInterrupts = 1 << 5;                      // CTRL7

constexpr SensorRate kRates[] = {{12500, 2},  {25000, 3},  {50000, 4},  {100000, 5},
                                 {200000, 6}, {400000, 7}, {800000, 8}, {1600000, 9}};

Status configure(SensorPort& port, uint32_t rate_mhz, uint32_t full_scale_ug) {
  const SensorRate* rate = find_rate(kRates, rate_mhz);
  if (rate == nullptr) return Status::wrong_rate;
  const uint32_t range = find_range(full_scale_ug);
  if (range == kNoRange) return Status::wrong_range;
  port.mode = static_cast<uint8_t>(rate->code << 4 | kHighPerformance);
  port.range = static_cast<uint8_t>(range << kRangeShift);
  const RegisterValue list[] = {
      {kControl1, 0},    {kControl2, kWholeFrames | kCountOn},
      {kControl3, 0},    {kInt1Pad, kFifoThreshold},
      {kInt2Pad, 0},     {kControl6, static_cast<uint8_t>(port.range | kLowNoise)},
      {kFifoControl, 0}, {kControl7, kInterrupts}};
  return write_all(port, list) ? Status::ok : Status::sensor_failed;
}

// Bypass mode empties the FIFO.
bool start(const SensorPort& port) {
  const RegisterValue list[] = {
      {kControl1, port.mode}, {kFifoControl, 0}, {kFifoControl, kContinuous | kWatermark}};
  return write_all(port, list);
}

bool intact(const SensorPort& port) {
  return holds(port, kControl1, 0xFF, port.mode) &&
         holds(port, kControl6, 3 << kRangeShift, port.range);
}

bool fill(const SensorPort& port, FifoFill& out) {
  uint8_t samples = 0;
  if (!port.read(kFifoSamples, &samples, 1)) return false;
  out = {static_cast<uint32_t>(samples & kFrames), (samples & kOverrun) != 0};
  return true;
}

bool frame(const SensorPort& port, int16_t out[kSensorAxes], bool& taken) {
  uint8_t bytes[6];
  taken = port.read(kOutX, bytes, sizeof bytes);
  for (uint32_t a = 0; taken && a < kSensorAxes; ++a) out[a] = axis_of(bytes, a);
  return taken;
}

bool push(const SensorPort& port, bool on) {
  return port.write(kControl3, on ? kPushPositive : uint8_t{0});
}

}  // namespace

const SensorDriver kLis2dw12 = {
    SensorChip::lis2dw12,
    {0x19, 0x18},  // pin SA0 high, low
    kWhoAmI,
    0x44,
    0,
    {50000, 2000000, 100, {70000, 70000, 70000}, {1500000, 1500000, 1500000}},
    configure,
    start,
    intact,
    fill,
    frame,
    push};

}  // namespace kilotune
