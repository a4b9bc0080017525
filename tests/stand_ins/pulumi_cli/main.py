"""`pulumi`: find the command, run it, and say what went wrong as the real CLI does."""

import os
import sys
from importlib import import_module

VERSION = "v3.272.0"
COMMANDS = {  # the words of a command -> module, function
    "up": ("operation_commands", "up"),
    "update": ("operation_commands", "up"),
    "preview": ("operation_commands", "preview"),
    "refresh": ("operation_commands", "refresh_stack"),
    "destroy": ("operation_commands", "destroy_stack"),
    "cancel": ("operation_commands", "cancel"),
    "import": ("operation_commands", "import_resources"),
    "stack": ("stack_commands", "show"),
    "stack init": ("stack_commands", "init"),
    "stack select": ("stack_commands", "select"),
    "stack ls": ("stack_commands", "ls"),
    "stack rm": ("stack_commands", "rm"),
    "stack output": ("stack_commands", "output"),
    "stack history": ("stack_commands", "history"),
    "stack export": ("stack_commands", "export"),
    "stack import": ("stack_commands", "import_state"),
    "stack tag": ("stack_commands", "tag"),
    "config": ("config_commands", "show"),
    "config get": ("config_commands", "get"),
    "config set": ("config_commands", "set_one"),
    "config set-all": ("config_commands", "set_all"),
    "config rm": ("config_commands", "rm"),
    "config rm-all": ("config_commands", "rm"),
    "config refresh": ("config_commands", "refresh"),
    "whoami": ("other_commands", "whoami"),
    "plugin ls": ("other_commands", "plugin_ls"),
    "plugin install": ("other_commands", "plugin_install"),
    "plugin rm": ("other_commands", "plugin_install"),
    "install": ("other_commands", "plugin_install"),
    "login": ("other_commands", "login"),
    "logout": ("other_commands", "logout"),
    "state unprotect": ("other_commands", "unprotect"),
    "state delete": ("other_commands", "forget"),
}


def main(argv: list[str]) -> int:
    if argv[-1:] == ["version"]:  # the Automation API asks it of every process; nothing is loaded for it
        sys.stdout.write(f"{VERSION}\n")
        return 0
    from pulumi_cli.options import parse
    from pulumi_cli.problems import CommandFailed, ProviderFailed

    try:
        arguments = parse(argv)
        words = " ".join(arguments.words[:2])
        module, function = COMMANDS.get(words) or COMMANDS.get(words.split(" ")[0]) or ("", "")
        if not module:
            raise CommandFailed(f'unknown command "{words}" for "pulumi"')
        if arguments.one("--cwd"):
            os.chdir(arguments.one("--cwd") or ".")
        return int(getattr(import_module(f"pulumi_cli.{module}"), function)(arguments))
    except (CommandFailed, ProviderFailed) as failure:
        sys.stdout.flush()
        sys.stderr.write(f"error: {failure}\n")
        return 255
