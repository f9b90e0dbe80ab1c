"""From messages.cddl and requests.def to code: read them, and write C++ and Python."""
