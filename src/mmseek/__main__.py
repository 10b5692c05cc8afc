"""`python -m mmseek` is the same program as `mmseek`."""

from mmseek.cli import main

if __name__ == "__main__":
    main()
