"""Exports for other firmware: packages of the kernel, and C arrays."""
