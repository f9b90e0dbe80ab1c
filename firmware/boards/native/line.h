// The serial line of the native board: one client at a time on a TCP port or a pseudo-terminal.
#ifndef KILOTUNE_BOARDS_NATIVE_LINE_H_
#define KILOTUNE_BOARDS_NATIVE_LINE_H_

#include <atomic>
#include <cstdint>

#include "boards/common/patience.h"
#include "options.h"

namespace kilotune::board {

// One thread may read and wait, another write.
class Line {
 public:
  // Ends the process with a message when the port cannot be opened.
  void open(const Options& options);

  uint32_t read(uint8_t* out, uint32_t max);
  // To nobody: dropped, as on an open line. To a client that does not read: as in board.h.
  void write(const uint8_t* data, uint32_t n);
  // Sleeps until a byte, a client or the end of standard input comes, at most `timeout_ms` (-1: no
  // limit). Ends the process at the end of standard input if that was requested.
  void wait(int timeout_ms);

  // Descriptors that stay open across a reset, so that the client stays connected; -1: none.
  [[nodiscard]] int listen_fd() const { return listen_fd_; }
  [[nodiscard]] int client_fd() const { return client_fd_; }

 private:
  void open_tcp(int port);
  void open_pty();
  void announce(const char* where, const char* port_file);
  void drop_client();
  uint32_t wait_for_room(int timeout_ms);

  int listen_fd_ = -1;  // pty: none
  std::atomic<int> client_fd_{-1};
  bool pty_ = false, exit_with_stdin_ = false;
  Patience patience_;
};

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NATIVE_LINE_H_
