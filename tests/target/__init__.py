"""Tests of the embedded target: units, strictness, and conformance with recordings."""
