// ST LSM6DSO, its accelerometer: +-2 to 16 g, up to 6667 Hz, FIFO of 512 tagged words.
//
// Registers: ST datasheet DS12140 "LSM6DSO", application note AN5192. The gyroscope stays off.
// Rates are nominal, 6667 Hz and its halves: a model for it is compiled at 1667 Hz, not 1600 Hz.
#include "sensors/drivers.h"

namespace kilotune {
namespace {

constexpr uint8_t kFifoControl1 = 0x07, kFifoControl2 = 0x08, kFifoControl3 = 0x09;
constexpr uint8_t kFifoControl4 = 0x0A, kInt1 = 0x0D, kInt2 = 0x0E, kWhoAmI = 0x0F;
constexpr uint8_t kControl1 = 0x10, kControl2 = 0x11, kControl3 = 0x12, kControl5 = 0x14;
constexpr uint8_t kControl8 = 0x17, kControl9 = 0x18, kFifoStatus1 = 0x3A, kFifoStatus2 = 0x3B;
constexpr uint8_t kFifoTag = 0x78;

constexpr uint8_t kWholeFrames = 1 << 6, kCountOn = 1 << 2;  // CTRL3_C: BDU, IF_INC
constexpr uint8_t kNoI3c = 0xE2;            // CTRL9_XL: reset value and I3C_disable
constexpr uint8_t kFifoThreshold = 1 << 3;  // INT1_CTRL
constexpr uint8_t kContinuous = 6;          // FIFO_CTRL4: the newest words
constexpr uint8_t kOverrun = 1 << 6, kOverrunBefore = 1 << 3, kHigh = 3;  // FIFO_STATUS2
constexpr uint8_t kAcceleration = 2;                                      // tag
constexpr uint8_t kPushPositive = 1;                                      // CTRL5_C

constexpr SensorRate kRates[] = {{12500, 1},   {26000, 2},   {52000, 3},  {104000, 4},
                                 {208000, 5},  {417000, 6},  {833000, 7}, {1667000, 8},
                                 {3333000, 9}, {6667000, 10}};

Status configure(SensorPort& port, uint32_t rate_mhz, uint32_t full_scale_ug) {
  constexpr uint8_t kRangeCode[] = {0, 2, 3, 1};  // 2, 4, 8, 16 g
  const SensorRate* rate = find_rate(kRates, rate_mhz);
  if (rate == nullptr) return Status::wrong_rate;
  const uint32_t range = find_range(full_scale_ug);
  if (range == kNoRange) return Status::wrong_range;
  port.mode = static_cast<uint8_t>(rate->code << 4 | kRangeCode[range] << 2);
  const RegisterValue list[] = {{kControl1, 0},
                                {kControl2, 0},
                                {kControl3, kWholeFrames | kCountOn},
                                {kControl5, 0},
                                {kControl8, 0},
                                {kControl9, kNoI3c},
                                {kInt1, kFifoThreshold},
                                {kInt2, 0},
                                {kFifoControl1, kWatermark},
                                {kFifoControl2, 0},
                                {kFifoControl3, rate->code},
                                {kFifoControl4, 0}};
  return write_all(port, list) ? Status::ok : Status::sensor_failed;
}

// Bypass mode empties the FIFO.
bool start(const SensorPort& port) {
  const RegisterValue list[] = {
      {kControl1, port.mode}, {kFifoControl4, 0}, {kFifoControl4, kContinuous}};
  return write_all(port, list);
}

bool intact(const SensorPort& port) {
  return holds(port, kControl1, 0xFF, port.mode) &&
         holds(port, kFifoControl3, 0x0F, static_cast<uint8_t>(port.mode >> 4));
}

// The lower byte is read last: frames that arrive in between only make the number too small.
bool fill(const SensorPort& port, FifoFill& out) {
  uint8_t low = 0, high = 0;
  if (!port.read(kFifoStatus2, &high, 1) || !port.read(kFifoStatus1, &low, 1)) return false;
  out = {low | static_cast<uint32_t>(high & kHigh) << 8, (high & (kOverrun | kOverrunBefore)) != 0};
  return true;
}

bool frame(const SensorPort& port, int16_t out[kSensorAxes], bool& taken) {
  uint8_t bytes[7];
  if (!port.read(kFifoTag, bytes, sizeof bytes)) return false;
  taken = bytes[0] >> 3 == kAcceleration;
  for (uint32_t a = 0; a < kSensorAxes; ++a) out[a] = axis_of(bytes + 1, a);
  return true;
}

bool push(const SensorPort& port, bool on) {
  return port.write(kControl5, on ? kPushPositive : uint8_t{0});
}

}  // namespace

const SensorDriver kLsm6dso = {
    SensorChip::lsm6dso,
    {0x6A, 0x6B},  // pin SA0 low, high
    kWhoAmI,
    0x6C,
    0,
    {52000, 4000000, 100, {50000, 50000, 50000}, {1700000, 1700000, 1700000}},
    configure,
    start,
    intact,
    fill,
    frame,
    push};

}  // namespace kilotune
