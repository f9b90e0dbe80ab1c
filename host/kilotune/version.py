"""The version, of package, firmware and kernel alike: the one place that says it.

The Python package's metadata and CMake read it from here; that the kernel's header and the packages of other
ecosystems agree is tested (tests/project/test_version.py).
"""

__version__ = "0.1.0"
