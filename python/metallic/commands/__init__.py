"""The subcommands of `metallic`: one module each, with HELP, add_arguments(parser) and run(args) -> exit code."""
