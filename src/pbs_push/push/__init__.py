"""The push itself: what to do, and doing it."""
