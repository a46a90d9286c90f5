"""Everything that talks to the target: TLS, REST, and the backup protocol."""
