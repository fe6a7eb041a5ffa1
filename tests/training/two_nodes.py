"""What torchrun starts to see two nodes: the process of rank N runs the command with `--data` of the N-th folder."""

import os
import sys

from service.cli import main

if __name__ == "__main__":
    folders, command = sys.argv[1:3], sys.argv[3:]
    main([*command, "--data", folders[int(os.environ["RANK"])]])
