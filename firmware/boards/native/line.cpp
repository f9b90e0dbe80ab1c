// TCP port or pseudo-terminal as a serial line, with POSIX calls.
#include "line.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace kilotune::board {
namespace {

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "kilotune-native: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

void set_nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

}  // namespace

void Line::open(const Options& options) {
  std::signal(SIGPIPE, SIG_IGN);  // a client that left gives an error code, no signal
  pty_ = options.pty;
  exit_with_stdin_ = options.exit_with_stdin;
  listen_fd_ = options.listen_fd;
  client_fd_ = options.client_fd;
  if (listen_fd_ >= 0 || client_fd_ >= 0) return;  // after a reset
  if (pty_) {
    open_pty();
    announce(ptsname(client_fd_), options.port_file);
    return;
  }
  open_tcp(options.tcp_port);
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (getsockname(listen_fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0) fail("port");
  announce(std::to_string(ntohs(address.sin_port)).c_str(), options.port_file);
}

void Line::open_tcp(int port) {
  listen_fd_ = socket(AF_INET, SOCK_STREAM, 0);
  if (listen_fd_ < 0) fail("cannot make a socket");
  const int on = 1;
  setsockopt(listen_fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);  // this computer only
  if (bind(listen_fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listen_fd_, 1) != 0) {
    fail("cannot listen on the port");
  }
  set_nonblocking(listen_fd_);
}

void Line::open_pty() {
  client_fd_ = posix_openpt(O_RDWR | O_NOCTTY);
  if (client_fd_ < 0 || grantpt(client_fd_) != 0 || unlockpt(client_fd_) != 0) {
    fail("cannot make a pseudo-terminal");
  }
  // Kept open: without any client the terminal would report errors, and its raw mode would be lost.
  const int terminal = ::open(ptsname(client_fd_), O_RDWR | O_NOCTTY);
  termios mode{};
  if (terminal < 0 || tcgetattr(terminal, &mode) != 0) fail("cannot open the pseudo-terminal");
  cfmakeraw(&mode);
  tcsetattr(terminal, TCSANOW, &mode);
  set_nonblocking(client_fd_);
}

// The file appears complete or not at all.
void Line::announce(const char* where, const char* port_file) {
  std::printf("%s\n", where);
  std::fflush(stdout);
  if (port_file == nullptr) return;
  const std::string temporary = std::string(port_file) + ".new";
  std::FILE* file = std::fopen(temporary.c_str(), "w");
  if (file == nullptr) fail("cannot write the port file");
  std::fprintf(file, "%s\n", where);
  if (std::fclose(file) != 0 || std::rename(temporary.c_str(), port_file) != 0) {
    fail("cannot write the port file");
  }
}

void Line::drop_client() {
  if (pty_) return;
  close(client_fd_);
  client_fd_ = -1;
}

uint32_t Line::read(uint8_t* out, uint32_t max) {
  if (client_fd_ < 0) wait(0);
  if (client_fd_ < 0) return 0;
  const ssize_t n = ::read(client_fd_, out, max);
  if (n > 0) return static_cast<uint32_t>(n);
  if (n == 0 || !would_block()) drop_client();
  return 0;
}

// Returns how long it took, in ms.
uint32_t Line::wait_for_room(int timeout_ms) {
  using std::chrono::duration_cast;
  using std::chrono::milliseconds;
  const auto began = std::chrono::steady_clock::now();
  pollfd writable = {client_fd_, POLLOUT, 0};
  poll(&writable, 1, timeout_ms);
  const auto waited = std::chrono::steady_clock::now() - began;
  return static_cast<uint32_t>(duration_cast<milliseconds>(waited).count());
}

void Line::write(const uint8_t* data, uint32_t n) {
  while (n > 0 && client_fd_ >= 0) {
    const ssize_t sent = ::write(client_fd_, data, n);
    if (sent > 0) {
      const auto bytes = static_cast<uint32_t>(sent);
      patience_.taken(0, bytes);
      data += bytes;
      n -= bytes;
    } else if (!would_block()) {
      shutdown(client_fd_, SHUT_RDWR);  // the end that the next read sees closes it
      return;
    } else {
      const uint32_t waited_ms = wait_for_room(static_cast<int>(patience_.left_ms()));
      if (!patience_.lasts(waited_ms)) return patience_.refused();
      patience_.taken(waited_ms, 0);
    }
  }
}

void Line::wait(int timeout_ms) {
  const int client = client_fd_;
  pollfd fds[2] = {{client >= 0 ? client : listen_fd_, POLLIN, 0},
                   {exit_with_stdin_ ? STDIN_FILENO : -1, POLLIN, 0}};
  if (poll(fds, 2, timeout_ms) <= 0) return;
  if (fds[1].revents != 0) {
    char ignored[64];
    if (::read(STDIN_FILENO, ignored, sizeof ignored) <= 0) std::_Exit(0);
  }
  if (client >= 0 || fds[0].revents == 0) return;
  const int next = accept(listen_fd_, nullptr, nullptr);
  if (next < 0) return;
  const int on = 1;
  setsockopt(next, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  set_nonblocking(next);
  client_fd_ = next;
}

}  // namespace kilotune::board
