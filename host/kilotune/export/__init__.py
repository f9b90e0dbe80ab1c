"""What leaves the project: packages of the kernel, and C arrays."""
