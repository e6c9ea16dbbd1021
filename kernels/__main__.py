"""The command of the kernels: compile them ahead."""

import argparse
import sys
from collections.abc import Sequence

from eigenfeatures.kernels.warm import DTYPES, cache_folder, warm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m eigenfeatures.kernels")
    commands = parser.add_subparsers(dest="command", required=True)
    described = "Compile all kernels ahead, so that later processes load them from the cache."
    command = commands.add_parser("warm", help=described, description=described)
    command.add_argument(
        "--dtypes", type=_dtypes, default=DTYPES, help=f"types of input, by default {','.join(DTYPES)}"
    )
    command.add_argument("--cuda", action="store_true", help="for the GPU at hand, in place of the CPU")
    chosen = parser.parse_args(arguments)
    try:
        _report(chosen.dtypes, chosen.cuda)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _dtypes(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in DTYPES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no type {unknown[0]!r}; choose from {','.join(DTYPES)}")
    return names


def _report(dtypes: Sequence[str], cuda: bool) -> None:
    folder = None if cuda else cache_folder()
    compiled, seconds = 0, 0.0
    for done in warm(dtypes, "cuda" if cuda else "cpu"):
        compiled, seconds = compiled + done.compiled, seconds + done.seconds
        _say(f"{done.name}: {done.compiled} compiled, {done.from_cache} from the cache, {done.seconds:.1f} s")
    _say(f"{compiled} compiled for {', '.join(dtypes)} in {seconds:.1f} s")
    if folder is not None:
        _say(f"The cache lies in {folder}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
