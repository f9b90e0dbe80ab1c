// What the binding files share: errors, aligned images, arrays that own their memory.
#ifndef KILOTUNE_HOST_NATIVE_NATIVE_H_
#define KILOTUNE_HOST_NATIVE_NATIVE_H_

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstring>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernel/bytes.h"
#include "kernel/status.h"

namespace kilotune::native {

// A refusal becomes RuntimeError("status <code>"), which the Python side turns into its own error.
inline void check(Status status) {
  if (status == Status::ok) return;
  throw std::runtime_error("status " + std::to_string(static_cast<int>(status)));
}

// A copy of some bytes at an address that is a multiple of 8.
class AlignedBytes {
 public:
  explicit AlignedBytes(const nanobind::bytes& b)
      : words_(b.size() / 8 + 1), size_(static_cast<uint32_t>(b.size())) {
    std::memcpy(words_.data(), b.data(), b.size());
  }
  [[nodiscard]] const uint8_t* data() const {
    return reinterpret_cast<const uint8_t*>(words_.data());
  }
  [[nodiscard]] uint32_t size() const { return size_; }

 private:
  std::vector<uint64_t> words_;
  uint32_t size_;
};

// Memory between two zones that nothing may write to.
class Guarded {
 public:
  void resize(size_t n) {
    memory_.assign(n + 2 * kZone, kPattern);
    size_ = n;
    std::memset(data(), 0, n);
  }
  [[nodiscard]] uint8_t* data() { return memory_.data() + kZone; }
  [[nodiscard]] const uint8_t* data() const { return memory_.data() + kZone; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] Memory memory() { return {data(), static_cast<uint32_t>(size_)}; }
  [[nodiscard]] bool intact() const {
    for (size_t i = 0; i < kZone; ++i) {
      if (memory_[i] != kPattern || memory_[kZone + size_ + i] != kPattern) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kZone = 256;  // a multiple of every alignment
  static constexpr uint8_t kPattern = 0xA5;
  std::vector<uint8_t> memory_ = std::vector<uint8_t>(2 * kZone, kPattern);
  size_t size_ = 0;
};

// Memory that becomes a numpy array without a copy.
template <typename T>
class Array {
 public:
  explicit Array(size_t n) : memory_(new T[n]()) {}
  [[nodiscard]] T* data() { return memory_.get(); }
  nanobind::object numpy(std::initializer_list<size_t> shape) {
    T* raw = memory_.release();
    nanobind::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return nanobind::cast(nanobind::ndarray<nanobind::numpy, T>(raw, shape, owner));
  }

 private:
  std::unique_ptr<T[]> memory_;
};

void bind_kernel(nanobind::module_& m);
void bind_runtime(nanobind::module_& m);

}  // namespace kilotune::native

#endif  // KILOTUNE_HOST_NATIVE_NATIVE_H_
