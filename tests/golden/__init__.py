"""The golden set: data of our own making in PBS's formats, and what must be found in it.

A second implementation of what protocol/datastore.md and protocol/rest.md say, made of the standard
library and `cryptography` alone: it shares no code with the package, and compresses by hand, so
that each of its bytes is the same whatever library is installed. ``data`` is what it makes:

    cd tests && ../.venv/bin/python -m golden.make

writes it anew, and `test_golden.py` compares.
"""
