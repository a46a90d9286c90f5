"""The only door to the C code in ``csrc``: one extension module a subject, no policy."""
