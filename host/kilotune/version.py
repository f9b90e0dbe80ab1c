"""The release of these tools, in one place."""

__version__ = "0.1.0"
