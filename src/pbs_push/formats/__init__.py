"""Bytes to values and back: data blobs, index files, manifests, encryption keys (spec 01).

No module here decides anything: what is damaged raises a ``FormatError``, all else is the caller's.
"""
