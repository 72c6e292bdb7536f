"""Projects that `firesteel init` makes."""
