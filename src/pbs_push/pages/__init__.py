"""Pages of HTML that need nothing else: no scripts, no files, no network."""
