"""Runs of the pipeline in temporary clones: quickstart, reader, verify, study; and comparisons.

They call DVC and git as commands. The stages import nothing from here.
"""

import signal
import sys

# While `python -m experiments.X` imports its modules, Ctrl-C ends it without a traceback.
# command_line.run then handles it.
if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
