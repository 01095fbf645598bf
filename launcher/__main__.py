"""`python -m launcher` is `launch`."""

from launcher.cli.main import entry

if __name__ == "__main__":
    entry()
