"""`python -m mmseek.training.mini`: see `cli.py`, a file of its own so that the processes it starts can import it."""

from mmseek.training.mini.cli import main

if __name__ == "__main__":
    main()
