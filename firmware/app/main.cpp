// The firmware: one loop for every board. Serial requests first, then the sensor; training in what
// time is left.
#include <new>

#include "app/panel.h"
#include "app/sensing.h"
#include "boards/board.h"
#include "kernel/bytes.h"
#include "runtime/engine/engine.h"
#include "runtime/keys/key_store.h"
#include "runtime/link/session.h"
#include "runtime/storage/model_store.h"

namespace kilotune {
namespace {

// Held here and not on the stack, so that the linker counts them.
alignas(Engine) uint8_t engine_memory[sizeof(Engine)];
alignas(Session) uint8_t session_memory[sizeof(Session)];
uint8_t unique_id[board::kMaxUniqueIdBytes];
KeyStore keys;
Board callbacks;
ModelStore models(nullptr);

const Link kLink = {nullptr, [](void*, const uint8_t* data, uint32_t n) { board::write(data, n); }};

void describe_board() {
  callbacks.id = board::id();
  callbacks.unique_id = unique_id;
  callbacks.unique_id_bytes = static_cast<uint8_t>(board::unique_id(unique_id));
  callbacks.receive_bytes = board::receive_capacity();
  if (keys.mount(board::key_flash()) == Status::ok) callbacks.keys = &keys;
  callbacks.reset = [](void*) { board::reset(); };
  callbacks.millis = [](void*) { return board::millis(); };
  callbacks.instructions = [](void*) { return board::instructions(); };
  callbacks.alive = [](void*) { board::feed_watchdog(); };
  callbacks.last_fault = [](void*) {
    const board::Fault fault = board::last_fault();
    return LastFault{fault.pc, fault.lr, fault.status};
  };
  callbacks.restart_cause = board::restart_cause();
  callbacks.memory = [](void*, MemoryUse& out) {
    const board::RamUse use = board::ram_use();
    out = {use.static_ram, use.stack, use.stack_peak};
  };
}

Engine& open_engine() {
  Engine& engine = *new (engine_memory) Engine;
  const Bytes image = models.find();
  const board::Block ram = board::engine_ram();
  callbacks.opened =
      engine.open(image.data, image.size, ram.data, ram.size, board::checkpoint_flash());
  return engine;
}

Status check_model(const Bytes& image, uint32_t& detail) {
  Engine::Needs needs;
  const Status status = Engine::measure(image.data, image.size, needs);
  if (status != Status::ok) return status;
  if (needs.ram_bytes > board::engine_ram().size) {
    detail = needs.ram_bytes;
    return Status::no_memory;
  }
  return sensing::check(needs.features);
}

Status open_model() {
  open_engine();
  sensing::begin_again();
  return callbacks.opened;
}

constexpr ModelCalls kModelCalls = {&models, check_model, open_model};

[[noreturn]] void serve(Engine& engine, Session& session) {
  Panel panel;
  for (;;) {
    board::feed_watchdog();  // board.h says why every turn comes back here in time
    uint8_t bytes[64];
    const uint32_t n = board::read(bytes, sizeof bytes);
    if (n > 0) session.receive(bytes, n);
    const bool sensed = sensing::step(panel.step(engine));
    if (n == 0 && !sensed && !session.background()) board::wait();
  }
}

}  // namespace
}  // namespace kilotune

int main(int argc, char** argv) {
  using namespace kilotune;
  board::init(argc, argv);
  describe_board();
  models = ModelStore(board::model_flash());
  callbacks.models = &kModelCalls;
  Engine& engine = open_engine();
  sensing::describe(callbacks);
  Session& session = *new (session_memory) Session(engine, kLink, callbacks);
  sensing::begin(engine, session);
  serve(engine, session);
}
