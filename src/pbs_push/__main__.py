"""``python -m pbs_push`` is ``pbs-push``."""

from pbs_push.cli import main

main()
