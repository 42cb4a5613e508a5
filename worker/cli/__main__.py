"""``python -m worker.cli`` is ``hostler``."""

from worker.cli import main

if __name__ == "__main__":
    main()
