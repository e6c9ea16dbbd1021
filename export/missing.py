"""What is said where a package is missing."""


def install_advice(error: ModuleNotFoundError) -> str:
    """Return a line that names the package and the extras that bring it."""
    return f"the command needs '{error.name}'; install eigenfeatures[cpu] or eigenfeatures[gpu]"
