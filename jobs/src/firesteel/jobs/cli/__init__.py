"""The command line: `firesteel VERB`. Verbs import what they need when they run, so that `--help` is quick."""
