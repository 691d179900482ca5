"""What the toolbox saves over plain readings of the published algorithms; `run.py` and `growth.py` print it."""
