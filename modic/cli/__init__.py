"""The command line. Each command has one module: `add(commands, wanted)` adds it, `run(options)` returns the exit code.

`wanted` is true if the user called this command. Options that need a slow import are added only then.
"""
