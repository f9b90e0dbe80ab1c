// Analog Devices ADXL345 by its data sheet, Rev. G: identity, data rate, range, FIFO, interrupts,
// self-test. Not modelled: offsets, tap, activity, free fall, sleep, trigger mode.
#include "models.h"

namespace kilotune::board {
namespace {

enum : uint8_t {
  DEVID = 0x00,
  BW_RATE = 0x2C,
  POWER_CTL = 0x2D,
  INT_ENABLE = 0x2E,
  INT_MAP = 0x2F,
  INT_SOURCE = 0x30,
  DATA_FORMAT = 0x31,
  DATAX0 = 0x32,
  DATAZ1 = 0x37,
  FIFO_CTL = 0x38,
  FIFO_STATUS = 0x39,
};

class Adxl345 final : public SensorModel {
 public:
  // At a supply of 2.5 V; y goes the other way.
  Adxl345() : SensorModel({800000, -800000, 1200000}) { reset(); }

  void power_on_reset() override { reset(); }

  bool answers(uint8_t address) const override { return address == 0x53; }

  uint32_t rate_mhz() const override {
    const bool measures = (registers_[POWER_CTL] & 8) != 0;
    return measures ? 3200000u >> (15 - (registers_[BW_RATE] & 15)) : 0;
  }

  void measure(MicroG ug) override {
    Frame frame;
    for (size_t a = 0; a < 3; ++a) {
      const int64_t push = (registers_[DATA_FORMAT] & 0x80) != 0 ? self_test_ug_[a] : 0;
      frame[a] = digits(ug[a] + push);
    }
    if (registers_[FIFO_CTL] >> 6 == 0) {  // bypass: only the output registers
      overrun_ = overrun_ || ready_;
      output_ = frame;
    } else {
      fifo_.push_back(frame);
      if (fifo_.size() > 32) {
        overrun_ = true;
        // Stream mode keeps the newest frames, FIFO mode the oldest.
        registers_[FIFO_CTL] >> 6 == 2 ? fifo_.pop_front() : fifo_.pop_back();
      }
    }
    ready_ = true;
  }

  bool int1() const override {
    const auto raised =
        static_cast<uint8_t>(sources() & registers_[INT_ENABLE] & ~registers_[INT_MAP]);
    const bool inverted = (registers_[DATA_FORMAT] & 0x20) != 0;
    return (raised != 0) != inverted;
  }

 private:
  using Frame = std::array<int16_t, 3>;

  void reset() {
    registers_ = {};
    registers_[BW_RATE] = 0x0A;
    fifo_.clear();
    overrun_ = ready_ = false;
  }

  int16_t digits(int64_t ug) const {
    const uint32_t range = registers_[DATA_FORMAT] & 3;
    const bool full = (registers_[DATA_FORMAT] & 8) != 0;
    const uint32_t bits = full ? 10 + range : 10;
    int32_t digit = to_digit(ug, int64_t{1} << (bits - 1), 2000000ll << range, -(1 << (bits - 1)),
                             (1 << (bits - 1)) - 1);
    // At the two highest rates in full resolution the lowest digit is always 0.
    if ((registers_[BW_RATE] & 15) >= 14 && (full || range == 0)) digit &= ~1;
    const bool left_justified = (registers_[DATA_FORMAT] & 4) != 0;
    return static_cast<int16_t>(left_justified ? digit * (1 << (16 - bits)) : digit);
  }

  uint8_t sources() const {
    const uint32_t watermark = registers_[FIFO_CTL] & 31;
    const bool reached =
        registers_[FIFO_CTL] >> 6 != 0 && watermark != 0 && fifo_.size() >= watermark;
    return static_cast<uint8_t>((ready_ ? 0x80 : 0) | (reached ? 2 : 0) | (overrun_ ? 1 : 0));
  }

  uint8_t read_register(uint8_t reg) override {
    if (reg == DEVID) return 0xE5;
    if (reg == INT_SOURCE) return sources();
    if (reg == FIFO_STATUS) return static_cast<uint8_t>(fifo_.size());
    if (reg < DATAX0 || reg > DATAZ1) return registers_[reg & 63];
    if (reg == DATAX0 && !fifo_.empty()) {
      output_ = fifo_.front();
      fifo_.pop_front();
    }
    if (reg == DATAX0) overrun_ = false;
    ready_ = !fifo_.empty();
    const uint32_t byte = reg - DATAX0;
    return static_cast<uint8_t>(static_cast<uint16_t>(output_[byte / 2]) >> (8 * (byte % 2)));
  }

  void write_register(uint8_t reg, uint8_t value) override {
    if (reg < 0x1D || reg > FIFO_CTL || reg == INT_SOURCE || (reg >= DATAX0 && reg <= DATAZ1))
      return;
    registers_[reg] = value;
    if (reg == FIFO_CTL && value >> 6 == 0) fifo_.clear();
  }

  uint8_t spi_burst_bit() const override { return 0x40; }  // MB

  std::array<uint8_t, 64> registers_{};
  std::deque<Frame> fifo_;
  Frame output_{};
  bool overrun_ = false, ready_ = false;
};

}  // namespace

std::unique_ptr<SensorModel> adxl345_model() { return std::make_unique<Adxl345>(); }

}  // namespace kilotune::board
