"""The command line: `platform`, and `buildflow`, the same program. A file a command.

stdout is data, stderr is talk. Heavy modules are imported by the command that needs them.
"""
