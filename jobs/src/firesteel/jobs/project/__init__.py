"""The projects that `firesteel init` creates."""
