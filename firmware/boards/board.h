// The porting contract: all that the application asks of a board. A board is one folder with these
// functions, a board.json (memory map, read by the build and by the host) and a board.cmake.
//
// [any] may be called from anywhere, interrupts included; [loop] only from the main loop.
#ifndef KILOTUNE_BOARDS_BOARD_H_
#define KILOTUNE_BOARDS_BOARD_H_

#include <cstdint>

#include "runtime/storage/flash.h"
#include "schema/terms.h"
#include "sensors/sensor.h"

namespace kilotune::board {

using kilotune::RestartCause;

constexpr uint32_t kMaxUniqueIdBytes = 16;

struct Block {
  uint8_t* data;
  uint32_t size;
};

struct RamUse {         // bytes; 0: unknown
  uint32_t static_ram;  // .data, .bss and the engine's block
  uint32_t stack;       // reserved
  uint32_t stack_peak;  // deepest use since reset
};

// Why the last run ended in a fault; pc = 0: it did not, 1: an interrupt without handler, 2: the
// stack overflowed.
struct Fault {
  uint32_t pc, lr, status;  // status: of the core's fault register
};

// [loop] Before anything else; afterwards bytes arrive, and interrupts are on. The arguments are
// those of a board that is a process; elsewhere there are none.
void init(int argc, char** argv);

// [any] The folder's name.
const char* id();
// [any] What distinguishes this device from others of its kind; returns the bytes written.
uint32_t unique_id(uint8_t out[kMaxUniqueIdBytes]);

// --- the watchdog is fed once in each turn of the main loop, between the runs of a long request,
// and by a board before it erases or programs flash: nowhere else, and by no interrupt. So a hang
// ends. And nothing else does, because each turn ends by itself: no call waits for what may never
// come, be it a byte, or a host that reads.

constexpr uint32_t kLongestSleepMs = 500;    // of `wait`
constexpr uint32_t kLongestRefusalMs = 500;  // of a line, until `write` gives up
// What a watchdog waits at least, at the fastest that its clock may run. All that is done between
// two feedings ends within it; the longest is the erase of a sector, 2 s.
constexpr uint32_t kShortestWatchdogMs = 5000;
static_assert(2 * (kLongestSleepMs + kLongestRefusalMs) < kShortestWatchdogMs, "work needs time");

// [loop] Does nothing where there is no watchdog.
void feed_watchdog();

// --- serial port: receives into a ring by interrupt, so that no byte is lost while training runs

// [loop] Takes what has been received, which may be nothing.
uint32_t read(uint8_t* out, uint32_t max);
// [loop] Returns when the line has taken all bytes. A line that can refuse them (an emulator's or a
// process's, whose host does not read) is waited for kLongestRefusalMs, once: what it does not take
// by then is lost, and so is all that follows until it takes bytes again. A host asks again.
void write(const uint8_t* data, uint32_t n);
// [any] Of the ring: a host keeps no more bytes than this in flight.
uint32_t receive_capacity();
// [any] Bytes lost because the ring was full or the line overran.
uint32_t receive_dropped();
// [loop] Sleeps until an interrupt, for kLongestSleepMs where none comes; returns at once where
// `read` would give the end of a frame (a zero byte), or much. It may sleep on through other bytes.
void wait();

// --- time

// [any] Since the start; wraps after 49.7 days.
uint32_t millis();
// [loop] Executed instructions, or core cycles on silicon; 0: this board counts neither.
uint64_t instructions();

// --- memory

// [any] The model partition. Models are executed in place: it is mapped, and all its sectors have
// one size. Where the board cannot write it, erase and program give flash_failed.
const Flash* model_flash();
// [any] Null: nothing persists.
const Flash* checkpoint_flash();
// [any] A region of its own for the key; null: the device cannot be locked.
const Flash* key_flash();
// [any] 8-aligned, with any contents.
Block engine_ram();
// [loop]
RamUse ram_use();

// --- sensor, light and button; a board without them takes common/no_sensor.cpp,
// common/no_panel.cpp

// [loop] The bus that an accelerometer may be wired to, ready for use; null: there is none. Its
// calls take bounded time, even if nothing is wired to it.
const SensorBus* sensor_bus();
// [any] Level of the pin for the sensor's INT1: true where the FIFO holds a batch.
bool sensor_interrupt();

// `settle` is shown where `detect` is; `trouble`: all lights of a board that has several.
enum class Light : uint8_t { off, learn, detect, anomaly, settle, trouble };
// [loop] Called when the light changes: `lit` is for a board with a single light, which blinks
// through repeated calls, `light` for a board that can show more.
void show(Light light, bool lit);
// [loop] True while the button that starts learning is pressed.
bool button();

// --- end

// [any] Of the previous run; where a watchdog warns before it resets, pc is where the run hung.
Fault last_fault();
// [any]
RestartCause restart_cause();
// [loop] Restarts the device, after everything written has been sent.
[[noreturn]] void reset();

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_BOARD_H_
