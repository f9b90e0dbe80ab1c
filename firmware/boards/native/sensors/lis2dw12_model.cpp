// ST LIS2DW12 by datasheet DS11811 and application note AN5038: identity, data rate, range, FIFO,
// self-test. Not modelled: low-power modes' 12 bits, filters, motion detection, temperature.
#include "models.h"

namespace kilotune::board {
namespace {

enum : uint8_t {
  WHO_AM_I = 0x0F,
  CTRL1 = 0x20,
  CTRL2 = 0x21,
  CTRL3 = 0x22,
  CTRL4_INT1 = 0x23,
  CTRL6 = 0x25,
  STATUS = 0x27,
  OUT_X_L = 0x28,
  OUT_Z_H = 0x2D,
  FIFO_CTRL = 0x2E,
  FIFO_SAMPLES = 0x2F,
};

class Lis2dw12 final : public SensorModel {
 public:
  Lis2dw12() : SensorModel({300000, 300000, 300000}) { reset(); }

  void power_on_reset() override { reset(); }

  bool answers(uint8_t address) const override { return address == 0x19; }  // SA0 is pulled up

  uint32_t rate_mhz() const override {
    static constexpr uint32_t kHighPerformance[] = {0,      12500,  12500,  25000,  50000,
                                                    100000, 200000, 400000, 800000, 1600000};
    static constexpr uint32_t kLowPower[] = {0,      1600,   12500,  25000,  50000,
                                             100000, 200000, 200000, 200000, 200000};
    const uint32_t odr = registers_[CTRL1] >> 4;
    const uint32_t mode = registers_[CTRL1] >> 2 & 3;
    if (odr > 9 || mode > 1) return 0;
    return mode == 1 ? kHighPerformance[odr] : kLowPower[odr];
  }

  void measure(MicroG ug) override {
    const int64_t range_ug = 2000000ll << (registers_[CTRL6] >> 4 & 3);
    const uint32_t test = registers_[CTRL3] >> 6;
    Frame frame;
    for (size_t a = 0; a < 3; ++a) {
      const int64_t push = test == 1 ? self_test_ug_[a] : (test == 2 ? -self_test_ug_[a] : 0);
      frame[a] = static_cast<int16_t>(to_digit(ug[a] + push, 8192, range_ug, -8192, 8191) * 4);
    }
    output_ = frame;
    ready_ = true;
    const uint32_t mode = registers_[FIFO_CTRL] >> 5;
    if (mode == 1 && fifo_.size() < 32) fifo_.push_back(frame);  // stops when full
    if (mode != 6) return;                                       // continuous
    fifo_.push_back(frame);
    if (fifo_.size() <= 32) return;
    fifo_.pop_front();
    overrun_ = true;
  }

  bool int1() const override {
    const uint8_t routed = registers_[CTRL4_INT1];
    return ((routed & 2) != 0 && at_threshold()) || ((routed & 4) != 0 && fifo_.size() == 32) ||
           ((routed & 1) != 0 && ready_);
  }

 private:
  using Frame = std::array<int16_t, 3>;

  void reset() {
    registers_ = {};
    registers_[WHO_AM_I] = 0x44;
    registers_[CTRL2] = 0x04;
    fifo_.clear();
    overrun_ = ready_ = false;
  }

  bool at_threshold() const {
    const uint32_t threshold = registers_[FIFO_CTRL] & 0x1F;
    return (registers_[FIFO_CTRL] >> 5) != 0 && threshold != 0 && fifo_.size() >= threshold;
  }

  uint8_t read_register(uint8_t reg) override {
    if (reg == FIFO_SAMPLES) {
      return static_cast<uint8_t>(fifo_.size() | (overrun_ ? 0x40u : 0u) |
                                  (at_threshold() ? 0x80u : 0u));
    }
    if (reg == STATUS) return static_cast<uint8_t>((ready_ ? 1 : 0) | (at_threshold() ? 0x80 : 0));
    if (reg < OUT_X_L || reg > OUT_Z_H) return registers_[reg & 0x3F];
    const uint32_t byte = reg - OUT_X_L;
    if (byte == 0 && !fifo_.empty()) {
      output_ = fifo_.front();
      fifo_.pop_front();
      overrun_ = false;  // no longer completely filled
    }
    if (reg == OUT_Z_H) ready_ = false;
    return static_cast<uint8_t>(static_cast<uint16_t>(output_[byte / 2]) >> (8 * (byte % 2)));
  }

  void write_register(uint8_t reg, uint8_t value) override {
    if (reg < CTRL1 || reg > 0x3F || (reg >= 0x26 && reg <= OUT_Z_H) || reg == FIFO_SAMPLES) return;
    if (reg == CTRL2 && (value & 0x40) != 0) return reset();
    registers_[reg] = value;
    if (reg == FIFO_CTRL && value >> 5 == 0) {
      fifo_.clear();
      overrun_ = false;
    }
  }

  uint8_t next(uint8_t reg) const override {
    if ((registers_[CTRL2] & 4) == 0) return reg;
    return reg == OUT_Z_H && registers_[FIFO_CTRL] >> 5 != 0 ? uint8_t{OUT_X_L}
                                                             : static_cast<uint8_t>(reg + 1);
  }

  std::array<uint8_t, 64> registers_{};
  std::deque<Frame> fifo_;
  Frame output_{};
  bool overrun_ = false, ready_ = false;
};

}  // namespace

std::unique_ptr<SensorModel> lis2dw12_model() { return std::make_unique<Lis2dw12>(); }

}  // namespace kilotune::board
