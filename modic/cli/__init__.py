"""One module a command. `add(commands, wanted)` adds it to the command line; its `run` returns the exit code.

`wanted` is whether the user called this command: options that cost an import are only added then.
"""
