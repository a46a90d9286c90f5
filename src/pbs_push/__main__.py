"""``python -m pbs_push`` is ``pbs-push``."""

from pbs_push.cli import main

if __name__ == "__main__":  # processes of a pool import this, too
    main()
