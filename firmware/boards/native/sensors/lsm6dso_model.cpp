// ST LSM6DSO by datasheet DS12140 and application note AN5192, its accelerometer: identity, data
// rate, range, FIFO of tagged words, self-test. Not modelled: gyroscope, low power, filters,
// compression, events.
#include "models.h"

namespace kilotune::board {
namespace {

enum : uint8_t {
  FIFO_CTRL1 = 0x07,
  FIFO_CTRL2 = 0x08,
  FIFO_CTRL3 = 0x09,
  FIFO_CTRL4 = 0x0A,
  INT1_CTRL = 0x0D,
  WHO_AM_I = 0x0F,
  CTRL1_XL = 0x10,
  CTRL3_C = 0x12,
  CTRL5_C = 0x14,
  CTRL9_XL = 0x18,
  STATUS_REG = 0x1E,
  OUTX_L_A = 0x28,
  OUTZ_H_A = 0x2D,
  FIFO_STATUS1 = 0x3A,
  FIFO_STATUS2 = 0x3B,
  FIFO_DATA_OUT_TAG = 0x78,
  FIFO_DATA_OUT_Z_H = 0x7E,
};
constexpr size_t kWords = 512;

class Lsm6dso final : public SensorModel {
 public:
  Lsm6dso() : SensorModel({400000, 400000, 400000}) { reset(); }

  void power_on_reset() override { reset(); }

  bool answers(uint8_t address) const override { return address == 0x6A; }

  uint32_t rate_mhz() const override { return rate_of(registers_[CTRL1_XL] >> 4); }

  void measure(MicroG ug) override {
    static constexpr int64_t kRangeUg[] = {2000000, 16000000, 4000000, 8000000};
    const uint32_t test = registers_[CTRL5_C] & 3;
    for (size_t a = 0; a < 3; ++a) {
      const int64_t push = test == 1 ? self_test_ug_[a] : (test == 2 ? -self_test_ug_[a] : 0);
      const int64_t range_ug = kRangeUg[registers_[CTRL1_XL] >> 2 & 3];
      output_[a] = static_cast<int16_t>(to_digit(ug[a] + push, 32768, range_ug, -32768, 32767));
    }
    ready_ = true;
    // Batched at the rate of FIFO_CTRL3; that of the sensor is all that is modelled.
    if ((registers_[FIFO_CTRL3] & 15) != registers_[CTRL1_XL] >> 4) return;
    const uint32_t mode = registers_[FIFO_CTRL4] & 7;
    if (mode == 1 && fifo_.size() < kWords) fifo_.push_back(output_);
    if (mode != 6) return;
    fifo_.push_back(output_);
    if (fifo_.size() <= kWords) return;
    fifo_.pop_front();
    overrun_ = latched_ = true;
  }

  bool int1() const override {
    const uint8_t routed = registers_[INT1_CTRL];
    return ((routed & 8) != 0 && at_watermark()) || ((routed & 16) != 0 && overrun_) ||
           ((routed & 1) != 0 && ready_);
  }

 private:
  using Frame = std::array<int16_t, 3>;

  static uint32_t rate_of(uint32_t code) {
    static constexpr uint32_t kRates[] = {0,      12500,  26000,   52000,   104000, 208000,
                                          416000, 833000, 1667000, 3333000, 6667000};
    return code < 11 ? kRates[code] : 0;
  }

  void reset() {
    registers_ = {};
    registers_[WHO_AM_I] = 0x6C;
    registers_[CTRL3_C] = 0x04;
    registers_[CTRL9_XL] = 0xE0;
    fifo_.clear();
    overrun_ = latched_ = ready_ = false;
  }

  bool at_watermark() const {
    const size_t level = registers_[FIFO_CTRL1] | (registers_[FIFO_CTRL2] & 1u) << 8;
    return level != 0 && fifo_.size() >= level;
  }

  uint8_t read_status2() {
    const auto value = static_cast<uint8_t>(
        (fifo_.size() >> 8 & 3) | (latched_ ? 8u : 0u) | (fifo_.size() + 1 >= kWords ? 0x20u : 0u) |
        (overrun_ ? 0x40u : 0u) | (at_watermark() ? 0x80u : 0u));
    latched_ = false;
    return value;
  }

  uint8_t read_register(uint8_t reg) override {
    if (reg == FIFO_STATUS1) return static_cast<uint8_t>(fifo_.size());
    if (reg == FIFO_STATUS2) return read_status2();
    if (reg == STATUS_REG) return ready_ ? 1 : 0;
    if (reg >= OUTX_L_A && reg <= OUTZ_H_A) {
      if (reg == OUTZ_H_A) ready_ = false;
      return byte_of(output_, reg - OUTX_L_A);
    }
    if (reg == FIFO_DATA_OUT_TAG) {
      const bool empty = fifo_.empty();
      word_ = empty ? Frame{} : fifo_.front();
      if (empty) return 0;
      fifo_.pop_front();
      overrun_ = false;
      return 2 << 3;  // accelerometer, neither count nor parity
    }
    if (reg > FIFO_DATA_OUT_TAG && reg <= FIFO_DATA_OUT_Z_H)
      return byte_of(word_, reg - FIFO_DATA_OUT_TAG - 1u);
    return registers_[reg & 127];
  }

  static uint8_t byte_of(const Frame& frame, uint32_t byte) {
    return static_cast<uint8_t>(static_cast<uint16_t>(frame[byte / 2]) >> (8 * (byte % 2)));
  }

  void write_register(uint8_t reg, uint8_t value) override {
    if (reg == WHO_AM_I || reg > 0x77 || (reg >= STATUS_REG && reg <= OUTZ_H_A)) return;
    if (reg == CTRL3_C && (value & 1) != 0) return reset();
    registers_[reg] = value;
    if (reg == FIFO_CTRL4 && (value & 7) == 0) {
      fifo_.clear();
      overrun_ = latched_ = false;
    }
  }

  uint8_t next(uint8_t reg) const override {
    if ((registers_[CTRL3_C] & 4) == 0) return reg;
    return reg == FIFO_DATA_OUT_Z_H ? uint8_t{FIFO_DATA_OUT_TAG} : static_cast<uint8_t>(reg + 1);
  }

  std::array<uint8_t, 128> registers_{};
  std::deque<Frame> fifo_;
  Frame output_{}, word_{};
  bool overrun_ = false, latched_ = false, ready_ = false;
};

}  // namespace

std::unique_ptr<SensorModel> lsm6dso_model() { return std::make_unique<Lsm6dso>(); }

}  // namespace kilotune::board
