"""One module a format: each turns a file into a `Table`, within the bounds of `limits`."""
