// The native board: a process with its flash in a mapped file. A reset executes the program again,
// so that nothing but flash (and the open line) survives.
#include "boards/board.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "board_layout.h"
#include "boards/common/nor_region.h"
#if KILOTUNE_TORN_FLASH
#include "boards/common/torn_region.h"
#endif
#include "line.h"
#include "options.h"
#include "receiver.h"
#include "sensor_mount.h"
#include "slow_flash.h"

namespace kilotune::board {
namespace {

#if KILOTUNE_RAM_BYTES > 0
constexpr uint32_t kEngineBytes = KILOTUNE_RAM_BYTES;
#else
constexpr uint32_t kEngineBytes = kRamBytes;
#endif
alignas(16) uint8_t engine_block[kEngineBytes];

constexpr unsigned kWatchdogSeconds = 8;  // as on the chips
static_assert(kWatchdogSeconds * 1000 >= kShortestWatchdogMs);

Line line;
Receiver receiver;
SlowFlash slow_flash;
bool uart = false, watched = false;
SensorMount sensor;
int press_at_ms = -1;
std::vector<std::string> arguments;
std::string program;
uint8_t* flash = nullptr;
uint64_t path_hash = 0;
RestartCause cause = RestartCause::unknown;

[[noreturn]] void fail(const char* what, const char* name) {
  std::fprintf(stderr, "kilotune-native: %s %s: %s\n", what, name, std::strerror(errno));
  std::exit(1);
}

// A new file of erased bytes, under its name only once it is whole. Others cannot read it: the
// device's key lies in it.
int make_flash(const char* name) {
  const std::string temporary = std::string(name) + ".new";
  const int fd = open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) fail("cannot make the flash file", temporary.c_str());
  const std::vector<uint8_t> erased(65536, 0xFF);
  for (off_t at = 0; at < static_cast<off_t>(kFlashBytes);) {
    const auto left = static_cast<size_t>(static_cast<off_t>(kFlashBytes) - at);
    const ssize_t n = pwrite(fd, erased.data(), std::min(left, erased.size()), at);
    if (n <= 0) fail("cannot fill the flash file", temporary.c_str());
    at += n;
  }
  if (std::rename(temporary.c_str(), name) != 0) fail("cannot make the flash file", name);
  return fd;
}

// Opens the file, or makes it where there is none. A file of another length is cut short or another
// board's: what was learned may be in it, so it is left as it is.
uint8_t* map_flash(const char* name) {
  int fd = open(name, O_RDWR | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) fd = make_flash(name);
  struct stat info {};
  if (fd < 0 || fstat(fd, &info) != 0) fail("cannot open the flash file", name);
  if (info.st_size != static_cast<off_t>(kFlashBytes)) {
    std::fprintf(stderr,
                 "kilotune-native: the flash file %s has %lld bytes, this flash %lld: it was cut "
                 "short, or is another board's. Move it away to begin with blank flash.\n",
                 name, static_cast<long long>(info.st_size), static_cast<long long>(kFlashBytes));
    std::exit(1);
  }
  void* p = mmap(nullptr, kFlashBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) fail("cannot map the flash file", name);
  close(fd);
  return static_cast<uint8_t*>(p);
}

void watchdog_bites(int) {
  static constexpr char kText[] = "kilotune-native: the watchdog was not fed\n";
  static_cast<void>(!::write(STDERR_FILENO, kText, sizeof kText - 1));
  std::_Exit(3);
}

// The button is SIGUSR1. It is blocked while its handler restarts the program, until that program
// listens.
void hold_reset_button(int how) {
  sigset_t button;
  sigemptyset(&button);
  sigaddset(&button, SIGUSR1);
  pthread_sigmask(how, &button, nullptr);
}

std::string absolute(const char* path) {
  char buffer[PATH_MAX];
  return realpath(path, buffer) != nullptr ? std::string(buffer) : std::string(path);
}

uint64_t fnv1a(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

}  // namespace

// Unfed, it ends the process.
void feed_watchdog() {
  if (watched) alarm(kWatchdogSeconds);
}

void init(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  // Where the system names the running file, that is right even if argv[0] came from PATH.
  program = access("/proc/self/exe", R_OK) == 0 ? absolute("/proc/self/exe") : absolute(argv[0]);
  for (int i = 0; i < argc; ++i) {
    const std::string a = argv[i];
    if (a == "--listen-fd" || a == "--client-fd") {
      ++i;  // each reset passes new ones
    } else {
      arguments.push_back(a);
    }
  }
  flash = map_flash(options.flash);
  path_hash = fnv1a(absolute(options.flash));
  press_at_ms = options.press_at_ms;
  sensor.open(options);
  line.open(options);
  const bool handed_over = options.listen_fd >= 0 || options.client_fd >= 0;
  cause = handed_over ? RestartCause::asked : RestartCause::power;
  uart = options.uart;
  hold_reset_button(SIG_BLOCK);  // permanently in the receiver's thread
  if (uart) receiver.start(line);
  std::signal(SIGUSR1, [](int) { reset(); });
  hold_reset_button(SIG_UNBLOCK);
  if (options.flash_chip == nullptr) return;
  const FlashChip* chip = find_flash_chip(options.flash_chip);
  if (chip == nullptr) fail("no flash chip", options.flash_chip);
  slow_flash.open(*chip, flash + kCheckpointOffset, receiver, feed_watchdog);
  std::signal(SIGALRM, watchdog_bites);
  watched = true;
  feed_watchdog();
}

const char* id() { return kId; }

// Of the flash file's path: the same file is the same device.
uint32_t unique_id(uint8_t out[kMaxUniqueIdBytes]) {
  std::memcpy(out, &path_hash, sizeof path_hash);
  return sizeof path_hash;
}

uint32_t read(uint8_t* out, uint32_t max) {
  return uart ? receiver.take(out, max) : line.read(out, max);
}
void write(const uint8_t* data, uint32_t n) { line.write(data, n); }
uint32_t receive_capacity() { return Receiver::kCapacity; }
uint32_t receive_dropped() { return uart ? receiver.dropped() : 0; }
void wait() {
  const int idle_ms = sensor.idle_ms();
  const int ms = idle_ms < 0 ? int{kLongestSleepMs} : idle_ms;
  if (uart) {
    receiver.wait(ms);
  } else {
    line.wait(ms);
  }
}

uint32_t millis() { return static_cast<uint32_t>(sensor.now_us() / 1000); }

uint64_t instructions() { return 0; }

#if KILOTUNE_TORN_FLASH
volatile uint32_t* torn_fuse() {
  return reinterpret_cast<volatile uint32_t*>(flash + kFlashBytes - 8);
}

template <uint32_t kBytes>
Flash region_of(uint8_t* base, uint32_t sectors) {
  return torn_region<kBytes>(base, sectors);
}
#else
template <uint32_t kBytes>
Flash region_of(uint8_t* base, uint32_t sectors) {
  return nor_region<kBytes>(base, sectors);
}
#endif

const Flash* checkpoint_flash() {
  static const Flash region = region_of<kSectorBytes>(flash + kCheckpointOffset, kSectorCount);
  return watched ? slow_flash.port() : &region;
}

const Flash* model_flash() {
  static const Flash region = region_of<kModelSectorBytes>(flash + kModelOffset, kModelSectorCount);
  return &region;
}

const Flash* key_flash() {
  static const Flash region = region_of<kKeySectorBytes>(flash + kKeyOffset, kKeySectorCount);
  return &region;
}

const SensorBus* sensor_bus() { return sensor.bus(); }
bool sensor_interrupt() { return sensor.interrupt(); }

// Prints the light's meaning once per change; a blink is not a change.
void show(Light light, bool) {
  static constexpr const char* kNames[] = {"off",     "learn",  "detect",
                                           "anomaly", "settle", "trouble"};
  static Light last = Light::off;
  if (light == last) return;
  last = light;
  std::printf("light %s at %" PRIu32 " ms\n", kNames[static_cast<int>(light)], millis());
  std::fflush(stdout);
}

bool button() {
  constexpr uint32_t kPressMs = 100;
  return press_at_ms >= 0 && millis() - static_cast<uint32_t>(press_at_ms) < kPressMs;
}

Block engine_ram() { return {engine_block, kEngineBytes}; }
RamUse ram_use() { return {kEngineBytes, 0, 0}; }
Fault last_fault() { return {0, 0, 0}; }
RestartCause restart_cause() { return cause; }

void reset() {
  hold_reset_button(SIG_BLOCK);  // it would end a program that is not listening yet
  std::vector<std::string> next = arguments;
  const auto hand_over = [&next](const char* option, int fd) {
    if (fd < 0) return;
    next.emplace_back(option);
    next.push_back(std::to_string(fd));
  };
  hand_over("--listen-fd", line.listen_fd());
  hand_over("--client-fd", line.client_fd());
  std::vector<char*> argv;
  argv.reserve(next.size() + 1);
  for (std::string& a : next) argv.push_back(a.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  fail("cannot restart", program.c_str());
}

}  // namespace kilotune::board
