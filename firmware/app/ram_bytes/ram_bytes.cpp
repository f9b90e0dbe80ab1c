// Prints the bytes of RAM that the engine needs for a model image.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "runtime/engine/engine.h"

int main(int argc, char** argv) {
  std::FILE* file = argc == 2 ? std::fopen(argv[1], "rb") : nullptr;
  if (file == nullptr) {
    std::fprintf(stderr, "The model image %s cannot be read.\n", argc == 2 ? argv[1] : "(none)");
    return 1;
  }
  std::vector<uint32_t> image;  // words: 4-aligned
  uint32_t size = 0;
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) {
    if (size % 4 == 0) image.push_back(0);
    reinterpret_cast<uint8_t*>(image.data())[size++] = static_cast<uint8_t>(c);
  }
  std::fclose(file);
  const uint32_t bytes =
      kilotune::Engine::ram_bytes(reinterpret_cast<const uint8_t*>(image.data()), size);
  if (bytes == 0) {
    std::fprintf(stderr, "%s is not a valid model image: make one with `kilotune compile`.\n",
                 argv[1]);
    return 1;
  }
  std::printf("%u\n", static_cast<unsigned>(bytes));
  return 0;
}
