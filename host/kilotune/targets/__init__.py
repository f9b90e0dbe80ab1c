"""Where a device runs: in this process, as a separate process, in an emulator, or behind a serial port."""
