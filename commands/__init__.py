"""What stands beside a run: one sub-command of `main.py` a file, each with `HELP`, `add_arguments` and `run`."""
