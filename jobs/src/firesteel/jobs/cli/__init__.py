"""The command line: `firesteel COMMAND`. A command imports what it needs when it runs, so that `--help` is fast."""
