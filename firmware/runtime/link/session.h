// The device's end of the serial protocol: frames in, requests executed once, answers out.
//
// Protocol: docs/SPEC.md, section 3. Call everything from the loop that owns the engine, never from
// an interrupt. A session owns two frames of RAM; its size is sizeof(Session).
#ifndef KILOTUNE_RUNTIME_LINK_SESSION_H_
#define KILOTUNE_RUNTIME_LINK_SESSION_H_

#include <cstddef>
#include <cstdint>

#include "kernel/bytes.h"
#include "kernel/status.h"
#include "runtime/engine/engine.h"
#include "runtime/link/auth.h"
#include "runtime/link/codec.h"
#include "runtime/link/frame.h"
#include "runtime/link/wire.h"
#include "runtime/storage/model_store.h"

namespace kilotune {

struct MemoryUse {
  uint32_t static_bytes = 0;  // RAM given away at link time: data, bss, the engine's block
  uint32_t stack_bytes = 0;   // reserved
  uint32_t stack_peak = 0;    // highest use since boot; 0: unknown
};

// How the previous run ended. pc 0: not by a fault, 1: by an interrupt without handler, 2: the
// stack overflowed.
struct LastFault {
  uint32_t pc = 0, lr = 0, status = 0;  // status: of the core's fault register
};

// The sensor that feeds the engine between a host's streams; statuses and counts as in
// status-sensor.
struct SensorState {
  SensorChip chip = SensorChip::none;
  Status state = Status::no_sensor;
  bool sensing = false;
  uint32_t samples = 0, overruns = 0, gap_at = 0;
  Status commit = Status::ok;
};
struct SensorTest {
  bool passed = false;
  int16_t moved_mg[3] = {};
};

struct SensorCalls {
  SensorState (*state)();
  Status (*test)(SensorTest& out);
};

// Calls for replacing the model.
struct ModelCalls {
  ModelStore* store;
  // Whether this firmware could run the image, and its sensor feed it. `detail` of no_memory: the
  // bytes of RAM that it needs.
  Status (*check)(const Bytes& image, uint32_t& detail);
  // Opens a new engine, where the session's is, with the image that counts now.
  Status (*open)();
};

// What the application provides. Strings and bytes must stay; calls marked optional may be null.
struct Board {
  void* context = nullptr;             // handed to the calls below
  const char* id = "";                 // as in boards/, at most 32 characters
  const uint8_t* unique_id = nullptr;  // of this individual chip
  uint8_t unique_id_bytes = 0;         // at most 16
  RestartCause restart_cause = RestartCause::unknown;
  Status opened = Status::no_model;  // what Engine::open returned
  // Encoded bytes that the port buffers while the session computes: a host sends no more ahead.
  // At least frame_worst_case_bytes(kMaxFrame).
  uint32_t receive_bytes = 0;
  KeyStore* keys = nullptr;  // mounted; null: the device cannot be locked
  // Restarts the device when all output has been sent; a process may return instead.
  void (*reset)(void* context) = nullptr;
  uint32_t (*millis)(void* context) = nullptr;              // since boot, wraps around
  uint64_t (*instructions)(void* context) = nullptr;        // optional: a running count
  void (*memory)(void* context, MemoryUse& out) = nullptr;  // optional
  LastFault (*last_fault)(void* context) = nullptr;         // optional
  // Optional; called between the runs of a request that may take longer than a watchdog waits.
  void (*alive)(void* context) = nullptr;
  const SensorCalls* sensor = nullptr;  // optional: there is none
  const ModelCalls* models = nullptr;   // optional: the model stays
};

class Session {
 public:
  // All three must outlive the session; `board.opened` may change meanwhile.
  Session(Engine& engine, const Link& link, const Board& board);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Takes bytes as they arrive; executes each complete request and writes its answer.
  void receive(const uint8_t* bytes, uint32_t n);
  // One bounded piece of training; true while more remains.
  bool background();

  [[nodiscard]] const FrameCounters& frame_counters() const { return decoder_.counters(); }

  // --- for an application that feeds the engine from a sensor, between two requests
  // A host uses the engine: it learns or streams, or has just read results or written inputs.
  [[nodiscard]] bool occupied() const;
  void release() { held_ = false; }  // the application starts its own stream
  // A host has taken over learning since boot or the last learn_alone.
  [[nodiscard]] bool steered() const { return steered_; }
  // The device learns, or has just learned, by itself: set by learn_alone, cleared by a host that
  // takes over and by alone_done.
  [[nodiscard]] bool alone() const { return alone_; }
  // Starts learning anew with the image's settings; a learn phase in progress is dropped.
  [[nodiscard]] Status learn_alone();
  void alone_done() { alone_ = false; }
  // Tells the session that the application may have changed the adapter.
  void note_change() { ++generation_; }

 private:
  enum Effect : uint8_t {
    kHolds = 1,   // leaves something in the engine that the host comes back to: see occupied()
    kSteers = 2,  // takes over what the device has learned: see steered()
  };
  // Who may ask for it on a locked device.
  enum class Access : uint8_t {
    anyone,
    reader,  // anyone, unless reading is closed
    owner,   // who has the key
  };
  enum class Needs : uint8_t { nothing, model };
  struct Route {
    int (*decode)(const uint8_t* in, size_t n, Fields& out, size_t* used);
    Status (*handle)(Session& session, const Fields& m);
    Kind kind;
    Needs needs;
    Access access;
    uint8_t effects;  // of Effect, after it was executed
  };
  static const Route* find_route(uint8_t kind);

  void receive_frame();
  [[nodiscard]] Status admit(bool opens, uint32_t counter, uint32_t& n);
  void open_session(uint16_t session);
  void succeed_session();
  void execute(uint8_t kind, const Bytes& message);
  [[nodiscard]] Status carry_out(const Route& route, const Bytes& message);
  void refuse(Status status, uint32_t detail);  // beside the stored answer
  template <typename T>
  [[nodiscard]] Status answer(int (*encoder)(uint8_t*, size_t, const T*, size_t*),
                              const T& message);

  // The handlers, one for each row: a row without its handler does not link, a handler without its
  // row does not compile.
#define KILOTUNE_REQUEST(number, name, ...) Status on_##name(const decltype(Fields::name)& m);
#include "schema/requests.def"
#undef KILOTUNE_REQUEST

  // session_stream.cpp
  uint32_t pack_results(uint32_t from, uint8_t* out, uint32_t& first) const;
  // session_life.cpp
  void begin_phase();
  // session_input.cpp
  Status take_input(const Bytes& input);
  Status answer_output(uint32_t off);
  [[nodiscard]] uint64_t instructions() const;
  // session_adapter.cpp
  Status commit(bool stable);
  Status answer_checkpoint();
  Status answer_piece(Status status, uint32_t next);  // `next`: byte that is to follow
  // session_model.cpp
  [[nodiscard]] Status start_model();
  // session_sensor.cpp
  void take_over();
  void hold_engine();

  Engine& engine_;
  const Link& link_;
  const Board& board_;

  // The session that a host opened; 0: none. A request newer than `counter_` is executed, the same
  // again gets the stored answer again, an older one is dropped. The lower half of the counter is
  // the sequence number.
  uint16_t session_ = 0;
  bool tagged_ = false;    // the present request
  bool succeeds_ = false;  // a learn phase may be another session's, until this one may end it
  uint32_t counter_ = 0;
  uint16_t answer_bytes_ = 0;  // CBOR of the stored answer
  bool pushing_ = false;       // an adapter is being sent
  uint32_t detail_ = 0;        // of the error answer, set by handlers
  bool reset_pending_ = false;
  bool held_ = false;  // results or inputs in the engine belong to a host
  bool steered_ = false, alone_ = false;
  uint32_t dropped_ = 0, repeated_ = 0;
  uint32_t held_ms_ = 0;  // when a host last used the engine for itself

  uint16_t stream_ = 0;       // 0: none
  uint16_t passes_ = 0;       // asked for by learn_begin
  uint32_t stream_next_ = 0;  // byte offset expected, modulo 2^32
  uint32_t generation_ = 0;   // of the adapter's contents
  uint32_t crc_generation_ = 0xFFFFFFFFu;
  uint32_t adapter_crc_ = 0;  // of generation crc_generation_
  uint32_t push_crc_ = 0;     // of the adapter that is pushed
  Auth auth_;

  uint8_t rx_[kMaxFrame];
  uint8_t tx_[kMaxFrame];  // header, CBOR and CRC of the stored answer
  FrameDecoder decoder_;
};

template <typename T>
Status Session::answer(int (*encoder)(uint8_t*, size_t, const T*, size_t*), const T& message) {
  size_t n = 0;
  const int error =
      encoder(tx_ + kWireHeaderBytes, kMaxFrame - kWireHeaderBytes - kTagBytes - kFrameCrcBytes,
              &message, &n);
  if (error != 0) return Status::bad_message;  // only by a board's over-long strings
  answer_bytes_ = static_cast<uint16_t>(n);
  return Status::ok;
}

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LINK_SESSION_H_
