// Damages valid model images field by field, with the checksum made good again, and executes
// whatever the validation lets through: no access outside of the memory that the image asks for, no
// undefined arithmetic. Build with -fsanitize=address,undefined; arguments: rounds, images.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "kernel/trainer.h"
#include "runtime/operators.h"

namespace {

using kilotune::load_u16;
using kilotune::load_u32;
using kilotune::store_u16;
using kilotune::store_u32;

uint64_t random_state = 1;
uint32_t draw(uint32_t n) {
  random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
  return n == 0 ? 0 : static_cast<uint32_t>(random_state >> 33) % n;
}

// Most damage goes where structure is: header, tensor, op and training records and what they point
// to. Where that is, `base` tells, which is whole.
void damage(const std::vector<uint8_t>& base, std::vector<uint8_t>& image) {
  const uint32_t tensors = load_u32(&base[88]), ops = load_u32(&base[92]);
  const uint32_t records = ops + 64u * load_u16(&base[82]);
  uint32_t at = 0;
  switch (draw(5)) {
    case 0:
      at = 80 + draw(48);
      break;
    case 1:
      at = tensors + draw(ops - tensors);
      break;
    case 2:
      at = ops + draw(records - ops);
      break;
    case 3: {  // training record of an op
      const uint32_t training = load_u32(&base[ops + 64 * draw(load_u16(&base[82])) + 36]);
      at = training == 0 ? records : training + draw(40);
      break;
    }
    default:
      at = 128 + draw(static_cast<uint32_t>(image.size()) - 128);
  }
  const uint32_t interesting[] = {0,           1,           2,       3,      4,      0x7F,
                                  0x80,        0xFF,        0x7FFF,  0x8000, 0xFFFF, 0x7FFFFFFF,
                                  0x80000000u, 0xFFFFFFFFu, 0x10001, 0x20002};
  at = at + 4 <= image.size() ? at : 128;
  const uint32_t value = interesting[draw(16)];
  switch (draw(4)) {
    case 0:
      image[at] ^= static_cast<uint8_t>(1u << draw(8));
      break;
    case 1:
      image[at] = static_cast<uint8_t>(value);
      break;
    case 2:
      store_u16(&image[at & ~1u], static_cast<uint16_t>(value));
      break;
    default:
      store_u32(&image[at & ~3u], value);
  }
}

// Executes `content` if it is valid; returns whether it was.
bool execute(const std::vector<uint8_t>& content) {
  // Exact allocations, so that one byte beyond is caught.
  std::unique_ptr<uint8_t[]> image(new uint8_t[content.size()]);
  std::memcpy(image.get(), content.data(), content.size());
  kilotune::Model model;
  const auto size = static_cast<uint32_t>(content.size());
  if (model.open(image.get(), size, kilotune::operator_table()) != kilotune::Status::ok)
    return false;
  if (model.arena_bytes > 1u << 22 || model.adapter_bytes > 1u << 22 ||
      model.state_bytes > 1u << 22)
    return false;
  uint64_t work = 0;
  for (uint16_t i = 0; i < model.op_count; ++i) {
    const kilotune::Op op = model.op(i);
    const uint64_t window = uint64_t{op.words[0] & 0xFFFFu} * (op.words[0] >> 16);
    const kilotune::Tensor x = model.tensor(op.input), y = model.tensor(op.output);
    work += (uint64_t{x.positions()} + y.positions()) * (window + 1) * x.channels * y.channels;
  }
  if (work > 1u << 26) return true;  // valid, but hours under a sanitizer
  const auto filled = [](uint32_t n) {
    std::unique_ptr<uint8_t[]> p(new uint8_t[n + 1]);
    for (uint32_t i = 0; i < n; ++i) p[i] = static_cast<uint8_t>(draw(256));
    return p;
  };
  auto arena = filled(model.arena_bytes), adapter = filled(model.adapter_bytes);
  auto state = filled(model.state_bytes);
  kilotune::Trainer trainer;
  if (trainer.open(model, arena.get(), adapter.get(), state.get()) != kilotune::Status::ok)
    return true;
  trainer.reset_parameters();
  trainer.forward();
  if (!model.trainable()) return true;
  kilotune::TrainConfig config;
  config.rate = kilotune::make_real(1, -4);
  if (trainer.begin(config) != kilotune::Status::ok) return true;
  const kilotune::Tensor y = model.tensor(model.training().tensor);
  std::vector<int8_t> values(y.elements(), 3);
  kilotune::Target target;
  if (model.training().loss == kilotune::Loss::regression) target.values = values.data();
  for (int i = 0; i < 2; ++i) trainer.step(target);
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return std::fprintf(stderr, "usage: kernel_images ROUNDS IMAGE...\n"), 2;
  const uint32_t rounds = static_cast<uint32_t>(std::atoi(arguments[1]));
  uint64_t accepted = 0, tried = 0;
  for (int i = 2; i < count; ++i) {
    std::ifstream file(arguments[i], std::ios::binary);
    const std::vector<uint8_t> base((std::istreambuf_iterator<char>(file)), {});
    if (base.size() < 128 || !execute(base)) {
      return std::fprintf(stderr, "%s is not a valid image\n", arguments[i]), 1;
    }
    for (uint32_t round = 0; round < rounds; ++round) {
      std::vector<uint8_t> image = base;
      random_state = round * 1000003ull + static_cast<uint64_t>(i);
      for (uint32_t k = draw(3) + 1; k > 0; --k) damage(base, image);
      store_u32(&image[8], static_cast<uint32_t>(image.size()));
      store_u32(&image[12], kilotune::crc32(&image[16], static_cast<uint32_t>(image.size()) - 16));
      ++tried;
      if (execute(image)) ++accepted;
    }
  }
  std::printf("%llu damaged images, %llu of them valid: all executed within their memory\n",
              static_cast<unsigned long long>(tried), static_cast<unsigned long long>(accepted));
  return accepted > 0 ? 0 : 1;
}
