"""The command ``eigenfeatures``, also as ``python -m eigenfeatures.export``."""

import sys


def main() -> None:
    """Run the command line, or name the extra to install where its libraries are missing."""
    try:
        from eigenfeatures.export.cli import main as command
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"error: the command line needs '{error.name}'; install it with: "
            "python -m pip install 'eigenfeatures[cpu]' (or [gpu])\n"
        )
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
