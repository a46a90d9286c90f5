"""Bytes to values and back: blobs, indexes, manifests, keys (protocol/datastore.md).

No module here decides anything: what is damaged raises a ``FormatError``, all else is the caller's.
"""
