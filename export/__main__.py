"""The entry of the command ``eigenfeatures``, and of ``python -m eigenfeatures.export``."""

import os
import sys

from eigenfeatures.export.missing import install_advice


def main() -> None:
    """Prepare the process, then hand over to `eigenfeatures.export.cli`."""
    # Before any library starts its threads: threads that wait actively cost a run on a busy machine
    # several times its time (measured: 4 minutes against 35 seconds), and gain nothing on an idle one.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        from eigenfeatures.export import cli
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted before anything was done\n")
        sys.exit(1)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: {install_advice(error)}\n")
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
