"""The commands of `alnet`, one file a subject. Each imports what it needs when it runs, so that `--help` is quick."""
