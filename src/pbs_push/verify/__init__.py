"""Proving that a datastore holds what its snapshots say: nothing is sent, nothing is changed."""
