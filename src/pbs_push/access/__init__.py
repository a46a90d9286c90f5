"""What the pushing host's configuration says, and what a local user may do (protocol/access.md).

Read only: nothing here writes a file of PBS.
"""
