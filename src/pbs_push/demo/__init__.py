"""A sample datastore, a verifier that shares no code with the push, and ``make demo``."""
