"""Where a device runs: in this process, as a process of its own, in an emulator, or behind a serial port."""
